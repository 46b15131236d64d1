//! The goals, and how to check them with the documents of experiments.
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

/// A goal.
#[derive(Debug)]
pub struct Goal {
    /// Its name, which is also the heading of its evidence.
    pub name: &'static str,
    /// Its description.
    pub what: &'static str,
    /// The experiment that measures it.
    pub experiment: &'static str,
    /// The largest figure that meets the goal.
    at_most: f64,
    /// Finds the figure in the experiment's document.
    find: fn(&Value) -> Option<Spread>,
    /// Checks whether a figure that is too large lies within the limit's own spread.
    within: Option<fn(&Value) -> Option<bool>>,
}

/// The verdict on a goal.
#[derive(Debug)]
pub enum Verdict {
    /// Reached.
    Met(Spread),
    /// Above the bound, but within the limit's own spread in this run.
    WithinSpread(Spread),
    /// Not reached.
    Missed(Spread),
    /// The document lacks the figure.
    NotMeasured,
}

impl Goal {
    /// The bound as it is displayed: inverted if the figure is a share that should be large.
    pub fn bound(&self) -> f64 {
        self.at_most
    }

    /// The verdict of these outcomes.
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

/// A goal; the optional last argument checks whether a figure that is too large is within the
/// limit's spread.
macro_rules! goal {
    ($name:literal, $what:literal, $experiment:literal, $at_most:expr, $find:expr) => {
        goal!($name, $what, $experiment, $at_most, $find, None)
    };
    (
        $name:literal, $what:literal, $experiment:literal,
        $at_most:expr, $find:expr, $within:expr
    ) => {
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
