//! The health of one tier: its breaker, its epoch, its figures, and a log line when it changes.

use std::time::{Duration, Instant};

use l1d_wire::snapshot::TierStats;
use tracing::{debug, error, info, warn};

use super::Tier;
use super::breaker::{Breaker, Change, State};
use super::connection::Asked;
use super::errors::{Fault, TRY_AGAIN};
use super::request::{Answer, Reply};
use super::stats::Figures;

/// Different complaints that are remembered as logged.
const COMPLAINTS_MAX: usize = 8;
/// The same complaint is logged again after this time.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(600);

/// Why requests got no answer.
#[derive(Debug, Clone)]
pub struct Failure {
    /// A deadline has passed.
    pub timeout: bool,
    /// Description for people.
    pub why: String,
    /// What to mend, if it does not end by itself.
    pub advice: Option<&'static str>,
}

impl Failure {
    /// The deadline has passed while `doing`.
    pub fn timeout(doing: &str) -> Failure {
        Failure { timeout: true, why: format!("deadline passed while {doing}"), advice: None }
    }

    /// Anything else.
    pub fn broken(why: impl ToString) -> Failure {
        Failure { timeout: false, why: why.to_string(), advice: None }
    }

    /// The server says that it cannot serve us.
    pub fn of(fault: &Fault) -> Failure {
        Failure { timeout: false, why: fault.word.clone(), advice: fault.advice }
    }

    /// The text for a caller whose request was not carried out: why, and what to do next.
    pub fn text(&self) -> String {
        match self.advice {
            Some(advice) => format!("{}; this does not end by itself: {advice}", self.why),
            None => format!("{}; {TRY_AGAIN}", self.why),
        }
    }
}

/// The health of one tier.
#[derive(Debug)]
pub struct Health {
    tier: Tier,
    breaker: Breaker,
    /// The failure that opened the breaker.
    lost_by: Option<Failure>,
    /// When the breaker was last opened or closed.
    since: Instant,
    /// What people have to mend, and when that was last logged.
    complaints: Vec<(String, Instant)>,
    pub figures: Figures,
}

impl Health {
    /// A tier that is taken to be up.
    pub fn new(tier: Tier) -> Health {
        Health {
            tier,
            breaker: Breaker::new(),
            lost_by: None,
            since: Instant::now(),
            complaints: Vec::new(),
            figures: Figures::default(),
        }
    }

    /// The tier.
    pub fn tier(&self) -> Tier {
        self.tier
    }

    /// The connection epoch now.
    pub fn epoch(&self) -> u64 {
        self.figures.epoch
    }

    /// Whether a request may go to the tier.
    pub fn allows(&self) -> bool {
        self.breaker.allows()
    }

    /// The text for callers who are turned away because the breaker is open.
    pub fn refusal(&self) -> String {
        match &self.lost_by {
            Some(failure) => format!("circuit breaker is open: {}", failure.text()),
            None => format!("circuit breaker is open; {TRY_AGAIN}"),
        }
    }

    /// Logs what does not end by itself, once.
    pub fn complain(&mut self, word: &str, advice: &str) {
        let now = Instant::now();
        if let Some((_, logged_at)) = self.complaints.iter_mut().find(|(known, _)| known == word) {
            if now.saturating_duration_since(*logged_at) < COMPLAINT_INTERVAL {
                return;
            }
            *logged_at = now;
        } else {
            if self.complaints.len() >= COMPLAINTS_MAX {
                self.complaints.remove(0);
            }
            self.complaints.push((word.to_owned(), now));
        }
        error!(tier = %self.tier, why = word, "the tier refuses to serve: {advice}");
    }

    /// A connection was lost: a change may have been missed over it (P5).
    pub fn connection_lost(&mut self, why: &str) {
        self.figures.epoch += 1;
        debug!(tier = %self.tier, why, "connection lost");
    }

    /// An exchange was answered.
    pub fn succeeded(&mut self) {
        if self.breaker.succeeded() == Change::Back {
            self.since = Instant::now();
            info!(tier = %self.tier, "tier is back");
        }
    }

    /// An exchange begun at `began` was not answered. True when this has opened the breaker: then
    /// probe until [`Health::probed`] closes it.
    pub fn failed(&mut self, began: Instant, failure: &Failure) -> bool {
        self.figures.timeouts += u64::from(failure.timeout);
        self.note(failure);
        let change = self.breaker.failed(began, Instant::now());
        if change == Change::Lost {
            self.since = Instant::now();
            let why = &failure.why;
            warn!(tier = %self.tier, why, "tier is lost; it is left out until a probe is answered");
        }
        let opened = matches!(change, Change::Lost | Change::StillLost);
        self.figures.epoch += u64::from(opened);
        if opened {
            self.lost_by = Some(failure.clone());
        }
        opened
    }

    fn note(&mut self, failure: &Failure) {
        self.figures.last_error = Some(failure.why.clone());
        if let Some(advice) = failure.advice {
            self.complain(&failure.why, advice);
        }
    }

    /// Delay until the next probe: the backoff, shortened by up to a quarter so that the daemons of
    /// many hosts do not probe together.
    pub fn probe_delay(&self) -> Duration {
        let backoff = self.breaker.backoff();
        backoff - backoff.mul_f64(0.25 * random_fraction())
    }

    /// A probe has ended. True when requests may go to the tier again.
    pub fn probed(&mut self, outcome: &Result<(), Failure>) -> bool {
        if let Err(failure) = outcome {
            self.note(failure);
            self.lost_by = Some(failure.clone());
        }
        self.breaker.probed(outcome.is_ok());
        self.allows()
    }

    /// Counts an answer and makes the reply to the job that asked.
    pub fn reply(
        &mut self,
        asked: &Asked,
        answer: Answer,
        (sent_at, epoch): (Instant, u64),
    ) -> (Tier, Reply) {
        match &answer {
            Answer::Hit { .. } | Answer::Unique { .. } => self.figures.hits += 1,
            Answer::Miss { .. } => self.figures.misses += u64::from(asked.request.ask.is_read()),
            Answer::Stored
            | Answer::Operated(_)
            | Answer::Deleted { .. }
            | Answer::TooLarge { .. }
            | Answer::AskAgain(_)
            | Answer::Faulty(_) => {}
            Answer::Refused(why) => {
                self.figures.last_error = Some(why.clone());
                self.figures.errors += 1;
            }
            Answer::NotSent(_) | Answer::Unanswered(_) => self.figures.errors += 1,
        }
        let (ticket, is_in_doubt) = (asked.ticket, asked.is_in_doubt);
        (self.tier, Reply { ticket, answer, sent_at, epoch, is_in_doubt })
    }

    /// The figures, to show, of a tier that takes so long to answer.
    pub fn stats(&self, latency: Option<Duration>) -> TierStats {
        let state = self.breaker.state();
        let lost_by = self.lost_by.as_ref().filter(|_| state != State::Closed);
        let lost_by = lost_by.map(|failure| failure.why.clone());
        self.figures.snapshot((state, self.since.elapsed()), lost_by, latency)
    }
}

/// From 0 up to 1. Every hasher of the standard library has a random key of its own, which is good
/// enough to spread probes.
fn random_fraction() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    let bits = RandomState::new().hash_one(0_u8) >> 32;
    f64::from(u32::try_from(bits).unwrap_or(0)) / 4_294_967_296.0
}
