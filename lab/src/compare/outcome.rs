//! The raw figures of one contestant.

use super::contestant::Contestant;
use super::servers::Requests;
use super::tally::Tally;
use crate::daemon::Daemon;
use crate::distance::Load;
use crate::memory::Memory;
use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;

/// The figures of one turn or several.
pub struct Outcome {
    /// The contestant.
    pub contestant: Contestant,
    /// Reads per second, by turn.
    pub reads_per_second: Vec<f64>,
    /// All readers together. Its elapsed time is the sum over all turns.
    pub read: Tally,
    /// The writer.
    pub written: Tally,
    /// The requests that the tiers counted meanwhile.
    pub requests: Requests,
    /// Memory of readers, writer and daemon together; the largest of several turns.
    pub memory: Memory,
    /// l1d's table; of several turns, the last one's.
    pub table: Option<Table>,
    /// The load of the proxy, by turn; empty if the tiers are on the host.
    pub proxy: Vec<Load>,
}

impl Outcome {
    /// The outcome of one turn. `tallies`: of the readers and of the writer.
    pub fn new(
        contestant: Contestant,
        (read, written): (Tally, Tally),
        requests: Requests,
        memory: Memory,
        table: Option<Table>,
    ) -> Outcome {
        let reads_per_second = vec![read.reads as f64 * 1e9 / read.elapsed_ns.max(1) as f64];
        let proxy = Vec::new();
        Outcome { contestant, reads_per_second, read, written, requests, memory, table, proxy }
    }

    /// Adds another turn.
    ///
    /// # Errors
    /// The histograms cannot be added.
    pub fn add(&mut self, other: Outcome) -> Result<()> {
        self.reads_per_second.extend(other.reads_per_second);
        add(&mut self.read, other.read)?;
        add(&mut self.written, other.written)?;
        self.requests.add(other.requests);
        if other.memory.bytes() > self.memory.bytes() {
            self.memory = other.memory;
        }
        self.proxy.extend(other.proxy);
        self.table = other.table.or(self.table.take());
        Ok(())
    }
}

/// Turns run one after the other: their times add up, their copies do not exist at once.
fn add(turns: &mut Tally, turn: Tally) -> Result<()> {
    let elapsed_ns = turns.elapsed_ns + turn.elapsed_ns;
    let copies = (turn.copies, turn.copies_bytes);
    turns.add(turn)?;
    turns.elapsed_ns = elapsed_ns;
    (turns.copies, turns.copies_bytes) = copies;
    Ok(())
}

/// l1d's table at the end.
#[derive(Debug, Clone, Serialize)]
pub struct Table {
    /// Bytes of its file, all of them in memory.
    pub bytes: u64,
    /// Entries that it holds.
    pub entries: u64,
    /// Bytes of these entries, including headers.
    pub live_bytes: u64,
}

impl Table {
    /// The table of a running daemon.
    ///
    /// # Errors
    /// The daemon does not answer, or its answer lacks a figure.
    pub fn of(daemon: &Daemon) -> Result<Table> {
        let stats: Value = serde_json::from_str(&daemon.client()?.admin().stats_json()?)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_add_up_and_do_not_run_at_once() {
        let turn = |reads, stale, elapsed_ns| {
            let read = Tally { reads, stale, elapsed_ns, copies: 7, ..Tally::default() };
            let written = Tally { writes: 10, elapsed_ns, ..Tally::default() };
            let requests = Requests { l2_gets: reads, ..Requests::default() };
            Outcome::new(Contestant::NoL1, (read, written), requests, Memory::default(), None)
        };
        let mut outcome = turn(100, 0, 1_000_000_000);
        outcome.add(turn(900, 3, 3_000_000_000)).unwrap();
        assert_eq!(outcome.reads_per_second, [100.0, 300.0]);
        let Outcome { read, written, requests, .. } = outcome;
        assert_eq!((read.reads, read.stale, read.elapsed_ns), (1000, 3, 4_000_000_000));
        assert_eq!((read.copies, written.writes, requests.l2_gets), (7, 20, 1000));
    }
}
