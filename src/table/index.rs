//! The index: finding a key's slot, choosing one for a new key.

use super::links::Why;
use super::{Found, Table};
use shm_layout::fault_point;
use shm_layout::slot::SLOTS;
use shm_layout::{Bucket, EntryHeader, KeyHash, Location, MemoryMut, SlotWord};

impl<M: MemoryMut> Table<M> {
    /// The entry of `key`, if any. A key has at most one slot (W10).
    pub(super) fn find(&self, key: &[u8], hash: KeyHash) -> Option<Found> {
        self.writer.find(key, hash).map(|(slot, at, header)| Found { slot, at, header })
    }

    /// The entry that a slot refers to; `None` for an empty slot, or one that no owner could have
    /// written.
    #[inline(always)]
    pub(super) fn at_slot(&self, slot: usize) -> Option<Found> {
        self.writer.entry_of(slot).map(|(at, header)| Found { slot, at, header })
    }

    /// The key of the entry at `at`, in the scratch buffer.
    pub(super) fn key_at(&mut self, at: Location, header: &EntryHeader) -> &[u8] {
        self.scratch.resize(header.key_bytes as usize, 0);
        let view = self.writer.view(at, header);
        let is_copied = view.is_some_and(|view| view.key().copy_to(0, &mut self.scratch));
        debug_assert!(is_copied, "headers are loaded only where their entries fit");
        &self.scratch
    }

    /// The slot that refers to exactly this entry of a key with this hash.
    pub(super) fn slot_of(&self, hash: KeyHash, at: Location) -> Option<usize> {
        let wanted = SlotWord::pack(hash, self.writer.geometry().position(at));
        self.writer.tagged_slots(hash).find(|slot| self.writer.slot(*slot) == wanted)
    }

    /// An empty slot for a key that has none (W10): its own slot, or one in its first line, because
    /// most reads then load one line only, or one in its second line. If both lines are full, a
    /// neighbour moves to its other line (one step of cuckoo hashing: Pagh and Rodler, 2001). If
    /// none can, an entry is evicted: an invisible one, or else the oldest of the least used.
    pub(super) fn choose_slot(&mut self, hash: KeyHash, now: u32) -> usize {
        let [first, second] = self.writer.geometry().buckets(hash);
        let own = first.slot(hash.own_slot());
        Some(own)
            .filter(|own| self.writer.slot(*own).is_empty())
            .or_else(|| self.writer.empty_slot(first))
            .or_else(|| self.writer.empty_slot(second))
            .or_else(|| self.move_neighbour(hash))
            .or_else(|| self.displace(hash, now))
            .unwrap_or_else(|| first.slot(0))
    }

    /// Empties one of the candidate slots by moving its entry to the other line of that entry's
    /// key.
    ///
    /// A concurrent reader can miss that entry, and a kill between the two stores loses it, so
    /// entries that are never evicted do not move.
    fn move_neighbour(&mut self, hash: KeyHash) -> Option<usize> {
        for slot in self.candidate_slots(hash).collect::<Vec<_>>() {
            let Some(found) = self.at_slot(slot) else { continue };
            if self.pins.holds(&found.header) {
                continue;
            }
            let hasher = *self.writer.geometry().hasher();
            let neighbour = hasher.hash(self.key_at(found.at, &found.header));
            let here = self.bucket_of(slot);
            let lines = self.writer.geometry().buckets(neighbour);
            let there = lines.into_iter().find(|line| self.bucket_of(line.slot(0)) != here);
            let there = there.filter(|line| self.may_move(here, self.bucket_of(line.slot(0))));
            if let Some(empty) = there.and_then(|line| self.writer.empty_slot(line)) {
                fault_point!("neighbour.move");
                self.writer.move_slot(slot, empty, neighbour, found.at);
                let uses = self.eviction.uses.get(slot);
                self.eviction.uses.set(empty, uses);
                self.eviction.uses.set(slot, 0);
                return Some(slot);
            }
        }
        None
    }

    /// Whether an entry may move between two buckets. It must not move past the position of a scan
    /// of the index that takes several turns: a flush or a move to another table would miss the
    /// entry, and verification would miss it or count it twice.
    fn may_move(&self, from: u32, to: u32) -> bool {
        let same_side = |border: u32| (from < border) == (to < border);
        let verified = self.sweep.verifying.unwrap_or(0);
        [self.walked, self.carried, verified].into_iter().all(same_side)
    }

    fn displace(&mut self, hash: KeyHash, now: u32) -> Option<usize> {
        let mut worst: Option<((u8, u64), Found)> = None;
        for slot in self.candidate_slots(hash).collect::<Vec<_>>() {
            let Some(found) = self.at_slot(slot) else {
                self.unlink_torn(slot);
                return Some(slot);
            };
            let visible = self.is_visible(&found.header, now);
            if visible && self.pins.holds(&found.header) {
                continue;
            }
            let uses = self.eviction.uses.get(slot);
            let worth = if visible { (uses, found.header.version) } else { (0, 0) };
            if worst.is_none_or(|(least, _)| worth < least) {
                worst = Some((worth, found));
            }
        }
        let (_, found) = worst?;
        let is_visible = self.is_visible(&found.header, now);
        self.unlink(&found, if is_visible { Why::Displaced } else { Why::Expired });
        Some(found.slot)
    }

    /// The number of the bucket that a slot belongs to.
    pub(super) fn bucket_of(&self, slot: usize) -> u32 {
        let first = self.writer.geometry().bucket(0).word();
        u32::try_from((slot - first) / SLOTS).unwrap_or(u32::MAX)
    }

    pub(super) fn candidate_slots(&self, hash: KeyHash) -> impl Iterator<Item = usize> + use<M> {
        let [first, second] = self.writer.geometry().buckets(hash);
        let lines = if first == second { 1 } else { 2 };
        [first, second]
            .into_iter()
            .take(lines)
            .flat_map(|bucket: Bucket| (0..SLOTS).map(move |index| bucket.slot(index)))
    }
}
