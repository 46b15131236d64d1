//! When versions were given: the age of an entry without a byte for it.

use std::time::Instant;

/// Samples that are kept; every second one is dropped when there are this many.
const SAMPLES: usize = 1024;

/// The next version, at some moments since the start.
#[derive(Debug, Default)]
pub(super) struct Versions {
    /// The earliest first.
    samples: Vec<(u64, Instant)>,
    /// Calls of [`note`](Self::note) of which one is kept, and how many there were since then.
    one_in: u64,
    passed: u64,
}

impl Versions {
    /// The next version is `version` now.
    pub(super) fn note(&mut self, version: u64, now: Instant) {
        self.passed += 1;
        if self.passed < self.one_in {
            return;
        }
        self.passed = 0;
        if self.samples.len() == SAMPLES {
            let mut number = 0;
            self.samples.retain(|_| {
                number += 1;
                number % 2 == 1
            });
            self.one_in = self.one_in.max(1) * 2;
        }
        self.samples.push((version, now));
    }

    /// A moment before which `version` was not given yet; the first one, for earlier versions.
    pub(super) fn at(&self, version: u64) -> Option<Instant> {
        let later = self.samples.partition_point(|(next, _)| *next <= version);
        self.samples.get(later.saturating_sub(1)).map(|(_, at)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_time_of_a_version_is_known_to_a_part_of_the_uptime() {
        let (mut versions, begun) = (Versions::default(), Instant::now());
        let at = |second| begun + Duration::from_secs(second);
        for second in 0..100_000 {
            versions.note(1000 + second * 10, at(second));
            if second % 999 == 0 {
                for given in [0, second / 3, second] {
                    let found = versions.at(1000 + given * 10).unwrap();
                    assert!(found <= at(given), "not later than it was given");
                    assert!(at(given) - found <= Duration::from_secs(second / 500 + 1));
                }
            }
        }
        assert!(versions.samples.len() <= SAMPLES);
        assert_eq!(versions.at(3), Some(begun), "of an earlier daemon");
    }
}
