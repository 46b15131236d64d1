//! Predicts when a client's next request comes, to decide whether polling its mailbox pays.
//!
//! The decision depends on the client's *think time*, from a reply to its next request. The
//! observed gap also has the time that waking a sleeping side takes, which is more than all else;
//! counted as think time, it would keep both sides asleep once they were. So it is subtracted. That
//! is an estimate, and can cause useless polling: after a few polls in a row that ended without a
//! request, the observed gaps are used as they are for a while.

use std::time::{Duration, Instant};

/// A gap of this length or more says nothing about the next one.
const GAP_MAX: Duration = Duration::from_millis(10);
/// A client that asks this often is in use.
const IN_USE: Duration = Duration::from_millis(1);
/// Time from waking a thread on another processor, which may have halted, until it runs.
const WAKE_LATENCY: Duration = Duration::from_micros(50);
/// Useless polls in a row after which the estimate is no longer used.
const USELESS_POLLS_MAX: u32 = 4;
/// Requests after which it is used again.
const REQUESTS_WITHOUT_ESTIMATE: u32 = 256;

/// The pace of one client.
#[derive(Debug)]
pub(super) struct Pace {
    /// When a request was last found, or the client was woken for a reply.
    last_seen: Instant,
    /// Moving average of the gaps between requests, as observed.
    observed: Duration,
    /// Moving average of the gaps without the time that waking took.
    think_time: Duration,
    /// Since the last request: the owner slept.
    slept: bool,
    /// Since the last request: the client was woken.
    woke: bool,
    /// Since the last request: the mailbox was polled for the next one.
    polled: bool,
    useless_polls: u32,
    /// Requests since the estimate is no longer used.
    without_estimate: u32,
}

impl Pace {
    /// The pace of a client that has not asked for anything yet.
    pub(super) fn new(now: Instant) -> Pace {
        Pace {
            last_seen: now,
            observed: GAP_MAX,
            think_time: GAP_MAX,
            slept: false,
            woke: false,
            polled: false,
            useless_polls: 0,
            without_estimate: 0,
        }
    }

    /// Requests were found.
    pub(super) fn note_requests(&mut self, now: Instant) {
        let gap = now.saturating_duration_since(self.last_seen).min(GAP_MAX);
        let waking = WAKE_LATENCY * (u32::from(self.slept) + u32::from(self.woke));
        self.observed = (self.observed * 3 + gap) / 4;
        self.think_time = (self.think_time * 3 + gap.saturating_sub(waking)) / 4;
        if self.polled && !self.slept {
            self.useless_polls = 0;
        }
        if self.useless_polls >= USELESS_POLLS_MAX {
            self.without_estimate += 1;
            if self.without_estimate >= REQUESTS_WITHOUT_ESTIMATE {
                (self.useless_polls, self.without_estimate) = (0, 0);
            }
        }
        self.last_seen = now;
        (self.slept, self.woke, self.polled) = (false, false, false);
    }

    /// The client was woken for a reply.
    pub(super) fn note_wake(&mut self, now: Instant) {
        self.woke = true;
        self.last_seen = now;
    }

    /// The mailbox is not polled until the client sends a wakeup.
    pub(super) fn note_sleep(&mut self) {
        self.slept = true;
        if self.polled {
            self.useless_polls += 1;
        }
    }

    /// Returns whether the next request is expected within `spin` of the last one, and that time is
    /// not over.
    pub(super) fn should_poll(&mut self, now: Instant, spin: Duration) -> bool {
        let waited = now.saturating_duration_since(self.last_seen);
        let polls = self.expects_request(spin) && waited < spin;
        self.polled |= polls;
        polls
    }

    /// Whether the client asks often, and has done so just now. Mailboxes of idle clients cost
    /// nothing.
    pub(super) fn is_in_use(&self, now: Instant) -> bool {
        self.observed < IN_USE && now.saturating_duration_since(self.last_seen) < IN_USE
    }

    /// Whether a next request is expected within `spin`.
    pub(super) fn expects_request(&self, spin: Duration) -> bool {
        let uses_estimate = self.useless_polls < USELESS_POLLS_MAX;
        let gap = if uses_estimate { self.think_time } else { self.observed };
        gap < spin
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPIN: Duration = Duration::from_micros(50);

    /// Plays a client with this think time against an owner that takes `waking` to wake. Returns
    /// how many of the last 1000 requests were found by polling, and how often that was useless.
    fn found_by_polling(think: Duration, waking: Duration) -> (u32, u32) {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        let (mut found, mut useless) = (0, 0);
        for request in 0..2000 {
            let polls = pace.should_poll(now, SPIN);
            let is_found = polls && think < SPIN;
            if is_found {
                now += think;
            } else {
                pace.note_sleep();
                // Both slept, and both have to wake.
                pace.note_wake(now);
                now += think + 2 * waking;
            }
            pace.note_requests(now);
            if request >= 1000 {
                found += u32::from(is_found);
                useless += u32::from(polls && !is_found);
            }
        }
        (found, useless)
    }

    #[test]
    fn a_client_that_asks_at_once_is_polled_though_waking_takes_longer_than_the_spin() {
        for waking in [5, 30, 60].map(Duration::from_micros) {
            let think = Duration::from_micros(1);
            assert_eq!(found_by_polling(think, waking), (1000, 0), "{waking:?}");
        }
    }

    #[test]
    fn a_client_that_thinks_longer_is_hardly_ever_polled() {
        for think in [60, 90, 200, 20_000].map(Duration::from_micros) {
            let (found, useless) = found_by_polling(think, Duration::from_micros(30));
            assert_eq!(found, 0, "{think:?}");
            assert!(useless <= 20, "{useless} useless polls at {think:?}");
        }
    }
}
