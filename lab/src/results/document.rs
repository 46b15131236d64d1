//! The text of the document.

use super::Outcome;
use super::goals::{self, Verdict};
use crate::table::table;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

/// The document of these outcomes. `plots`: the directory of the plots, beside it; `instructions`:
/// the section on instruction counts, which follows the costs of each part of a hit.
pub fn of(
    about: &str,
    outcomes: &[Outcome],
    evidence: &BTreeMap<String, String>,
    (plots, instructions): (&Path, &str),
    is_quick: bool,
) -> String {
    let mut text = format!(
        "# Results\n\nWritten by `l1d-lab results`; not to be edited. What the experiments are \
         and how they \
         measure: `README.md` beside this file.\n\n{about}\n\n## Goals\n\n{}\n",
        judged(outcomes, evidence)
    );
    let missed: BTreeSet<&str> = goals::all()
        .filter(|goal| matches!(goal.verdict(outcomes), Verdict::Missed(_)))
        .map(|goal| goal.name)
        .collect();
    // Writing to a String does not fail.
    if missed.iter().any(|name| evidence.contains_key(*name)) {
        text += "\n### What limits the goals that are missed\n";
    }
    for name in missed {
        if let Some(why) = evidence.get(name) {
            let _ = write!(text, "\n**{name}.** {why}\n");
        }
    }
    let directory = plots.file_name().unwrap_or_default().to_string_lossy();
    for outcome in outcomes {
        let experiment = outcome.experiment;
        let _ = write!(text, "\n## {}\n\n", experiment.title);
        match &outcome.result {
            Ok((_, said)) => {
                let command: Vec<_> = experiment.arguments(is_quick).collect();
                let _ = write!(
                    text,
                    "```text\n$ l1d-lab {}\n{}\n```\n",
                    command.join(" "),
                    said.trim_end()
                );
            }
            Err(reason) => {
                let _ = writeln!(text, "Not run: {}", reason.trim());
            }
        }
        let own = format!("{}.svg", experiment.name);
        for plot in experiment.plot.into_iter().chain([own.as_str()]) {
            if plots.join(plot).is_file() && outcome.result.is_ok() {
                let _ = write!(text, "\n![{}]({directory}/{plot})\n", experiment.title);
                break;
            }
        }
        if experiment.name == "costs" {
            text += instructions;
        }
    }
    text
}

fn judged(outcomes: &[Outcome], evidence: &BTreeMap<String, String>) -> String {
    let mut lines = table(2, ["name", "goal", "at most", "reached", "", "experiment"]);
    let has_outcome = |goal: &&goals::Goal| {
        outcomes.iter().any(|outcome| outcome.experiment.name == goal.experiment)
    };
    for goal in goals::all().filter(has_outcome) {
        let (figure, word) = match goal.verdict(outcomes) {
            Verdict::Met(figure) => (figure.to_string(), "yes"),
            Verdict::WithinSpread(figure) => (figure.to_string(), "within the limit's spread"),
            Verdict::Missed(figure) if evidence.contains_key(goal.name) => {
                (figure.to_string(), "no, see below")
            }
            Verdict::Missed(figure) => (figure.to_string(), "no, and not known why"),
            Verdict::NotMeasured => ("-".to_owned(), "not measured"),
        };
        let bound = format!("{:.2}", goal.bound());
        let bound = bound.trim_end_matches('0').trim_end_matches('.').to_owned();
        lines.add_row([
            goal.name.to_owned(),
            goal.what.to_owned(),
            bound,
            figure,
            word.to_owned(),
            goal.experiment.to_owned(),
        ]);
    }
    lines.to_string()
}
