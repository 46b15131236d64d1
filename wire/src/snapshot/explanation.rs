//! Where one key stands.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What the daemon knows of a key, apart from its rule.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Explanation {
    /// The entry in L1; `null`: a reader finds none.
    pub in_table: Option<InTable>,
    /// What L2 holds; `null`: it was not asked, because there is none or the rule leaves it out.
    pub l2: Option<InTier>,
    /// What L3 holds; `null`: it was not asked.
    pub l3: Option<InTier>,
    /// The last change in L1; `null`: not known, because it is older than the 65,536 changes that
    /// are remembered, or than the daemon. An entry that expired or was evicted has not changed.
    pub last_change: Option<LastChange>,
    /// Reads that wait for the key to be fetched.
    pub flight_waiters: u64,
    /// Whether a change is on its way to the tiers.
    pub write_under_way: bool,
    /// The load under way, in one process of the host; `null`: none is.
    pub load: Option<Load>,
    /// Whether there is any tier.
    pub has_tiers: bool,
}

/// An entry in L1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InTable {
    /// Its version.
    pub version: u64,
    /// Bytes of its value.
    pub value_bytes: u64,
    /// Bytes of it with header, key and padding.
    pub entry_bytes: u64,
    /// Client flags.
    pub flags: u32,
    /// It says that the key has no value.
    pub known_absent: bool,
    /// Its remaining life in milliseconds; `null`: without end.
    pub ttl_ms: Option<u64>,
    /// Number of the rule that it was stored under.
    pub stored_under_policy: u8,
    /// Number of the segment that holds it.
    pub segment: u32,
}

/// What a tier holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InTier {
    /// Whether it has a value; `null`: not known, and `why` says why.
    pub found: Option<bool>,
    /// Bytes of that.
    pub value_bytes: Option<u64>,
    /// Its remaining life in milliseconds; `null`: without end.
    pub ttl_ms: Option<u64>,
    /// Whether L1 holds the same bytes; `null` if one of the two has none.
    pub same_as_l1: Option<bool>,
    /// What went wrong.
    pub why: Option<String>,
}

/// A load under way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Load {
    /// How often others were told to wait for it.
    pub told_to_wait: u64,
}

/// The last change of a key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LastChange {
    /// What it was.
    pub cause: Cause,
    /// Milliseconds since then.
    pub age_ms: u64,
    /// The process that asked for it; `null`: nobody in particular, or in another pid namespace.
    pub pid: Option<i32>,
    /// Its user.
    pub uid: Option<u32>,
}

/// The cause of a change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// A set.
    #[default]
    Set,
    /// A delete.
    Delete,
    /// An atomic operation.
    Operation,
    /// A loader's value.
    Load,
    /// A read fetched the value from L2.
    FetchL2,
    /// A read fetched the value from L3.
    FetchL3,
    /// A read learned from the tiers that there is no value.
    FetchAbsent,
    /// A flush of L1.
    Flush,
    /// A change whose outcome at the tier is not known: L1 dropped its value.
    UnknownOutcome,
    /// A tier refused a value, and dropped the former one.
    RefusedValue,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Cause::Set => "set",
            Cause::Delete => "deleted",
            Cause::Operation => "changed by an atomic operation",
            Cause::Load => "loaded",
            Cause::FetchL2 => "fetched from L2 (memcached) for a read",
            Cause::FetchL3 => "fetched from L3 (Redis) for a read",
            Cause::FetchAbsent => "found absent in the tiers by a read",
            Cause::Flush => "flushed",
            Cause::UnknownOutcome => "dropped, as the outcome of a write is not known",
            Cause::RefusedValue => "dropped, as a tier refused a write",
        })
    }
}
