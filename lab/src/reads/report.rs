//! The report of `limit` and `read`.

use super::cases::{Case, Row};
use super::contest::{Entrant, Pace};
use super::pass::Chain;
use super::processes::Scaling;
use super::rivals::Skipped;
use super::workload::Workload;
use crate::machine::Machine;
use crate::statistics::Spread;
use crate::table::table;
use comfy_table::Table;
use serde::Serialize;

/// The results of one workload.
#[derive(Debug, Serialize)]
pub struct Run {
    /// Its name.
    pub workload: String,
    /// Every contestant; the first is the limit.
    pub entrants: Vec<Entrant>,
    /// Two processes against one, if requested; the first is the limit.
    pub scaling: Vec<Scaling>,
}

/// A contestant that did not take part in a case, and the reason.
#[derive(Debug, Serialize)]
pub struct Skip {
    case: Case,
    workload: String,
    contestant: &'static str,
    reason: &'static str,
}

impl Skip {
    /// For a case and a workload.
    pub fn new(case: Case, workload: Workload, Skipped { name, reason }: Skipped) -> Skip {
        Skip { case, workload: workload.to_string(), contestant: name, reason }
    }
}

/// The whole report.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The machine.
    pub machine: Machine,
    /// The command line.
    pub command: String,
    /// The core that a single reader was pinned to.
    pub core: usize,
    /// Number and length of the rounds.
    pub pace: Pace,
    /// Hits: one for each workload.
    pub runs: Vec<Run>,
    /// The other cases: one for each contestant, kind of read and yardstick.
    pub rows: Vec<Row>,
    /// The contestants that did not take part.
    pub skipped: Vec<Skip>,
}

impl Report {
    /// The tables with explanations.
    pub fn text(&self) -> String {
        let mut text = format!(
            "{}, kernel {}, core {}. Keys of 24 bytes. Medians (least-greatest) of {} rounds of \
             {} ms each, in\n\
             turns; ratios are taken round by round.\n",
            self.machine.cpu, self.machine.kernel, self.core, self.pace.rounds, self.pace.round_ms,
        );
        if !self.runs.is_empty() {
            text += "Hits, values of 64 bytes, copied out. limit: a line of an index at a known \
                place, then the entry it\n\
                     points to, key compared and value copied; no hash, no check of versions.\n";
            text += &format!("{}\n", self.latencies());
        }
        if self.runs.iter().any(|run| !run.scaling.is_empty()) {
            text += "Two processes, each on a core of its own, against each of them alone (1.00: \
                as fast as alone):\n";
            text += &format!("{}\n", self.scalings());
        }
        if !self.rows.is_empty() {
            text += "Other cases; a batch per key.\n";
            text += &format!("{}\n", self.cases());
        }
        for Skip { case, workload, contestant, reason } in &self.skipped {
            text += &format!("Without {contestant} in {} of {workload}: {reason}\n", case.name());
        }
        text.truncate(text.trim_end().len());
        text
    }

    fn cases(&self) -> Table {
        let mut table = table(4, ["case", "keys", "reads", "contestant", "ns", "ratio", "to"]);
        for row in &self.rows {
            table.add_row([
                row.case.clone(),
                row.workload.clone(),
                row.chain.name().to_owned(),
                row.contestant.to_owned(),
                Spread::of(row.ns.clone()).to_string(),
                format!("{:.2}", Spread::of(row.ratio.clone())),
                row.yardstick.to_owned(),
            ]);
        }
        table
    }

    fn latencies(&self) -> Table {
        let mut table = table(
            2,
            [
                "keys",
                "contestant",
                "dependent, ns",
                "x limit",
                "independent, ns",
                "x limit",
                "a read hands out",
            ],
        );
        for run in &self.runs {
            let Some(limit) = run.entrants.first() else { continue };
            for entrant in &run.entrants {
                let mut row = vec![run.workload.clone(), entrant.name.to_owned()];
                for chain in Chain::ALL {
                    let (rounds, base) = (entrant.rounds(chain), limit.rounds(chain));
                    row.push(Spread::of(rounds.to_vec()).to_string());
                    row.push(format!("{:.2}", Spread::of_ratios(rounds, base)));
                }
                row.push(entrant.hands_out.to_owned());
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
