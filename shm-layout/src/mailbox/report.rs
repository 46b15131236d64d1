//! Hit reports: readers tell what they found, the owner counts it for eviction, and nobody waits.
//!
//! Each stripe is a ring that never refuses: what the owner does not drain in time is written over,
//! and threads that share a stripe may lose each other's reports, and set its mark back. So a report is
//! two plain stores to lines that no other stripe has. No order is kept between a report and its mark: a
//! report read too early is an older one, counted twice. Beside the count of reports stands that of the
//! hits that they stand for, as fast readers report some of theirs only.

use super::{Exchange, LINE_WORDS, Mailbox};
use core::mem::replace;

/// A report that stands for more hits than this was not written by this library. A forged one does no
/// more than an honest one: to eviction each is one use of the few that an entry can have, whatever it
/// stands for, so a forger keeps what a reader would keep; the hits go into figures that are only shown.
pub const HITS_PER_REPORT_MAX: u64 = 1024;

/// What the owner has taken from a stripe.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// Reports.
    pub reports: u64,
    /// Hits that they stand for.
    pub hits: u64,
}

impl<M: Exchange> Mailbox<M> {
    /// Client: reports a hit, as the key's hash. It stands for so many.
    #[inline]
    pub fn report(&self, stripe: usize, hash: u64, hits: u64) {
        let shape = self.shape;
        let stripe = stripe % shape.stripes;
        let mark = shape.marks() + stripe * LINE_WORDS;
        let reported = self.load(mark);
        self.store(self.report_word(stripe, reported), hash);
        self.store(mark + 1, self.load(mark + 1).wrapping_add(hits));
        self.store(mark, reported.wrapping_add(1));
    }

    /// Owner: hands the reports of a stripe since `seen` to `take`, as far as they are still there, each
    /// with the hits that it stands for on average, and says how many there have been in all. `seen`
    /// counts as the stripe does.
    ///
    /// # Panics
    /// Without such a stripe.
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
        // Set back by a thread that was stopped in the midst of a report: all of them were seen.
        if is_back(new) {
            return 0;
        }
        let new_hits = hits.wrapping_sub(before.hits);
        let new_hits = if is_back(new_hits) { 0 } else { new_hits };
        let kept = new.min(self.shape.stripe_words as u64);
        // Those that were written over had their share, too.
        let each = (new_hits / kept).clamp(1, HITS_PER_REPORT_MAX);
        let each = u32::try_from(each).unwrap_or(1);
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

/// Whether a count has gone back, by the difference to what it was.
const fn is_back(difference: u64) -> bool {
    difference > u64::MAX / 2
}
