//! Figures of the table.

use super::Table;
use super::log::Queue;
use l1d_wire::snapshot::TableStats;
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

impl<M: MemoryMut> Table<M> {
    /// Live entries evicted since the daemon started, to make room or by index conflicts.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.counters.evicted + self.counters.displaced
    }

    /// The earliest version of an entry in segments that slots refer to; 0: from before this owner.
    #[must_use]
    pub fn oldest_version(&self) -> Option<u64> {
        let segments = self.log.segments.iter().take(self.log.usable());
        let live = segments.filter(|segment| segment.live_entries > 0 || !segment.is_counted);
        live.map(|segment| segment.oldest_version).min()
    }

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
            + self.pins.bytes()
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
            // The owner knows when versions were given.
            oldest_entry_seconds: None,
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
