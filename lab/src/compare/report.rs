//! The report of `compare`.

use super::contestant::Contestant;
use super::keys::Load;
use super::options::CompareOptions;
use super::outcome::{Outcome, Table};
use crate::distance::Distance;
use crate::machine::Machine;
use crate::statistics::Spread;
use crate::times::Times;
use serde::Serialize;

/// A run.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The machine.
    pub machine: Machine,
    /// Name of the workload.
    pub workload: String,
    /// Keys of the workload.
    pub keys: usize,
    /// Reader processes.
    pub readers: u32,
    /// Round trip to the tiers, in ms; `None` if they are on the host.
    pub distance_ms: Option<Distance>,
    /// Turns of each contestant.
    pub rounds: u32,
    /// Requests of the trace in each turn.
    pub trace_requests: Option<u64>,
    /// The rate that the writer was asked for.
    pub writes_per_second_wanted: f64,
    /// In the order of the command line.
    pub contestants: Vec<Figures>,
}

/// The figures of one contestant, per second and as shares.
#[derive(Debug, Serialize)]
pub struct Figures {
    /// The contestant.
    pub contestant: Contestant,
    /// Seconds measured, all turns together.
    pub seconds: f64,
    /// Answered reads, including those that found nothing.
    pub reads: u64,
    /// Of all readers together; the median of several turns.
    pub reads_per_second: f64,
    /// The same, by turn.
    pub reads_per_second_by_round: Vec<f64>,
    /// Latency of a read, whichever level answered it.
    pub read_ns: Quantiles,
    /// Shares of all reads.
    pub hits: Hits,
    /// Reads that returned a value older than the last one acknowledged before they began.
    pub stale: u64,
    /// Stale reads as a share of all reads.
    pub stale_share: f64,
    /// The stale reads of keys that other processes write (host scope in l1d). The others are as
    /// old as their policy allows.
    pub stale_shared: u64,
    /// How long the stale values had been outdated.
    pub stale_ms: Option<StaleAges>,
    /// The same of shared keys only.
    pub stale_shared_ms: Option<StaleAges>,
    /// Values that were torn or belonged to another key.
    pub damaged: u64,
    /// Reads and writes that failed.
    pub errors: u64,
    /// Message of the last error.
    pub last_error: Option<String>,
    /// Loads from the origin after a miss.
    pub loads: u64,
    /// Writes acknowledged to the writer.
    pub writes_per_second: f64,
    /// Latency of a write, until all levels had acknowledged it.
    pub write_ns: Quantiles,
    /// Requests as the servers count them.
    pub tier_requests_per_second: TierRequests,
    /// Memory at the end of a turn.
    pub memory: MemoryFigures,
    /// The load of the proxy, by turn; empty if the tiers are on the host.
    pub proxy: Vec<crate::distance::Load>,
}

/// In ns: the median, the 99th and 99.9th percentile, and the maximum.
#[derive(Debug, Serialize)]
pub struct Quantiles {
    pub p50: u64,
    pub p99: u64,
    pub p999: u64,
    pub max: u64,
}

/// Shares of reads by the level that answered.
#[derive(Debug, Serialize)]
pub struct Hits {
    /// The process's own L1, or l1d's table or process cache.
    pub l1: f64,
    /// memcached.
    pub l2: f64,
    /// Redis.
    pub l3: f64,
    /// The daemon, without a fetch of its own: the read joined one that another process had begun,
    /// or the value had just arrived (l1d only).
    pub joined: f64,
    /// No level had it.
    pub missing: f64,
}

/// How long stale values had been outdated, in ms.
#[derive(Debug, Serialize)]
pub struct StaleAges {
    pub p50: f64,
    pub p99: f64,
    pub max: f64,
}

/// Requests of all processes together.
#[derive(Debug, Serialize)]
pub struct TierRequests {
    /// Keys asked for.
    pub l2_gets: f64,
    /// Values stored.
    pub l2_sets: f64,
    /// Keys asked for.
    pub l3_gets: f64,
    /// Values stored.
    pub l3_sets: f64,
}

/// Memory of all processes.
#[derive(Debug, Serialize)]
pub struct MemoryFigures {
    /// All processes (readers, writer, daemon) with shared pages counted once, and the table's
    /// file.
    pub bytes: u64,
    /// The private memory of the processes, which is part of that.
    pub anonymous_bytes: u64,
    /// Copies of values in L1, over all processes.
    pub copies: u64,
    /// Bytes of the copies: keys and values, in l1d's table also entry headers.
    pub copies_bytes: u64,
    /// l1d's table.
    pub table: Option<Table>,
}

impl Report {
    /// Computes them from the raw figures.
    pub fn new(
        options: &CompareOptions,
        load: &Load,
        machine: Machine,
        outcomes: Vec<Outcome>,
    ) -> Report {
        Report {
            machine,
            workload: options.load.workload.clone(),
            keys: load.keys.len(),
            readers: options.load.readers,
            distance_ms: options.distance,
            rounds: options.rounds,
            trace_requests: load.requests(),
            writes_per_second_wanted: load.rate,
            contestants: outcomes.into_iter().map(Figures::new).collect(),
        }
    }
}

impl Figures {
    fn new(outcome: Outcome) -> Figures {
        let Outcome { contestant, reads_per_second, read, written, requests, .. } = outcome;
        let Outcome { memory, table, proxy, .. } = outcome;
        let seconds = read.elapsed_ns as f64 / 1e9;
        let share = |count: u64| count as f64 / read.reads.max(1) as f64;
        let rate = |count: u64| count as f64 / seconds;
        // The daemon does not tell a reader which tier answered; the tiers' counters do.
        let (l2, l3) = match contestant {
            Contestant::L1d => {
                let l2 = requests.l2_hits.min(read.daemon);
                // Both may have been asked for a key that L2 had.
                (l2, requests.l3_hits.min(read.daemon - l2))
            }
            _ => (read.l2, read.l3),
        };
        let copies_of_table =
            table.as_ref().map_or((0, 0), |table| (table.entries, table.live_bytes));
        Figures {
            contestant,
            proxy,
            seconds,
            reads: read.reads,
            reads_per_second: Spread::of(reads_per_second.clone()).median,
            reads_per_second_by_round: reads_per_second,
            read_ns: Quantiles::of(&read.read_ns),
            hits: Hits {
                l1: share(read.l1),
                l2: share(l2),
                l3: share(l3),
                joined: share(read.daemon.saturating_sub(l2 + l3)),
                missing: share(read.missing),
            },
            stale: read.stale,
            stale_share: share(read.stale),
            stale_shared: read.stale_shared,
            stale_ms: (read.stale > 0).then(|| StaleAges::of(&read.stale_ns)),
            stale_shared_ms: (read.stale_shared > 0).then(|| StaleAges::of(&read.stale_shared_ns)),
            damaged: read.damaged,
            errors: read.errors + written.errors,
            loads: read.loads,
            writes_per_second: written.writes as f64 / (written.elapsed_ns as f64 / 1e9),
            write_ns: Quantiles::of(&written.write_ns),
            tier_requests_per_second: TierRequests {
                l2_gets: rate(requests.l2_gets),
                l2_sets: rate(requests.l2_sets),
                l3_gets: rate(requests.l3_gets),
                l3_sets: rate(requests.l3_sets),
            },
            memory: MemoryFigures {
                bytes: memory.bytes() + table.as_ref().map_or(0, |table| table.bytes),
                anonymous_bytes: memory.anonymous_bytes,
                copies: read.copies + written.copies + copies_of_table.0,
                copies_bytes: read.copies_bytes + written.copies_bytes + copies_of_table.1,
                table,
            },
            last_error: read.last_error.or(written.last_error),
        }
    }
}

impl Quantiles {
    fn of(times: &Times) -> Quantiles {
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|share| times.quantile(share));
        Quantiles { p50, p99, p999, max: times.max() }
    }
}

impl StaleAges {
    fn of(times: &Times) -> StaleAges {
        let ms = |ns: u64| ns as f64 / 1e6;
        StaleAges {
            p50: ms(times.quantile(0.5)),
            p99: ms(times.quantile(0.99)),
            max: ms(times.max()),
        }
    }
}
