//! Latencies: histograms of nanoseconds that can be sent between processes and added.

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::time::Duration;

/// The longest time that is distinguished, in ns: a little over a minute.
pub const NS_MAX: u64 = 70_000_000_000;

/// A histogram of nanoseconds with three significant digits. Serialised as pairs of value and
/// count.
#[derive(Debug, Clone)]
pub struct Times {
    histogram: Histogram<u64>,
}

impl Times {
    /// Counts a time; longer ones count as [`NS_MAX`].
    #[inline]
    pub fn record(&mut self, ns: u64) {
        self.histogram.saturating_record(ns);
    }

    /// The quantile of a share: 0.99 is the time that 99 of 100 did not exceed.
    pub fn quantile(&self, share: f64) -> u64 {
        self.histogram.value_at_quantile(share)
    }

    /// The longest.
    pub fn max(&self) -> u64 {
        self.histogram.max()
    }

    /// Adds another histogram.
    ///
    /// # Errors
    /// Histograms of different shapes, which this program does not make.
    pub fn add(&mut self, other: &Times) -> Result<()> {
        self.histogram.add(&other.histogram).context("histograms of different shape")
    }
}

impl Default for Times {
    fn default() -> Times {
        let histogram = Histogram::new_with_max(NS_MAX, 3);
        // The bounds and digits are constants that the type allows, which a test checks.
        Times { histogram: histogram.unwrap_or_else(|_| unreachable!("constant bounds")) }
    }
}

impl Serialize for Times {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let pairs = self
            .histogram
            .iter_recorded()
            .map(|step| (step.value_iterated_to(), step.count_at_value()));
        serializer.collect_seq(pairs)
    }
}

impl<'de> Deserialize<'de> for Times {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Times, D::Error> {
        let mut times = Times::default();
        for (value, count) in Vec::<(u64, u64)>::deserialize(deserializer)? {
            times.histogram.saturating_record_n(value, count);
        }
        Ok(times)
    }
}

/// Nanoseconds of a duration.
pub fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
