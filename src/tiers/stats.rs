//! Figures of the tiers, written by their thread and read by any other.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

use serde::Serialize;

use super::breaker::State;

/// Figures of both tiers; `None` for one that is not configured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TiersStats {
    /// memcached
    pub l2: Option<TierStats>,
    /// Redis
    pub l3: Option<TierStats>,
    /// Jobs submitted and not yet done.
    pub jobs_waiting: usize,
}

/// Figures of one tier since the start.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TierStats {
    /// Keys asked for, stored or deleted.
    pub requests: u64,
    /// Reads that found a value.
    pub hits: u64,
    /// Reads that found none.
    pub misses: u64,
    /// Requests that were turned away, not answered, or answered with an error; timeouts included.
    pub errors: u64,
    /// Exchanges that missed their deadline.
    pub timeouts: u64,
    /// `closed`, `half-open` or `open`.
    pub breaker: &'static str,
    /// Counts lost connections and openings of the breaker.
    pub epoch: u64,
    /// Pipelined exchanges.
    pub batches: u64,
    /// Mean requests of an exchange.
    pub keys_per_batch: f64,
    /// Most requests of one exchange.
    pub keys_per_batch_max: u64,
    /// What the last failure said.
    pub last_error: Option<String>,
}

/// The figures of one tier while they change. Only the tiers' thread writes.
#[derive(Debug)]
pub struct Figures {
    pub requests: AtomicU64,
    pub hits: AtomicU64,
    pub misses: AtomicU64,
    pub errors: AtomicU64,
    pub timeouts: AtomicU64,
    pub batches: AtomicU64,
    pub batch_keys: AtomicU64,
    pub batch_keys_max: AtomicU64,
    /// Read by the owner to judge a fetched value (P3).
    pub epoch: AtomicU64,
    state: AtomicU8,
    last_error: Mutex<Option<String>>,
}

impl Figures {
    /// All zero, breaker closed.
    pub fn new() -> Figures {
        Figures {
            requests: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            timeouts: AtomicU64::new(0),
            batches: AtomicU64::new(0),
            batch_keys: AtomicU64::new(0),
            batch_keys_max: AtomicU64::new(0),
            epoch: AtomicU64::new(0),
            state: AtomicU8::new(State::Closed as u8),
            last_error: Mutex::new(None),
        }
    }

    /// Whether requests go through.
    pub fn available(&self) -> bool {
        self.state.load(Relaxed) != State::Open as u8
    }

    /// Shows the state of the breaker.
    pub fn set_state(&self, state: State) {
        self.state.store(state as u8, Relaxed);
    }

    /// Remembers what a failure said.
    pub fn set_last_error(&self, why: &str) {
        if let Ok(mut last) = self.last_error.lock() {
            *last = Some(why.to_owned());
        }
    }

    /// A copy to show.
    pub fn snapshot(&self) -> TierStats {
        let batches = self.batches.load(Relaxed);
        let state = self.state.load(Relaxed);
        TierStats {
            requests: self.requests.load(Relaxed),
            hits: self.hits.load(Relaxed),
            misses: self.misses.load(Relaxed),
            errors: self.errors.load(Relaxed),
            timeouts: self.timeouts.load(Relaxed),
            breaker: match state {
                s if s == State::Open as u8 => "open",
                s if s == State::HalfOpen as u8 => "half-open",
                _ => "closed",
            },
            epoch: self.epoch.load(Relaxed),
            batches,
            keys_per_batch: mean(self.batch_keys.load(Relaxed), batches),
            keys_per_batch_max: self.batch_keys_max.load(Relaxed),
            last_error: self.last_error.lock().ok().and_then(|last| last.clone()),
        }
    }
}

fn mean(sum: u64, count: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a figure to look at")]
    let mean = if count == 0 { 0.0 } else { sum as f64 / count as f64 };
    mean
}
