//! Figures of the tiers.

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
    /// Keys that L2 owes a delete: it is not read for them.
    pub l2_debts: usize,
    /// Milliseconds for which L2 is still not read at all, because too much was owed.
    pub l2_left_out_ms: u128,
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
    /// Pipelined exchanges: requests that were sent together.
    pub batches: u64,
    /// Mean requests of an exchange.
    pub keys_per_batch: f64,
    /// Most requests of one exchange.
    pub keys_per_batch_max: u64,
    /// Text of the last failure.
    pub last_error: Option<String>,
}

/// The counters behind [`TierStats`].
#[derive(Debug, Default)]
pub struct Figures {
    pub requests: u64,
    pub hits: u64,
    pub misses: u64,
    pub errors: u64,
    pub timeouts: u64,
    pub batches: u64,
    pub batch_keys: u64,
    pub batch_keys_max: u64,
    pub epoch: u64,
    pub last_error: Option<String>,
}

impl Figures {
    /// One exchange of this many requests was sent.
    pub fn count_batch(&mut self, requests: usize) {
        let size = u64::try_from(requests).unwrap_or(u64::MAX);
        self.batches += 1;
        self.batch_keys += size;
        self.batch_keys_max = self.batch_keys_max.max(size);
    }

    /// A copy to show.
    pub fn snapshot(&self, state: State) -> TierStats {
        TierStats {
            requests: self.requests,
            hits: self.hits,
            misses: self.misses,
            errors: self.errors,
            timeouts: self.timeouts,
            breaker: match state {
                State::Open => "open",
                State::HalfOpen => "half-open",
                State::Closed => "closed",
            },
            epoch: self.epoch,
            batches: self.batches,
            keys_per_batch: mean(self.batch_keys, self.batches),
            keys_per_batch_max: self.batch_keys_max,
            last_error: self.last_error.clone(),
        }
    }
}

fn mean(sum: u64, count: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a figure to look at")]
    let mean = if count == 0 { 0.0 } else { sum as f64 / count as f64 };
    mean
}
