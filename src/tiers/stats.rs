//! Figures of the tiers.

use std::time::Duration;

use l1d_wire::snapshot::{Breaker, TierStats};

use super::breaker::State;

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

    /// A copy to show, of a tier in this state since then, which was lost by this failure, and which
    /// takes so long to answer.
    pub fn snapshot(
        &self,
        (state, since): (State, Duration),
        lost_by: Option<String>,
        latency: Option<Duration>,
    ) -> TierStats {
        TierStats {
            requests: self.requests,
            hits: self.hits,
            misses: self.misses,
            errors: self.errors,
            timeouts: self.timeouts,
            breaker: match state {
                State::Open => Breaker::Open,
                State::HalfOpen => Breaker::HalfOpen,
                State::Closed => Breaker::Closed,
            },
            breaker_since_seconds: since.as_secs(),
            lost_by,
            latency_us: latency.and_then(|mean| u64::try_from(mean.as_micros()).ok()),
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
