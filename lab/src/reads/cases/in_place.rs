//! Eight bytes of a large value.

use super::super::contest::{Contestant, Held, Read};
use super::super::loaded::{absent, load_numbered};
use super::super::measure::pinned;
use super::super::pass::Chain;
use super::super::rivals::{QuickCache, Rivals, quick_cache};
use super::super::workload::{Op, Places, Popularity, Workload, fill, key};
use super::{Case, LARGE_BYTES, Outcome, Setting, rows};
use anyhow::{Context, Result};
use l1d_client::Client;
use std::sync::Arc;

/// `Client::read_with`.
struct ReadWith {
    client: Client,
}

impl Read for ReadWith {
    const NAME: &'static str = "l1d read_with";
    const HANDS_OUT: &'static str = "8 bytes";
    type Buffer = [u8; 8];

    fn buffer(&self) -> [u8; 8] {
        [0; 8]
    }

    #[inline(always)]
    fn read(&mut self, op: &Op, word: &mut [u8; 8]) -> bool {
        match self.client.read_with(op.key, |value| value.array::<8>(0)) {
            Ok(Some(Some(found))) => {
                *word = found;
                true
            }
            _ => false,
        }
    }
}

/// quick_cache, which returns the whole value.
struct Quick {
    cache: QuickCache<Box<[u8]>, Arc<[u8]>>,
}

impl Quick {
    fn load(count: u32) -> Quick {
        let cache = quick_cache(count);
        for number in 0..count {
            let mut value = vec![0; LARGE_BYTES];
            fill(number, &mut value);
            cache.insert(Box::from(key(number)), Arc::from(value));
        }
        Quick { cache }
    }
}

impl Read for Quick {
    const NAME: &'static str = "quick_cache";
    const HANDS_OUT: &'static str = "an Arc of the value";
    type Buffer = [u8; 8];

    fn buffer(&self) -> [u8; 8] {
        [0; 8]
    }

    #[inline(always)]
    fn read(&mut self, op: &Op, word: &mut [u8; 8]) -> bool {
        let Some(value) = self.cache.get(op.key.as_slice()) else { return false };
        value.first_chunk().is_some_and(|found| {
            *word = *found;
            true
        })
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
    Rivals(Vec::new()).fit(keys, 3 * LARGE_BYTES as u64)?;
    let daemon = load_numbered(keys, LARGE_BYTES, command.l1d.as_deref(), progress)?;
    let run = || {
        let client = daemon.client()?;
        let places = Places { slots: vec![0; keys], absent: absent(&client, keys)?, shift: 0 };
        let count = u32::try_from(keys).context("too many keys")?;
        let mut contestants: Vec<Box<dyn Contestant>> =
            vec![Box::new(Held(Quick::load(count))), Box::new(Held(ReadWith { client }))];
        let name = Case::InPlace.name();
        let kind = (&places, &Chain::ALL[..]);
        let entrants = setting.contest(&mut contestants, (name, workload), kind)?;
        let found = rows((name, workload), &entrants, (|_| true, "quick_cache")).collect();
        Ok(Outcome { rows: found, skipped: Vec::new() })
    };
    pinned(core, run)
}
