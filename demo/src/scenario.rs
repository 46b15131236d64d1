//! The dashboard: what a *monitoring* process publishes, and what a page of a *web* process reads.
//!
//! Pure data. The player keeps a version for each key and stamps each value with it
//! ([`super::stamped`]); [`Schedule`] says which key gets its next value when.

use l1d_wire::policy::Scope;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// Market symbols.
pub const SYMBOLS: usize = 200;

/// Keys that one page reads.
pub const PAGE_KEYS: usize = 20;

/// A family of keys that one component publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Feed {
    /// Its name in texts.
    pub name: &'static str,
    /// Its keys are `prefix` alone (where `keys` is 1) or `prefix:SYMnnn`.
    pub prefix: &'static str,
    /// Number of keys.
    pub keys: usize,
    /// Time between two values of one key.
    pub interval: Duration,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// Where the L1 copy belongs: host scope if one process writes and others wait for the value,
    /// process scope if each process may as well keep its own.
    pub scope: Scope,
    /// TTL of a copy in L1.
    pub ttl: Duration,
}

/// The feeds, fastest first. Positions in this list are [`Key::feed`].
pub const FEEDS: [Feed; 7] = [
    feed("market data", "market:quote", SYMBOLS, 100, 120, Scope::Host),
    feed("signals", "analysis:signals", SYMBOLS, 1_000, 256, Scope::Host),
    feed("confluence scores", "confluence:score", SYMBOLS, 1_000, 96, Scope::Host),
    feed("dashboard overview", "dashboard:overview", 1, 1_000, 2_048, Scope::Host),
    feed("alerts", "system:alerts", 1, 2_000, 512, Scope::Host),
    feed("OHLCV candles", "ohlcv:1m", SYMBOLS, 60_000, 1_024, Scope::Process),
    feed("indicators", "indicator:rsi", SYMBOLS, 60_000, 192, Scope::Process),
];

/// Position of the signals in [`FEEDS`]: the values that must not be late.
pub const SIGNALS: usize = 1;

/// One key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The key itself.
    pub name: String,
    /// Position of its feed in [`FEEDS`].
    pub feed: usize,
}

impl Key {
    /// The feed that it belongs to.
    #[must_use]
    pub fn feed(&self) -> &'static Feed {
        &FEEDS[self.feed]
    }
}

/// All keys, in the order of [`FEEDS`].
#[must_use]
pub fn keys() -> Vec<Key> {
    let mut keys = Vec::new();
    for (position, feed) in FEEDS.iter().enumerate() {
        for number in 0..feed.keys {
            let name = match feed.keys {
                1 => feed.prefix.to_owned(),
                _ => format!("{}:SYM{number:03}", feed.prefix),
            };
            keys.push(Key { name, feed: position });
        }
    }
    keys
}

/// The keys that the page of one symbol reads, as positions in [`keys`]: the alerts and the
/// overview of every page, the quotes of the ten symbols in view, signals and scores of the first
/// three, candles and indicator of the symbol itself.
#[must_use]
pub fn page(symbol: usize) -> [usize; PAGE_KEYS] {
    let [quote, signals, score, overview, alerts, ohlcv, indicator] =
        [0, 1, 2, 3, 4, 5, 6].map(first_key);
    let near = |ahead: usize| (symbol + ahead) % SYMBOLS;
    let mut page = [0; PAGE_KEYS];
    page[0] = alerts;
    page[1] = overview;
    for ahead in 0..10 {
        page[2 + ahead] = quote + near(ahead);
    }
    for ahead in 0..3 {
        page[12 + ahead] = signals + near(ahead);
        page[15 + ahead] = score + near(ahead);
    }
    page[18] = ohlcv + near(0);
    page[19] = indicator + near(0);
    page
}

/// The symbol of a page view, from 64 random bits. Low numbers are viewed most: the first tenth
/// gets a fifth of the views, the last tenth a hundredth.
#[must_use]
pub fn symbol_viewed(random: u64) -> usize {
    let [a, b] = [random >> 32, random & 0xffff_ffff];
    usize::try_from((a.min(b) * SYMBOLS as u64) >> 32).unwrap_or(0)
}

/// When each key gets its next value: an endless iterator of (time since the start, position in
/// [`keys`]), in order of time. The keys of a feed take turns, so that the load is even.
#[derive(Debug, Clone)]
pub struct Schedule {
    due: BinaryHeap<Reverse<(Duration, usize)>>,
    intervals: Vec<Duration>,
}

impl Schedule {
    /// The scenario's own pace, times `speed` (2.0: twice as many values).
    #[must_use]
    pub fn new(speed: f64) -> Schedule {
        let keys = keys();
        let intervals: Vec<Duration> =
            keys.iter().map(|key| key.feed().interval.div_f64(speed)).collect();
        let mut due = BinaryHeap::with_capacity(keys.len());
        for (position, (key, interval)) in keys.iter().zip(&intervals).enumerate() {
            let turn = position - first_key(key.feed);
            #[allow(clippy::cast_possible_truncation, reason = "at most SYMBOLS")]
            due.push(Reverse((*interval * turn as u32 / key.feed().keys as u32, position)));
        }
        Schedule { due, intervals }
    }

    /// Values a second at the scenario's own pace.
    #[must_use]
    pub fn values_per_second() -> f64 {
        FEEDS.iter().map(|feed| feed.keys as f64 / feed.interval.as_secs_f64()).sum()
    }
}

impl Iterator for Schedule {
    type Item = (Duration, usize);

    fn next(&mut self) -> Option<(Duration, usize)> {
        let Reverse((due, position)) = self.due.pop()?;
        let interval = self.intervals.get(position)?;
        self.due.push(Reverse((due + *interval, position)));
        Some((due, position))
    }
}

const fn feed(
    name: &'static str,
    prefix: &'static str,
    keys: usize,
    interval_ms: u64,
    value_bytes: usize,
    scope: Scope,
) -> Feed {
    let (interval, ttl) = (Duration::from_millis(interval_ms), Duration::from_secs(30));
    Feed { name, prefix, keys, interval, value_bytes, scope, ttl }
}

/// Position in [`keys`] of a feed's first key.
fn first_key(feed: usize) -> usize {
    FEEDS.iter().take(feed).map(|feed| feed.keys).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_reads_twenty_different_keys_of_its_symbols() {
        let keys = keys();
        for symbol in 0..SYMBOLS {
            let mut page = page(symbol).to_vec();
            let own = format!(":SYM{symbol:03}");
            let names: Vec<&str> =
                page.iter().map(|&position| keys[position].name.as_str()).collect();
            assert_eq!(names.iter().filter(|name| name.ends_with(&own)).count(), 5, "{names:?}");
            assert!(names.contains(&"system:alerts") && names.contains(&"dashboard:overview"));
            page.sort_unstable();
            page.dedup();
            assert_eq!(page.len(), PAGE_KEYS);
        }
    }

    #[test]
    fn the_schedule_is_in_order_and_keeps_every_feeds_pace() {
        let keys = keys();
        let mut count = [0; FEEDS.len()];
        let mut before = Duration::ZERO;
        for (due, position) in
            Schedule::new(2.0).take_while(|(due, _)| *due < Duration::from_secs(10))
        {
            assert!(due >= before);
            before = due;
            count[keys[position].feed] += 1;
        }
        assert_eq!(count[..5], [40_000, 4_000, 4_000, 20, 10]);
        assert_eq!(count[SIGNALS], 4_000);
        assert_eq!(FEEDS[SIGNALS].prefix, "analysis:signals");
    }

    #[test]
    fn views_reach_every_symbol_and_favour_the_first() {
        assert_eq!(symbol_viewed(0), 0);
        assert_eq!(symbol_viewed(u64::MAX), SYMBOLS - 1);
        let half = 1u64 << 31;
        assert_eq!(symbol_viewed(half << 32 | half), SYMBOLS / 2);
        assert_eq!(symbol_viewed(u64::MAX << 32), 0);
    }
}
