//! Contestants take turns: each round runs all of them from the same place in the same stream, so
//! that a slow phase of the machine affects all alike.

use super::arena::ArenaReader;
use super::pass::{Chain, Leg, MISSING, pass};
use super::workload::{Op, Stream};
use crate::progress::Progress;
use anyhow::{Context, Result};
use l1d_client::Client;
use serde::Serialize;
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// A reader of keys.
///
/// A contestant owns its loop (one call to [`pass`] with its own `read`), so that the compiler can
/// inline it: a dynamic call per read would be part of the measurement.
pub trait Contestant {
    /// Its name in tables and JSON.
    fn name(&self) -> &'static str;

    /// The form in which a read returns the value, before the copy to the reader's own buffer.
    fn hands_out(&self) -> &'static str;

    /// Every read is a round trip to a server. Reading each key once to map its pages would then
    /// take minutes and map none.
    fn is_remote(&self) -> bool {
        false
    }

    /// Reads one leg; returns ns per read.
    ///
    /// # Errors
    /// A value is missing or wrong.
    fn pass(&mut self, leg: Leg<'_>) -> Result<f64>;
}

/// The read of one key, which is where contestants differ.
pub trait Read {
    /// Like [`Contestant::name`].
    const NAME: &'static str;
    /// Like [`Contestant::hands_out`].
    const HANDS_OUT: &'static str;
    /// Like [`Contestant::is_remote`].
    const IS_REMOTE: bool = false;

    /// The buffer that values are copied to.
    type Buffer: AsRef<[u8]>;

    /// Makes a buffer before anything is timed.
    fn buffer(&self) -> Self::Buffer;

    /// Copies the value of a key into the buffer. Returns whether it was there.
    fn read(&mut self, op: &Op, value: &mut Self::Buffer) -> bool;
}

/// Reads keys that exist.
pub struct Held<R>(pub R);

impl<R: Read> Contestant for Held<R> {
    fn name(&self) -> &'static str {
        R::NAME
    }

    fn hands_out(&self) -> &'static str {
        R::HANDS_OUT
    }

    fn is_remote(&self) -> bool {
        R::IS_REMOTE
    }

    fn pass(&mut self, leg: Leg<'_>) -> Result<f64> {
        match leg.chain {
            Chain::Dependent => self.read_leg::<true>(leg),
            Chain::Independent => self.read_leg::<false>(leg),
        }
    }
}

impl<R: Read> Held<R> {
    #[inline(never)]
    fn read_leg<const DEPENDENT: bool>(&mut self, leg: Leg<'_>) -> Result<f64> {
        let mut value = self.0.buffer();
        pass::<DEPENDENT>(leg, |op: &Op| {
            if self.0.read(op, black_box(&mut value)) {
                first_word(value.as_ref())
            } else {
                MISSING
            }
        })
    }
}

/// Reads keys that do not exist: each one that is rightly not found counts as its own number.
pub struct Absent<R>(pub R);

impl<R: Read> Contestant for Absent<R> {
    fn name(&self) -> &'static str {
        R::NAME
    }

    fn hands_out(&self) -> &'static str {
        "nothing"
    }

    fn is_remote(&self) -> bool {
        R::IS_REMOTE
    }

    fn pass(&mut self, leg: Leg<'_>) -> Result<f64> {
        match leg.chain {
            Chain::Dependent => self.read_leg::<true>(leg),
            Chain::Independent => self.read_leg::<false>(leg),
        }
    }
}

impl<R: Read> Absent<R> {
    #[inline(never)]
    fn read_leg<const DEPENDENT: bool>(&mut self, leg: Leg<'_>) -> Result<f64> {
        let mut value = self.0.buffer();
        pass::<DEPENDENT>(leg, |op: &Op| {
            if self.0.read(op, black_box(&mut value)) { MISSING } else { u64::from(op.number) }
        })
    }
}

/// The physical limit.
#[derive(Debug)]
pub struct Limit<const VALUE_BYTES: usize> {
    /// Its memory.
    pub arena: ArenaReader<VALUE_BYTES>,
}

impl<const VALUE_BYTES: usize> Read for Limit<VALUE_BYTES> {
    const NAME: &'static str = "limit";
    const HANDS_OUT: &'static str = "a copy";
    type Buffer = [u8; VALUE_BYTES];

    fn buffer(&self) -> [u8; VALUE_BYTES] {
        [0; VALUE_BYTES]
    }

    #[inline(always)]
    fn read(&mut self, op: &Op, value: &mut [u8; VALUE_BYTES]) -> bool {
        self.arena.read(op, value)
    }
}

/// `Client::peek_into` on a table that holds all keys.
pub struct Peek {
    /// Attached to the daemon that owns the table.
    pub client: Client,
    /// Initial capacity of the reader's buffer.
    pub value_bytes: usize,
}

impl Read for Peek {
    const NAME: &'static str = "l1d peek_into";
    const HANDS_OUT: &'static str = "a copy";
    type Buffer = Vec<u8>;

    fn buffer(&self) -> Vec<u8> {
        buffer_somewhere(self.value_bytes)
    }

    #[inline(always)]
    fn read(&mut self, op: &Op, value: &mut Vec<u8>) -> bool {
        self.client.peek_into(op.key, value).is_some()
    }
}

/// A vector for values of `bytes`, at a different address each time: see [`placed`].
fn buffer_somewhere(bytes: usize) -> Vec<u8> {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    // A size class of the allocator that nothing else uses.
    let spare = MADE.fetch_add(1, Ordering::Relaxed) % PLACES * 16;
    Vec::with_capacity(bytes + spare)
}

/// Number of addresses to try: almost one for each line of a page.
const PLACES: usize = 61;

/// Calls `work` with the stack at a different address each `turn`.
///
/// A processor compares the low 12 bits of addresses to find out whether a load depends on an
/// earlier store. If stack and buffers happen to collide in these bits, each store of a contestant
/// seems to hit the address of its next load, which makes every read take half as long again. A
/// different address in each round leaves that to chance: the median is of addresses without a
/// collision.
fn placed<R>(turn: usize, work: &mut dyn FnMut() -> R) -> R {
    let mut line = [0_u8; 64];
    black_box(&mut line);
    let result = if turn.is_multiple_of(PLACES) { work() } else { placed(turn - 1, work) };
    black_box(&mut line);
    result
}

/// The first word of a value, little-endian; [`MISSING`] where it has none.
#[inline(always)]
pub fn first_word(value: &[u8]) -> u64 {
    value.first_chunk::<8>().map_or(MISSING, |word| u64::from_le_bytes(*word))
}

/// Length of the first warm-up, as a multiple of the others.
const SETTLING: u64 = 20;

/// Number and length of the rounds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Pace {
    /// Rounds that count.
    pub rounds: usize,
    /// Length of each contestant's turn, in ms.
    pub round_ms: u64,
    /// Length of the warm-up before it, on the same path, in ms.
    pub warm_up_ms: u64,
}

/// One contestant's rounds.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Entrant {
    /// Its name.
    pub name: &'static str,
    /// The form in which a read returns the value, before the copy to the reader's own buffer.
    pub hands_out: &'static str,
    /// ns per dependent read, by round.
    pub dependent_ns: Vec<f64>,
    /// ns per independent read, by round.
    pub independent_ns: Vec<f64>,
}

impl Entrant {
    /// The rounds of one kind of read.
    pub fn rounds(&self, chain: Chain) -> &[f64] {
        match chain {
            Chain::Dependent => &self.dependent_ns,
            Chain::Independent => &self.independent_ns,
        }
    }
}

/// The reads of a contest.
#[derive(Debug, Clone, Copy)]
pub struct Reads<'a> {
    /// Their name in the progress line.
    pub name: &'a str,
    /// The reads.
    pub stream: &'a Stream,
    /// Each key once, in order.
    pub every_key: &'a Stream,
    /// Kinds of read, in this order in each round.
    pub chains: &'a [Chain],
}

/// Runs all contestants. Each first reads `every_key` once, so that every page is mapped.
///
/// # Errors
/// A contestant read a wrong value.
pub fn contest(
    contestants: &mut [Box<dyn Contestant>],
    Reads { name, stream, every_key, chains }: Reads<'_>,
    pace: Pace,
    progress: &Progress,
) -> Result<Vec<Entrant>> {
    let mut entrants: Vec<Entrant> = contestants
        .iter()
        .map(|c| Entrant { name: c.name(), hands_out: c.hands_out(), ..Entrant::default() })
        .collect();
    for contestant in contestants.iter_mut().filter(|contestant| !contestant.is_remote()) {
        contestant
            .pass(Leg::whole(every_key))
            .with_context(|| format!("{}, reading each key once", contestant.name()))?;
        // Long enough for every contestant that adapts to the reads to have done so.
        let time = Duration::from_millis(pace.warm_up_ms * SETTLING);
        let leg = Leg { stream, chunk: 0, chunks_min: 1, time, chain: Chain::Independent };
        contestant.pass(leg).context(contestant.name())?;
    }
    for round in 0..pace.rounds {
        let chunk = stream.sums.len() * round / pace.rounds;
        for &chain in chains {
            for (contestant, entrant) in contestants.iter_mut().zip(&mut entrants) {
                progress.say(&format!(
                    "{name}: round {} of {}, {}",
                    round + 1,
                    pace.rounds,
                    entrant.name
                ));
                let leg = Leg {
                    stream,
                    chunk,
                    chunks_min: 1,
                    time: Duration::from_millis(pace.warm_up_ms),
                    chain,
                };
                let turn = round * 7;
                placed(turn, &mut || contestant.pass(leg)).context(entrant.name)?;
                let leg = Leg {
                    chunk: chunk + stream.sums.len() / pace.rounds / 2,
                    time: Duration::from_millis(pace.round_ms),
                    ..leg
                };
                let ns = placed(turn, &mut || contestant.pass(leg)).context(entrant.name)?;
                match chain {
                    Chain::Dependent => entrant.dependent_ns.push(ns),
                    Chain::Independent => entrant.independent_ns.push(ns),
                }
            }
        }
    }
    Ok(entrants)
}

#[cfg(test)]
mod tests {
    use super::super::workload::{Places, Popularity, VALUE_BYTES, Workload, value};
    use super::*;

    /// Returns the value of a neighbouring key, at this distance.
    struct Beside(u32);

    impl Read for Beside {
        const NAME: &'static str = "beside";
        const HANDS_OUT: &'static str = "a copy";
        type Buffer = [u8; VALUE_BYTES];

        fn buffer(&self) -> Self::Buffer {
            [0; VALUE_BYTES]
        }

        fn read(&mut self, op: &Op, to: &mut Self::Buffer) -> bool {
            *to = value(op.number + self.0);
            true
        }
    }

    #[test]
    fn who_reads_another_value_fails_and_so_does_who_finds_what_is_not_there() {
        let places = Places { slots: vec![0; 10], absent: Vec::new(), shift: 0 };
        let workload = Workload { keys: 10, popularity: Popularity::Uniform };
        let stream = Stream::every_key(workload, &places);
        assert!(Held(Beside(0)).pass(Leg::whole(&stream)).is_ok());
        assert!(Held(Beside(1)).pass(Leg::whole(&stream)).is_err());
        assert!(Absent(Beside(0)).pass(Leg::whole(&stream)).is_err());
    }
}
