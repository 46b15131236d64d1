//! Sixteen keys at once.

use super::super::arena::{Arena, ArenaReader, slots};
use super::super::contest::{Contestant, first_word};
use super::super::loaded::{absent, load_numbered};
use super::super::measure::{KEY_BYTES_USED, pinned};
use super::super::pass::{Chain, Leg, MISSING, TOGETHER, pass_together};
use super::super::rivals::Rivals;
use super::super::workload::{Op, Places, Popularity, VALUE_BYTES, Workload};
use super::{Case, Outcome, Setting, rows};
use anyhow::Result;
use l1d_client::{Client, Values};
use std::hint::black_box;

/// The limit: prefetches every word of the index, then every entry, then reads them.
struct Together {
    arena: ArenaReader<VALUE_BYTES>,
}

impl Contestant for Together {
    fn name(&self) -> &'static str {
        "limit"
    }

    fn hands_out(&self) -> &'static str {
        "copies in one array"
    }

    fn pass(&mut self, leg: Leg<'_>) -> Result<f64> {
        let mut values = [[0; VALUE_BYTES]; TOGETHER];
        pass_together(leg, |ops: &[Op; TOGETHER]| {
            for op in ops {
                self.arena.prefetch_word(op);
            }
            for op in ops {
                self.arena.prefetch_entry(self.arena.word(op));
            }
            for (op, value) in ops.iter().zip(black_box(&mut values)) {
                if !self.arena.read(op, value) {
                    return MISSING;
                }
            }
            values.iter().fold(0, |sum, value| sum.wrapping_add(first_word(value)))
        })
    }
}

/// The same, with a vector for each value and one for all: the minimum that returns the same as
/// `get_many`.
struct TogetherOwned {
    arena: ArenaReader<VALUE_BYTES>,
}

impl Contestant for TogetherOwned {
    fn name(&self) -> &'static str {
        "limit, allocating"
    }

    fn hands_out(&self) -> &'static str {
        "a Vec of Vecs"
    }

    fn pass(&mut self, leg: Leg<'_>) -> Result<f64> {
        pass_together(leg, |ops: &[Op; TOGETHER]| {
            for op in ops {
                self.arena.prefetch_word(op);
            }
            for op in ops {
                self.arena.prefetch_entry(self.arena.word(op));
            }
            let mut values: Vec<Vec<u8>> = Vec::with_capacity(TOGETHER);
            for op in ops {
                let mut value = [0; VALUE_BYTES];
                if !self.arena.read(op, &mut value) {
                    return MISSING;
                }
                values.push(value.to_vec());
            }
            black_box(&values).iter().fold(0, |sum, value| sum.wrapping_add(first_word(value)))
        })
    }
}

/// `Client::get_many`.
struct GetMany {
    client: Client,
}

impl Contestant for GetMany {
    fn name(&self) -> &'static str {
        "l1d get_many"
    }

    fn hands_out(&self) -> &'static str {
        "a Vec of Values"
    }

    fn pass(&mut self, leg: Leg<'_>) -> Result<f64> {
        pass_together(leg, |ops: &[Op; TOGETHER]| {
            let Ok(values) = self.client.get_many(ops) else { return MISSING };
            values.iter().fold(0, |sum, value| {
                sum.wrapping_add(value.as_deref().map_or(MISSING, first_word))
            })
        })
    }
}

/// `Client::get_many_into`.
struct GetManyInto {
    client: Client,
}

impl Contestant for GetManyInto {
    fn name(&self) -> &'static str {
        "l1d get_many_into"
    }

    fn hands_out(&self) -> &'static str {
        "copies in one buffer"
    }

    fn pass(&mut self, leg: Leg<'_>) -> Result<f64> {
        let mut values = Values::new();
        pass_together(leg, |ops: &[Op; TOGETHER]| {
            if self.client.get_many_into(ops, &mut values).is_err() {
                return MISSING;
            }
            values.iter().fold(0, |sum, value| sum.wrapping_add(value.map_or(MISSING, first_word)))
        })
    }
}

/// Runs the case.
///
/// # Errors
/// The same as for all cases.
pub fn measure(setting: &Setting<'_>) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    for workload in setting.workloads(1_000_000, Popularity::Uniform) {
        outcome.rows.extend(one(setting, workload)?.rows);
    }
    Ok(outcome)
}

fn one(setting: &Setting<'_>, workload: Workload) -> Result<Outcome> {
    let Setting { command, core, progress } = *setting;
    let (keys, seed) = (workload.keys, command.options.seed);
    Rivals(Vec::new()).fit(keys, KEY_BYTES_USED)?;
    let arena = Arena::fill(keys, VALUE_BYTES, seed)?;
    let daemon = load_numbered(keys, VALUE_BYTES, command.l1d.as_deref(), progress)?;
    let run = || {
        let client = daemon.client()?;
        let places = Places { slots: slots(keys, seed), absent: absent(&client, keys)?, shift: 0 };
        let mut contestants: Vec<Box<dyn Contestant>> = vec![
            Box::new(Together { arena: arena.reader()? }),
            Box::new(TogetherOwned { arena: arena.reader()? }),
            Box::new(GetMany { client: client.clone() }),
            Box::new(GetManyInto { client }),
        ];
        let kind = (&places, &[Chain::Independent][..]);
        let entrants = setting.contest(&mut contestants, ("batch", workload), kind)?;
        let case = (Case::Batch.name(), workload);
        let mut found: Vec<_> = rows(case, &entrants, (|_| true, "limit")).collect();
        let is_l1d = |who: &super::Entrant| who.name == "l1d get_many";
        found.extend(rows(case, &entrants, (is_l1d, "limit, allocating")));
        Ok(Outcome { rows: found, skipped: Vec::new() })
    };
    pinned(core, run)
}
