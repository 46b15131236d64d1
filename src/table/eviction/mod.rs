//! Eviction: S3-FIFO's queues (Yang et al., SOSP 2023) on the segments of the log.
//!
//! | part | file | after |
//! |---|---|---|
//! | uses of each entry, two bits | `uses` | CLOCK (Corbató, 1968), S3-FIFO |
//! | fingerprints of keys that were dropped | `ghost` | S3-FIFO, LIRS (Jiang and Zhang, 2002) |
//! | which queue a newcomer joins | `admission` | LIRS, CLOCK-Pro (Jiang et al., ATC 2005) |
//! | how large the small queue is | `share` | ARC (Megiddo and Modha, FAST 2003) |
//! | choosing a segment to reclaim | `victim` | LFS cleaning (Rosenblum and Ousterhout, 1991) |
//! | reclaiming it, some entries at a time | `reclaim` | |
//!
//! Time is measured in words stored for keys that were absent; an epoch is a quarter of the log.

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

/// Epochs in which one log's worth of words is inserted.
pub(super) const EPOCHS_PER_LOG: u64 = 4;

/// The owner's private state for choosing victims.
#[derive(Debug)]
pub(super) struct Eviction {
    pub(super) uses: Uses,
    pub(super) ghost: Ghost,
    pub(super) share: Share,
    /// Newcomers go to main while there is room.
    is_filling: bool,
    /// Words stored for keys that were absent.
    clock: u64,
    log_words: u64,
    hand: admission::Hand,
    job: Option<Job>,
    /// A segment of main that the hand has passed, to be reclaimed next.
    passed: Option<u32>,
    /// Nothing need be reclaimed before the next segment is opened, as far as is known.
    is_ready: bool,
    /// Segments at the ends of queues that were reclaimed since a segment was last opened.
    ends: u32,
    /// A segment was opened while `is_ready` was false.
    is_behind: bool,
    /// Words that may be copied only to gain space.
    credit: u64,
    /// Entries that reclaiming has moved or dropped; if it has changed, places found before are
    /// stale.
    pub(super) reclaimed: u64,
    pub(super) hits: u64,
    pub(super) ghost_hits: u64,
}

impl Eviction {
    /// For an empty table.
    pub(super) fn new(geometry: &Geometry) -> Eviction {
        let slots = geometry.bucket_count() as usize * shm_layout::slot::SLOTS;
        // The load that the index is planned for.
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
    /// Counts a reported hit of a key with this hash. Does nothing if no slot has its tag; of keys
    /// that are gone, one in 4,000 is mistaken for a neighbour with the same tag. Touches the key's
    /// index lines and one byte.
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

    /// Sets the uses of a live entry in `segment`, and updates the segment's `kept_entries`.
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
