//! Which segment is given back when the log is full, and what of it stays. The one place that
//! chooses victims.

use super::{Found, Table};
use shm_layout::segment::Role;
use shm_layout::{KeyHash, Location, MemoryMut};

/// The live part of a segment is copied forward when at least this share of it is dead, in percent.
/// Below, copying costs more than twice what it frees. Above 25, a live part and the largest entry
/// always fit one segment (W1).
const DEAD_PERCENT_MIN: u64 = 30;

/// Entries looked up together, so that their index lines travel together.
const BATCH: usize = 16;

/// What becomes of a segment's live entries.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Live {
    CopyForward,
    Drop,
}

impl<M: MemoryMut> Table<M> {
    /// Gives one segment back: first one in which nothing is visible any more, then the one with
    /// the most dead bytes (its live entries move on), then the oldest.
    pub(super) fn reclaim(&mut self, now: u32) {
        let segment_words = self.writer.geometry().segment_words() as u64;
        let closed = |table: &Self| {
            let closed = table.log.segments.iter().enumerate();
            closed
                .filter(|(_, segment)| segment.role == Role::Closed)
                .map(|(number, segment)| {
                    (u32::try_from(number).unwrap_or(u32::MAX), segment.clone())
                })
                .collect::<Vec<_>>()
        };
        let segments = closed(self);
        let counted = || segments.iter().filter(|(_, segment)| segment.is_counted);
        if let Some((number, _)) =
            counted().find(|(_, segment)| segment.live_entries == 0 || segment.latest_expiry <= now)
        {
            return self.recycle(*number, Live::Drop, now);
        }
        if let Some((number, segment)) = counted().min_by_key(|(_, segment)| segment.live_words) {
            let dead = segment_words - u64::from(segment.live_words);
            if dead * 100 >= segment_words * DEAD_PERCENT_MIN {
                return self.recycle(*number, Live::CopyForward, now);
            }
        }
        self.reclaim_oldest(now);
    }

    /// Gives the segment back that was opened first, with all that is in it.
    pub(super) fn reclaim_oldest(&mut self, now: u32) {
        let oldest = self
            .log
            .segments
            .iter()
            .enumerate()
            .filter(|(_, segment)| segment.role == Role::Closed)
            .min_by_key(|(_, segment)| segment.sequence);
        // With 16 segments or more, one open and none free, there is always a closed one.
        if let Some((number, _)) = oldest {
            self.recycle(u32::try_from(number).unwrap_or(u32::MAX), Live::Drop, now);
        }
    }

    /// W4. Everything to keep is published elsewhere before the generation turns odd.
    fn recycle(&mut self, victim: u32, live: Live, now: u32) {
        let mut left = Vec::new();
        let mut start = 0;
        loop {
            let batch = self.walk(victim, &mut start);
            if batch.is_empty() {
                break;
            }
            for (at, hash) in batch {
                let Some(slot) = self.slot_of(hash, at) else { continue };
                let Some(found) = self.at_slot(slot) else { continue };
                let visible = self.is_visible(&found.header, now);
                if visible && live == Live::CopyForward && self.copy_forward(&found, hash) {
                    continue;
                }
                if visible {
                    self.counters.evicted += 1;
                    self.counters.evicted_bytes += found.header.bytes() as u64;
                } else {
                    self.counters.expired += 1;
                }
                left.push(found);
            }
        }
        let filled = self.log.segment(victim).filled_words;
        self.writer.begin_recycling(victim);
        for found in &left {
            self.writer.clear(found.slot);
            self.slots_used -= 1;
        }
        if start != filled {
            self.clear_slots_of(victim);
        }
        self.writer.end_recycling(victim);
        self.writer.set_segment(victim, Role::Free, 0);
        let segment = self.log.segment(victim);
        segment.role = Role::Free;
        segment.live_words = 0;
        segment.live_entries = 0;
        self.log.free.push_back(victim);
        self.counters.recycled += 1;
    }

    /// The next entries of a segment, with their hashes, and their index lines asked for. Leaves
    /// `start` at the end of the segment, or where a header makes no sense.
    pub(super) fn walk(&mut self, segment: u32, start: &mut u32) -> Vec<(Location, KeyHash)> {
        let mut batch = Vec::with_capacity(BATCH);
        let filled = self.log.segment(segment).filled_words;
        while batch.len() < BATCH && *start < filled {
            let at = Location { segment, word: *start };
            let Some(header) = self.header_at(at) else { break };
            let words = super::log::words_of(&header);
            if at.word + words > filled {
                break;
            }
            self.key_of(&Found { slot: 0, at, header });
            let hash = self.writer.geometry().hasher().hash(&self.scratch);
            for bucket in self.writer.geometry().buckets(hash) {
                self.writer.memory().prefetch(bucket.word());
            }
            batch.push((at, hash));
            *start += words;
        }
        batch
    }

    /// Moves an entry to the end of the log and points its slot there; its version stays. `false`
    /// when the open segment has no room for it.
    fn copy_forward(&mut self, found: &Found, hash: KeyHash) -> bool {
        let words = found.header.words();
        let Some(to) = self.log.room(words, self.writer.geometry().segment_words()) else {
            return false;
        };
        if self.writer.copy(found.at, to, words).is_err() {
            return false;
        }
        self.log.fill(&self.writer, to, &found.header);
        self.writer.publish(found.slot, hash, to);
        self.log.count_live(to.segment, &found.header);
        self.counters.copied_forward_bytes += found.header.bytes() as u64;
        true
    }

    /// Clears every slot that refers to a segment, by a scan of the whole index: the way out when
    /// its entries cannot be walked.
    pub(super) fn clear_slots_of(&mut self, segment: u32) {
        for bucket in 0..self.writer.geometry().bucket_count() {
            for index in 0..shm_layout::slot::SLOTS {
                let slot = self.writer.geometry().bucket(bucket).slot(index);
                let word = self.slot_word(slot);
                let place = self.writer.geometry().locate(word.position());
                if !word.is_empty() && place.is_some_and(|(_, at)| at.segment == segment) {
                    self.writer.clear(slot);
                    self.slots_used = self.slots_used.saturating_sub(1);
                    self.counters.torn += 1;
                }
            }
        }
    }
}
