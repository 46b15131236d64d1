//! The keys of a run, and the order in which each process asks for them.

use crate::failure::Failure;
use crate::random::Random;
use crate::trace::Trace;
use crate::zipf::Zipf;
use anyhow::{Context, Result, bail, ensure};
use l1d_demo::scenario::{self, Schedule};
use l1d_wire::policy::Scope;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Default rate of writes per second.
const RATE: f64 = 100.0;
const THETA: f64 = 0.99;
/// memcached's limit is 250, including the prefix.
const TRACE_KEY_BYTES_MAX: usize = 200;

/// A key and its values.
#[derive(Debug, Clone)]
pub struct Key {
    /// The key itself.
    pub name: Box<[u8]>,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// Other processes write it, so a private copy goes stale.
    pub is_shared: bool,
}

/// All keys and how they are used.
pub struct Load {
    /// The keys.
    pub keys: Vec<Key>,
    /// The tiers hold version 1 of every key from the start. Otherwise a reader that finds nothing
    /// loads it from the origin and sets it.
    pub is_preloaded: bool,
    /// Writes per second.
    pub rate: f64,
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    Dashboard,
    Zipf { zipf: Zipf, scatter: Arc<[u32]> },
    Trace { requests: Arc<[u32]> },
}

fn check(key: &[u8]) -> Result<()> {
    let bytes = key.len();
    ensure!(
        bytes <= TRACE_KEY_BYTES_MAX,
        "a key of {bytes} bytes; at most {TRACE_KEY_BYTES_MAX} are taken"
    );
    if let Some(byte) = key.iter().find(|byte| !byte.is_ascii_graphic()) {
        bail!("a key with byte {byte:#04x}; escape what is not printable");
    }
    Ok(())
}

impl Load {
    /// The dashboard scenario.
    pub fn dashboard(rate: Option<f64>) -> Load {
        let keys = scenario::keys().into_iter().map(|key| Key {
            value_bytes: key.feed().value_bytes,
            is_shared: key.feed().scope == Scope::Host,
            name: key.name.into_bytes().into(),
        });
        let rate = rate.unwrap_or_else(Schedule::values_per_second);
        Load { keys: keys.collect(), is_preloaded: true, rate, kind: Kind::Dashboard }
    }

    /// Single keys, zipf 0.99.
    pub fn zipf(keys: usize, value_bytes: usize, rate: Option<f64>, seed: u64) -> Load {
        let key = |number| Key {
            name: format!("unified:item:{number:08}").into_bytes().into(),
            value_bytes,
            is_shared: true,
        };
        let scatter = Random::new(seed).permutation(keys).into();
        let kind = Kind::Zipf { zipf: Zipf::new(keys, THETA), scatter };
        Load {
            keys: (0..keys).map(key).collect(),
            is_preloaded: true,
            rate: rate.unwrap_or(RATE),
            kind,
        }
    }

    /// The requests of a file.
    ///
    /// # Errors
    /// The file is no trace, or has a key over 200 bytes or with unprintable characters.
    pub fn trace(file: &Path, value_bytes: usize, rate: Option<f64>) -> Result<Load> {
        let trace = Trace::read(file)?;
        for (line, position) in (1..).zip(&trace.requests) {
            check(&trace.keys[*position as usize])
                .with_context(|| Failure::Usage(format!("{}, line {line}", file.display())))?;
        }
        let key = |key: &[u8]| Key {
            name: [b"page:", key].concat().into(),
            value_bytes,
            is_shared: true,
        };
        let kind = Kind::Trace { requests: trace.requests.into() };
        Ok(Load {
            keys: trace.keys.iter().map(|name| key(name)).collect(),
            is_preloaded: false,
            rate: rate.unwrap_or(RATE),
            kind,
        })
    }

    /// The run ends with the requests, and begins with empty caches.
    pub fn is_trace(&self) -> bool {
        matches!(self.kind, Kind::Trace { .. })
    }

    /// Requests of a trace.
    pub fn requests(&self) -> Option<u64> {
        match &self.kind {
            Kind::Trace { requests } => Some(requests.len() as u64),
            Kind::Dashboard | Kind::Zipf { .. } => None,
        }
    }

    /// Positions of the keys that this one of `readers` readers asks for, in order. The requests of
    /// a trace are dealt out in turn and end; others never end.
    pub fn reads(&self, reader: u32, readers: u32, seed: u64) -> Box<dyn Iterator<Item = usize>> {
        let mut random = Random::new(seed ^ (u64::from(reader) + 1) << 32);
        match self.kind.clone() {
            Kind::Dashboard => Box::new(
                std::iter::from_fn(move || {
                    Some(scenario::page(scenario::symbol_viewed(random.word())))
                })
                .flatten(),
            ),
            Kind::Zipf { zipf, scatter } => {
                Box::new(std::iter::from_fn(move || scattered(&zipf, &scatter, &mut random)))
            }
            Kind::Trace { requests } => {
                let mut at = reader as usize;
                Box::new(std::iter::from_fn(move || {
                    let position = requests.get(at).map(|&position| position as usize);
                    at += readers as usize;
                    position
                }))
            }
        }
    }

    /// The writes: when, and to which key.
    pub fn writes(&self, seed: u64) -> Box<dyn Iterator<Item = (Duration, usize)>> {
        let mut random = Random::new(!seed);
        let interval = Duration::from_secs_f64(1.0 / self.rate);
        let due = (1u32..).map(move |count| interval * count);
        match self.kind.clone() {
            Kind::Dashboard => Box::new(Schedule::new(self.rate / Schedule::values_per_second())),
            Kind::Zipf { zipf, scatter } => Box::new(
                due.map_while(move |due| Some((due, scattered(&zipf, &scatter, &mut random)?))),
            ),
            Kind::Trace { requests } => Box::new(due.map_while(move |due| {
                let position = requests.get(random.below(requests.len()))?;
                Some((due, *position as usize))
            })),
        }
    }
}

fn scattered(zipf: &Zipf, scatter: &[u32], random: &mut Random) -> Option<usize> {
    scatter.get(zipf.rank(random)).map(|&position| position as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_dealt_out_in_turn_and_whole() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("trace");
        std::fs::write(&file, "a\nb\nc\na\nd\n").unwrap();
        let load = Load::trace(&file, 100, None).unwrap();
        assert_eq!(load.reads(0, 2, 1).collect::<Vec<_>>(), [0, 2, 3]);
        assert_eq!(load.reads(1, 2, 1).collect::<Vec<_>>(), [1, 0]);
        assert_eq!(load.writes(1).take(100).last().unwrap().0, Duration::from_secs(1));
        assert_eq!(&load.keys[3].name[..], b"page:d");
    }
}
