//! Sampling of the hits that a thread reports to the daemon.
//!
//! The daemon needs to know which keys are in use, not every use of a hot key. So a thread that
//! reads rarely reports every hit, and one that reads fast reports some tens of thousands a second,
//! at growing intervals. Reports are handed over in batches of sixteen, because finding the mailbox
//! takes locked instructions, for which a processor waits until all its outstanding loads are done.
//! The sampling interval is re-randomised per batch, so that no periodic pattern of a program hides
//! a key for long; within a batch it is constant, so that the branch is predictable. Otherwise a
//! hit only costs a thread-local countdown.

use crate::clock;
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Reports that a thread holds back.
const HELD: usize = 16;
/// Hits from one report to the next, at most.
const INTERVAL_MAX: u32 = 512;
/// Handings over are counted for so long, a few ticks of the coarse clock.
const WINDOW_NS: u64 = 8_000_000;
/// More of them in a window, and reports come further apart: that is 50,000 reports a second.
const WINDOW_MAX: u64 = 25;

static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Hits to go, with the next to be reported.
    static LEFT: Cell<u32> = const { Cell::new(1) };
    static REPORTS: Reports = const { Reports::new() };
}

/// A thread's reports.
struct Reports {
    /// Hits from one report to the next, on average and as last drawn.
    interval: Cell<u32>,
    drawn_interval: Cell<u32>,
    /// When handings over began to be counted, and how many there were.
    window: Cell<(u64, u64)>,
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

/// Takes the hash of a key that `client` has hit. When enough have come together, `hand_over` gets
/// this thread's stripe, all of them, and how many hits each stands for.
#[cold]
pub(crate) fn report(client: u64, hash: u64, hand_over: impl FnOnce(usize, &[u64], u64)) {
    REPORTS.with(|reports| reports.take(client, hash, hand_over));
}

impl Reports {
    const fn new() -> Reports {
        Reports {
            interval: Cell::new(1),
            drawn_interval: Cell::new(1),
            window: Cell::new((0, 0)),
            client: Cell::new(0),
            held: [const { Cell::new(0) }; HELD],
            count: Cell::new(0),
            drawn: Cell::new((0, 0)),
        }
    }

    fn take(&self, client: u64, hash: u64, hand_over: impl FnOnce(usize, &[u64], u64)) {
        LEFT.set(self.drawn_interval.get());
        // Another client's hits: losing a few does not matter.
        if self.client.replace(client) != client {
            self.count.set(0);
        }
        let count = self.count.get();
        if let Some(place) = self.held.get(count) {
            place.set(hash);
        }
        self.count.set(count + 1);
        if count + 1 >= HELD {
            self.count.set(0);
            self.keep_pace(clock::monotonic_coarse_ns());
            let hits = self.drawn_interval.get().into();
            let stripe = self.draw();
            hand_over(stripe, &self.held.each_ref().map(Cell::get), hits);
        }
    }

    /// Reports further apart where they came together fast, and closer where they did not.
    fn keep_pace(&self, now_ns: u64) {
        let (begun, count) = self.window.get();
        let (took, count) = (now_ns.saturating_sub(begun), count + 1);
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
        let interval = self.interval.get();
        let span = u64::from(interval / 2 + 1);
        let drawn = interval - interval / 4 + u32::try_from((state >> 33) % span).unwrap_or(0);
        self.drawn_interval.set(drawn.max(1));
        stripe
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handed_over(reports: &Reports, now_ns: u64) -> u32 {
        reports.keep_pace(now_ns);
        reports.draw();
        reports.drawn_interval.get()
    }

    #[test]
    fn who_reads_at_leisure_reports_every_hit_and_who_reads_fast_some() {
        let reports = Reports::new();
        // One batch per this number of ns, for a second, by a clock that ticks every 4 ms.
        let mut now_ns = 1_000_000_000;
        let mut second = |every_ns: u64| -> Vec<u32> {
            let begun = now_ns;
            now_ns += 1_000_000_000;
            let times = (begun..now_ns).step_by(usize::try_from(every_ns).unwrap());
            times.map(|ns| handed_over(&reports, ns / 4_000_000 * 4_000_000)).collect()
        };
        assert!(second(10_000_000).iter().all(|hits| *hits == 1));
        let fast = second(1_000);
        let steady = &fast[1000..];
        assert!(steady.iter().all(|hits| (384..=640).contains(hits)), "{:?}", &fast[..1000]);
        assert!(steady.iter().any(|hits| *hits != steady[0]), "in no lasting rhythm");
        let paced = second(500_000);
        assert!(paced.iter().all(|hits| (384..=640).contains(hits)), "at the pace it stays");
        assert_eq!(second(10_000_000).last(), Some(&1), "at leisure again");
    }

    #[test]
    fn every_hit_of_a_slow_reader_is_handed_over_once() {
        let reports = Reports::new();
        let mut all = Vec::new();
        for hit in 0..160 {
            // As if sixteen hits had taken a second.
            reports.window.set((0, 0));
            reports.take(1, hit, |_, hashes, hits| {
                assert_eq!(hits, 1);
                all.extend_from_slice(hashes);
            });
        }
        assert_eq!(all, (0..160).collect::<Vec<u64>>());
    }

    #[test]
    fn threads_have_stripes_of_their_own_and_clients_their_own_reports() {
        let stripe = || {
            let mut found = None;
            for hit in 0..100 {
                // Hits held for one client are not handed over for another.
                let client = if hit < 10 { 1 } else { 2 };
                report(client, hit, |stripe, hashes, _| {
                    assert_eq!(hashes[0] % 16, 10);
                    found = Some(stripe);
                });
            }
            found.unwrap()
        };
        let other = std::thread::spawn(stripe).join().unwrap();
        assert_ne!(std::thread::spawn(stripe).join().unwrap(), other);
    }
}
