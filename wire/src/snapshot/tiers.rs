//! Figures of the tiers.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Figures of both tiers; `None` for one that is not configured.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TiersStats {
    /// memcached
    pub l2: Option<TierStats>,
    /// Redis
    pub l3: Option<TierStats>,
    /// Jobs submitted and not yet done.
    pub jobs_waiting: u64,
    /// Keys that L2 owes a delete: it is not read for them.
    pub l2_debts: u64,
    /// Milliseconds for which L2 is still not read at all, because too much was owed.
    pub l2_left_out_ms: u64,
}

/// Figures of one tier since the start.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
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
    /// State of the breaker: `closed`, the tier is in use; `open`, it is lost and left out;
    /// `half-open`, it has answered a probe, and the next request decides.
    pub breaker: Breaker,
    /// Seconds since the breaker was last closed or opened; since the start, if it never was.
    pub breaker_since_seconds: u64,
    /// The failure that opened the breaker, while it is not closed.
    pub lost_by: Option<String>,
    /// Weighted mean of the time from a request's send to its reply, over some tens of exchanges,
    /// in microseconds; `null` before the first.
    pub latency_us: Option<u64>,
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

/// Whether requests go to a tier.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Breaker {
    /// They do.
    #[default]
    Closed,
    /// They do, and the next outcome decides.
    HalfOpen,
    /// They do not: the tier is lost.
    Open,
}

impl fmt::Display for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Breaker::Closed => "in use",
            Breaker::HalfOpen => "being tried",
            Breaker::Open => "lost",
        })
    }
}
