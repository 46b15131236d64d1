//! Whether a tier is up: its breaker, its epoch, and the log line when either changes.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::time::{Duration, Instant};

use tracing::{debug, info, warn};

use super::Tier;
use super::breaker::{Breaker, Change, State};
use super::stats::Figures;

/// Why an exchange gave no answer.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Its deadline has passed.
    pub timeout: bool,
    /// What happened.
    pub why: String,
}

impl Failure {
    /// The deadline has passed while `doing`.
    pub fn timeout(doing: &str) -> Failure {
        Failure { timeout: true, why: format!("deadline passed while {doing}") }
    }

    /// Anything else.
    pub fn broken(why: impl ToString) -> Failure {
        Failure { timeout: false, why: why.to_string() }
    }
}

/// The health of one tier, kept by the tiers' thread.
pub struct Health {
    tier: Tier,
    breaker: RefCell<Breaker>,
    figures: Arc<Figures>,
}

impl Health {
    /// Of a tier that is taken to be up.
    pub fn new(tier: Tier, figures: Arc<Figures>) -> Health {
        Health { tier, breaker: RefCell::new(Breaker::new()), figures }
    }

    /// The figures that others read.
    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    /// The connection epoch now.
    pub fn epoch(&self) -> u64 {
        self.figures.epoch.load(Relaxed)
    }

    /// Whether a request may go to the tier.
    pub fn allows(&self) -> bool {
        self.breaker.borrow().allows()
    }

    /// A connection was lost: what was asked over it may have missed a change (P5).
    pub fn connection_lost(&self, why: &str) {
        // Pairs with the Acquire in `Tiers::epoch`.
        self.figures.epoch.fetch_add(1, Release);
        debug!(tier = %self.tier, why, "connection lost");
    }

    /// An exchange was answered.
    pub fn succeeded(&self) {
        let change = self.breaker.borrow_mut().succeeded();
        self.show();
        if change == Change::Back {
            info!(tier = %self.tier, "tier is back");
        }
    }

    /// An exchange begun at `began` was not answered. True when this has opened the breaker: then
    /// probe until [`Health::probed`] closes it.
    pub fn failed(&self, began: Instant, failure: &Failure) -> bool {
        if failure.timeout {
            self.figures.timeouts.fetch_add(1, Relaxed);
        }
        self.figures.set_last_error(&failure.why);
        let change = self.breaker.borrow_mut().failed(began, Instant::now());
        self.show();
        if change == Change::Lost {
            warn!(tier = %self.tier, why = failure.why, "tier is lost; it is left out until a probe is answered");
        }
        let opened = matches!(change, Change::Lost | Change::StillLost);
        if opened {
            self.figures.epoch.fetch_add(1, Release);
        }
        opened
    }

    /// How long to wait before the next probe: the backoff, shortened by up to a quarter so that
    /// the daemons of many hosts do not probe together.
    pub fn probe_delay(&self) -> Duration {
        let backoff = self.breaker.borrow().backoff();
        backoff - backoff.mul_f64(0.25 * random_fraction())
    }

    /// A probe's outcome. True when requests may go to the tier again.
    pub fn probed(&self, outcome: &Result<(), Failure>) -> bool {
        if let Err(failure) = outcome {
            self.figures.set_last_error(&failure.why);
        }
        self.breaker.borrow_mut().probed(outcome.is_ok());
        self.show();
        self.allows()
    }

    fn show(&self) {
        let state: State = self.breaker.borrow().state();
        self.figures.set_state(state);
    }
}

/// From 0 up to 1. Every hasher of the standard library has a key of its own, which is random
/// enough to spread probes.
fn random_fraction() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    let bits = RandomState::new().hash_one(0_u8) >> 32;
    f64::from(u32::try_from(bits).unwrap_or(0)) / 4_294_967_296.0
}
