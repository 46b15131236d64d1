//! What `limit` and `read` print.

use super::contest::{Entrant, Pace};
use super::pass::Chain;
use super::processes::Scaling;
use crate::machine::Machine;
use crate::statistics::Spread;
use crate::table::table;
use comfy_table::Table;
use serde::Serialize;

/// What one workload gave.
#[derive(Debug, Serialize)]
pub struct Run {
    /// Its name.
    pub workload: String,
    /// Every contestant; the first is the limit.
    pub entrants: Vec<Entrant>,
    /// Two processes against one, where that was asked for; the first is the limit.
    pub scaling: Vec<Scaling>,
}

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Where.
    pub machine: Machine,
    /// The core that a single reader was pinned to.
    pub core: usize,
    /// How long and how often.
    pub pace: Pace,
    /// One for each workload.
    pub runs: Vec<Run>,
}

impl Report {
    /// For people, with what it means.
    pub fn text(&self) -> String {
        let mut text = format!(
            "{}, kernel {}, core {}. Keys of 24 bytes, values of 64. Medians (least-greatest) of {} rounds of {} ms\n\
             each, in turns; ratios are taken round by round. limit: a line of an index at a known place, then the\n\
             entry it points to, key compared and value copied out; no hash, no check of versions.\n{}",
            self.machine.cpu,
            self.machine.kernel,
            self.core,
            self.pace.rounds,
            self.pace.round_ms,
            self.latencies()
        );
        if self.runs.iter().any(|run| !run.scaling.is_empty()) {
            text += "\n\nTwo processes, each on a core of its own, against each of them alone (1.00: as fast as alone):\n";
            text += &self.scalings().to_string();
        }
        text
    }

    fn latencies(&self) -> Table {
        let mut table = table(
            2,
            ["keys", "contestant", "dependent, ns", "x limit", "independent, ns", "x limit"],
        );
        for run in &self.runs {
            let Some(limit) = run.entrants.first() else { continue };
            for entrant in &run.entrants {
                let mut row = vec![run.workload.clone(), entrant.name.clone()];
                for chain in Chain::ALL {
                    let (rounds, base) = (entrant.rounds(chain), limit.rounds(chain));
                    row.push(Spread::of(rounds.to_vec()).to_string());
                    row.push(format!("{:.2}", Spread::of_ratios(rounds, base)));
                }
                table.add_row(row);
            }
        }
        table
    }

    fn scalings(&self) -> Table {
        let mut table = table(
            2,
            ["keys", "contestant", "reads", "alone, ns", "both, ns", "scaling", "/ limit's"],
        );
        for run in &self.runs {
            for entry in &run.scaling {
                let Some(limit) = run.scaling.iter().find(|limit| limit.chain == entry.chain)
                else {
                    continue;
                };
                table.add_row([
                    run.workload.clone(),
                    entry.name.clone(),
                    entry.chain.name().to_owned(),
                    Spread::of(entry.alone_ns.clone()).to_string(),
                    Spread::of(entry.both_ns.clone()).to_string(),
                    format!("{:.2}", Spread::of(entry.scaling.clone())),
                    format!(
                        "{:.2}",
                        Spread::of(entry.scaling.clone()).median
                            / Spread::of(limit.scaling.clone()).median
                    ),
                ]);
            }
        }
        table
    }
}
