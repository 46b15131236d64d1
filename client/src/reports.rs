//! Which hits a thread reports to the daemon.
//!
//! The daemon needs to know what is used, not every use: a thread reports one hit in eight, drawn, so
//! that no rhythm of a program hides a key. What is not reported costs a hit one thread-local
//! countdown, and no line that anybody else has.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The intervals between reports are 1 to this many hits, all alike.
const INTERVAL_MAX: u32 = 15;

static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Hits to go, with the next to be reported.
    static LEFT: Cell<u32> = const { Cell::new(1) };
    /// This thread's stripe, and the state of what draws; 0: none yet.
    static DRAWN: Cell<(usize, u64)> = const { Cell::new((0, 0)) };
}

/// Counts a hit. Whether it is one to be reported: then [`stripe`] is to be asked for.
#[inline(always)]
pub(crate) fn is_due() -> bool {
    LEFT.with(|left| {
        let rest = left.get() - 1;
        left.set(rest);
        rest == 0
    })
}

/// Draws which hit is reported next, and says in which stripe this thread reports.
pub(crate) fn stripe() -> usize {
    let (stripe, state) = DRAWN.get();
    let (stripe, mut state) = match state {
        0 => {
            let thread = THREADS.fetch_add(1, Ordering::Relaxed);
            (thread, (thread as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
        }
        state => (stripe, state),
    };
    // xorshift64 (Marsaglia, 2003): never 0.
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    DRAWN.set((stripe, state));
    LEFT.set(1 + (state >> 33) as u32 % INTERVAL_MAX);
    stripe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_hit_in_eight_is_due_in_no_rhythm() {
        let mut reported = [0; 8];
        for hit in 0..80_000 {
            if is_due() {
                stripe();
                reported[hit % 8] += 1;
            }
        }
        assert!((9_500..10_500).contains(&reported.iter().sum::<i32>()), "{reported:?}");
        assert!(reported.iter().all(|count| (1_100..1_400).contains(count)), "{reported:?}");
    }

    #[test]
    fn threads_have_stripes_of_their_own() {
        let own = stripe();
        assert_ne!(std::thread::spawn(stripe).join().unwrap(), own);
    }
}
