//! The counters of a process, and adding those of several processes.

use super::store::Level;
use crate::times::{Times, nanoseconds};
use anyhow::Result;
use l1d_wire::words;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Counts of one or more processes over the measured time.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Reads that succeeded, including those that found nothing.
    pub reads: u64,
    /// Reads answered by L1.
    pub l1: u64,
    /// By memcached.
    pub l2: u64,
    /// By Redis.
    pub l3: u64,
    /// By the daemon.
    pub daemon: u64,
    /// Reads that found nothing.
    pub missing: u64,
    /// Values loaded from the origin and set, after a miss.
    pub loads: u64,
    /// Writes of the writer that were acknowledged.
    pub writes: u64,
    /// Reads and writes that failed.
    pub errors: u64,
    /// Values that were torn or belonged to another key.
    pub damaged: u64,
    /// Values older than the last one acknowledged before the read began.
    pub stale: u64,
    /// The stale values of keys that other processes write.
    pub stale_shared: u64,
    /// Latency of each read.
    pub read_ns: Times,
    /// Latency of each write.
    pub write_ns: Times,
    /// For each stale value, how long it had been outdated when the read began.
    pub stale_ns: Times,
    /// The same for keys that other processes write.
    pub stale_shared_ns: Times,
    /// Measured time; the longest of several processes.
    pub elapsed_ns: u64,
    /// Copies in the L1s of single processes.
    pub copies: u64,
    /// Bytes of their keys and values.
    pub copies_bytes: u64,
    /// Message of the last failure.
    pub last_error: Option<String>,
}

impl Tally {
    /// Counts an answered read.
    #[inline]
    pub fn read(&mut self, level: Level, time: Duration) {
        self.reads += 1;
        *match level {
            Level::L1 => &mut self.l1,
            Level::L2 => &mut self.l2,
            Level::L3 => &mut self.l3,
            Level::Daemon => &mut self.daemon,
            Level::Missing => &mut self.missing,
        } += 1;
        self.read_ns.record(nanoseconds(time));
    }

    /// Counts a failure.
    pub fn failed(&mut self, error: &anyhow::Error) {
        self.errors += 1;
        self.last_error = Some(words::chain(error.as_ref()));
    }

    /// Adds another process's counts.
    pub fn add(&mut self, other: Tally) -> Result<()> {
        self.reads += other.reads;
        self.l1 += other.l1;
        self.l2 += other.l2;
        self.l3 += other.l3;
        self.daemon += other.daemon;
        self.missing += other.missing;
        self.loads += other.loads;
        self.writes += other.writes;
        self.errors += other.errors;
        self.damaged += other.damaged;
        self.stale += other.stale;
        self.stale_shared += other.stale_shared;
        self.read_ns.add(&other.read_ns)?;
        self.write_ns.add(&other.write_ns)?;
        self.stale_ns.add(&other.stale_ns)?;
        self.stale_shared_ns.add(&other.stale_shared_ns)?;
        self.elapsed_ns = self.elapsed_ns.max(other.elapsed_ns);
        self.copies += other.copies;
        self.copies_bytes += other.copies_bytes;
        self.last_error = other.last_error.or(self.last_error.take());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::times::NS_MAX;

    #[test]
    fn a_tally_survives_its_journey_and_adds_up() {
        let mut tally = Tally::default();
        for ns in [10, 10, 10, 2_000_000, u64::MAX] {
            tally.read(Level::L1, Duration::from_nanos(ns));
        }
        tally.read(Level::L3, Duration::from_nanos(500));
        let line = serde_json::to_string(&tally).unwrap();
        let mut other: Tally = serde_json::from_str(&line).unwrap();
        other.add(tally).unwrap();
        assert_eq!((other.reads, other.l1, other.l3), (12, 10, 2));
        assert_eq!(other.read_ns.quantile(0.5), 10);
        assert!(other.read_ns.max() >= NS_MAX);
    }
}
