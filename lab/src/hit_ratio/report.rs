//! The results of `hit-ratio` and their summary.

use super::contestant::Name;
use super::replay::Outcome;
use super::reports::Reports;
use super::size::Size;
use serde::Serialize;

/// Means are taken over capacities of at least this number of objects: a smaller segmented table is
/// mostly edge effects.
pub const JUDGED_OBJECTS_MIN: u64 = 1000;

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub struct Report {
    /// How hits reached the table.
    pub reports: Reports,
    /// Smaller capacities are shown but left out of the means.
    pub judged_objects_min: u64,
    /// One for each stream and size.
    pub points: Vec<Point>,
    /// Summary of the judged points; `None` if there are none.
    pub object_hits: Option<Summary>,
    /// The same for bytes, over the judged points with sizes.
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
    /// The capacity in objects, or in bytes if there are sizes.
    pub capacity: u64,
    /// About how many objects that is.
    pub objects: u64,
    /// One for each contestant that can be made with this capacity.
    pub outcomes: Vec<Outcome>,
}

/// The kind of hit ratio.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Of requests.
    Objects,
    /// Of their bytes.
    Bytes,
}

/// A summary of points.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// Number of points.
    pub points: usize,
    /// Each contestant's mean hit ratio and mean share of the optimum.
    pub means: Vec<Mean>,
    /// Mean gap of l1d to the best rival, in points; negative if l1d is above.
    pub gap_mean: f64,
    /// The largest gap.
    pub gap_max: f64,
    /// The point of the largest gap.
    pub gap_max_at: String,
}

/// One contestant over all points.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Mean {
    /// The contestant.
    pub name: Name,
    /// Mean hit ratio.
    pub hit_percent: f64,
    /// Mean share of the optimum.
    pub of_optimum: f64,
}

impl Report {
    /// Summarises the points.
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

    /// A contestant's share of the optimum.
    pub fn of_optimum(&self, name: Name, measure: Measure) -> Option<f64> {
        let optimum = self.hit(Name::Optimum, measure)?;
        (optimum > 0.0).then_some(self.hit(name, measure)? / optimum)
    }

    /// The point counts in the means.
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
