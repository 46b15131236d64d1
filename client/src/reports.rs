//! Counting of hits, and sampling of the keys that were hit, for the daemon.
//!
//! The daemon needs to know how many hits there are, and which keys are in use, but not every use
//! of a hot key. So a thread that reads rarely reports every hit at once, and one that reads fast
//! reports some tens of thousands a second, at growing intervals, and hands them over in batches of
//! up to sixteen, because finding the mailbox takes locked instructions, for which a processor waits
//! until all its outstanding loads are done. What a thread has read and not handed over is at most a
//! two-hundredth of what it has read since it last paused: batches and intervals grow with that. So
//! the sum of all hits is right to half a percent at any moment, however few there are, but for one
//! batch of a thread that pauses after many. Within a batch the sampling interval is constant, so
//! that the branch is predictable; between batches it is re-randomised, so that no periodic pattern
//! of a program hides a key for long. Otherwise a hit only costs a thread-local countdown.

use crate::clock;
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Reports that a thread holds back, at most.
const HELD: usize = 16;
/// Hits from one report to the next, at most.
const INTERVAL_MAX: u32 = 512;
/// A batch stands for a 320th of the hits since the last pause, before its interval is randomised.
const PART: u64 = 320;
/// A thread that has handed over nothing for this long has paused.
const PAUSE_NS: u64 = 1_000_000_000;
/// Reports are counted for so long, a few ticks of the coarse clock.
const WINDOW_NS: u64 = 8_000_000;
/// More of them in a window, and reports come further apart: that is 50,000 a second.
const WINDOW_MAX: u64 = 400;

static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Hits to go, with the next to be reported.
    static LEFT: Cell<u32> = const { Cell::new(1) };
    static REPORTS: Reports = const { Reports::new() };
}

/// A thread's reports.
struct Reports {
    /// Hits from one report to the next: as the pace of reading suggests, and as last drawn.
    interval: Cell<u32>,
    drawn_interval: Cell<u32>,
    /// When reports began to be counted, and how many there were.
    window: Cell<(u64, u64)>,
    /// Hits handed over since the last pause, and when the last ones were.
    hits: Cell<u64>,
    handed_over_ns: Cell<u64>,
    /// The client whose hits are held: one at a time.
    client: Cell<u64>,
    held: [Cell<u64>; HELD],
    count: Cell<usize>,
    /// This thread's stripe, and the state of the random generator; 0: none yet.
    drawn: Cell<(usize, u64)>,
}

/// Counts a hit. Whether it is to be [reported](report).
#[inline(always)]
pub(crate) fn is_due() -> bool {
    // Not `with`, which is an indirect call: it alone would cost a hit a tenth, and a third where
    // reads could overlap.
    let is_due = LEFT.try_with(|left| {
        let rest = left.get() - 1;
        left.set(rest);
        rest == 0
    });
    matches!(is_due, Ok(true))
}

/// Whether this thread can read `keys` keys before a hit is to be reported: then their hits may be
/// [counted](count) together.
#[inline(always)]
pub(crate) fn is_far_from_due(keys: usize) -> bool {
    LEFT.try_with(Cell::get).is_ok_and(|left| left as usize > keys)
}

/// Counts hits together.
#[inline(always)]
pub(crate) fn count(hits: u32) {
    // Whoever gave room for a value may have read meanwhile.
    let _ = LEFT.try_with(|left| left.set(left.get().saturating_sub(hits).max(1)));
}

/// Takes the hash of a key that `client` has hit. When enough have come together, `hand_over` gets
/// this thread's stripe, all of them, and how many hits each stands for.
#[cold]
pub(crate) fn report(client: u64, hash: u64, hand_over: impl FnOnce(usize, &[u64], u64)) {
    REPORTS.with(|reports| {
        reports.take(client, hash, clock::monotonic_coarse_ns(), hand_over);
        LEFT.set(reports.drawn_interval.get());
    });
}

impl Reports {
    const fn new() -> Reports {
        Reports {
            interval: Cell::new(1),
            drawn_interval: Cell::new(1),
            window: Cell::new((0, 0)),
            hits: Cell::new(0),
            handed_over_ns: Cell::new(0),
            client: Cell::new(0),
            held: [const { Cell::new(0) }; HELD],
            count: Cell::new(0),
            drawn: Cell::new((0, 0)),
        }
    }

    fn take(
        &self,
        client: u64,
        hash: u64,
        now_ns: u64,
        hand_over: impl FnOnce(usize, &[u64], u64),
    ) {
        // Another client's hits cannot be handed over any more. A thread that uses several in turn
        // holds nothing back.
        if self.client.replace(client) != client {
            self.count.set(0);
            self.hits.set(0);
        }
        let has_paused = now_ns.saturating_sub(self.handed_over_ns.get()) >= PAUSE_NS;
        if has_paused {
            self.hits.set(0);
            self.interval.set(1);
        }
        let count = self.count.get();
        let Some(place) = self.held.get(count) else { return self.count.set(0) };
        place.set(hash);
        self.count.set(count + 1);
        if !has_paused && ((count + 1) as u64) < (self.hits.get() / PART).min(HELD as u64) {
            return;
        }
        self.count.set(0);
        let held = self.held.each_ref().map(Cell::get);
        let held = held.get(..=count).unwrap_or_default();
        let each = self.drawn_interval.get().into();
        // Those from before a pause do not count: all of them are told of now.
        let hits = if has_paused { 0 } else { held.len() as u64 * each };
        self.hits.set(self.hits.get().saturating_add(hits));
        self.handed_over_ns.set(now_ns);
        self.keep_pace(now_ns, held.len() as u64);
        let stripe = self.draw();
        hand_over(stripe, held, each);
    }

    /// Reports further apart where they came together fast, and closer where they did not.
    fn keep_pace(&self, now_ns: u64, reports: u64) {
        let (begun, before) = self.window.get();
        let (took, count) = (now_ns.saturating_sub(begun), before + reports);
        let interval = self.interval.get();
        if took < WINDOW_NS && count < WINDOW_MAX {
            return self.window.set((begun, count));
        }
        if took < WINDOW_NS {
            self.interval.set((interval * 2).min(INTERVAL_MAX));
        } else if count * WINDOW_NS * 4 < WINDOW_MAX * took {
            self.interval.set((interval / 2).max(1));
        }
        self.window.set((now_ns, 0));
    }

    /// Draws the next interval. This thread's stripe.
    fn draw(&self) -> usize {
        let (stripe, mut state) = match self.drawn.get() {
            (_, 0) => {
                let thread = THREADS.fetch_add(1, Ordering::Relaxed);
                (thread, (thread as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
            }
            drawn => drawn,
        };
        // xorshift64 (Marsaglia, 2003): never 0.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        self.drawn.set((stripe, state));
        // Three quarters to five quarters of the interval; exactly 1 if it is 1.
        let part = self.hits.get() / (PART * HELD as u64);
        let interval = self.interval.get().min(u32::try_from(part).unwrap_or(u32::MAX)).max(1);
        let span = u64::from(interval / 2 + 1);
        let drawn = interval - interval / 4 + u32::try_from((state >> 33) % span).unwrap_or(0);
        self.drawn_interval.set(drawn.max(1));
        stripe
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A thread that reads by a clock that ticks every 4 ms.
    struct Thread {
        reports: Reports,
        now_ns: u64,
        /// As [`LEFT`].
        left: u64,
        hits: u64,
        told: u64,
    }

    impl Thread {
        fn new() -> Thread {
            let reports = Reports::new();
            Thread { reports, now_ns: 1_000_000_000, left: 1, hits: 0, told: 0 }
        }

        /// Reads at this pace. Returns the intervals of the reports, and the largest part of the
        /// hits so far that was not told of.
        fn read(&mut self, every_ns: u64, hits: u64) -> (Vec<u64>, f64) {
            let (mut intervals, mut worst) = (Vec::new(), 0.0_f64);
            for hit in 0..hits {
                self.now_ns += every_ns;
                self.hits += 1;
                self.left -= 1;
                if self.left == 0 {
                    let tick_ns = self.now_ns / 4_000_000 * 4_000_000;
                    self.reports.take(1, hit, tick_ns, |_, hashes, each| {
                        self.told += hashes.len() as u64 * each;
                        intervals.push(each);
                    });
                    self.left = self.reports.drawn_interval.get().into();
                }
                assert!(self.told <= self.hits, "{} of {}", self.told, self.hits);
                #[expect(clippy::cast_precision_loss, reason = "a part")]
                let untold = (self.hits - self.told) as f64 / self.hits as f64;
                worst = worst.max(untold);
            }
            (intervals, worst)
        }
    }

    #[test]
    fn who_reads_at_leisure_reports_every_hit_and_who_reads_fast_some() {
        let mut thread = Thread::new();
        let (slow, _) = thread.read(5_000_000, 1000);
        assert!(slow.iter().all(|hits| *hits == 1), "{slow:?}");
        let (fast, _) = thread.read(30, 8_000_000);
        // Most batches are of the first hits.
        let steady = &fast[fast.len() - 200..];
        assert!(steady.iter().all(|hits| (384..=640).contains(hits)), "{:?}", &steady[..100]);
        assert!(steady.iter().any(|hits| *hits != steady[0]), "in no lasting rhythm");
        thread.read(5_000_000, 1000);
        let (slow, _) = thread.read(5_000_000, 1000);
        assert!(slow.iter().all(|hits| *hits == 1), "at leisure again");
    }

    /// The hazard: hits that a thread has not handed over when it goes on to something else are
    /// missing from the figures.
    #[test]
    fn at_any_moment_a_half_percent_of_the_hits_is_not_told_at_most() {
        for every_ns in [20, 50, 1000, 20_000, 1_000_000, 50_000_000] {
            let mut thread = Thread::new();
            let (_, worst) = thread.read(every_ns, 200_000);
            assert!(worst <= 0.005, "one hit every {every_ns} ns: {worst}");
            // After a pause, each hit is told of at once as soon as the last interval is over.
            thread.now_ns += 1_000_000_000;
            thread.read(1000, thread.left);
            assert!(thread.read(1000, 639).0.iter().all(|hits| *hits == 1));
            assert_eq!(thread.hits, thread.told);
        }
    }

    #[test]
    fn every_hit_of_a_slow_reader_is_handed_over_once() {
        let (reports, mut all) = (Reports::new(), Vec::new());
        for hit in 0..160 {
            reports.take(1, hit, hit * PAUSE_NS, |_, hashes, hits| {
                assert_eq!(hits, 1);
                all.extend_from_slice(hashes);
            });
        }
        assert_eq!(all, (0..160).collect::<Vec<u64>>());
    }

    #[test]
    fn threads_have_stripes_of_their_own_and_clients_their_own_reports() {
        let stripe = || {
            let (reports, mut found) = (Reports::new(), None);
            for hit in 0..20_000 {
                // Hits held for one client are not handed over for another.
                let client = if hit < 10_007 { 1 } else { 2 };
                reports.take(client, client, 0, |stripe, hashes, _| {
                    assert!(hashes.iter().all(|hash| *hash == client));
                    found = Some(stripe);
                });
            }
            found.unwrap()
        };
        let other = std::thread::spawn(stripe).join().unwrap();
        assert_ne!(std::thread::spawn(stripe).join().unwrap(), other);
    }
}
