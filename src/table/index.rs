//! The index: which slot is a key's.

use super::{Found, Table};
use shm_layout::slot::SLOTS;
use shm_layout::{Bucket, EntryHeader, KeyHash, MemoryMut, SlotWord};

impl<M: MemoryMut> Table<M> {
    /// The slot that refers to `key`, if any. A key has at most one (W10).
    pub(super) fn find(&self, key: &[u8], hash: KeyHash) -> Option<Found> {
        let memory = self.writer.memory();
        for bucket in self.writer.geometry().buckets(hash) {
            // SAFETY: a bucket of this geometry is eight words of the table.
            let mut nominated = unsafe { memory.nominate(bucket.word(), hash.tag()) };
            while nominated != 0 {
                let slot = bucket.slot(nominated.trailing_zeros() as usize);
                nominated &= nominated - 1;
                if let Some(found) = self.at_slot(slot)
                    && self.has_key(&found, key)
                {
                    return Some(found);
                }
            }
        }
        None
    }

    /// The entry that the slot at word `slot` refers to; `None` for an empty slot or one that no
    /// owner would have written.
    pub(super) fn at_slot(&self, slot: usize) -> Option<Found> {
        // SAFETY: slots come from the geometry: words of the table.
        let word = SlotWord(unsafe { self.writer.memory().load(slot) });
        if word.is_empty() {
            return None;
        }
        let (_, at) = self.writer.geometry().locate(word.position())?;
        let header = self.header_at(at)?;
        Some(Found { slot, at, header })
    }

    /// The header of the entry at `at`, if an entry could be there.
    pub(super) fn header_at(&self, at: shm_layout::Location) -> Option<EntryHeader> {
        let geometry = self.writer.geometry();
        let word = geometry.resolve(at)?;
        // SAFETY: `resolve` left room for a header.
        let header = unsafe { EntryHeader::load(self.writer.memory(), word) };
        let fits = at.word as usize + header.words() <= geometry.segment_words();
        (fits && header.is_plausible(geometry.value_bytes_max())).then_some(header)
    }

    fn has_key(&self, found: &Found, key: &[u8]) -> bool {
        let Some(word) = self.writer.geometry().resolve(found.at) else { return false };
        found.header.key_bytes as usize == key.len()
            // SAFETY: `header_at` checked that the entry ends inside its segment.
            && unsafe { self.writer.memory().equals(word + found.header.key_word(), key) }
    }

    /// The key of an entry, in the scratch buffer.
    pub(super) fn key_of(&mut self, found: &Found) -> &[u8] {
        self.scratch.resize(found.header.key_bytes as usize, 0);
        if let Some(word) = self.writer.geometry().resolve(found.at) {
            let from = word + found.header.key_word();
            // SAFETY: the entry ends inside its segment; the buffer is ours and long enough.
            unsafe {
                self.writer.memory().copy_out(from, self.scratch.as_mut_ptr(), self.scratch.len());
            }
        }
        &self.scratch
    }

    /// The slot that refers to exactly this entry of a key with this hash.
    pub(super) fn slot_of(&self, hash: KeyHash, at: shm_layout::Location) -> Option<usize> {
        let wanted = SlotWord::pack(hash, self.writer.geometry().position(at));
        self.candidate_slots(hash).find(|slot| self.slot_word(*slot) == wanted)
    }

    /// A slot for a key that has none (W10): in its first line while that has one, as most reads then
    /// end there, and there its own slot if it is empty, as a read then looks at no other. When both lines
    /// are full a neighbour moves to its other line (cuckoo hashing, one step: Pagh and Rodler, 2001); when
    /// none can, an entry is evicted: an invisible one if there is one, else the one that was used least,
    /// of those the one that was stored first.
    pub(super) fn choose_slot(&mut self, hash: KeyHash, now: u32) -> usize {
        let [first, second] = self.writer.geometry().buckets(hash);
        let own = first.slot(hash.own_slot());
        Some(own)
            .filter(|own| self.slot_word(*own).is_empty())
            .or_else(|| self.empty_slot(first))
            .or_else(|| self.empty_slot(second))
            .or_else(|| self.move_neighbour(hash))
            .or_else(|| self.displace(hash, now))
            .unwrap_or_else(|| first.slot(0))
    }

    fn empty_slot(&self, bucket: Bucket) -> Option<usize> {
        (0..SLOTS).map(|index| bucket.slot(index)).find(|slot| self.slot_word(*slot).is_empty())
    }

    /// Empties one of the candidate slots by moving its entry to the other line of that entry's key.
    ///
    /// A reader in the midst of it misses, and a kill there costs the entry.
    fn move_neighbour(&mut self, hash: KeyHash) -> Option<usize> {
        for slot in self.candidate_slots(hash).collect::<Vec<_>>() {
            let Some(found) = self.at_slot(slot) else { continue };
            let hasher = *self.writer.geometry().hasher();
            let neighbour = hasher.hash(self.key_of(&found));
            let here = self.bucket_of(slot);
            let lines = self.writer.geometry().buckets(neighbour);
            let there = lines.into_iter().find(|line| self.bucket_of(line.slot(0)) != here);
            let there = there.filter(|line| self.may_move(here, self.bucket_of(line.slot(0))));
            if let Some(empty) = there.and_then(|line| self.empty_slot(line)) {
                self.writer.move_slot(slot, empty, neighbour, found.at);
                let uses = self.eviction.uses.get(slot);
                self.eviction.uses.set(empty, uses);
                self.eviction.uses.set(slot, 0);
                return Some(slot);
            }
        }
        None
    }

    /// Whether an entry may move between two buckets: not past a scan of the index that goes on over
    /// several turns. A flush would never meet it, nor would what is carried to another table, and
    /// verification never or twice.
    fn may_move(&self, from: u32, to: u32) -> bool {
        let same_side = |border: u32| (from < border) == (to < border);
        let verified = self.sweep.verifying.unwrap_or(0);
        [self.flushed, self.carried, verified].into_iter().all(same_side)
    }

    fn displace(&mut self, hash: KeyHash, now: u32) -> Option<usize> {
        let mut worst: Option<((u8, u64), usize)> = None;
        for slot in self.candidate_slots(hash).collect::<Vec<_>>() {
            let Some(found) = self.at_slot(slot) else {
                // No owner wrote this: take it.
                self.writer.clear(slot);
                return Some(slot);
            };
            let visible = self.is_visible(&found.header, now);
            let uses = self.eviction.uses.get(slot);
            let worth = if visible { (uses, found.header.version) } else { (0, 0) };
            if worst.is_none_or(|(least, _)| worth < least) {
                worst = Some((worth, slot));
            }
        }
        let (worth, slot) = worst?;
        let found = self.at_slot(slot)?;
        self.writer.clear(slot);
        self.forget(&found);
        if worth != (0, 0) {
            self.counters.displaced += 1;
        }
        Some(slot)
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

    pub(super) fn slot_word(&self, slot: usize) -> SlotWord {
        // SAFETY: slots come from the geometry: words of the table.
        SlotWord(unsafe { self.writer.memory().load(slot) })
    }
}
