//! One client process of `misses`: repeats an operation on fresh keys for the duration of an order.

use super::access::Access;
use super::contestant::Contestant;
use super::operation::Operation;
use crate::process::{READY, say};
use crate::times::{Times, nanoseconds};
use anyhow::{Context, Result, ensure};
use l1d::clock::monotonic_ns;
use l1d_wire::words;
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Consecutive failures after which a process gives up.
const FAILURES_MAX: u32 = 20;

/// Options of the process.
#[derive(Debug, Clone, clap::Args)]
pub struct WorkerOptions {
    #[arg(long)]
    pub contestant: Contestant,
    #[arg(long)]
    pub memcached: String,
    #[arg(long)]
    pub redis: String,
    #[arg(long)]
    pub socket: Option<PathBuf>,
    #[arg(long)]
    pub value_bytes: u32,
    /// Number of this process.
    #[arg(long)]
    pub number: u32,
}

/// An order to a process.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Order {
    /// The operation to repeat.
    pub operation: Operation,
    /// Number of the measurement, which makes its keys unique.
    pub measurement: u32,
    /// Number of the first key.
    pub first: u32,
    /// Number after the last key; the order ends when all are used.
    pub keys: u32,
    /// Begin, on CLOCK_MONOTONIC.
    pub begin_ns: u64,
    /// Count from here on.
    pub count_ns: u64,
    /// End.
    pub end_ns: u64,
}

/// The result of an order.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Done {
    /// Latency of each operation that succeeded.
    pub ns: Times,
    /// Operations that succeeded.
    pub count: u64,
    /// Operations that failed or returned an unexpected result.
    pub errors: u64,
    /// The last failure's message.
    pub last_error: Option<String>,
    /// Time in which these were counted.
    pub elapsed_ns: u64,
}

/// The key with this number, unique to a process and measurement.
pub fn key(out: &mut Vec<u8>, measurement: u32, process: u32, number: u32) {
    out.clear();
    // Writing to a vector does not fail.
    let _ = write!(out, "miss:{measurement:04x}:{process:02x}:{number:07x}");
}

/// Carries out orders until stdin ends.
///
/// # Errors
/// A contestant cannot be reached, or every operation fails.
pub fn run(options: &WorkerOptions) -> Result<()> {
    let access = Access::open(options)?;
    let value = vec![7; options.value_bytes as usize];
    let mut worker = Worker { access, number: options.number, value, keys: Vec::new() };
    say(READY)?;
    for line in std::io::stdin().lines() {
        let order = serde_json::from_str(&line?).context("an order that cannot be read")?;
        let done = worker.carry_out(order)?;
        say(&serde_json::to_string(&done)?)?;
    }
    Ok(())
}

struct Worker {
    access: Access,
    number: u32,
    value: Vec<u8>,
    keys: Vec<Vec<u8>>,
}

impl Worker {
    fn carry_out(&mut self, order: Order) -> Result<Done> {
        let Order { operation, measurement, first, keys, begin_ns, count_ns, end_ns } = order;
        let batch = operation.batch();
        self.keys.resize(batch as usize, Vec::new());
        let wanted = match operation {
            Operation::Absent | Operation::Set | Operation::Delete => 0,
            _ => batch as usize,
        };
        let (mut done, mut failures) = (Done::default(), 0);
        std::thread::sleep(Duration::from_nanos(begin_ns.saturating_sub(monotonic_ns())));
        let mut since_ns = begin_ns;
        let mut is_warm = false;
        for first in (first..keys).step_by(batch as usize) {
            for (key_bytes, number) in self.keys.iter_mut().zip(first..) {
                key(key_bytes, measurement, self.number, number);
            }
            let begun = Instant::now();
            let result = self.access.run(operation, &self.keys, &self.value);
            let time = begun.elapsed();
            let now_ns = monotonic_ns();
            if !is_warm && now_ns >= count_ns {
                (is_warm, since_ns, done) = (true, now_ns, Done::default());
            }
            match result.and_then(|found| check(found, wanted)) {
                Ok(()) => {
                    (done.count, failures) = (done.count + 1, 0);
                    done.ns.record(nanoseconds(time));
                }
                Err(error) if failures < FAILURES_MAX => {
                    (done.errors, failures) = (done.errors + 1, failures + 1);
                    done.last_error = Some(words::chain(error.as_ref()));
                }
                Err(error) => return Err(error),
            }
            if now_ns >= end_ns {
                break;
            }
        }
        // A client that uses up its keys in the window ends its own; before, all is warm-up.
        ensure!(
            is_warm,
            "a client has used up its {keys} keys while it warmed up, so nothing was measured: this \
             machine is faster than the lab reckons with (`keys_per_second`)"
        );
        done.elapsed_ns = monotonic_ns() - since_ns;
        Ok(done)
    }
}

fn check(found: usize, wanted: usize) -> Result<()> {
    ensure!(found == wanted, "{found} values were found of {wanted}");
    Ok(())
}
