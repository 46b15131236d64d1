//! One process of a run: a reader or the writer.
//!
//! It prints `ready`, learns on stdin when the measured time begins, prints its tally when the run
//! ends, and stays alive until its stdin closes, so that its memory can be measured.

use super::keys::Load;
use super::options::WorkerOptions;
use super::oracle::Oracle;
use super::store::{Level, Store};
use super::tally::Tally;
use crate::process::{READY, say};
use crate::times::nanoseconds;
use anyhow::{Context, Result, bail};
use l1d::clock::monotonic_ns;
use l1d_demo::stamped::{self, Stamp};
use serde::{Deserialize, Serialize};
use std::io::BufRead;
use std::time::{Duration, Instant};

/// The begin and end of a run, on CLOCK_MONOTONIC.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Window {
    /// All processes begin.
    pub begin_ns: u64,
    /// Counting begins.
    pub count_ns: u64,
    /// All processes end.
    pub end_ns: u64,
}

impl Window {
    /// When the warm-up ends and counting restarts, if there is a warm-up.
    fn warm_up_ends(self) -> Option<u64> {
        (self.count_ns > self.begin_ns).then_some(self.count_ns)
    }
}

/// Consecutive failures after which a process gives up.
const FAILURES_MAX: u32 = 20;

/// Runs one process.
///
/// # Errors
/// A contestant cannot be reached, or every request fails.
pub fn run(options: &WorkerOptions) -> Result<()> {
    let load = options.load.load()?;
    let oracle = Oracle::open(&options.oracle, load.keys.len())?;
    let store = Store::open(options)?;
    let mut worker = Worker {
        load,
        oracle,
        store,
        tally: Tally::default(),
        value: Vec::new(),
        clock: clock(),
        failures: 0,
    };
    say(READY)?;
    let mut lines = std::io::stdin().lock().lines();
    let line = lines.next().context("the run ended before it began")??;
    let window: Window = serde_json::from_str(&line).context("a window that cannot be read")?;
    wait_until(window.begin_ns);
    match options.reader {
        Some(reader) => worker.serve(reader, options, window)?,
        None => worker.publish(options, window)?,
    }
    (worker.tally.copies, worker.tally.copies_bytes) = worker.store.copies();
    say(&serde_json::to_string(&worker.tally)?)?;
    for _ in lines {}
    Ok(())
}

struct Worker {
    load: Load,
    oracle: Oracle,
    store: Store,
    tally: Tally,
    value: Vec<u8>,
    clock: Duration,
    failures: u32,
}

impl Worker {
    fn serve(&mut self, reader: u32, options: &WorkerOptions, window: Window) -> Result<()> {
        let mut counts_from = window.warm_up_ends();
        let mut since_ns = window.begin_ns;
        for position in self.load.reads(reader, options.load.readers, options.load.seed) {
            let now_ns = self.read(position)?;
            if now_ns >= window.end_ns || self.oracle.is_stopped() {
                break;
            }
            if counts_from.is_some_and(|from| now_ns >= from) {
                counts_from = None;
                since_ns = now_ns;
                self.tally = Tally::default();
            }
        }
        self.tally.elapsed_ns = monotonic_ns() - since_ns;
        Ok(())
    }

    /// Reads one key; returns the time before the read.
    fn read(&mut self, position: usize) -> Result<u64> {
        let Some(key) = self.load.keys.get(position) else { bail!("there is no key {position}") };
        let acknowledged = self.oracle.acknowledged(position);
        let now_ns = monotonic_ns();
        let before = Instant::now();
        let level = self.store.read(key, &mut self.value);
        let time = before.elapsed().saturating_sub(self.clock);
        let level = match level {
            Ok(level) => level,
            Err(error) => return self.failed(error).map(|()| now_ns),
        };
        self.failures = 0;
        self.tally.read(level, time);
        if level == Level::Missing {
            self.load_from_origin(position)?;
            return Ok(now_ns);
        }
        match stamped::decode(&key.name, &self.value) {
            Ok(stamp) if stamp.version < acknowledged => {
                let since = self.oracle.outdated_since_ns(position, stamp.version);
                let age_ns = now_ns.saturating_sub(since);
                self.tally.stale += 1;
                self.tally.stale_ns.record(age_ns);
                if key.is_shared {
                    self.tally.stale_shared += 1;
                    self.tally.stale_shared_ns.record(age_ns);
                }
            }
            Ok(_) => {}
            Err(_) => self.tally.damaged += 1,
        }
        Ok(now_ns)
    }

    /// Cache-aside: loads what no cache has from the origin and sets it.
    fn load_from_origin(&mut self, position: usize) -> Result<()> {
        if self.load.is_preloaded {
            return Ok(());
        }
        let version = self.oracle.origin(position);
        self.tally.loads += 1;
        self.store(position, version).map(|_| ())
    }

    fn publish(&mut self, options: &WorkerOptions, window: Window) -> Result<()> {
        let mut counts_from = window.warm_up_ends();
        let mut since_ns = window.begin_ns;
        for (due, position) in self.load.writes(options.load.seed) {
            let due_ns = window.begin_ns + nanoseconds(due);
            // Sleeps in short steps, to notice a stop.
            while monotonic_ns() < due_ns.min(window.end_ns) && !self.oracle.is_stopped() {
                wait_until(due_ns.min(window.end_ns).min(monotonic_ns() + 20_000_000));
            }
            let now_ns = monotonic_ns();
            if now_ns >= window.end_ns || self.oracle.is_stopped() {
                break;
            }
            if counts_from.is_some_and(|from| now_ns >= from) {
                counts_from = None;
                since_ns = now_ns;
                self.tally = Tally::default();
            }
            let version = self.oracle.origin(position) + 1;
            self.oracle.at_origin(position, version);
            let before = Instant::now();
            if self.store(position, version)? {
                self.tally.writes += 1;
                self.tally.write_ns.record(nanoseconds(before.elapsed()));
                self.oracle.acknowledge(position, version, monotonic_ns());
            }
        }
        self.tally.elapsed_ns = monotonic_ns().saturating_sub(since_ns);
        Ok(())
    }

    /// Stores a version of a key. Returns whether it was acknowledged.
    fn store(&mut self, position: usize, version: u64) -> Result<bool> {
        let Some(key) = self.load.keys.get(position) else { bail!("there is no key {position}") };
        let stamp = Stamp { version, published_ns: monotonic_ns() };
        stamped::encode(&key.name, stamp, key.value_bytes, &mut self.value);
        match self.store.write(key, &self.value) {
            Ok(()) => {
                self.failures = 0;
                Ok(true)
            }
            Err(error) => self.failed(error).map(|()| false),
        }
    }

    fn failed(&mut self, error: anyhow::Error) -> Result<()> {
        self.tally.failed(&error);
        self.failures += 1;
        if self.failures >= FAILURES_MAX {
            return Err(error);
        }
        Ok(())
    }
}

/// The shortest time between two clock readings: the overhead of measuring.
fn clock() -> Duration {
    (0..1000).map(|_| Instant::now().elapsed()).min().unwrap_or_default()
}

fn wait_until(at_ns: u64) {
    let left = at_ns.saturating_sub(monotonic_ns());
    std::thread::sleep(Duration::from_nanos(left));
}
