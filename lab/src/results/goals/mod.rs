//! What is to be reached, and how it is read out of the documents of experiments.
//!
//! | part | file |
//! |---|---|
//! | a goal and its verdict | here |
//! | the goals | `list`, and those of misses and writes through the tiers `tiers` |
//! | figures in documents | `figures` |

mod figures;
mod list;
#[cfg(test)]
mod tests;
mod tiers;

use super::Outcome;
use crate::statistics::Spread;
use serde_json::Value;

/// All goals, in the document's order.
pub fn all() -> impl Iterator<Item = &'static Goal> {
    list::GOALS.iter().chain(tiers::GOALS)
}

/// Something to be reached.
#[derive(Debug)]
pub struct Goal {
    /// Its name, by which evidence is found.
    pub name: &'static str,
    /// In words.
    pub what: &'static str,
    /// The experiment that shows it.
    pub experiment: &'static str,
    /// The greatest figure that is good.
    at_most: f64,
    /// Finds the figure in the experiment's document.
    find: fn(&Value) -> Option<Spread>,
    /// Finds what the figure is to lie within where it is too large: the limit's own spread.
    within: Option<fn(&Value) -> Option<bool>>,
}

/// What became of a goal.
#[derive(Debug)]
pub enum Verdict {
    /// Reached.
    Met(Spread),
    /// Not below the bound, but inside what the limit itself came to in this run.
    WithinSpread(Spread),
    /// Not reached.
    Missed(Spread),
    /// There is no such figure.
    NotMeasured,
}

impl Goal {
    /// As bound and figure are shown: the other way round where the figure is a share that is to be
    /// large.
    pub fn bound(&self) -> f64 {
        self.at_most
    }

    /// What these experiments say of it.
    pub fn verdict(&self, outcomes: &[Outcome]) -> Verdict {
        let outcome = outcomes.iter().find(|outcome| outcome.experiment.name == self.experiment);
        let Some((document, _)) = outcome.and_then(|outcome| outcome.result.as_ref().ok()) else {
            return Verdict::NotMeasured;
        };
        match (self.find)(document) {
            None => Verdict::NotMeasured,
            Some(figure) if figure.median <= self.at_most => Verdict::Met(figure),
            Some(figure) => match self.within.and_then(|within| within(document)) {
                Some(true) => Verdict::WithinSpread(figure),
                _ => Verdict::Missed(figure),
            },
        }
    }
}

/// A goal; the last argument, where there is one, finds what a figure that is too large is to lie within.
macro_rules! goal {
    ($name:literal, $what:literal, $experiment:literal, $at_most:expr, $find:expr) => {
        goal!($name, $what, $experiment, $at_most, $find, None)
    };
    ($name:literal, $what:literal, $experiment:literal, $at_most:expr, $find:expr, $within:expr) => {
        Goal {
            name: $name,
            what: $what,
            experiment: $experiment,
            at_most: $at_most,
            find: $find,
            within: $within,
        }
    };
}

use goal;
