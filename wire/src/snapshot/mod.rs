//! Everything that the daemon knows of itself, as `l1ctl --json stats` shows it and as the other
//! screens are made from. Taking a snapshot changes nothing, so any number of observers may do so.
//!
//! `docs/src/figures.md` lists all names with these descriptions; a test keeps the two equal. A figure
//! that the daemon of another version does not have reads as zero or as not known.

mod advice;
mod clients;
mod daemon;
mod explanation;
mod history;
mod keys;
mod requests;
mod table;
mod tiers;

pub use advice::Advice;
pub use clients::{ClientFigures, ClientReported, Clients, Figures, Totals};
pub use daemon::{Daemon, Move, Moves, PagesFigures, TableFile};
pub use explanation::{Cause, Explanation, InTable, InTier, LastChange, Load};
pub use history::{History, Sample};
pub use keys::{KeyFigures, KeyOrder, Keys};
pub use requests::{
    Flights, HELD_BACK_PER_THREAD_MAX, Hits, PolicyFigures, Recent, Requests, percent,
};
pub use table::TableStats;
pub use tiers::{Breaker, TierStats, TiersStats};

use serde::{Deserialize, Serialize};

/// The figures of a daemon at one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Snapshot {
    /// The daemon itself.
    pub daemon: Daemon,
    /// The table's file.
    pub table_file: TableFile,
    /// Hits and misses of all clients together, since the daemon started.
    pub hits: Hits,
    /// The last seconds.
    pub recent: Recent,
    /// All clients together.
    pub clients: Totals,
    /// The table.
    pub table: TableStats,
    /// What to do about an index that evicts entries because it is too small for them; `null`: it
    /// does not.
    pub index_advice: Option<String>,
    /// What to change.
    pub advice: Vec<Advice>,
    /// Moves to tables of another shape.
    pub moves: Moves,
    /// Bytes of private memory that the estimates of `l1ctl advise` take.
    pub advisor_private_bytes: u64,
    /// The rules of the policy.
    pub policies: Vec<PolicyFigures>,
    /// Requests that have reached the daemon.
    pub requests: Requests,
    /// Fetches from the tiers.
    pub flights: Flights,
    /// Sets, deletes and operations that wait for a tier now.
    pub writes_under_way: u64,
    /// The tiers; `null` without any.
    pub tiers: Option<TiersStats>,
}
