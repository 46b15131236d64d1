//! Keys that do not exist.

use super::super::arena::{Arena, ArenaReader, slots};
use super::super::contest::{Absent, Contestant, Peek, Read};
use super::super::loaded::load_numbered;
use super::super::measure::pinned;
use super::super::pass::Chain;
use super::super::report::Skip;
use super::super::rivals::Sought;
use super::super::workload::{Op, Places, Popularity, VALUE_BYTES, Workload};
use super::{Case, Outcome, Setting, rows};
use anyhow::{Context, Result, ensure};

/// Keys are numbered in eight digits, and the missing ones follow the existing ones.
const KEYS_MAX: usize = 50_000_000;

/// The limit of a miss: one word of the index, at a known place.
struct Word {
    arena: ArenaReader<VALUE_BYTES>,
}

impl Read for Word {
    const NAME: &'static str = "limit";
    const HANDS_OUT: &'static str = "nothing";
    type Buffer = [u8; VALUE_BYTES];

    fn buffer(&self) -> [u8; VALUE_BYTES] {
        [0; VALUE_BYTES]
    }

    #[inline(always)]
    fn read(&mut self, op: &Op, _: &mut [u8; VALUE_BYTES]) -> bool {
        self.arena.word(op) == usize::MAX
    }
}

/// Runs the case.
///
/// # Errors
/// The same as for all cases, or too many keys.
pub fn measure(setting: &Setting<'_>) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    for workload in setting.workloads(1_000_000, Popularity::Uniform) {
        let Outcome { rows, skipped } = one(setting, workload)?;
        outcome.rows.extend(rows);
        outcome.skipped.extend(skipped);
    }
    Ok(outcome)
}

fn one(setting: &Setting<'_>, workload: Workload) -> Result<Outcome> {
    let Setting { command, core, progress } = *setting;
    let (keys, seed) = (workload.keys, command.options.seed);
    ensure!(keys <= KEYS_MAX, "misses of more than {KEYS_MAX} keys: there are no numbers left");
    command.rivals.fit(keys, super::super::measure::KEY_BYTES_USED)?;
    let arena = Arena::fill(keys, VALUE_BYTES, seed)?;
    let daemon = load_numbered(keys, VALUE_BYTES, command.l1d.as_deref(), progress)?;
    let run = || {
        let (rivals, without) = command.rivals.load(keys, Sought::Absent, |rival| {
            progress.say(&format!("miss, {workload}: filling {}", rival.name()));
        })?;
        let mut contestants: Vec<Box<dyn Contestant>> = vec![
            Box::new(Absent(Word { arena: arena.reader()? })),
            Box::new(Absent(Peek { client: daemon.client()?, value_bytes: 0 })),
        ];
        contestants.extend(rivals);
        let shift = u32::try_from(keys).context("too many keys")?;
        let places = Places { slots: slots(keys, seed), absent: Vec::new(), shift };
        // A miss returns no value that the next key could depend on.
        let kind = (&places, &[Chain::Independent][..]);
        let entrants = setting.contest(&mut contestants, ("miss", workload), kind)?;
        let case = (Case::Miss.name(), workload);
        let mut found: Vec<_> = rows(case, &entrants, (|_| true, "limit")).collect();
        found.extend(rows(case, &entrants, (|who| who.name == "l1d peek_into", "quick_cache")));
        let skipped = without.into_iter().map(|skip| Skip::new(Case::Miss, workload, skip));
        Ok(Outcome { rows: found, skipped: skipped.collect() })
    };
    pinned(core, run)
}
