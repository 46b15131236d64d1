//! When a client's next request is to be expected: whether it pays to look out for it awake.
//!
//! What counts is how long the client takes from an answer to its next request. What is seen is more
//! where either side slept meanwhile, for waking takes its time, and more of it than all else; taken as
//! the client's own, it would keep both sides asleep once they were. So that time is left out. That is
//! an estimate, and a look-out that it brought about may be in vain: after a few such, what is seen is
//! taken as it is for a while.

use std::time::{Duration, Instant};

/// A gap that says nothing about the next one.
const GAP_MAX: Duration = Duration::from_millis(10);
/// From waking somebody on another processor, which may have halted, until it runs.
const WAKING: Duration = Duration::from_micros(50);
/// Look-outs in vain, one after another, until they end.
const VAIN_MAX: u32 = 4;
/// Requests for which they end.
const VAIN_REST: u32 = 256;

/// Of one client.
#[derive(Debug)]
pub(in crate::doors) struct Pace {
    /// When a request was last found.
    used: Instant,
    /// How far apart requests have come lately, as seen and without waking.
    seen: Duration,
    net: Duration,
    /// Since the last request: the owner slept; the client was woken; it was looked out for.
    slept: bool,
    woke: bool,
    looked: bool,
    vain: u32,
    rest: u32,
}

impl Pace {
    /// Of one that has not asked for anything yet.
    pub(in crate::doors) fn new(now: Instant) -> Pace {
        Pace {
            used: now,
            seen: GAP_MAX,
            net: GAP_MAX,
            slept: false,
            woke: false,
            looked: false,
            vain: 0,
            rest: 0,
        }
    }

    /// Requests were found.
    pub(in crate::doors) fn note_use(&mut self, now: Instant) {
        let gap = now.saturating_duration_since(self.used).min(GAP_MAX);
        let waking = WAKING * (u32::from(self.slept) + u32::from(self.woke));
        self.seen = (self.seen * 3 + gap) / 4;
        self.net = (self.net * 3 + gap.saturating_sub(waking)) / 4;
        if self.looked && !self.slept {
            self.vain = 0;
        }
        if self.vain >= VAIN_MAX {
            self.rest += 1;
            if self.rest >= VAIN_REST {
                (self.vain, self.rest) = (0, 0);
            }
        }
        self.used = now;
        (self.slept, self.woke, self.looked) = (false, false, false);
    }

    /// The client was woken for an answer.
    pub(in crate::doors) fn note_wake(&mut self) {
        self.woke = true;
    }

    /// It is left alone until it rings.
    pub(in crate::doors) fn note_sleep(&mut self) {
        self.slept = true;
        if self.looked {
            self.vain += 1;
        }
    }

    /// Whether the next request is expected within `spin` of the last one, and that is not over.
    pub(in crate::doors) fn is_worth_a_look(&mut self, now: Instant, spin: Duration) -> bool {
        let gap = if self.vain < VAIN_MAX { self.net } else { self.seen };
        let is_worth = gap < spin && now.saturating_duration_since(self.used) < spin;
        self.looked |= is_worth;
        is_worth
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPIN: Duration = Duration::from_micros(50);

    /// A client that takes so long from an answer to its next request, and an owner that is slow to
    /// wake. How many of the last 1000 requests were found awake, and how many look-outs were in vain.
    fn found_awake(think: Duration, waking: Duration) -> (u32, u32) {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        let (mut awake, mut in_vain) = (0, 0);
        for request in 0..2000 {
            let looks = pace.is_worth_a_look(now, SPIN);
            let is_found = looks && think < SPIN;
            if is_found {
                now += think;
            } else {
                pace.note_sleep();
                // Both slept, and both have to wake.
                pace.note_wake();
                now += think + 2 * waking;
            }
            pace.note_use(now);
            if request >= 1000 {
                awake += u32::from(is_found);
                in_vain += u32::from(looks && !is_found);
            }
        }
        (awake, in_vain)
    }

    #[test]
    fn who_asks_again_at_once_is_found_awake_though_waking_takes_longer_than_the_spin() {
        for waking in [5, 30, 60].map(Duration::from_micros) {
            assert_eq!(found_awake(Duration::from_micros(1), waking), (1000, 0), "{waking:?}");
        }
    }

    #[test]
    fn who_takes_longer_is_hardly_ever_looked_out_for() {
        for think in [60, 90, 200, 20_000].map(Duration::from_micros) {
            let (awake, in_vain) = found_awake(think, Duration::from_micros(30));
            assert_eq!(awake, 0, "{think:?}");
            assert!(in_vain <= 20, "{in_vain} in vain at {think:?}");
        }
    }
}
