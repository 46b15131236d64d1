//! Hit reports, drained from the stripes of a mailbox.

use shm_layout::MappedMut;
use shm_layout::mailbox::report::Seen;
use shm_layout::mailbox::{Mailbox, SHAPE};

/// Hit reports after which a drain ends with the stripe that it is at.
const REPORTS_PER_DRAIN: u64 = 256;
/// A mark that is further ahead than this is not a count of lost reports: the client has written
/// nonsense.
const REPORTS_LOST_MAX: u64 = 1 << 32;

/// How far the reports of one mailbox were drained.
#[derive(Debug)]
pub(super) struct Reports {
    /// How far each stripe was drained.
    seen: Vec<Seen>,
    /// The stripe to drain next.
    stripe: usize,
    drained: u64,
    lost: u64,
}

impl Reports {
    /// Of a new mailbox.
    pub(super) fn new() -> Reports {
        Reports { seen: vec![Seen::default(); SHAPE.stripes], stripe: 0, drained: 0, lost: 0 }
    }

    /// Hands new hit reports to `take`: of all stripes, or if there are many, of some, and of the
    /// others the next time.
    pub(super) fn drain(&mut self, shared: &Mailbox<MappedMut>, mut take: impl FnMut(u64, u32)) {
        let mut taken = 0;
        for _ in 0..SHAPE.stripes {
            let stripe = self.stripe;
            self.stripe = (stripe + 1) % SHAPE.stripes;
            let Some(seen) = self.seen.get_mut(stripe) else { return };
            let new = shared.drain(stripe, seen, &mut take);
            if new > 0 {
                let kept = new.min(SHAPE.stripe_words as u64);
                let lost = Some(new - kept).filter(|lost| *lost <= REPORTS_LOST_MAX);
                self.drained = self.drained.saturating_add(kept);
                self.lost = self.lost.saturating_add(lost.unwrap_or(0));
                taken += kept;
            }
            if taken >= REPORTS_PER_DRAIN {
                return;
            }
        }
    }

    /// Reports drained.
    pub(super) fn drained(&self) -> u64 {
        self.drained
    }

    /// Reports that were overwritten before they were drained.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }
}
