//! What `compare` prints.

use super::contestant::Contestant;
use super::keys::Load;
use super::options::CompareOptions;
use super::servers::Requests;
use super::tally::{Tally, Times};
use crate::daemon::Daemon;
use crate::machine::Machine;
use crate::memory::Memory;
use crate::table::table;
use anyhow::{Context, Result};
use bytesize::ByteSize;
use serde::Serialize;
use serde_json::Value;

/// What one contestant did, in raw figures.
pub struct Outcome {
    /// Who.
    pub contestant: Contestant,
    /// All readers together.
    pub read: Tally,
    /// The writer.
    pub written: Tally,
    /// What the tiers counted meanwhile.
    pub requests: Requests,
    /// Of readers, writer and daemon together.
    pub memory: Memory,
    /// l1d's table.
    pub table: Option<Table>,
}

/// l1d's table at the end.
#[derive(Debug, Clone, Serialize)]
pub struct Table {
    /// Bytes of its file, all of them in memory.
    pub bytes: u64,
    /// Entries that it holds.
    pub entries: u64,
    /// Bytes of these, headers included.
    pub live_bytes: u64,
}

impl Table {
    /// Of a running daemon.
    ///
    /// # Errors
    /// It does not answer, or answers something else.
    pub fn of(daemon: &Daemon) -> Result<Table> {
        let stats: Value = serde_json::from_str(&daemon.client()?.stats_json()?)
            .context("the daemon's stats are no JSON")?;
        let figure = |name: &str| {
            let value = stats.pointer(&format!("/table/{name}")).and_then(Value::as_u64);
            value.with_context(|| format!("the daemon's stats have no table.{name}"))
        };
        Ok(Table {
            bytes: daemon.table_memory_bytes(),
            entries: figure("entries")?,
            live_bytes: figure("live_bytes")?,
        })
    }
}

/// A run.
#[derive(Debug, Serialize)]
pub struct Report {
    machine: Machine,
    workload: String,
    keys: usize,
    readers: u32,
    writes_per_second_wanted: f64,
    contestants: Vec<Figures>,
}

/// What one contestant did, per second and in shares.
#[derive(Debug, Serialize)]
struct Figures {
    contestant: Contestant,
    seconds: f64,
    reads: u64,
    reads_per_second: f64,
    read_ns: Quantiles,
    /// Shares of all reads.
    hits: Hits,
    /// Reads that gave a value older than the last acknowledged before they began.
    stale: u64,
    stale_share: f64,
    /// Of the stale ones: of keys that other processes write, host scope in l1d. The others are as
    /// old as their policy allows.
    stale_shared: u64,
    /// How long these values had been outdated.
    stale_ms: Option<StaleAges>,
    /// Values that were torn or belonged to another key.
    damaged: u64,
    /// Reads and writes that failed.
    errors: u64,
    last_error: Option<String>,
    /// Loads from the origin after a miss.
    loads: u64,
    writes_per_second: f64,
    write_ns: Quantiles,
    tier_requests_per_second: TierRequests,
    memory: MemoryFigures,
}

#[derive(Debug, Serialize)]
struct Quantiles {
    p50: u64,
    p99: u64,
    p999: u64,
    max: u64,
}

#[derive(Debug, Serialize)]
struct Hits {
    l1: f64,
    l2: f64,
    l3: f64,
    /// Waited for a fetch that another process had begun (l1d only).
    joined: f64,
    missing: f64,
}

#[derive(Debug, Serialize)]
struct StaleAges {
    p50: f64,
    p99: f64,
    max: f64,
}

#[derive(Debug, Serialize)]
struct TierRequests {
    l2_gets: f64,
    l2_sets: f64,
    l3_gets: f64,
    l3_sets: f64,
}

#[derive(Debug, Serialize)]
struct MemoryFigures {
    /// All processes (readers, writer, daemon), shared pages counted once, and the table's file.
    bytes: u64,
    /// Of these, private memory of the processes.
    anonymous_bytes: u64,
    /// Copies of values in L1, of all processes.
    copies: u64,
    /// Bytes that the copies take: keys and values, in l1d's table also entry headers.
    copies_bytes: u64,
    table: Option<Table>,
}

impl Report {
    /// From the raw figures.
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
            writes_per_second_wanted: load.rate,
            contestants: outcomes.into_iter().map(Figures::new).collect(),
        }
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut speed = table(
            1,
            [
                "contestant",
                "reads/s",
                "p50",
                "p99",
                "p99.9",
                "L1",
                "L2",
                "L3",
                "joined",
                "none",
                "writes/s",
                "write p50",
            ],
        );
        let mut truth = table(
            1,
            [
                "contestant",
                "stale",
                "of reads",
                "of shared keys",
                "age p50",
                "age p99",
                "age max",
                "damaged",
                "errors",
            ],
        );
        let mut cost = table(
            1,
            [
                "contestant",
                "L2 gets/s",
                "sets/s",
                "L3 gets/s",
                "sets/s",
                "copies in L1",
                "bytes",
                "memory of all",
            ],
        );
        for figures in &self.contestants {
            let name = figures.contestant.title().to_owned();
            let hits = &figures.hits;
            let shares = [hits.l1, hits.l2, hits.l3, hits.joined, hits.missing].map(percent);
            let mut row = vec![name.clone(), count(figures.reads_per_second)];
            row.extend(
                [figures.read_ns.p50, figures.read_ns.p99, figures.read_ns.p999].map(duration),
            );
            row.extend(shares);
            row.extend([count(figures.writes_per_second), duration(figures.write_ns.p50)]);
            speed.add_row(row);
            let ages = figures
                .stale_ms
                .as_ref()
                .map_or(["-".to_owned(), "-".to_owned(), "-".to_owned()], |ages| {
                    [ages.p50, ages.p99, ages.max].map(|ms| format!("{ms:.1} ms"))
                });
            let mut row =
                vec![name.clone(), figures.stale.to_string(), percent(figures.stale_share)];
            row.push(figures.stale_shared.to_string());
            row.extend(ages);
            row.extend([figures.damaged.to_string(), figures.errors.to_string()]);
            truth.add_row(row);
            let requests = &figures.tier_requests_per_second;
            let mut row = vec![name];
            row.extend(
                [requests.l2_gets, requests.l2_sets, requests.l3_gets, requests.l3_sets].map(count),
            );
            row.push(figures.memory.copies.to_string());
            row.extend(
                [figures.memory.copies_bytes, figures.memory.bytes]
                    .map(|bytes| ByteSize(bytes).to_string()),
            );
            cost.add_row(row);
        }
        let mut text = format!(
            "{}, kernel {}, {} cores. {} over {} keys, {} readers as fast as they can, a writer at {} writes/s;\n\
             memcached below, Redis below that.\n{speed}\n\
             A value is stale if a newer one was acknowledged to the writer before the read began; its age is how long\n\
             ago its successor was. Shared keys: those that several processes need at once; the others are kept in each\n\
             process for 30 s, by l1d too, as its policy says.\n{truth}\n\
             Requests as the servers count them. Memory: readers, writer and daemon with shared pages once, and l1d's table.\n{cost}",
            self.machine.cpu,
            self.machine.kernel,
            self.machine.cores.len(),
            self.workload,
            self.keys,
            self.readers,
            count(self.writes_per_second_wanted),
        );
        for figures in &self.contestants {
            if let Some(error) = &figures.last_error {
                text += &format!(
                    "\n{}: {} errors, the last: {error}",
                    figures.contestant.title(),
                    figures.errors
                );
            }
        }
        text
    }
}

impl Figures {
    fn new(outcome: Outcome) -> Figures {
        let Outcome { contestant, read, written, requests, memory, table } = outcome;
        let seconds = read.elapsed_ns as f64 / 1e9;
        let share = |count: u64| count as f64 / read.reads.max(1) as f64;
        let rate = |count: u64| count as f64 / seconds;
        // The daemon does not tell a reader which tier answered; the tiers know.
        let (l2, l3) = match contestant {
            Contestant::L1d => {
                (requests.l2_hits.min(read.daemon), requests.l3_hits.min(read.daemon))
            }
            _ => (read.l2, read.l3),
        };
        let copies_of_table =
            table.as_ref().map_or((0, 0), |table| (table.entries, table.live_bytes));
        Figures {
            contestant,
            seconds,
            reads: read.reads,
            reads_per_second: rate(read.reads),
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

fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

/// Four digits are enough.
fn count(number: f64) -> String {
    match number {
        number if number >= 1e6 => format!("{:.2}M", number / 1e6),
        number if number >= 1e4 => format!("{:.1}k", number / 1e3),
        number => format!("{number:.0}"),
    }
}

fn duration(ns: u64) -> String {
    match ns as f64 {
        ns if ns >= 1e6 => format!("{:.1} ms", ns / 1e6),
        ns if ns >= 1e3 => format!("{:.1} us", ns / 1e3),
        ns => format!("{ns} ns"),
    }
}
