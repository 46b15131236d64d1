//! A large JSON value as the decoded object.

use super::super::contest::{Contestant, Held, Read};
use super::super::loaded::{absent, load};
use super::super::measure::pinned;
use super::super::pass::Chain;
use super::super::rivals::{QuickCache, Rivals, quick_cache};
use super::super::workload::{Op, Places, Popularity, Workload, key};
use super::{Case, LARGE_BYTES, Outcome, Setting, rows};
use anyhow::{Context, Result};
use l1d_client::Memo;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The decoded object, such as an order book.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Book {
    number: u64,
    /// Prices and amounts.
    levels: Vec<(f64, f64)>,
}

impl Book {
    /// The object of a key, with levels for about 16 KiB of JSON.
    fn new(number: u32) -> Book {
        let level = |place: u32| (f64::from(place) + 60_000.25, f64::from(place) + 1.5);
        Book { number: u64::from(number), levels: (0..LEVELS).map(level).collect() }
    }

    fn json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

const LEVELS: u32 = 900;

/// `Memo::decoded`.
struct Decoded {
    memo: Memo<Book>,
}

impl Read for Decoded {
    const NAME: &'static str = "l1d decoded";
    const HANDS_OUT: &'static str = "an Arc of the object";
    type Buffer = [u8; 8];

    fn buffer(&self) -> [u8; 8] {
        [0; 8]
    }

    #[inline(always)]
    fn read(&mut self, op: &Op, word: &mut [u8; 8]) -> bool {
        let Ok(Some(book)) = self.memo.decoded(op.key, |json| serde_json::from_slice::<Book>(json))
        else {
            return false;
        };
        *word = book.number.to_le_bytes();
        true
    }
}

/// quick_cache of decoded objects.
struct Quick {
    cache: QuickCache<Box<[u8]>, Arc<Book>>,
}

impl Quick {
    fn load(count: u32) -> Quick {
        let cache = quick_cache(count);
        for number in 0..count {
            cache.insert(Box::from(key(number)), Arc::new(Book::new(number)));
        }
        Quick { cache }
    }
}

impl Read for Quick {
    const NAME: &'static str = "quick_cache";
    const HANDS_OUT: &'static str = "an Arc of the object";
    type Buffer = [u8; 8];

    fn buffer(&self) -> [u8; 8] {
        [0; 8]
    }

    #[inline(always)]
    fn read(&mut self, op: &Op, word: &mut [u8; 8]) -> bool {
        let Some(book) = self.cache.get(op.key.as_slice()) else { return false };
        *word = book.number.to_le_bytes();
        true
    }
}

/// Runs the case.
///
/// # Errors
/// The same as for all cases.
pub fn measure(setting: &Setting<'_>) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    for workload in setting.workloads(10_000, Popularity::Uniform) {
        outcome.rows.extend(one(setting, workload)?.rows);
    }
    Ok(outcome)
}

fn one(setting: &Setting<'_>, workload: Workload) -> Result<Outcome> {
    let Setting { command, core, progress } = *setting;
    let keys = workload.keys;
    // The value, and two objects nearly as large.
    Rivals(Vec::new()).fit(keys, 3 * LARGE_BYTES as u64)?;
    let json = |number| Book::new(number).json();
    let daemon = load(keys, (LARGE_BYTES, json), command.l1d.as_deref(), progress)?;
    let run = || {
        let client = daemon.client()?;
        let places = Places { slots: vec![0; keys], absent: absent(&client, keys)?, shift: 0 };
        let count = u32::try_from(keys).context("too many keys")?;
        let memo = Memo::new(&client, keys * 2)?;
        let mut contestants: Vec<Box<dyn Contestant>> =
            vec![Box::new(Held(Quick::load(count))), Box::new(Held(Decoded { memo }))];
        let name = Case::Decoded.name();
        let kind = (&places, &Chain::ALL[..]);
        let entrants = setting.contest(&mut contestants, (name, workload), kind)?;
        let found = rows((name, workload), &entrants, (|_| true, "quick_cache")).collect();
        Ok(Outcome { rows: found, skipped: Vec::new() })
    };
    pinned(core, run)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_book_is_a_value_of_nearly_16_kib_and_reads_back() {
        let json = Book::new(99_999_999).json();
        assert!((LARGE_BYTES * 9 / 10..=LARGE_BYTES).contains(&json.len()), "{}", json.len());
        assert_eq!(serde_json::from_slice::<Book>(&json).unwrap(), Book::new(99_999_999));
    }
}
