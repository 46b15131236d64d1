//! The size of the small queue. It grows when a key that it dropped returns soon, and shrinks when
//! the old end of main is hit (after ARC: Megiddo and Modha, FAST 2003).

use super::super::Table;
use super::super::log::Queue;
use super::EPOCHS_PER_LOG;
use shm_layout::MemoryMut;

const START: f64 = 0.05;
const LEAST: f64 = 0.01;
const MOST: f64 = 0.90;
/// A returning key counts if a small queue larger by this share of the log would have kept it.
const MARGIN: f64 = 0.05;
/// One part in this many of main's segments is its old end.
const OLD_PART: usize = 20;
/// Weight of a hit at main's old end, whose entries have waited longest.
const LATE_HIT_WEIGHT: f64 = 2.0;

/// The part of the log that the small queue should have.
#[derive(Debug, Clone, Copy)]
pub(in crate::table) struct Share(f64);

impl Default for Share {
    fn default() -> Share {
        Share(START)
    }
}

impl Share {
    /// The share of `of` segments.
    pub(super) fn segments(self, of: usize) -> usize {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "at most 2^20, never negative"
        )]
        let segments = (of as f64 * self.0 + 0.5).round() as usize;
        segments.max(1)
    }

    /// Grows for a returning key that was dropped `age` epochs ago, whose entry takes `part` of the
    /// log.
    pub(super) fn grow_if_missed(&mut self, age: u32, part: f64) {
        #[expect(clippy::cast_precision_loss, reason = "4")]
        let reach = (self.0 + MARGIN) * EPOCHS_PER_LOG as f64;
        if f64::from(age) <= reach {
            self.0 = (self.0 + part).min(MOST);
        }
    }

    fn shrink(&mut self, part: f64) {
        self.0 = (self.0 - part).max(LEAST);
    }
}

impl<M: MemoryMut> Table<M> {
    /// An entry of `segment` was hit for the first time since it was appended or last passed.
    pub(super) fn adapt_to_late_hit(&mut self, segment: u32) {
        if self.eviction.is_filling {
            return;
        }
        let main = self.log.closed(Queue::Main);
        let Some(border) = main.get(main.len() / OLD_PART) else { return };
        let border = self.log.segments[*border as usize].sequence;
        let segment = &self.log.segments[segment as usize];
        if segment.queue == Queue::Main && segment.sequence <= border {
            let words = f64::from(segment.live_words) / f64::from(segment.live_entries.max(1));
            let part = self.eviction.part_of_log(words);
            self.eviction.share.shrink(LATE_HIT_WEIGHT * part);
        }
    }
}

impl super::Eviction {
    /// `words` words as a part of the log.
    pub(super) fn part_of_log(&self, words: f64) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a part of the log need not be exact")]
        let log = self.log_words.max(1) as f64;
        words / log
    }
}
