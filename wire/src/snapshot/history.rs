//! Figures over the last minutes.

use serde::{Deserialize, Serialize};

/// What happened in the last ten minutes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// One sample a second, the oldest first; a busy daemon takes them a little less often.
    pub samples: Vec<Sample>,
}

/// What happened between two samples, and how things stood at the second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sample {
    /// When it was taken, in milliseconds since 1970.
    pub at_ms: u64,
    /// The time since the sample before, in milliseconds.
    pub covers_ms: u64,
    /// Hits in L1, as in `hits.hits`.
    pub hits: u64,
    /// Misses, as in `hits.misses`.
    pub misses: u64,
    /// Sets, deletes and operations.
    pub writes: u64,
    /// Entries evicted, for whatever reason.
    pub evicted: u64,
    /// Bytes of entries in the table.
    pub live_bytes: u64,
    /// Bytes of entries that are replaced or deleted, and not reclaimed yet.
    pub dead_bytes: u64,
    /// Bytes that entries can be appended to at once.
    pub free_bytes: u64,
    /// The longest turn of the daemon's loop, in microseconds.
    pub longest_turn_us: u64,
    /// Mean latency of L2 in microseconds; `null` without L2, or before its first reply.
    pub l2_latency_us: Option<u64>,
    /// The same of L3.
    pub l3_latency_us: Option<u64>,
}
