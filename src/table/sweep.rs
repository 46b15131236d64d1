//! Background work in bounded steps: freeing expired entries, and verifying the entries of an
//! earlier owner while readers go on.

use super::links::Why;
use super::{Found, Table};
use shm_layout::MemoryMut;
use shm_layout::entry::{NEVER, tick};
use shm_layout::segment::Role;
use shm_layout::slot::SLOTS;

/// A place in a segment, valid until the segment is recycled.
#[derive(Debug, Clone, Copy)]
struct Place {
    segment: u32,
    sequence: u64,
    word: u32,
}

/// The progress of the background work.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    /// Buckets below this have been verified since the table was taken over; `None`: all.
    pub(super) verifying: Option<u32>,
    sweeping: Option<Place>,
    /// Earliest expiry seen so far in that segment.
    earliest: u32,
    /// Latest expiry seen so far in that segment.
    latest: u32,
}

impl Sweep {
    /// Whether an entry in bucket `bucket` is included in its segment's live figures.
    pub(super) fn is_counted(&self, log: &super::Log, found: &Found, bucket: u32) -> bool {
        log.segments[found.at.segment as usize].is_counted
            || self.verifying.is_none_or(|next| bucket < next)
    }
}

impl<M: MemoryMut> Table<M> {
    /// Works on about `entries` entries. Returns whether there is more to do.
    pub fn sweep(&mut self, now_ns: u64, entries: usize) -> bool {
        let now = tick(now_ns);
        if self.sweep.verifying.is_some() {
            self.verify(now, entries);
            return true;
        }
        let mut left = entries;
        while left > 0 {
            let Some(mut place) = self.sweep.sweeping.or_else(|| self.next_to_sweep(now)) else {
                return false;
            };
            let number = place.segment;
            let segment = self.log.segment(number);
            if segment.role != Role::Closed || segment.sequence != place.sequence {
                self.sweep.sweeping = None;
                continue;
            }
            if place.word == 0 {
                segment.is_suspect = false;
                self.sweep.earliest = NEVER;
                self.sweep.latest = 0;
            }
            let batch = self.walk(number, &mut place.word);
            left = left.saturating_sub(batch.len().max(1));
            if batch.is_empty() {
                let (earliest, latest) = (self.sweep.earliest, self.sweep.latest);
                let segment = self.log.segment(number);
                segment.earliest_expiry = earliest;
                segment.latest_expiry = latest;
                self.sweep.sweeping = None;
                continue;
            }
            for (at, hash) in batch {
                let Some(found) = self.slot_of(hash, at).and_then(|slot| self.at_slot(slot)) else {
                    continue;
                };
                if self.is_visible(&found.header, now) {
                    self.sweep.earliest = self.sweep.earliest.min(found.header.expiry);
                    self.sweep.latest = self.sweep.latest.max(found.header.expiry);
                } else {
                    self.expire(&found, hash);
                }
            }
            self.sweep.sweeping = Some(place);
        }
        true
    }

    /// When [`sweep`](Self::sweep) will next have work, in ns since the epoch.
    #[must_use]
    pub fn next_sweep_ns(&self) -> Option<u64> {
        if self.sweep.verifying.is_some() || self.sweep.sweeping.is_some() {
            return Some(0);
        }
        let closed =
            self.log.segments.iter().filter(|s| s.role == Role::Closed && s.live_entries > 0);
        closed
            .map(|s| if s.is_suspect { 0 } else { s.earliest_expiry })
            .min()
            .filter(|earliest| *earliest != NEVER)
            .map(|earliest| u64::from(earliest) << shm_layout::entry::TICK_BITS)
    }

    /// The closed segment with the earliest expiry, if that has passed; suspect ones come first.
    fn next_to_sweep(&self, now: u32) -> Option<Place> {
        let segments = self.log.segments.iter().enumerate();
        segments
            .filter(|(_, s)| s.role == Role::Closed && s.live_entries > 0)
            .filter(|(_, s)| s.is_suspect || s.earliest_expiry <= now)
            .min_by_key(|(_, s)| if s.is_suspect { 0 } else { s.earliest_expiry })
            .map(|(number, s)| Place {
                segment: u32::try_from(number).unwrap_or(u32::MAX),
                sequence: s.sequence,
                word: 0,
            })
    }

    /// S5, second half: verifies the next buckets. Every slot must refer to a whole entry that
    /// belongs in its bucket and is in no other slot, or it is cleared. Counts the live bytes of
    /// the entries.
    fn verify(&mut self, now: u32, entries: usize) {
        let Some(mut bucket) = self.sweep.verifying else { return };
        let count = self.writer.geometry().bucket_count();
        let until = bucket.saturating_add(u32::try_from(entries / 4 + 1).unwrap_or(u32::MAX));
        while bucket < until.min(count) {
            for index in 0..SLOTS {
                let slot = self.writer.geometry().bucket(bucket).slot(index);
                self.verify_slot(slot, now);
            }
            bucket += 1;
            // From here on, entries of this bucket are in the live figures.
            self.sweep.verifying = Some(bucket);
        }
        if bucket == count {
            self.sweep.verifying = None;
            for segment in &mut self.log.segments {
                segment.is_counted = true;
            }
        }
    }

    fn verify_slot(&mut self, slot: usize, now: u32) {
        if self.writer.slot(slot).is_empty() {
            return;
        }
        let Some(found) = self.at_slot(slot) else {
            return self.unlink_torn(slot);
        };
        if self.entry_is_whole(&found).is_err() {
            return self.unlink(&found, Why::Torn);
        }
        if !self.is_visible(&found.header, now) {
            return self.unlink(&found, Why::Expired);
        }
        let segment = self.log.segment(found.at.segment);
        if !segment.is_counted {
            segment.live_words += super::log::words_of(&found.header);
            segment.live_entries += 1;
            self.budgets.count_live(&found.header);
            segment.earliest_expiry = segment.earliest_expiry.min(found.header.expiry);
            segment.latest_expiry = segment.latest_expiry.max(found.header.expiry);
        }
    }
}
