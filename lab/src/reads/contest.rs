//! Contestants take turns: each round runs every one of them from the same place in the same
//! stream, so that a slow spell of the machine meets all alike.

use super::arena::ArenaReader;
use super::pass::{Chain, Leg, MISSING, pass};
use super::workload::{Op, Stream, VALUE_BYTES, Workload};
use crate::progress::Progress;
use anyhow::{Context, Result};
use l1d_client::Client;
use serde::Serialize;
use std::hint::black_box;
use std::time::Duration;

/// Something that reads keys.
///
/// A contestant owns its loop (one call to [`pass`] with its own `read`), so that the compiler sees
/// through it: a dynamic call per read would be part of what is measured.
pub trait Contestant {
    /// Its name in tables and JSON.
    fn name(&self) -> &str;

    /// Reads one leg; returns ns per read.
    ///
    /// # Errors
    /// A value that is missing or wrong.
    fn pass(&mut self, leg: Leg<'_>) -> Result<f64>;
}

/// The physical limit.
#[derive(Debug)]
pub struct Limit {
    /// Its memory.
    pub arena: ArenaReader,
}

impl Contestant for Limit {
    fn name(&self) -> &'static str {
        "limit"
    }

    fn pass(&mut self, leg: Leg<'_>) -> Result<f64> {
        let mut value = [0; VALUE_BYTES];
        pass(leg, |op: &Op| {
            if !self.arena.read(op, black_box(&mut value)) {
                return MISSING;
            }
            first_word(&value)
        })
    }
}

/// `Client::peek_into` on a table that holds all keys.
pub struct Peek {
    /// Attached to the daemon that owns the table.
    pub client: Client,
}

impl Contestant for Peek {
    fn name(&self) -> &'static str {
        "l1d peek_into"
    }

    fn pass(&mut self, leg: Leg<'_>) -> Result<f64> {
        let mut value = Vec::with_capacity(VALUE_BYTES);
        pass(leg, |op: &Op| match self.client.peek_into(&op.key, black_box(&mut value)) {
            Some(_) => first_word(&value),
            None => MISSING,
        })
    }
}

#[inline(always)]
fn first_word(value: &[u8]) -> u64 {
    value.first_chunk::<8>().map_or(MISSING, |word| u64::from_le_bytes(*word))
}

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
    pub name: String,
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

/// Runs them all. `every_key` is read once by each first, so that every page is mapped.
///
/// # Errors
/// A contestant that read a wrong value.
pub fn contest(
    contestants: &mut [Box<dyn Contestant>],
    (workload, stream, every_key): (Workload, &Stream, &Stream),
    pace: Pace,
    progress: &Progress,
) -> Result<Vec<Entrant>> {
    let mut entrants: Vec<Entrant> = contestants
        .iter()
        .map(|c| Entrant { name: c.name().to_owned(), ..Entrant::default() })
        .collect();
    for contestant in contestants.iter_mut() {
        contestant
            .pass(Leg::whole(every_key))
            .with_context(|| format!("{}, reading each key once", contestant.name()))?;
    }
    for round in 0..pace.rounds {
        let chunk = stream.sums.len() * round / pace.rounds;
        for chain in Chain::ALL {
            for (contestant, entrant) in contestants.iter_mut().zip(&mut entrants) {
                progress.say(&format!(
                    "{workload}: round {} of {}, {}",
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
                contestant.pass(leg).context(entrant.name.clone())?;
                let leg = Leg {
                    chunk: chunk + stream.sums.len() / pace.rounds / 2,
                    time: Duration::from_millis(pace.round_ms),
                    ..leg
                };
                let ns = contestant.pass(leg).context(entrant.name.clone())?;
                match chain {
                    Chain::Dependent => entrant.dependent_ns.push(ns),
                    Chain::Independent => entrant.independent_ns.push(ns),
                }
            }
        }
    }
    Ok(entrants)
}
