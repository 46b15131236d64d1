//! What one process's dashboard shows at a moment: some of the signals, as the process reads them.

use super::clock::monotonic_ns;
use super::report::Message;
use super::scenario::{SIGNALS, SYMBOLS};
use super::stamped;
use super::store::{Answer, Store};
use super::tally::send;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::time::{Duration, Instant};

/// Signals on a dashboard.
pub const SHOWN: usize = 20;

/// A signal tells something for this long, if a new one comes every second.
pub const GOOD_FOR: Duration = Duration::from_millis(1500);

const INTERVAL: Duration = Duration::from_millis(250);

/// A signal as a process reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// Number of its symbol.
    pub symbol: usize,
    /// Which of the symbol's signals it is, from 1; 0: there is no value.
    pub version: u64,
    /// Its age in milliseconds.
    pub age_ms: u64,
}

impl Shown {
    /// Whether it still tells something.
    pub fn is_good(&self) -> bool {
        self.version > 0 && u128::from(self.age_ms) <= GOOD_FOR.as_millis()
    }
}

/// Sends the parent what the dashboard of this process shows, some times a second.
pub struct Screen {
    next: Option<Instant>,
    positions: Vec<usize>,
    value: Vec<u8>,
}

impl Screen {
    /// Without `is_shown` it sends nothing.
    pub fn new(store: &Store, is_shown: bool) -> Screen {
        // They are spread over all symbols, because a feed's keys take turns within its interval.
        let keys = store.keys().iter().enumerate().filter(|(_, key)| key.feed == SIGNALS);
        let positions = keys.map(|(position, _)| position).step_by(SYMBOLS / SHOWN).collect();
        Screen { next: is_shown.then(Instant::now), positions, value: Vec::new() }
    }

    /// Reads the signals and sends them, when it is time to. These reads are not counted.
    ///
    /// # Errors
    /// The parent is gone.
    pub fn show(&mut self, store: &mut Store, out: &mut impl Write) -> Result<()> {
        let Some(next) = self.next.filter(|next| Instant::now() >= *next) else { return Ok(()) };
        self.next = Some(next.max(Instant::now()) + INTERVAL);
        let first = self.positions.first().copied().unwrap_or(0);
        let mut shown = Vec::with_capacity(SHOWN);
        for &position in &self.positions {
            let answer = store.read(position, &mut self.value);
            let is_there = answer.is_ok_and(|answer| answer != Answer::Missing);
            let stamp = stamped::decode(store.name(position), &self.value).ok();
            let stamp = stamp.filter(|_| is_there);
            shown.push(Shown {
                symbol: position - first,
                version: stamp.map_or(0, |stamp| stamp.version),
                age_ms: stamp.map_or(0, |stamp| {
                    monotonic_ns().saturating_sub(stamp.published_ns) / 1_000_000
                }),
            });
        }
        send(&Message::Screen { shown }, out)
    }
}
