//! Contestants take turns: each round runs every one of them from the same place in the same
//! stream, so that a slow spell of the machine meets all alike.

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

/// Something that reads keys.
///
/// A contestant owns its loop (one call to [`pass`] with its own `read`), so that the compiler sees
/// through it: a dynamic call per read would be part of what is measured.
pub trait Contestant {
    /// Its name in tables and JSON.
    fn name(&self) -> &'static str;

    /// What a read gives before the value is in the reader's own buffer.
    fn hands_out(&self) -> &'static str;

    /// Whether every read is a round trip to a server, so that reading each key once to map its
    /// pages would take minutes and map none.
    fn is_remote(&self) -> bool {
        false
    }

    /// Reads one leg; returns ns per read.
    ///
    /// # Errors
    /// A value that is missing or wrong.
    fn pass(&mut self, leg: Leg<'_>) -> Result<f64>;
}

/// How one key is read: what contestants differ in.
pub trait Read {
    /// As [`Contestant::name`].
    const NAME: &'static str;
    /// As [`Contestant::hands_out`].
    const HANDS_OUT: &'static str;
    /// As [`Contestant::is_remote`].
    const IS_REMOTE: bool = false;

    /// Where values are copied to.
    type Buffer: AsRef<[u8]>;

    /// A buffer, made before anything is timed.
    fn buffer(&self) -> Self::Buffer;

    /// Copies the value of a key into the buffer. Whether it was there.
    fn read(&mut self, op: &Op, value: &mut Self::Buffer) -> bool;
}

/// Reads keys that are there.
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

/// Reads keys that are not there: what must not be found counts as its own number.
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
    /// Room that the reader's buffer begins with.
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

/// A vector for values of `bytes`, at another place each time: see [`placed`].
fn buffer_somewhere(bytes: usize) -> Vec<u8> {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    // A size that the allocator keeps apart from others', and nobody needs.
    let spare = MADE.fetch_add(1, Ordering::Relaxed) % PLACES * 16;
    Vec::with_capacity(bytes + spare)
}

/// Places that are tried: a page's lines, but for a few.
const PLACES: usize = 61;

/// Calls `work` with the stack at another place each `turn`.
///
/// A processor compares the low 12 bits of addresses to find out whether a load needs a store before it. By
/// where stack and buffers happen to lie, a contestant that stores what it read may seem to store
/// where it reads next, in every single read, which costs it half as much again. That is chance, and a
/// round each is what chance is given: the median is of places where nothing collides.
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

/// Times the warm-up that each contestant reads before the first round.
const SETTLING: u64 = 20;

/// How long each contestant reads, and how often.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Pace {
    /// Rounds that count.
    pub rounds: usize,
    /// Of each contestant in each round, in ms.
    pub round_ms: u64,
    /// Before it, on the same path, not counted, in ms.
    pub warm_up_ms: u64,
}

/// One contestant's rounds.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Entrant {
    /// Its name.
    pub name: &'static str,
    /// What a read gives before the value is in the reader's own buffer.
    pub hands_out: &'static str,
    /// ns per dependent read, by round.
    pub dependent_ns: Vec<f64>,
    /// ns per independent read, by round.
    pub independent_ns: Vec<f64>,
}

impl Entrant {
    /// Of one kind of read.
    pub fn rounds(&self, chain: Chain) -> &[f64] {
        match chain {
            Chain::Dependent => &self.dependent_ns,
            Chain::Independent => &self.independent_ns,
        }
    }
}

/// What is read: its name, the reads, each key once, and which kinds of reads.
#[derive(Debug, Clone, Copy)]
pub struct Reads<'a> {
    /// What progress calls it.
    pub name: &'a str,
    /// The reads.
    pub stream: &'a Stream,
    /// Each key once, in order.
    pub every_key: &'a Stream,
    /// In this order in each round.
    pub chains: &'a [Chain],
}

/// Runs them all. `every_key` is read once by each first, so that every page is mapped.
///
/// # Errors
/// A contestant that read a wrong value.
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
        // As long as it takes until everybody who arranges itself by what is read has heard of it.
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

    /// Has the value of the key that is so far behind.
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
