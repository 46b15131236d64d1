//! Figures of the table.

use super::Table;
use super::log::Queue;
use serde::Serialize;
use shm_layout::MemoryMut;
use shm_layout::memory::WORD_BYTES;
use shm_layout::segment::Role;

/// Counts of events since the daemon started.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counters {
    pub(super) puts: u64,
    pub(super) put_bytes: u64,
    pub(super) removes: u64,
    pub(super) evicted: u64,
    pub(super) evicted_bytes: u64,
    pub(super) expired: u64,
    pub(super) displaced: u64,
    pub(super) copied_forward_bytes: u64,
    pub(super) recycled: u64,
    pub(super) torn: u64,
}

/// Figures of a table.
#[derive(Debug, Clone, Serialize)]
pub struct TableStats {
    /// Identity.
    pub table_id: u64,
    /// Bytes of the file.
    pub table_bytes: u64,
    /// Bytes of it that are allocated; the rest, if any, is allocated later.
    pub usable_bytes: u64,
    /// Bytes of the index.
    pub index_bytes: u64,
    /// Bytes of all segments.
    pub log_bytes: u64,
    /// Bytes of a segment.
    pub segment_bytes: u64,
    /// Segments in all.
    pub segments: u32,
    /// Segments that are allocated.
    pub segments_usable: u32,
    /// Allocated segments without entries.
    pub segments_free: u32,
    /// Segments of the small queue, where newcomers begin.
    pub segments_small: u32,
    /// Segments that the small queue should have by now.
    pub segments_small_target: u32,
    /// Whether newcomers go to main because there is room.
    pub is_filling: bool,
    /// Entries that slots refer to, including expired ones that are not swept yet.
    pub entries: u64,
    /// Bytes of these entries, with headers and padding.
    pub live_bytes: u64,
    /// Bytes of entries that no slot refers to any more, not yet reclaimed.
    pub dead_bytes: u64,
    /// Bytes that entries can be appended to at once.
    pub free_bytes: u64,
    /// Slots in use, in percent.
    pub index_load_percent: f64,
    /// Bytes of private memory that the owner keeps for the table.
    pub owner_private_bytes: u64,
    /// Whether an earlier daemon's entries are still being verified; live bytes are too low until
    /// then.
    pub is_verifying: bool,
    /// Counts the daemons that have owned this table.
    pub instance: u64,
    /// The next entry's version.
    pub next_version: u64,
    /// Entries stored.
    pub puts: u64,
    /// Bytes of these.
    pub put_bytes: u64,
    /// Keys deleted.
    pub removes: u64,
    /// Live entries evicted to make room.
    pub evicted: u64,
    /// Bytes of these.
    pub evicted_bytes: u64,
    /// Of these, entries evicted because their policy, or known absences, had used up their share.
    pub evicted_over_share: u64,
    /// Bytes of live entries that say that a key has no value.
    pub absent_bytes: u64,
    /// Expired or flushed entries that were unlinked.
    pub expired: u64,
    /// Live entries that index conflicts have evicted.
    pub displaced: u64,
    /// Bytes copied forward when segments were reclaimed.
    pub copied_forward_bytes: u64,
    /// Bytes copied forward for each byte stored.
    pub copied_forward_per_byte: f64,
    /// Hits that were reported.
    pub hits_reported: u64,
    /// Stored keys that had been evicted or had expired not long before.
    pub ghost_hits: u64,
    /// Segments recycled.
    pub recycled: u64,
    /// Slots cleared because they referred to no sound entry.
    pub torn: u64,
}

impl<M: MemoryMut> Table<M> {
    /// The current figures. Visits segments, not entries.
    #[must_use]
    pub fn stats(&self) -> TableStats {
        let geometry = self.writer.geometry();
        let segment_bytes = (geometry.segment_words() * WORD_BYTES) as u64;
        let (mut live, mut filled, mut free) = (0, 0, 0);
        let mut segments_free = 0;
        for segment in self.log.segments.iter().take(self.log.usable()) {
            live += u64::from(segment.live_words) * WORD_BYTES as u64;
            let used = u64::from(segment.filled_words) * WORD_BYTES as u64;
            match segment.role {
                Role::Free => {
                    segments_free += 1;
                    free += segment_bytes;
                }
                Role::Open => {
                    filled += used;
                    free += segment_bytes - used;
                }
                Role::Closed => filled += segment_bytes,
            }
        }
        let slots = u64::from(geometry.bucket_count()) * shm_layout::slot::SLOTS as u64;
        #[expect(clippy::cast_precision_loss, reason = "a percentage for people")]
        let index_load_percent = self.slots_used as f64 * 100.0 / slots as f64;
        let private = size_of_val(self)
            + size_of_val(self.log.segments.as_slice())
            + self.log.free.capacity() * size_of::<u32>()
            + self.eviction.bytes()
            + self.budgets.bytes()
            + self.scratch.capacity();
        let counters = self.counters;
        #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
        let copied_forward_per_byte =
            counters.copied_forward_bytes as f64 / counters.put_bytes.max(1) as f64;
        let count = |segments: usize| u32::try_from(segments).unwrap_or(u32::MAX);
        TableStats {
            table_id: geometry.identity().table_id,
            table_bytes: geometry.identity().table_bytes,
            usable_bytes: geometry.bytes_up_to(count(self.log.usable())),
            index_bytes: geometry.index_bytes(),
            log_bytes: geometry.log_bytes(),
            segment_bytes,
            segments: geometry.segment_count(),
            segments_usable: count(self.log.usable()),
            segments_free,
            segments_small: count(self.log.count(Queue::Small)),
            segments_small_target: count(self.small_target()),
            is_filling: self.eviction.is_filling(),
            entries: self.slots_used,
            live_bytes: live,
            dead_bytes: filled - live.min(filled),
            free_bytes: free,
            index_load_percent,
            owner_private_bytes: private as u64,
            is_verifying: self.sweep.verifying.is_some(),
            instance: self.instance,
            next_version: self.next_version,
            puts: counters.puts,
            put_bytes: counters.put_bytes,
            removes: counters.removes,
            evicted: counters.evicted,
            evicted_bytes: counters.evicted_bytes,
            evicted_over_share: self.budgets.evicted,
            absent_bytes: self.absent_bytes(),
            expired: counters.expired,
            displaced: counters.displaced,
            copied_forward_bytes: counters.copied_forward_bytes,
            copied_forward_per_byte,
            hits_reported: self.eviction.hits,
            ghost_hits: self.eviction.ghost_hits,
            recycled: counters.recycled,
            torn: counters.torn,
        }
    }
}
