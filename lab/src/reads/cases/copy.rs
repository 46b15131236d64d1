//! Large values, copied out.

use super::super::arena::{Arena, ArenaReader, slots};
use super::super::contest::{Contestant, Held, Limit, Peek, Read};
use super::super::loaded::{absent, load_numbered};
use super::super::measure::pinned;
use super::super::pass::Chain;
use super::super::rivals::Rivals;
use super::super::workload::{Op, Places, Popularity, Workload};
use super::{LARGE_BYTES, Outcome, Setting, rows};
use anyhow::Result;

const MEDIUM_BYTES: usize = 1 << 10;

/// memcpy of a value at a known place, without index and key.
struct Memcpy<const VALUE_BYTES: usize> {
    arena: ArenaReader<VALUE_BYTES>,
}

impl<const VALUE_BYTES: usize> Read for Memcpy<VALUE_BYTES> {
    const NAME: &'static str = "memcpy";
    const HANDS_OUT: &'static str = "a copy";
    type Buffer = [u8; VALUE_BYTES];

    fn buffer(&self) -> [u8; VALUE_BYTES] {
        [0; VALUE_BYTES]
    }

    #[inline(always)]
    fn read(&mut self, op: &Op, value: &mut [u8; VALUE_BYTES]) -> bool {
        self.arena.copy_known(op, value);
        true
    }
}

/// Runs the case.
///
/// # Errors
/// The same as for all cases.
pub fn measure(setting: &Setting<'_>) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    for workload in setting.workloads(10_000, Popularity::Zipf) {
        outcome.rows.extend(one::<MEDIUM_BYTES>(setting, ("copy 1 KiB", workload))?.rows);
    }
    for workload in setting.workloads(10_000, Popularity::Uniform) {
        outcome.rows.extend(one::<LARGE_BYTES>(setting, ("copy 16 KiB", workload))?.rows);
    }
    Ok(outcome)
}

fn one<const VALUE_BYTES: usize>(
    setting: &Setting<'_>,
    (name, workload): (&str, Workload),
) -> Result<Outcome> {
    let Setting { command, core, progress } = *setting;
    let (keys, seed) = (workload.keys, command.options.seed);
    // Two copies in memory, and a third while the limit's arena is being filled.
    Rivals(Vec::new()).fit(keys, 4 * VALUE_BYTES as u64)?;
    let arena = Arena::fill(keys, VALUE_BYTES, seed)?;
    let daemon = load_numbered(keys, VALUE_BYTES, command.l1d.as_deref(), progress)?;
    let run = || {
        let client = daemon.client()?;
        let places = Places { slots: slots(keys, seed), absent: absent(&client, keys)?, shift: 0 };
        let mut contestants: Vec<Box<dyn Contestant>> = vec![
            Box::new(Held(Memcpy::<VALUE_BYTES> { arena: arena.reader()? })),
            Box::new(Held(Limit::<VALUE_BYTES> { arena: arena.reader()? })),
            Box::new(Held(Peek { client, value_bytes: VALUE_BYTES })),
        ];
        let kind = (&places, &Chain::ALL[..]);
        let entrants = setting.contest(&mut contestants, (name, workload), kind)?;
        let case = (name, workload);
        let mut found: Vec<_> = rows(case, &entrants, (|_| true, "memcpy")).collect();
        found.extend(rows(case, &entrants, (|who| who.name == "l1d peek_into", "limit")));
        Ok(Outcome { rows: found, skipped: Vec::new() })
    };
    pinned(core, run)
}
