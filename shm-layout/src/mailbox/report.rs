//! Hit reports: readers tell what they found, the owner counts it for eviction, and nobody waits.
//!
//! Each stripe is a ring that never refuses: what the owner does not drain in time is written over,
//! and threads that share a stripe may lose each other's reports. So a report is two plain stores to
//! lines that no other stripe has. No order is kept between a report and its mark: a report read too
//! early is an older one, counted twice.

use super::{Exchange, LINE_WORDS, Mailbox};

impl<M: Exchange> Mailbox<M> {
    /// Client: reports a hit, as the key's hash.
    #[inline]
    pub fn report(&self, stripe: usize, hash: u64) {
        let shape = self.shape;
        let stripe = stripe % shape.stripes;
        let mark = shape.marks() + stripe * LINE_WORDS;
        let reported = self.load(mark);
        self.store(self.report_word(stripe, reported), hash);
        self.store(mark, reported.wrapping_add(1));
    }

    /// Client: adds to the hits of the threads that report in this stripe. Nobody acts on that.
    #[inline]
    pub fn add_hits(&self, stripe: usize, hits: u64) {
        let word = self.hits_word(stripe % self.shape.stripes);
        self.store(word, self.load(word).wrapping_add(hits));
    }

    /// Owner: hits in this stripe, as the client says. Not to be believed.
    ///
    /// # Panics
    /// Without such a stripe.
    pub fn hits(&self, stripe: usize) -> u64 {
        assert!(stripe < self.shape.stripes);
        self.load(self.hits_word(stripe))
    }

    /// On the line of the stripe's mark.
    fn hits_word(&self, stripe: usize) -> usize {
        self.shape.marks() + stripe * LINE_WORDS + 1
    }

    /// Owner: hands the reports of a stripe since `seen` to `take`, as far as they are still there,
    /// and says how many there have been in all. `seen` counts as the stripe does.
    ///
    /// # Panics
    /// Without such a stripe.
    pub fn drain(&self, stripe: usize, seen: &mut u64, mut take: impl FnMut(u64)) -> u64 {
        assert!(stripe < self.shape.stripes);
        let reported = self.load(self.shape.marks() + stripe * LINE_WORDS);
        let new = reported.wrapping_sub(*seen);
        if new == 0 {
            return 0;
        }
        let kept = new.min(self.shape.stripe_words as u64);
        for back in (1..=kept).rev() {
            take(self.load(self.report_word(stripe, reported.wrapping_sub(back))));
        }
        *seen = reported;
        new
    }

    #[expect(clippy::cast_possible_truncation, reason = "masked to the stripe")]
    fn report_word(&self, stripe: usize, position: u64) -> usize {
        let place = position as usize & (self.shape.stripe_words - 1);
        self.shape.reports() + stripe * self.shape.stripe_words + place
    }
}
