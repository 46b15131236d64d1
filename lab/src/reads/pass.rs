//! One pass of one contestant over the reads: the timed loop.

use super::workload::{CHUNK, Op, Stream};
use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// Keys per batch, a divisor of [`CHUNK`].
pub const TOGETHER: usize = 16;

/// Returned by a contestant for a key that it does not have. No key has this number.
pub const MISSING: u64 = u64::MAX;

/// The dependency of a read on the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Chain {
    /// The next key depends on the value just read, which shows the true latency.
    Dependent,
    /// Keys are known in advance, so the core overlaps reads as far as it can.
    Independent,
}

impl Chain {
    /// Both, in display order.
    pub const ALL: [Chain; 2] = [Chain::Dependent, Chain::Independent];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Chain::Dependent => "dependent",
            Chain::Independent => "independent",
        }
    }
}

/// A part of the stream to read, and how to read it.
#[derive(Debug, Clone, Copy)]
pub struct Leg<'a> {
    /// The reads.
    pub stream: &'a Stream,
    /// First chunk; the stream is a ring.
    pub chunk: usize,
    /// Chunks to read at least, even if the time is over.
    pub chunks_min: usize,
    /// Time after which to stop.
    pub time: Duration,
    /// The dependency of a read on the one before.
    pub chain: Chain,
}

impl<'a> Leg<'a> {
    /// The whole stream once.
    pub fn whole(stream: &'a Stream) -> Leg<'a> {
        Leg {
            stream,
            chunk: 0,
            chunks_min: stream.sums.len(),
            time: Duration::ZERO,
            chain: Chain::Independent,
        }
    }
}

/// Reads until the time is over; returns ns per read. `read` copies the value of a key out and
/// returns its first word. `DEPENDENT` must match the leg: the timed loop is the only place that
/// calls `read`, so that the compiler inlines every contestant, however large.
///
/// # Errors
/// The first words of a chunk do not add up to the numbers of its keys: a key was missing, or the
/// value of another key was returned.
#[inline(always)]
pub fn pass<const DEPENDENT: bool>(leg: Leg<'_>, mut read: impl FnMut(&Op) -> u64) -> Result<f64> {
    pass_chunks(leg, |ops| read_all::<DEPENDENT>(ops, &mut read))
}

/// [`pass`] over batches of `TOGETHER` keys; `read` returns the sum of their values' first words.
/// The keys are known in advance.
///
/// # Errors
/// The same as for [`pass`].
#[inline(always)]
pub fn pass_together(leg: Leg<'_>, mut read: impl FnMut(&[Op; TOGETHER]) -> u64) -> Result<f64> {
    pass_chunks(leg, |ops| {
        let (batches, _) = ops.as_chunks::<TOGETHER>();
        batches.iter().fold(0u64, |sum, batch| sum.wrapping_add(read(batch)))
    })
}

#[inline(always)]
fn pass_chunks(leg: Leg<'_>, mut read: impl FnMut(&[Op]) -> u64) -> Result<f64> {
    let chunks = leg.stream.sums.len();
    let begin = Instant::now();
    let mut done = 0;
    while done < leg.chunks_min.max(1) || begin.elapsed() < leg.time {
        let chunk = (leg.chunk + done) % chunks;
        let ops = leg.stream.ops.get(chunk * CHUNK..(chunk + 1) * CHUNK).unwrap_or_default();
        let sum = read(ops);
        let expected = leg.stream.sums.get(chunk).copied().unwrap_or(0);
        ensure!(
            sum == expected,
            "chunk {chunk}: first words of the values add up to {sum}, not to {expected}: keys \
             are missing or mixed up"
        );
        done += 1;
    }
    Ok(begin.elapsed().as_secs_f64() * 1e9 / (done * CHUNK) as f64)
}

/// Reads these keys; returns the sum of the values' first words.
///
/// The top bit of a key's number is never set, but only the loaded value says so: for dependent
/// reads, the address of the next one cannot be known before this one has ended.
#[inline(always)]
pub fn read_all<const DEPENDENT: bool>(ops: &[Op], read: &mut impl FnMut(&Op) -> u64) -> u64 {
    let (mut sum, mut word, mut position) = (0u64, 0u64, 0usize);
    while position < ops.len() {
        let step = if DEPENDENT { usize::try_from(word >> 63).unwrap_or(0) } else { 0 };
        let Some(op) = ops.get(position + step) else { return MISSING };
        word = read(op);
        sum = sum.wrapping_add(word);
        position += 1;
    }
    sum
}
