//! Many durations, summarised as percentiles. Sent between processes as pairs of value and count.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Durations in one unit, with two significant digits.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(from = "Vec<(u64, u64)>", into = "Vec<(u64, u64)>")]
pub struct Durations(Histogram<u64>);

impl Default for Durations {
    fn default() -> Durations {
        Durations(Histogram::new(2).expect("a histogram can have two significant digits"))
    }
}

impl Durations {
    pub fn record(&mut self, value: u64) {
        self.record_many(value, 1);
    }

    pub fn add(&mut self, other: &Durations) {
        for (value, count) in pairs(&other.0) {
            self.record_many(value, count);
        }
    }

    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The value that `share` (0 to 1) of the durations do not exceed; 0 if there are none.
    pub fn quantile(&self, share: f64) -> u64 {
        self.0.value_at_quantile(share)
    }

    pub fn max(&self) -> u64 {
        self.0.max()
    }

    fn record_many(&mut self, value: u64, count: u64) {
        // The histogram grows as needed. It refuses only a value too large for memory, which only a
        // broken peer would send.
        let _ = self.0.record_n(value.min(u64::MAX >> 8), count);
    }
}

fn pairs(histogram: &Histogram<u64>) -> impl Iterator<Item = (u64, u64)> {
    histogram.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value()))
}

impl From<Vec<(u64, u64)>> for Durations {
    fn from(pairs: Vec<(u64, u64)>) -> Durations {
        let mut durations = Durations::default();
        for (value, count) in pairs {
            durations.record_many(value, count);
        }
        durations
    }
}

impl From<Durations> for Vec<(u64, u64)> {
    fn from(durations: Durations) -> Vec<(u64, u64)> {
        pairs(&durations.0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_survive_the_way_to_another_process() {
        let mut all = Durations::default();
        for value in 0..=1000 {
            all.record(value * 1000);
        }
        let sent = serde_json::to_string(&all).unwrap();
        let mut received: Durations = serde_json::from_str(&sent).unwrap();
        received.add(&all);
        assert_eq!(received.count(), 2002);
        for share in [0.5, 0.99, 1.0] {
            let (ours, theirs) = (all.quantile(share) as f64, received.quantile(share) as f64);
            assert!((ours - theirs).abs() <= ours * 0.01, "{share}: {ours} became {theirs}");
        }
        assert_eq!(Durations::default().quantile(0.5), 0);
    }

    #[test]
    fn no_value_from_outside_is_too_large() {
        let durations: Durations = serde_json::from_str("[[18446744073709551615, 1]]").unwrap();
        assert!(durations.count() <= 1);
    }
}
