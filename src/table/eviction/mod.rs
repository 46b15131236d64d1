//! What stays and what goes: S3-FIFO's queues (Yang et al., SOSP 2023) on the segments of the log.
//!
//! | part | file | after |
//! |---|---|---|
//! | uses of each entry, two bits | `uses` | CLOCK (Corbató, 1968), S3-FIFO |
//! | keys that were dropped, as fingerprints | `ghost` | S3-FIFO, LIRS (Jiang and Zhang, SIGMETRICS 2002) |
//! | which queue a newcomer joins | `admission` | LIRS, CLOCK-Pro (Jiang et al., ATC 2005) |
//! | how large the small queue is | `share` | ARC (Megiddo and Modha, FAST 2003) |
//! | which segment is reclaimed, and what of it is kept | `victim` | LFS cleaning (Rosenblum and Ousterhout, SOSP 1991) |
//! | doing it, some entries at a time | `reclaim` | |
//!
//! Time is what absent keys have brought, in words: an epoch is a quarter of the log.

pub(super) mod admission;
pub(super) mod ghost;
pub(super) mod reclaim;
pub(super) mod share;
#[cfg(test)]
mod tests;
pub(super) mod uses;
pub(super) mod victim;

use super::Table;
use ghost::Ghost;
use reclaim::Job;
use share::Share;
use shm_layout::{Geometry, KeyHash, MemoryMut};
use uses::{USES_MAX, Uses};

/// Epochs in which as much as fits the log is inserted.
pub(super) const EPOCHS_PER_LOG: u64 = 4;

/// What the owner remembers to choose by.
#[derive(Debug)]
pub(super) struct Eviction {
    pub(super) uses: Uses,
    pub(super) ghost: Ghost,
    pub(super) share: Share,
    /// Newcomers go to main while there is room.
    is_filling: bool,
    /// Words that absent keys have brought.
    clock: u64,
    log_words: u64,
    hand: admission::Hand,
    job: Option<Job>,
    /// A segment of main that the hand has passed; the next to be reclaimed.
    passed: Option<u32>,
    /// Nothing has to be reclaimed before a segment is opened, as far as is known.
    is_ready: bool,
    /// Ends of queues that were reclaimed since a segment was opened.
    ends: u32,
    /// A segment was opened before that was so.
    is_behind: bool,
    /// What may be copied for the sake of space alone, in words.
    credit: u64,
    /// Entries that reclaiming has moved or dropped; tells whether a place found before still holds.
    pub(super) reclaimed: u64,
    pub(super) hits: u64,
    pub(super) ghost_hits: u64,
}

impl Eviction {
    /// For an empty table.
    pub(super) fn new(geometry: &Geometry) -> Eviction {
        let slots = geometry.bucket_count() as usize * shm_layout::slot::SLOTS;
        // What the index was planned for.
        let entries = slots as u64 * 4 / 5;
        Eviction {
            uses: Uses::new(geometry.bucket(0).word(), slots),
            ghost: Ghost::new(geometry.log_bytes(), entries),
            share: Share::default(),
            is_filling: true,
            clock: 0,
            log_words: geometry.log_bytes() / shm_layout::memory::WORD_BYTES as u64,
            hand: admission::Hand::default(),
            job: None,
            passed: None,
            is_ready: false,
            ends: 0,
            is_behind: false,
            credit: 0,
            reclaimed: 0,
            hits: 0,
            ghost_hits: 0,
        }
    }

    /// The current epoch.
    pub(super) fn epoch(&self) -> u32 {
        u32::try_from(self.clock * EPOCHS_PER_LOG / self.log_words.max(1)).unwrap_or(u32::MAX)
    }

    /// Whether newcomers go to main because there is room.
    pub(super) fn is_filling(&self) -> bool {
        self.is_filling
    }

    /// Bytes of memory beyond the struct itself.
    pub(super) fn bytes(&self) -> usize {
        self.uses.bytes() + self.ghost.bytes()
    }
}

impl<M: MemoryMut> Table<M> {
    /// Takes a report that the entry of a key with this hash was hit. A report that comes when the
    /// entry is gone, or its slot is another key's, changes nothing; one key in 4,000 that is not
    /// there is taken for a neighbour with the same tag. Touches the key's index lines and one byte.
    pub fn hit(&mut self, hash: KeyHash) {
        self.eviction.hits += 1;
        let slot = self.writer.tagged_slots(hash).next();
        if let Some(slot) = slot {
            self.use_slot(slot);
            self.give_own_slot(hash, slot);
        }
    }

    /// Counts a hit of the entry that a slot refers to.
    pub(super) fn use_slot(&mut self, slot: usize) {
        let uses = self.eviction.uses.get(slot);
        if uses == USES_MAX {
            return;
        }
        let position = self.writer.slot(slot).position();
        let Some((_, at)) = self.writer.geometry().locate(position) else { return };
        if uses == 0 {
            self.adapt_to_late_hit(at.segment);
        }
        self.set_uses(slot, at.segment, uses + 1);
    }

    /// Changes the uses of a live entry in `segment`, and what the segment knows of them.
    pub(super) fn set_uses(&mut self, slot: usize, segment: u32, uses: u8) {
        let segment = self.log.segment(segment);
        let kept = segment.queue.uses_kept();
        let was = self.eviction.uses.get(slot);
        match (was >= kept, uses >= kept) {
            (false, true) => segment.kept_entries += 1,
            (true, false) => segment.kept_entries = segment.kept_entries.saturating_sub(1),
            _ => {}
        }
        self.eviction.uses.set(slot, uses);
    }
}
