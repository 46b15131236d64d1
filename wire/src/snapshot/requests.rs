//! Hits and misses, rules of the policy, requests, fetches.

use serde::{Deserialize, Serialize};

/// Hits and misses in L1.
///
/// Clients count the hits that they read from shared memory themselves, in the memory that they
/// share with the daemon: a thread tells of its first 640 hits after a pause of 1 s one by one, and
/// then of more at a time. What it has not told of is at most a 200th of its hits since that pause,
/// and 10,240 hits; the first 640 hits after a pause may be told of late. What a thread has not told
/// of when it ends is lost, as are hits of a forked child that has not asked the daemon anything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hits {
    /// Reads that found a value in L1: those that clients have told of, and those that the daemon
    /// answered from the table.
    pub hits: u64,
    /// Reads that had to ask the daemon and were not in the table there either. A client that only
    /// looks into the table (`peek`) and finds nothing is not counted.
    pub misses: u64,
    /// Hits in percent of hits and misses; `null` before the first.
    pub hit_percent: Option<f64>,
    /// Hits that one thread can hold back, at most, however many it has read: the error of `hits` is
    /// up to this for each reading thread.
    pub held_back_per_thread_max: u64,
}

/// Hits that a thread can hold back: 16 reports of 640 hits each.
pub const HELD_BACK_PER_THREAD_MAX: u64 = 16 * 640;

impl Hits {
    /// So many of each.
    #[must_use]
    pub fn new(hits: u64, misses: u64) -> Hits {
        let hit_percent = percent(hits, hits.saturating_add(misses));
        Hits { hits, misses, hit_percent, held_back_per_thread_max: HELD_BACK_PER_THREAD_MAX }
    }
}

/// A part in percent of the whole, unless that is zero.
#[must_use]
pub fn percent(part: u64, whole: u64) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "a percentage for people")]
    let percent = part as f64 * 100.0 / whole as f64;
    (whole > 0).then_some(percent)
}

/// What happened in the last ten seconds, by samples that the daemon takes every second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Recent {
    /// The time that the figures cover, in milliseconds: ten seconds, less after a start.
    pub covers_ms: u64,
    /// Hits, as in `hits.hits`.
    pub hits: u64,
    /// Misses, as in `hits.misses`.
    pub misses: u64,
    /// Hits in percent of both; `null` without any.
    pub hit_percent: Option<f64>,
    /// Hits and misses a second.
    pub reads_per_second: f64,
    /// Sets, deletes and operations.
    pub writes: u64,
    /// These a second.
    pub writes_per_second: f64,
    /// Entries evicted, for whatever reason.
    pub evicted: u64,
    /// The longest turn of the daemon's loop, in microseconds.
    pub longest_turn_us: u64,
}

/// A rule of the policy: its share of the table, and its hits.
///
/// Hits by rule are an estimate: each report of a client names one key and stands for the hits
/// since the last report, up to 640, and reports that the daemon does not fetch in time are lost.
/// The rules' parts of what was reported are applied to all hits. The share of a rule is known to
/// about one part in the square root of the reports (`clients.hit_reports`), less well where the
/// keys that a thread reads follow in a fixed rhythm. Hits of keys that had left the table before
/// their report came count for no rule.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PolicyFigures {
    /// The rule's number.
    pub id: u8,
    /// The prefix of its keys; empty: all that have no other rule.
    pub prefix: String,
    /// Bytes of its live entries.
    pub live_bytes: u64,
    /// These in percent of the table's log.
    pub share_percent: f64,
    /// The share in percent that the rule may take; `null`: no limit.
    pub share_max_percent: Option<f64>,
    /// New keys and larger values refused because its entries are never evicted (`evict =
    /// "never"`) and leave no room; `null`: they are evicted.
    pub refused_as_full: Option<u64>,
    /// Estimated reads that found a value in L1, since the rule came into force.
    pub hits: u64,
    /// Reads that the daemon was asked for and did not find in the table.
    pub misses: u64,
    /// Hits in percent of both; `null` without any.
    pub hit_percent: Option<f64>,
    /// The longest life of its entries in L1, in milliseconds.
    pub ttl_ms: u64,
}

/// Requests that have reached the daemon since it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Requests {
    /// Clients that attached.
    pub attaches: u64,
    /// Keys that clients read from the daemon, because they did not find them in the table.
    pub gets: u64,
    /// Keys that clients read from the daemon and that were in the table when it looked.
    pub gets_found_in_table: u64,
    /// Table hits that hit reports stand for, without those of reports that were overwritten.
    pub hits_told: u64,
    /// Keys set.
    pub sets: u64,
    /// Keys deleted.
    pub deletes: u64,
    /// Atomic operations.
    pub operations: u64,
    /// Changes that L2 has not taken.
    pub degraded: u64,
    /// Changes that the store of record did not take.
    pub refused: u64,
    /// Changes of which it is not known whether the store of record took them.
    pub unknown_outcomes: u64,
    /// Fetched values that were stored in L1.
    pub fills: u64,
    /// Fetched values that were not, because a change or a lost connection came in between.
    pub fills_prevented: u64,
    /// Requests and connections that the access rules do not allow.
    pub denied: u64,
    /// Times that a user had as much under way as it may (`[limits]`).
    pub over_quota: u64,
}

/// Fetches from the tiers, one for everybody who misses a key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Flights {
    /// Fetches under way now.
    pub under_way: u64,
    /// Fetches begun since the daemon started.
    pub begun: u64,
    /// Requests that joined one under way.
    pub joined: u64,
    /// Fetches whose value was not to be kept, because the key was changed meanwhile.
    pub killed: u64,
}
