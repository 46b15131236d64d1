//! A hit in a thread that reports every hit. A thread that reads fast reports ever fewer hits, but
//! it reports all of its first few hundred; so each of these threads is new, and ends before that
//! point.

use super::contest::{Contestant, Held, Peek, first_word};
use super::pass::{Chain, Leg, MISSING, read_all};
use super::workload::{CHUNK, Op, VALUE_BYTES};
use anyhow::{Result, anyhow, ensure};
use l1d_client::Client;
use l1d_instructions::callgrind::leg;
use l1d_instructions::served::Served;
use l1d_instructions::steps::{EXPIRY, Steps};
use shm_layout::entry::NEVER;
use shm_layout::{Entry, Plan};
use std::hint::black_box;
use std::time::Instant;

/// Its name in tables and JSON.
pub const NAME: &str = "+ hit report, of every hit";

/// Hits that a thread hands over in one batch.
const HANDED_OVER: usize = 16;
/// Hits to time: reports become rarer after 26 batches.
const TIMED: usize = 22 * HANDED_OVER;
const ENDED: &str = "the reading thread panicked";

/// `peek_into` in such threads, of a table whose entries do not expire.
pub struct Reported {
    /// A client of the table.
    pub peek: Peek,
    /// Unreported reads of the same table, which warm the caches as they are for other contestants.
    pub steps: Steps,
}

impl Contestant for Reported {
    fn name(&self) -> &'static str {
        NAME
    }

    fn hands_out(&self) -> &'static str {
        "a copy"
    }

    fn pass(&mut self, leg: Leg<'_>) -> Result<f64> {
        // The pass that reads each key once only maps pages.
        if leg.chunks_min > 1 {
            let client = self.peek.client.clone();
            return Held(Peek { client, value_bytes: VALUE_BYTES }).pass(leg);
        }
        let chunks = leg.stream.sums.len();
        let (begin, mut all, mut threads) = (Instant::now(), 0.0, 0);
        while threads == 0 || begin.elapsed() < leg.time {
            let chunk = (leg.chunk + threads) % chunks;
            let ops = leg.stream.ops.get(chunk * CHUNK..(chunk + 1) * CHUNK).unwrap_or_default();
            let (client, steps) = (&self.peek.client, self.steps);
            all += std::thread::scope(|scope| {
                let thread = scope.spawn(move || match leg.chain {
                    Chain::Dependent => read::<true>(client, steps, ops),
                    Chain::Independent => read::<false>(client, steps, ops),
                });
                thread.join().map_err(|_| anyhow!(ENDED))?
            })?;
            threads += 1;
        }
        Ok(all / threads as f64)
    }
}

/// The whole life of a thread: returns ns of each of its timed hits, which are the last of these
/// reads.
fn read<const DEPENDENT: bool>(client: &Client, steps: Steps, ops: &[Op]) -> Result<f64> {
    let (before, timed) = ops.split_at(ops.len().saturating_sub(TIMED));
    let (unreported, first) = before.split_at(before.len().saturating_sub(HANDED_OVER));
    let mut to = [0; VALUE_BYTES];
    for op in unreported {
        ensure!(steps.read::<EXPIRY>(&op.key, || 0, black_box(&mut to)), "a key is missing");
    }
    let mut value = Vec::with_capacity(VALUE_BYTES);
    // The first batch finds out where reports go.
    for op in first {
        ensure!(client.peek_into(op.key, &mut value).is_some(), "a key is missing");
    }
    let begun = Instant::now();
    let sum = read_all::<DEPENDENT>(timed, &mut |op: &Op| {
        let is_there = client.peek_into(op.key, black_box(&mut value)).is_some();
        if is_there { first_word(&value) } else { MISSING }
    });
    let ns = begun.elapsed().as_secs_f64() * 1e9;
    let expected = timed.iter().map(|op| u64::from(op.number)).sum::<u64>();
    ensure!(sum == expected, "keys are missing or mixed up");
    Ok(ns / timed.len() as f64)
}

/// Runs under callgrind: the hits of one batch.
///
/// # Errors
/// No memory, or a key is missing.
pub fn counted() -> Result<()> {
    let plan =
        Plan { table_bytes: 16 << 20, value_bytes_max: 2048, table_id: 1, ..Plan::default() };
    let mut served = Served::new(&plan)?;
    let key = *b"market:overview:00000001";
    let entry = Entry { key: &key, value: &[7; VALUE_BYTES], expiry: NEVER, ..Entry::default() };
    ensure!(served.table.put(&entry, 0).is_ok(), "a refused put");
    let client = served.client()?;
    let hits = || {
        let mut value = Vec::with_capacity(VALUE_BYTES);
        let mut work = || {
            (0..HANDED_OVER)
                .all(|_| client.peek_into(black_box(&key), black_box(&mut value)).is_some())
        };
        ensure!(work() && leg(NAME, HANDED_OVER as u64, &mut work), "{NAME}: not found");
        Ok(())
    };
    std::thread::scope(|scope| scope.spawn(hits).join().map_err(|_| anyhow!(ENDED))?)
}
