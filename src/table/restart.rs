//! Taking over the table of an earlier daemon, which may have been killed at any instruction (S3 to
//! S5). Readers go on throughout.

use super::{Log, Table};
use shm_layout::fault_point;
use shm_layout::memory::WORD_BYTES;
use shm_layout::segment::Role;
use shm_layout::slot::SLOTS;
use shm_layout::{MemoryMut, Writer};

impl<M: MemoryMut> Table<M> {
    /// Makes the table consistent, using only the index and the segment headers;
    /// [`sweep`](Self::sweep) verifies the entries later. The entries' rules are the caller's
    /// matter.
    #[must_use]
    pub fn take_over(writer: Writer<M>) -> Table<M> {
        // S3, in this order. Invalidations of strict entries were not received meanwhile.
        fault_point!("restart.lease");
        writer.set_lease_until(0);
        fault_point!("restart.floor");
        writer.raise_strict_floor(writer.version_ceiling() + 1);
        fault_point!("restart.instance");
        let instance = writer.next_instance();

        let segments = writer.geometry().segment_count();
        // S4: what had no memory when the earlier owner ended is left alone, and no slot of it.
        let usable = writer.usable_segments();
        let mut table = Table::over(writer, Log::new(segments, usable));
        table.instance = instance;
        table.log.free.clear();
        // S4, first half: half-recycled segments lose their slots; none that was open is appended
        // to again.
        let mut unusable = vec![false; segments as usize];
        for number in 0..segments {
            unusable[number as usize] = number >= usable || table.take_over_segment(number);
            if unusable[number as usize] {
                // Also if only its header is damaged: a reader may be copying one of its entries,
                // and must see another generation once new entries are stored there.
                fault_point!("restart.odd");
                table.writer.begin_recycling(number);
            }
        }
        table.log.sort();
        table.take_over_index(&unusable);
        for number in 0..segments {
            if unusable[number as usize] {
                fault_point!("restart.even");
                table.writer.end_recycling(number);
                fault_point!("restart.free");
                table.writer.set_segment(number, Role::Free, 0);
                if number < usable {
                    table.log.free.push_back(number);
                }
            }
        }
        table.update_filling();
        table.sweep.verifying = Some(0);
        table
    }

    /// Reads one segment header. Returns `true` if the segment is unusable.
    fn take_over_segment(&mut self, number: u32) -> bool {
        let segment_bytes = (self.writer.geometry().segment_words() * WORD_BYTES) as u64;
        let half_recycled = self.writer.is_recycling(number);
        let (Some(role), sequence, filled, _) = self.writer.segment(number).unwrap_or_default()
        else {
            return true;
        };
        let is_possible = filled <= segment_bytes && filled.is_multiple_of(WORD_BYTES as u64);
        if half_recycled || role == Role::Free || !is_possible {
            return true;
        }
        let filled_words = u32::try_from(filled / WORD_BYTES as u64).unwrap_or(0);
        self.log.adopt(&self.writer, number, sequence, filled_words);
        false
    }

    /// S5, first half: clears every slot that does not refer into the filled part of a usable
    /// segment, and the second of two equal slots of a line (W10), which a kill in the middle of a
    /// swap leaves.
    fn take_over_index(&mut self, unusable: &[bool]) {
        for bucket in 0..self.writer.geometry().bucket_count() {
            let bucket = self.writer.geometry().bucket(bucket);
            for index in 0..SLOTS {
                let slot = bucket.slot(index);
                let word = self.writer.slot(slot);
                if word.is_empty() {
                    continue;
                }
                if (0..index).any(|before| self.writer.slot(bucket.slot(before)) == word) {
                    fault_point!("restart.duplicate");
                    self.writer.clear(slot);
                    continue;
                }
                let at = self.writer.geometry().locate(word.position());
                let usable = at.is_some_and(|(_, at)| {
                    !unusable[at.segment as usize]
                        && at.word < self.log.segment(at.segment).filled_words
                });
                if usable {
                    self.slots_used += 1;
                } else {
                    fault_point!("restart.slot");
                    self.writer.clear(slot);
                    self.counters.torn += 1;
                }
            }
        }
    }
}
