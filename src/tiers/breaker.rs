//! When to stop asking a tier, and when to try again.
//!
//! | state | requests | leaves it |
//! |---|---|---|
//! | closed | go through | [`FAILURES_MAX`] failures in a row open it |
//! | open | are turned away at once | a probe that is answered half-opens it |
//! | half-open | go through | the first outcome closes it, or opens it for twice as long |
//!
//! The probes are the caller's: it waits for [`Breaker::backoff`] and reports with
//! [`Breaker::probed`]. No request ever pays for finding out that a dead tier is still dead.

use std::time::{Duration, Instant};

/// Failures in a row that open the breaker.
pub const FAILURES_MAX: u32 = 3;
/// The first wait before a probe.
pub const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// The longest wait before a probe.
pub const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// Whether requests go through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// They do.
    Closed,
    /// They do, and the first outcome decides.
    HalfOpen,
    /// They do not.
    Open,
}

/// What an outcome changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// The tier was up and is lost now.
    Lost,
    /// The tier is still lost: what the probe promised did not hold.
    StillLost,
    /// The tier is back.
    Back,
}

/// The breaker of one tier. Pure: the time comes from the caller.
#[derive(Debug)]
pub struct Breaker {
    state: State,
    failures: u32,
    /// Of the last failure that counted.
    failed_at: Option<Instant>,
    backoff: Duration,
}

impl Breaker {
    /// A closed breaker.
    pub fn new() -> Breaker {
        Breaker { state: State::Closed, failures: 0, failed_at: None, backoff: BACKOFF_MIN }
    }

    /// The state now.
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether a request may go through.
    pub fn allows(&self) -> bool {
        self.state != State::Open
    }

    /// How long to wait before the next probe, jitter not included.
    pub fn backoff(&self) -> Duration {
        self.backoff
    }

    /// An exchange was answered.
    pub fn succeeded(&mut self) -> Change {
        let before = self.state;
        if before == State::Open {
            // Begun before it opened; the probe decides.
            return Change::None;
        }
        *self = Breaker::new();
        if before == State::HalfOpen { Change::Back } else { Change::None }
    }

    /// An exchange begun at `began` has failed at `now`.
    ///
    /// Exchanges that were in flight together fail together, from one cause; only those that began
    /// after the last counted failure count again.
    pub fn failed(&mut self, began: Instant, now: Instant) -> Change {
        if self.state == State::Open || self.failed_at.is_some_and(|last| began < last) {
            return Change::None;
        }
        self.failed_at = Some(now);
        self.failures += 1;
        match self.state {
            State::HalfOpen => {
                self.state = State::Open;
                self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
                Change::StillLost
            }
            State::Closed if self.failures >= FAILURES_MAX => {
                self.state = State::Open;
                Change::Lost
            }
            _ => Change::None,
        }
    }

    /// A probe of an open breaker was answered, or was not.
    pub fn probed(&mut self, answered: bool) {
        if self.state != State::Open {
            return;
        }
        if answered {
            self.state = State::HalfOpen;
        } else {
            self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A breaker opened by failures at 1, 2 and 3 ms; the origin of time.
    fn opened() -> (Breaker, Instant) {
        let start = Instant::now();
        let mut breaker = Breaker::new();
        for n in 1..=FAILURES_MAX {
            assert!(breaker.allows());
            let at = start + Duration::from_millis(u64::from(n));
            let change = breaker.failed(at, at);
            assert_eq!(change, if n == FAILURES_MAX { Change::Lost } else { Change::None });
        }
        (breaker, start)
    }

    #[test]
    fn failures_in_a_row_open_it() {
        let (breaker, _) = opened();
        assert_eq!(breaker.state(), State::Open);
        assert!(!breaker.allows());
    }

    #[test]
    fn a_success_between_starts_the_count_anew() {
        let start = Instant::now();
        let mut breaker = Breaker::new();
        for n in 0..20 {
            let at = start + Duration::from_millis(n);
            breaker.failed(at, at);
            if n % 2 == 1 {
                breaker.succeeded();
            }
        }
        assert_eq!(breaker.state(), State::Closed);
    }

    #[test]
    fn exchanges_that_fail_together_count_once() {
        let start = Instant::now();
        let mut breaker = Breaker::new();
        for n in 0..20 {
            breaker.failed(start, start + Duration::from_millis(5 + n));
        }
        assert_eq!(breaker.state(), State::Closed);
    }

    #[test]
    fn an_answered_probe_lets_one_outcome_decide() {
        let (mut breaker, start) = opened();
        breaker.probed(false);
        assert_eq!((breaker.state(), breaker.backoff()), (State::Open, BACKOFF_MIN * 2));
        breaker.probed(true);
        assert!(breaker.allows());
        let at = start + Duration::from_secs(1);
        assert_eq!(breaker.failed(at, at), Change::StillLost);
        assert_eq!((breaker.state(), breaker.backoff()), (State::Open, BACKOFF_MIN * 4));
        breaker.probed(true);
        assert_eq!(breaker.succeeded(), Change::Back);
        assert_eq!((breaker.state(), breaker.backoff()), (State::Closed, BACKOFF_MIN));
    }

    #[test]
    fn late_outcomes_do_not_move_an_open_breaker() {
        let (mut breaker, start) = opened();
        let at = start + Duration::from_secs(1);
        assert_eq!(breaker.succeeded(), Change::None);
        assert_eq!(breaker.failed(at, at), Change::None);
        assert_eq!((breaker.state(), breaker.backoff()), (State::Open, BACKOFF_MIN));
    }

    #[test]
    fn the_backoff_has_a_ceiling() {
        let (mut breaker, _) = opened();
        for _ in 0..40 {
            breaker.probed(false);
        }
        assert_eq!(breaker.backoff(), BACKOFF_MAX);
    }
}
