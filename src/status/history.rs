//! The samples of the last minutes, which the owner leaves for the status server.

use l1d_wire::snapshot::{History, Sample};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, TryLockError};

/// Ten minutes, at one a second.
const SAMPLES_MAX: usize = 600;

/// Samples, shared by the owner and the status server: 60 KiB at most. They are always taken,
/// because the first look at the page is usually one after something has gone wrong. It costs the
/// owner one store of a hundred bytes a second.
#[derive(Debug, Clone, Default)]
pub struct Samples(Arc<Mutex<VecDeque<Sample>>>);

impl Samples {
    /// Adds the latest sample without waiting. Returns `false` if somebody is copying the samples
    /// right now; then the next one should cover the time of this one, too.
    pub fn try_add(&self, sample: Sample) -> bool {
        let mut samples = match self.0.try_lock() {
            Ok(samples) => samples,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        if samples.len() == SAMPLES_MAX {
            samples.pop_front();
        }
        samples.push_back(sample);
        true
    }

    /// The samples so far.
    #[must_use]
    pub fn history(&self) -> History {
        let samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        History { samples: samples.iter().copied().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hazard: an owner that waits for somebody who looks at the page, or memory that grows.
    #[test]
    fn the_owner_never_waits_and_ten_minutes_are_kept() {
        let samples = Samples::default();
        for at_ms in 0..2 * SAMPLES_MAX as u64 {
            assert!(samples.try_add(Sample { at_ms, ..Sample::default() }));
        }
        let kept = samples.history().samples;
        assert_eq!((kept.len(), kept[0].at_ms), (SAMPLES_MAX, SAMPLES_MAX as u64));
        let _copying = samples.0.lock().unwrap();
        assert!(!samples.try_add(Sample::default()));
    }
}
