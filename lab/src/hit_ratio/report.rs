//! What `hit-ratio` found, and what it means.

use super::contestant::Name;
use super::replay::Outcome;
use super::reports::Reports;
use super::size::Size;
use serde::Serialize;

/// Means are taken over capacities of at least so many objects: below, a table of segments is
/// mostly edges.
pub const JUDGED_OBJECTS_MIN: u64 = 1000;

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub struct Report {
    /// How hits reached the table.
    pub reports: Reports,
    /// Capacities of fewer objects are shown, and left out of the means.
    pub judged_objects_min: u64,
    /// One for each stream and size.
    pub points: Vec<Point>,
    /// Over the judged points; `None` where there are none.
    pub object_hits: Option<Summary>,
    /// The same of bytes, over the judged points with sizes.
    pub byte_hits: Option<Summary>,
}

/// One stream at one size.
#[derive(Debug, Serialize)]
pub struct Point {
    /// The stream.
    pub trace: String,
    /// Its requests.
    pub requests: u64,
    /// Capacity in percent of all objects or bytes.
    pub size_percent: Size,
    /// The capacity: objects, or bytes where there are sizes.
    pub capacity: u64,
    /// About how many objects that is.
    pub objects: u64,
    /// One for each contestant that could be had at this capacity.
    pub outcomes: Vec<Outcome>,
}

/// Which ratio.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Of requests.
    Objects,
    /// Of their bytes.
    Bytes,
}

/// What it comes to.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// How many points.
    pub points: usize,
    /// Each contestant's mean, and its mean share of the optimum.
    pub means: Vec<Mean>,
    /// Mean of how far l1d is below the best rival, in points; negative: above.
    pub gap_mean: f64,
    /// The greatest of them.
    pub gap_max: f64,
    /// Where that is.
    pub gap_max_at: String,
}

/// One contestant over all points.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Mean {
    /// Who.
    pub name: Name,
    /// Mean hit ratio.
    pub hit_percent: f64,
    /// Mean of the fractions of the optimum.
    pub of_optimum: f64,
}

impl Report {
    /// Of these points.
    pub fn new(reports: Reports, points: Vec<Point>) -> Report {
        let object_hits = Summary::of(&points, Measure::Objects);
        let byte_hits = Summary::of(&points, Measure::Bytes);
        Report { reports, judged_objects_min: JUDGED_OBJECTS_MIN, points, object_hits, byte_hits }
    }
}

impl Point {
    /// A contestant's hit ratio.
    pub fn hit(&self, name: Name, measure: Measure) -> Option<f64> {
        let outcome = self.outcomes.iter().find(|outcome| outcome.name == name)?;
        match measure {
            Measure::Objects => Some(outcome.object_hit_percent),
            Measure::Bytes => outcome.byte_hit_percent,
        }
    }

    /// The best of the rivals.
    pub fn best_rival(&self, measure: Measure) -> Option<(Name, f64)> {
        let rivals = Name::ALL.into_iter().filter(|name| name.is_rival());
        rivals
            .filter_map(|name| Some((name, self.hit(name, measure)?)))
            .max_by(|one, other| one.1.total_cmp(&other.1))
    }

    /// How far l1d is below the best rival.
    pub fn gap(&self, measure: Measure) -> Option<f64> {
        Some(self.best_rival(measure)?.1 - self.hit(Name::L1d, measure)?)
    }

    /// Which part of the optimum a contestant has.
    pub fn of_optimum(&self, name: Name, measure: Measure) -> Option<f64> {
        let optimum = self.hit(Name::Optimum, measure)?;
        (optimum > 0.0).then_some(self.hit(name, measure)? / optimum)
    }

    /// Whether it counts in the means.
    pub fn is_judged(&self) -> bool {
        self.objects >= JUDGED_OBJECTS_MIN
    }
}

impl Summary {
    fn of(points: &[Point], measure: Measure) -> Option<Summary> {
        let judged: Vec<&Point> = points
            .iter()
            .filter(|point| point.is_judged() && point.gap(measure).is_some())
            .collect();
        let gap = |point: &&Point| point.gap(measure).unwrap_or(0.0);
        let worst = judged.iter().copied().max_by(|one, other| gap(one).total_cmp(&gap(other)))?;
        let mean = |figure: &dyn Fn(&Point) -> Option<f64>| {
            let figures: Vec<f64> = judged.iter().filter_map(|point| figure(point)).collect();
            figures.iter().sum::<f64>() / (figures.len() as f64).max(1.0)
        };
        let means = Name::ALL.into_iter().map(|name| Mean {
            name,
            hit_percent: mean(&|point| point.hit(name, measure)),
            of_optimum: mean(&|point| point.of_optimum(name, measure)),
        });
        Some(Summary {
            points: judged.len(),
            means: means.collect(),
            gap_mean: mean(&|point| point.gap(measure)),
            gap_max: gap(&worst),
            gap_max_at: format!("{} at {}", worst.trace, worst.size_percent),
        })
    }

    /// A contestant's means.
    pub fn mean(&self, name: Name) -> Option<Mean> {
        self.means.iter().copied().find(|mean| mean.name == name)
    }
}
