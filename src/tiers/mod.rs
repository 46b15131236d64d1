//! What lies below the table: L2 memcached and L3 Redis.
//!
//! One thread with a current-thread runtime talks to both. The owner submits a [`Job`] and never
//! waits; a [`Done`] comes back through the callback given to [`Tiers::start`]. The owner keeps the
//! rules of flights and writes; this module only moves bytes, in batches, under deadlines, behind a
//! circuit breaker for each tier.

mod breaker;
mod handle;
mod health;
mod key;
mod memcached;
mod memcached_connection;
mod redis;
mod redis_connection;
mod run;
mod stage;
mod stats;
mod ttl;

pub use handle::{JOBS_MAX, L2Config, L3Config, Tiers, TiersConfig, TiersError};
pub use key::memcached_key;
pub use stats::{TierStats, TiersStats};

use std::sync::Arc;
use std::time::{Duration, Instant};

/// Which tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// memcached
    L2,
    /// Redis
    L3,
}

/// Work for the tiers, numbered by the owner.
#[derive(Debug)]
pub enum Job {
    /// Look a key up in L2, then L3.
    Fetch { flight: u64, key: Arc<[u8]> },
    /// Store in L2 what L3 had, in add mode (P6); never overwrites.
    Fill { id: u64, key: Arc<[u8]>, value: Arc<[u8]>, flags: u32, l2_ttl: Duration },
    /// Store in L3, then L2.
    Set {
        id: u64,
        key: Arc<[u8]>,
        value: Arc<[u8]>,
        flags: u32,
        l2_ttl: Duration,
        l3_ttl: Option<Duration>,
    },
    /// Delete from L3, then L2.
    Delete { id: u64, key: Arc<[u8]> },
}

/// The end of a job.
#[derive(Debug)]
pub enum Done {
    /// Of a [`Job::Fetch`].
    Fetched { flight: u64, outcome: Fetched },
    /// Of a [`Job::Fill`], whatever became of it.
    Filled { id: u64 },
    /// Of a [`Job::Set`] or [`Job::Delete`].
    Written { id: u64, outcome: Written },
}

/// What a fetch found.
#[derive(Debug)]
pub enum Fetched {
    /// A value.
    Found {
        tier: Tier,
        value: Arc<[u8]>,
        flags: u32,
        /// What the tier said remains of its life; `None`: for ever.
        remaining: Option<Duration>,
        /// When the request was sent: `remaining` counts from here (P8).
        sent_at: Instant,
        /// Connection epoch of the tier when the request was sent; compare with [`Tiers::epoch`] (P3).
        epoch: u64,
    },
    /// L3 (or, without an L3, L2) says there is no such key. Only `authoritative` absences may be
    /// remembered (P9): those from an L3 nil.
    Absent { authoritative: bool, epoch: u64 },
    /// No tier that could know has answered.
    Failed { tier: Tier, why: String },
}

/// What became of a write.
#[derive(Debug)]
pub enum Written {
    /// All configured tiers took it. `existed`: a deleted key was in one of them.
    Applied { existed: bool },
    /// No tier has taken it, certainly.
    NotApplied { tier: Tier, why: String },
    /// A tier may have taken it.
    Unknown { tier: Tier, why: String },
}
