//! The keys of the reads, and their order.

use crate::random::Random;
use crate::zipf::Zipf;
use serde::Serialize;
use std::fmt;
use std::str::FromStr;

/// Bytes of a key.
pub const KEY_BYTES: usize = 24;
/// Bytes of a value.
pub const VALUE_BYTES: usize = 64;
/// Reads between two clock readings.
pub const CHUNK: usize = 1024;

const THETA: f64 = 0.99;

/// The popularity of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Popularity {
    /// All keys are equally popular.
    Uniform,
    /// YCSB's zipf 0.99, ranks scattered over the keys.
    Zipf,
}

/// A number of keys and their popularity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Workload {
    /// Number of keys.
    pub keys: usize,
    /// Their popularity.
    pub popularity: Popularity,
}

impl FromStr for Workload {
    type Err = String;

    fn from_str(text: &str) -> Result<Workload, String> {
        let wrong = || {
            format!(
                "`{text}` is no workload; write KEYS-zipf or KEYS-uniform, as in 10k-zipf or \
                 5M-uniform"
            )
        };
        let (number, popularity) = text.split_once('-').ok_or_else(wrong)?;
        let popularity = match popularity {
            "zipf" => Popularity::Zipf,
            "uniform" => Popularity::Uniform,
            _ => return Err(wrong()),
        };
        let (digits, unit) = match number.strip_suffix('k') {
            Some(digits) => (digits, 1_000),
            None => number.strip_suffix('M').map_or((number, 1), |digits| (digits, 1_000_000)),
        };
        let keys = digits
            .parse::<usize>()
            .ok()
            .and_then(|count| count.checked_mul(unit))
            .ok_or_else(wrong)?;
        if !(2..=100_000_000).contains(&keys) {
            return Err(format!(
                "`{text}`: between 2 and 100M keys, as they are numbered in eight digits"
            ));
        }
        Ok(Workload { keys, popularity })
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.keys {
            keys if keys % 1_000_000 == 0 => write!(f, "{}M", keys / 1_000_000)?,
            keys if keys % 1_000 == 0 => write!(f, "{}k", keys / 1_000)?,
            keys => write!(f, "{keys}")?,
        }
        f.write_str(match self.popularity {
            Popularity::Uniform => "-uniform",
            Popularity::Zipf => "-zipf",
        })
    }
}

/// One read, on half a cache line of its own; made in advance so that making keys is not timed.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(32))]
pub struct Op {
    /// The key.
    pub key: [u8; KEY_BYTES],
    /// Its number.
    pub number: u32,
    /// Its slot in the limit's index.
    pub slot: u32,
}

impl AsRef<[u8]> for Op {
    fn as_ref(&self) -> &[u8] {
        &self.key
    }
}

/// Where the limit keeps each key, and the keys to leave out.
#[derive(Debug)]
pub struct Places {
    /// The limit's slots.
    pub slots: Vec<u32>,
    /// Numbers of keys that a contestant does not hold, ascending; their neighbours are read
    /// instead.
    pub absent: Vec<u32>,
    /// Added to every number. The total number of keys makes all reads misses.
    pub shift: u32,
}

impl Places {
    fn op(&self, number: u32) -> Op {
        let keys = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        let mut number = number;
        while self.absent.binary_search(&number).is_ok() {
            number = (number + 1) % keys;
        }
        let slot = self.slots.get(number as usize).copied().unwrap_or(0);
        let number = number + self.shift;
        Op { key: key(number), number, slot }
    }
}

/// The reads of a run, in order, and the sum of the first words of each chunk's values.
#[derive(Debug)]
pub struct Stream {
    /// The reads: whole chunks.
    pub ops: Vec<Op>,
    /// One sum for each chunk.
    pub sums: Vec<u64>,
}

impl Stream {
    /// Draws reads of a workload's keys.
    pub fn draw(workload: Workload, places: &Places, seed: u64) -> Stream {
        let mut random = Random::new(seed);
        let scatter = random.permutation(workload.keys);
        let zipf =
            (workload.popularity == Popularity::Zipf).then(|| Zipf::new(workload.keys, THETA));
        // Enough for rounds to begin at different places and not to wrap around into cached reads.
        let chunks = (2 * workload.keys).clamp(1 << 20, 1 << 22) / CHUNK;
        let draw = || {
            let number = match &zipf {
                Some(zipf) => scatter.get(zipf.rank(&mut random)).copied().unwrap_or(0),
                None => u32::try_from(random.below(workload.keys)).unwrap_or(0),
            };
            places.op(number)
        };
        let ops: Vec<Op> = std::iter::repeat_with(draw).take(chunks * CHUNK).collect();
        Stream::new(ops)
    }

    /// Each key once, in order: touches every page before anything is timed.
    pub fn every_key(workload: Workload, places: &Places) -> Stream {
        let last = workload.keys - 1;
        let chunks = workload.keys.div_ceil(CHUNK);
        let number = |position: usize| u32::try_from(position.min(last)).unwrap_or(0);
        Stream::new((0..chunks * CHUNK).map(|position| places.op(number(position))).collect())
    }

    fn new(ops: Vec<Op>) -> Stream {
        let sums = ops
            .chunks(CHUNK)
            .map(|chunk| chunk.iter().map(|op| u64::from(op.number)).sum())
            .collect();
        Stream { ops, sums }
    }
}

/// The key with this number.
pub fn key(number: u32) -> [u8; KEY_BYTES] {
    let mut key = *b"market:overview:00000000";
    let mut rest = number;
    for place in key.iter_mut().rev().take(8) {
        *place = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
    }
    key
}

/// The value with this number. Its first word is the number itself, so that a reader can verify
/// values by adding first words, and derive the place of its next read from them.
pub fn value(number: u32) -> [u8; VALUE_BYTES] {
    let mut value = [0; VALUE_BYTES];
    fill(number, &mut value);
    value
}

/// The same for any size.
pub fn fill(number: u32, value: &mut [u8]) {
    value.fill(b'v');
    if let Some(word) = value.first_chunk_mut::<8>() {
        *word = u64::from(number).to_le_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_workloads_read_back() {
        for name in ["10k-zipf", "10k-uniform", "1M-uniform", "5M-zipf", "1234-uniform"] {
            assert_eq!(name.parse::<Workload>().unwrap().to_string(), name);
        }
        for name in [
            "",
            "10k",
            "10k-",
            "0-zipf",
            "1-zipf",
            "101M-zipf",
            "-1k-zipf",
            "10g-zipf",
            "99999999999999999999M-zipf",
        ] {
            assert!(name.parse::<Workload>().is_err(), "{name}");
        }
    }

    #[test]
    fn keys_are_numbered_in_eight_digits() {
        assert_eq!(&key(0), b"market:overview:00000000");
        assert_eq!(&key(12_345_678), b"market:overview:12345678");
    }
}
