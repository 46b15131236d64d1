//! Popularity as YCSB draws it (Gray et al., "Quickly generating billion-record synthetic
//! databases"): rank r is drawn in proportion to 1 / (r + 1)^theta.

use crate::random::Random;

/// A zipfian distribution over ranks.
#[derive(Debug, Clone)]
pub struct Zipf {
    ranks: usize,
    theta: f64,
    alpha: f64,
    zeta: f64,
    eta: f64,
}

impl Zipf {
    /// Over `ranks` ranks (at least 2), with `theta` between 0 and 1, both excluded.
    pub fn new(ranks: usize, theta: f64) -> Zipf {
        let zeta = zeta(ranks, theta);
        let eta =
            (1.0 - (2.0 / ranks as f64).powf(1.0 - theta)) / (1.0 - zeta_of_two(theta) / zeta);
        Zipf { ranks, theta, alpha: 1.0 / (1.0 - theta), zeta, eta }
    }

    /// A rank; 0 is the most popular.
    pub fn rank(&self, random: &mut Random) -> usize {
        let unit = random.unit();
        let scaled = unit * self.zeta;
        if scaled < 1.0 {
            return 0;
        }
        if scaled < 1.0 + 0.5f64.powf(self.theta) {
            return 1;
        }
        let rank = self.ranks as f64 * (self.eta * unit - self.eta + 1.0).powf(self.alpha);
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 0 and the ranks"
        )]
        let rank = rank as usize;
        rank.min(self.ranks - 1)
    }
}

fn zeta(ranks: usize, theta: f64) -> f64 {
    (1..=ranks).map(|rank| (rank as f64).powf(-theta)).sum()
}

fn zeta_of_two(theta: f64) -> f64 {
    1.0 + 0.5f64.powf(theta)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_ranks_get_their_share() {
        let (zipf, mut random) = (Zipf::new(1000, 0.99), Random::new(5));
        let mut count = [0u32; 1000];
        for _ in 0..200_000 {
            count[zipf.rank(&mut random)] += 1;
        }
        let expected = 200_000.0 / zeta(1000, 0.99);
        for (rank, divisor) in [(0, 1.0f64), (1, 2.0), (9, 10.0)] {
            let share = f64::from(count[rank]) / (expected / divisor.powf(0.99));
            assert!((0.8..1.25).contains(&share), "rank {rank}: {share}");
        }
        assert!(count[999] > 0 || count[998] > 0 || count[997] > 0);
    }
}
