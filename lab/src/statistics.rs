//! Medians of rounds.

use serde::Serialize;
use std::fmt;

/// The median of some rounds, with the minimum and maximum.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The minimum.
    pub min: f64,
    /// The maximum.
    pub max: f64,
}

impl Spread {
    /// The spread of these rounds; zeros if there are none.
    pub fn of(mut rounds: Vec<f64>) -> Spread {
        rounds.sort_by(f64::total_cmp);
        let at = |position: usize| rounds.get(position).copied().unwrap_or(0.0);
        let half = rounds.len() / 2;
        let median = if rounds.len() % 2 == 1 {
            at(half)
        } else {
            f64::midpoint(at(half.saturating_sub(1)), at(half))
        };
        Spread { median, min: at(0), max: at(rounds.len().saturating_sub(1)) }
    }

    /// The spread of two contestants' ratios, taken round by round.
    pub fn of_ratios(figures: &[f64], base: &[f64]) -> Spread {
        Spread::of(figures.iter().zip(base).map(|(figure, base)| figure / base).collect())
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = match self.median {
            median if median < 10.0 => 2,
            median if median < 100.0 => 1,
            _ => 0,
        };
        let digits = f.precision().unwrap_or(digits);
        write!(f, "{:.digits$} ({:.digits$}-{:.digits$})", self.median, self.min, self.max)
    }
}
