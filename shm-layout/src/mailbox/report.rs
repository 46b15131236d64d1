//! Hit reports: readers report the keys they found, the owner counts them for eviction, and neither
//! waits.
//!
//! Each stripe is a lossy ring: reports that the owner does not drain in time are overwritten. A
//! report and its mark are not ordered: the owner may read a report too early, and then counts an
//! older one twice. Because fast readers report only a sample of their hits, the number of hits is
//! kept beside the number of reports, and no hit is lost from it, because threads that share a
//! stripe add to it atomically.

use super::{AtomicMemory, LINE_WORDS, Mailbox};
use core::mem::replace;

/// Most hits that one report can stand for; this library reports no more. A forged report has no
/// more effect than an honest one: for eviction each counts as one use, and the number of hits is
/// only shown.
pub const HITS_PER_REPORT_MAX: u64 = 1024;

/// How far the owner has drained a stripe.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// Reports.
    pub reports: u64,
    /// Hits that these stand for.
    pub hits: u64,
}

impl<M: AtomicMemory> Mailbox<M> {
    /// Client: reports the keys with these hashes, each for `hits` hits.
    #[inline]
    pub fn report(&self, stripe: usize, hashes: &[u64], hits: u64) {
        let shape = self.shape;
        let stripe = stripe % shape.stripes;
        let mark = shape.marks() + stripe * LINE_WORDS;
        // SAFETY: both are words of the stripe's line. Relaxed: counts that nothing is ordered by.
        let reported = unsafe {
            crate::fault_point!("report.hits");
            self.memory.add(mark + 1, hits.wrapping_mul(hashes.len() as u64));
            crate::fault_point!("report.mark");
            self.memory.add(mark, hashes.len() as u64)
        };
        for (hash, position) in hashes.iter().zip(0..) {
            crate::fault_point!("report.hash");
            self.store(self.report_word(stripe, reported.wrapping_add(position)), *hash);
        }
    }

    /// Owner: the hits of all stripes so far, those included whose reports were not drained or were
    /// overwritten. Not to be trusted.
    pub fn hits(&self) -> u64 {
        let marks = self.shape.marks();
        let stripes = 0..self.shape.stripes;
        let hits = stripes.map(|stripe| self.load(marks + stripe * LINE_WORDS + 1));
        hits.fold(0, u64::saturating_add)
    }

    /// Owner: passes those reports of a stripe since `seen` that were not overwritten to `take`,
    /// each with the hits that it stands for on average. Returns the number of reports since
    /// `seen`, and advances `seen`.
    ///
    /// # Panics
    /// If there is no such stripe.
    pub fn drain(&self, stripe: usize, seen: &mut Seen, mut take: impl FnMut(u64, u32)) -> u64 {
        assert!(stripe < self.shape.stripes);
        let mark = self.shape.marks() + stripe * LINE_WORDS;
        let reported = self.load(mark);
        let new = reported.wrapping_sub(seen.reports);
        if new == 0 {
            return 0;
        }
        let hits = self.load(mark + 1);
        let before = replace(seen, Seen { reports: reported, hits });
        // Set back, by a client that writes nonsense, or by threads of a client of an earlier release,
        // which do not add atomically: all reports were seen.
        if is_back(new) {
            return 0;
        }
        let new_hits = hits.wrapping_sub(before.hits);
        let new_hits = if is_back(new_hits) { 0 } else { new_hits };
        let kept = new.min(self.shape.stripe_words as u64);
        // Includes the hits of reports that were overwritten; none, where those of these reports were
        // seen before their mark.
        let each = (new_hits / kept).min(HITS_PER_REPORT_MAX);
        let each = u32::try_from(each).unwrap_or(0);
        for back in (1..=kept).rev() {
            take(self.load(self.report_word(stripe, reported.wrapping_sub(back))), each);
        }
        new
    }

    #[expect(clippy::cast_possible_truncation, reason = "masked to the stripe")]
    fn report_word(&self, stripe: usize, position: u64) -> usize {
        let place = position as usize & (self.shape.stripe_words - 1);
        self.shape.reports() + stripe * self.shape.stripe_words + place
    }
}

/// Whether a count has gone back, given its difference from the earlier count.
const fn is_back(difference: u64) -> bool {
    difference > u64::MAX / 2
}
