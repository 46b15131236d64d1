//! The tiers below the table: L2 memcached and L3 Redis.
//!
//! They live in the owner's event loop. Each tier is a state machine over one nonblocking
//! connection that registers with the [`Reactor`](crate::reactor::Reactor): a request that misses
//! becomes bytes for the server in the same turn, and a reply becomes an [`TierEvent`] in the turn
//! in which it arrives. The owner keeps the rules of flights and writes; this module moves bytes,
//! in pipelined exchanges, under deadlines, behind a circuit breaker for each tier.
//!
//! | part | file |
//! |---|---|
//! | what a job asks of which tier, in which order | `upstream`, `jobs` |
//! | changes that depend on what is there | `operation` |
//! | what L2 owes after a change that it has not taken | `debts` |
//! | one tier: its queue, its connection, former connections, deadlines | `server` |
//! | what an earlier daemon has left unanswered | `inherited` |
//! | one connection, and the requests in flight on it | `connection` |
//! | addresses, and what is not supported | `address` |
//! | names and addresses to a connected socket | `dial` |
//! | requests to bytes and bytes to answers | `memcached`, `redis` |
//! | when to stop asking, and when to try again | `breaker`, `health` |
//! | what an error answer means, and for whom | `errors` |
//! | keys whose values are too large to be kept | `oversized` |
//! | how long a reply takes, and how to wait for it | `latency` |

mod address;
mod breaker;
mod config;
mod connection;
mod debts;
mod dial;
mod errors;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod health;
mod inherited;
mod jobs;
mod key;
mod latency;
mod memcached;
mod operation;
mod oversized;
mod redis;
mod request;
mod server;
mod stats;
mod ttl;
mod upstream;

pub use address::{UNSUPPORTED_L2_KEYS, UNSUPPORTED_L3_KEYS, check_address, parse_url};
pub use config::{L2Config, L3Config, Secret, TiersConfig, TiersError};
pub use inherited::Inherited;
pub use key::memcached_key;
pub use operation::{Operate, Operated, Operation};
pub use upstream::{JOBS_MAX, Upstream};

use crate::reactor::Readiness;
use l1d_wire::snapshot::TiersStats;
use rapidhash::RapidHashSet;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The tiers as the owner sees them. [`Upstream`] is the real one; the owner's tests have another.
pub trait Tiers: fmt::Debug {
    /// Takes a job. Nothing is sent before [`advance`](Tiers::advance).
    ///
    /// # Errors
    /// Gives the job back when [`JOBS_MAX`] are under way.
    fn submit(&mut self, job: Job) -> Result<(), Job>;

    /// The descriptor registered as `Token::tier(number)` is ready: reads what has arrived, within
    /// the turn's byte budget.
    fn ready(&mut self, number: u64, readiness: Readiness);

    /// Sends what was submitted and ends what is past its deadline. Returns when to be called again
    /// if nothing else happens.
    fn advance(&mut self, now: Instant) -> Option<Instant>;

    /// The next event, in the order in which the replies stood on the wire.
    fn next_event(&mut self) -> Option<TierEvent>;

    /// Whether a reply is expected so soon that polling for it beats sleeping.
    fn should_poll(&self, now: Instant) -> bool;

    /// Jobs submitted and not yet done.
    fn jobs(&self) -> usize;

    /// Whether the tier is configured.
    fn has(&self, tier: Tier) -> bool;

    /// Whether the tier is configured and its breaker lets requests through.
    fn available(&self, tier: Tier) -> bool;

    /// Whether a tier may still carry out a change that it has not answered, or L2 owes a delete.
    fn has_open_changes(&self) -> bool;

    /// What identifies the connection to L3 there; zeros if there is none or that is not known.
    fn l3_session(&self) -> [u64; 2];

    /// Takes over from a daemon that died while changes were unsettled, of these keys at the store
    /// of record. Where L2 holds copies, it is left out of reads until every one that it can hold
    /// now has expired; and L3 is told to end the session of that daemon.
    fn take_over(&mut self, l3_session: [u64; 2], inherited: Inherited);

    /// Whether the store of record may still carry out what that daemon has sent.
    fn inherits(&self) -> bool;

    /// The keys of changes that the store of record was sent and may still carry out, whether or not
    /// somebody still waits for its answer.
    fn sent_changes(&self) -> RapidHashSet<Arc<[u8]>>;

    /// From now on, values may be stored in L2 for as long as `l2_ttl`. A shorter one changes nothing:
    /// L2 may hold values with a longer life.
    fn allow_l2_ttl(&mut self, l2_ttl: Duration);

    /// Connection epoch: rises with each lost connection and each opening of the breaker (P3, P5);
    /// 0 for a tier that is not configured.
    fn epoch(&self, tier: Tier) -> u64;

    /// The figures now.
    fn stats(&self) -> TiersStats;
}

/// A value in L3 may have this many bytes more than in L2, for a frame around it.
pub const FRAME_BYTES: usize = 12;
/// The first bytes of such a frame; the flags follow.
pub const FRAME_MAGIC: [u8; 8] = *b"\0l1d\0flg";

/// One of the two tiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// memcached
    L2,
    /// Redis
    L3,
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Tier::L2 => "L2 (memcached)",
            Tier::L3 => "L3 (Redis)",
        })
    }
}

/// Work for the tiers, numbered by the owner.
#[derive(Debug)]
pub enum Job {
    /// Look a key up in L2, where that may hold it (`in_l2`), then L3.
    Fetch { flight: u64, key: Arc<[u8]>, in_l2: bool },
    /// Store in L2 what L3 had, in add mode (P6); never overwrites. It has no end to wait for: L2
    /// carries out requests in the order in which they were submitted, so a later change of the key
    /// cannot be overtaken.
    Fill { key: Arc<[u8]>, value: Arc<[u8]>, flags: u32, l2_ttl: Duration },
    /// Store in L3, then change L2. L3 gets `l3_value`: the value, or the value in a frame. `l3_ttl`
    /// is `None` for a value that does not expire.
    Set {
        id: u64,
        key: Arc<[u8]>,
        value: Arc<[u8]>,
        l3_value: Arc<[u8]>,
        flags: u32,
        l2: L2Change,
        l3_ttl: Option<Duration>,
    },
    /// Delete from L3, and from L2 where that may hold the key.
    Delete { id: u64, key: Arc<[u8]>, in_l2: bool },
    /// Have the store of record carry out an operation, then delete the key from L2, if that may
    /// hold a copy (`in_l2`).
    Operate { id: u64, key: Arc<[u8]>, operate: Arc<Operate>, in_l2: bool },
    /// See what one tier holds, for people: nothing is kept of it.
    Look { id: u64, key: Arc<[u8]>, tier: Tier },
}

/// What a set does in L2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum L2Change {
    /// Stores the value; `None`: without expiry.
    Store(Option<Duration>),
    /// Deletes the key: the value lives for less than L2 can measure.
    Delete,
    /// Nothing: the key's rule leaves L2 out.
    None,
}

/// Something that happened below, in wire order.
#[derive(Debug)]
pub enum TierEvent {
    /// The end of a [`Job::Fetch`].
    Fetched { flight: u64, outcome: Fetched },
    /// The end of a [`Job::Set`], [`Job::Delete`] or [`Job::Operate`].
    Written { id: u64, outcome: Written },
    /// The end of a [`Job::Look`].
    Looked { id: u64, tier: Tier, outcome: Fetched },
}

/// Result of a fetch.
#[derive(Debug)]
pub enum Fetched {
    /// A value.
    Found {
        tier: Tier,
        value: Arc<[u8]>,
        flags: u32,
        /// Remaining life according to the tier; `None`: it does not expire.
        remaining: Option<Duration>,
        /// When the request was sent: `remaining` counts from here (P8).
        sent_at: Instant,
        /// Connection epoch of the tier when the request was sent; compare with
        /// [`Tiers::epoch`] (P3).
        epoch: u64,
        /// When the request was sent, the tier could still carry out an earlier change (P12).
        is_in_doubt: bool,
    },
    /// L3 (or, without an L3, L2) says there is no such key. Only `authoritative` absences may be
    /// remembered (P9): those of the tier that decides what exists.
    Absent { authoritative: bool, tier: Tier, epoch: u64, is_in_doubt: bool },
    /// The value has more bytes than [`TiersConfig::value_bytes_max`].
    TooLarge { tier: Tier, bytes: u64 },
    /// The tier refuses this very request, as for a key of another type; `why` is its word.
    Refused { tier: Tier, why: String },
    /// No tier that could know has given an answer. `why` says what to do next.
    Failed { tier: Tier, why: String },
}

impl Fetched {
    /// The tier whose answer it is.
    pub fn tier(&self) -> Tier {
        match self {
            Fetched::Found { tier, .. }
            | Fetched::Absent { tier, .. }
            | Fetched::TooLarge { tier, .. }
            | Fetched::Refused { tier, .. }
            | Fetched::Failed { tier, .. } => *tier,
        }
    }
}

/// Result of a write. The store of record decides: L3, or L2 where it is alone (P14).
#[derive(Debug)]
pub enum Written {
    /// The store of record took it. `existed`: a deleted key was in one of the tiers. `degraded`:
    /// L2 has not taken it; it is not read for the key before it has deleted it.
    Applied { existed: bool, degraded: bool },
    /// The store of record has answered an operation. `degraded` as above.
    Operated { tier: Tier, operated: Operated, degraded: bool },
    /// The store of record has not taken it, and holds what it held. `why`
    /// says what to do next.
    NotApplied { tier: Tier, why: String },
    /// The store of record refuses this very change, and holds what it held.
    Refused { tier: Tier, why: String },
    /// The store of record refused the value, and holds none for the key any more.
    Removed { tier: Tier, why: String },
    /// The store of record may have taken it, or may yet.
    Unknown { tier: Tier, why: String },
}
