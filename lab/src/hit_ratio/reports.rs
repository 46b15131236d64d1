//! How hits reach the owner: readers collect them in batches, and some are lost.

use crate::random::Random;
use serde::Serialize;

/// Losses and delays of hit reports.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Reports {
    /// One hit in this number is reported.
    pub one_in: u32,
    /// Share of the reports that are lost, 0 to 1.
    pub loss: f64,
    /// Reports that a reader collects and hands over together.
    pub batch: usize,
    /// Seed of the random choices.
    pub seed: u64,
}

/// The reports that are still on their way.
#[derive(Debug)]
pub struct Ring<T> {
    reports: Reports,
    random: Random,
    held: Vec<T>,
}

impl<T> Ring<T> {
    /// An empty ring.
    pub fn new(reports: Reports) -> Ring<T> {
        Ring { reports, random: Random::new(reports.seed), held: Vec::new() }
    }

    /// Takes a hit, and returns the reports that reach the owner now.
    pub fn hit(&mut self, report: T) -> Vec<T> {
        let is_sampled =
            self.reports.one_in <= 1 || self.random.below(self.reports.one_in as usize) == 0;
        if is_sampled && self.random.unit() >= self.reports.loss {
            self.held.push(report);
        }
        if self.held.len() >= self.reports.batch.max(1) {
            return std::mem::take(&mut self.held);
        }
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_arrive_in_order_and_losses_are_drawn_by_seed() {
        let all = Reports { one_in: 1, loss: 0.0, batch: 3, seed: 1 };
        let mut ring = Ring::new(all);
        let arrived: Vec<Vec<u32>> = (0..7).map(|hit| ring.hit(hit)).collect();
        assert_eq!(arrived[2], [0, 1, 2]);
        assert_eq!(arrived.concat(), [0, 1, 2, 3, 4, 5]);
        let share = |reports: Reports| {
            let mut ring = Ring::new(reports);
            (0..10_000u32).map(|hit| ring.hit(hit).len()).sum::<usize>()
        };
        let lossy = Reports { loss: 0.3, batch: 1, ..all };
        assert!((6800..7200).contains(&share(lossy)), "{}", share(lossy));
        assert_eq!(share(lossy), share(lossy));
        let sampled = Reports { one_in: 4, batch: 1, ..all };
        assert!((2300..2700).contains(&share(sampled)), "{}", share(sampled));
    }
}
