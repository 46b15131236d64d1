//! What the owner reads of its own table: slots, headers, keys and values.
//!
//! The owner is the only writer, so none of this needs generations or fences.

use super::Writer;
use crate::entry::{EntryHeader, MARK_FLAGS};
use crate::geometry::{Bucket, Location};
use crate::hash::KeyHash;
use crate::memory::{LINE_WORDS, MemoryMut};
use crate::receive::InPlace;
use crate::slot::{SLOTS, SlotWord};

impl<M: MemoryMut> Writer<M> {
    /// The content of a slot; empty if the table's word `slot` is no slot.
    #[inline(always)]
    pub fn slot(&self, slot: usize) -> SlotWord {
        if self.geometry.is_slot(slot) { SlotWord(self.load(slot)) } else { SlotWord::EMPTY }
    }

    /// The slots in a key's two lines that have its tag. At most a few of them are other keys'.
    #[inline(always)]
    pub fn tagged_slots(&self, hash: KeyHash) -> impl Iterator<Item = usize> {
        let lines = self.geometry.buckets(hash).into_iter();
        lines.flat_map(move |bucket| {
            // SAFETY: a bucket of this geometry is eight words of the table.
            let mask = unsafe { self.memory.match_tag(bucket.word(), hash.tag()) };
            Matches { bucket, mask }
        })
    }

    /// An empty slot of a bucket; `None` if there is none, or no such bucket.
    pub fn empty_slot(&self, bucket: Bucket) -> Option<usize> {
        if !self.geometry.is_slot(bucket.word()) {
            return None;
        }
        // SAFETY: the index begins at a multiple of eight words and has whole buckets; buckets of
        // any geometry begin at multiples of eight. So with its first word, all eight are slots.
        let mask = unsafe { self.memory.match_tag(bucket.word(), SlotWord::EMPTY.tag()) };
        Matches { bucket, mask }.find(|slot| self.load(*slot) == SlotWord::EMPTY.0)
    }

    /// Prefetches a key's two lines of the index.
    #[inline(always)]
    pub fn prefetch_index(&self, hash: KeyHash) {
        for bucket in self.geometry.buckets(hash) {
            self.memory.prefetch(bucket.word());
        }
    }

    /// Prefetches a key's entry, its header and a short key, if its first line, which should be
    /// prefetched already, has one.
    pub fn prefetch_entry(&self, hash: KeyHash) {
        let [first, _] = self.geometry.buckets(hash);
        let mut word = SlotWord(self.load(first.slot(hash.own_slot())));
        if !hash.may_be_of(word) {
            // SAFETY: a bucket of this geometry is eight words of the table.
            let mask = unsafe { self.memory.match_tag(first.word(), hash.tag()) };
            let Some(slot) = (Matches { bucket: first, mask }).next() else { return };
            word = SlotWord(self.load(slot));
        }
        let at = self.geometry.word_at(word.position());
        self.memory.prefetch(at);
        self.memory.prefetch(at + LINE_WORDS);
    }

    /// Prefetches the entries of a bucket, their headers and short keys, for a walk over the index.
    pub fn prefetch_bucket(&self, bucket: u32) {
        let bucket = self.geometry.bucket(bucket);
        for index in 0..SLOTS {
            let word = self.slot(bucket.slot(index));
            if !word.is_empty() {
                self.memory.prefetch(self.geometry.word_at(word.position()));
            }
        }
    }

    /// The entry that a slot refers to. `None` for an empty slot, or one that no owner could have
    /// written.
    #[inline(always)]
    pub fn entry_of(&self, slot: usize) -> Option<(Location, EntryHeader)> {
        self.entry_at(self.slot(slot)).map(|(at, view)| (at, view.header))
    }

    /// The slot of a key, and its entry. A key has at most one slot (W10).
    #[inline(always)]
    pub fn find(&self, key: &[u8], hash: KeyHash) -> Option<(usize, Location, EntryHeader)> {
        self.tagged_slots(hash).find_map(|slot| {
            let (at, view) = self.entry_at(SlotWord(self.load(slot)))?;
            view.key().equals(key).then_some((slot, at, view.header))
        })
    }

    #[inline(always)]
    fn entry_at(&self, slot: SlotWord) -> Option<(Location, EntryView<'_, M>)> {
        if slot.is_empty() {
            return None;
        }
        let (word, at) = self.geometry.locate(slot.position())?;
        let header = self.plausible_header(word, at)?;
        Some((at, EntryView { memory: &self.memory, word, header }))
    }

    /// The header of the entry at `at`, if there could be one: its sizes are possible, and it ends
    /// inside its segment.
    #[inline(always)]
    pub fn header_at(&self, at: Location) -> Option<EntryHeader> {
        self.plausible_header(self.geometry.resolve(at)?, at)
    }

    /// `index` is the table's word at which `at` is, as the geometry has resolved or located it.
    #[inline(always)]
    fn plausible_header(&self, index: usize, at: Location) -> Option<EntryHeader> {
        // Both leave room for the three words of a header in the log.
        let words = [self.load(index), self.load(index + 1), self.load(index + 2)];
        let header = EntryHeader::unpack(words);
        let fits = at.word as usize + header.words() <= self.geometry.segment_words();
        (fits && header.is_plausible(self.geometry.value_bytes_max())).then_some(header)
    }

    /// The entry at `at` under a header that was loaded from there. `None` if it would leave its
    /// segment.
    #[inline(always)]
    pub fn view(&self, at: Location, header: &EntryHeader) -> Option<EntryView<'_, M>> {
        let word = self.resolve(at, header.words())?;
        Some(EntryView { memory: &self.memory, word, header: *header })
    }
}

/// The slots of a bucket that a scan has matched: bit n of the mask is slot n.
struct Matches {
    bucket: Bucket,
    mask: u32,
}

impl Iterator for Matches {
    type Item = usize;

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        if self.mask == 0 {
            return None;
        }
        let index = self.mask.trailing_zeros() as usize;
        self.mask &= self.mask - 1;
        Some(self.bucket.slot(index))
    }
}

/// The bytes of an entry, read where they lie: see [`Writer::view`].
#[derive(Debug, Clone, Copy)]
pub struct EntryView<'a, M> {
    memory: &'a M,
    /// All `header.words()` words from here on are part of the table.
    word: usize,
    header: EntryHeader,
}

impl<'a, M: MemoryMut> EntryView<'a, M> {
    /// The key.
    #[inline(always)]
    #[must_use]
    pub fn key(&self) -> InPlace<'a, M> {
        let word = self.word + self.header.key_word();
        InPlace { memory: self.memory, word, bytes: self.header.key_bytes as usize }
    }

    /// The value; no bytes for a known absence.
    #[inline(always)]
    #[must_use]
    pub fn value(&self) -> InPlace<'a, M> {
        let word = self.word + self.header.value_word();
        InPlace { memory: self.memory, word, bytes: self.header.value_bytes as usize }
    }

    /// The client flags.
    #[must_use]
    pub fn flags(&self) -> u32 {
        if self.header.marks & MARK_FLAGS == 0 {
            return 0;
        }
        // SAFETY: with the mark, the key begins behind a word of flags that is part of the entry.
        let word = unsafe { self.memory.load(self.word + 3) };
        u32::try_from(word).unwrap_or(0)
    }
}
