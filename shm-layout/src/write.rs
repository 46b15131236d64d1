//! The write protocol, W2 to W5. The only module that stores to a table.
//!
//! One owner writes, so nothing here locks. The owner's policy decides which segment is appended
//! to, which is recycled and what is kept; this module only carries it out.
//!
//! No call can touch memory outside the table: each slot, bucket, segment and location that a
//! caller names is checked against the writer's own geometry. A store to a word that is no slot is
//! dropped.
//!
//! | part | module |
//! |---|---|
//! | entries, slots, segments | this one |
//! | reading slots and entries back | [`inspect`] |
//! | state, floors, lease, clock | `header` |

mod header;
pub mod inspect;

pub use header::supersede;

use crate::entry::{Entry, PreparedEntry};
use crate::error::LayoutError;
use crate::geometry::{Geometry, Location};
use crate::hash::KeyHash;
use crate::memory::MemoryMut;
use crate::segment::{EARLIEST_EXPIRY, FILLED, FIRST_GENERATION, ROLE, Role, SEQUENCE, is_stable};
use crate::slot::SlotWord;
use core::cell::Cell;
use core::marker::PhantomData;

/// Writes a table.
#[derive(Debug)]
pub struct Writer<M> {
    memory: M,
    geometry: Geometry,
    /// Not `Sync`: two writing threads would break the protocol, though no rule of the language.
    one_owner: PhantomData<Cell<()>>,
}

impl<M: MemoryMut> Writer<M> {
    /// Lays out a new table in zeroed `memory`. It must have no readers before
    /// [`open_for_readers`](Self::open_for_readers).
    ///
    /// # Safety
    /// `memory` has the bytes of `geometry`, and nobody else writes it.
    pub unsafe fn create(memory: M, geometry: Geometry) -> Writer<M> {
        let writer = Writer { memory, geometry, one_owner: PhantomData };
        for segment in 0..geometry.segment_count() {
            if let Some(word) = geometry.generation(segment) {
                crate::fault_point!("create.generation");
                writer.store(word, FIRST_GENERATION);
            }
        }
        crate::fault_point!("create.identity");
        // SAFETY: the header is part of the table.
        unsafe { geometry.identity().store(&writer.memory) };
        writer
    }

    /// Takes over a table that an earlier owner has left, after checking its header.
    ///
    /// # Errors
    /// The reason why the header is unfit.
    ///
    /// # Safety
    /// `memory` has `bytes` bytes, and nobody else writes it.
    pub unsafe fn take_over(memory: M, bytes: u64) -> Result<Writer<M>, LayoutError> {
        // SAFETY: passed on unchanged.
        let geometry = unsafe { Geometry::load(&memory, bytes) }?;
        Ok(Writer { memory, geometry, one_owner: PhantomData })
    }

    /// The table's shape.
    pub const fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Stores a word of the table.
    #[inline(always)]
    fn store(&self, index: usize, word: u64) {
        debug_assert!(index < self.geometry.words());
        // SAFETY: private to the writer, whose methods pass constants of the header, what the
        // geometry returns for a segment or location, and slots that `is_slot` accepts: words of
        // the table. The constructors' callers vouch that it has those and no other writer.
        unsafe { self.memory.store(index, word) };
    }

    /// Loads a word of the table.
    #[inline(always)]
    fn load(&self, index: usize) -> u64 {
        debug_assert!(index < self.geometry.words());
        // SAFETY: as in `store`.
        unsafe { self.memory.load(index) }
    }

    /// Stores to a slot; does nothing if the word is no slot of this table.
    #[inline(always)]
    fn store_slot(&self, slot: usize, word: SlotWord) {
        if self.geometry.is_slot(slot) {
            self.store(slot, word.0);
        }
    }

    /// Checks an entry against the table's limits and builds its header.
    ///
    /// # Errors
    /// A key or value of an impossible size.
    #[inline(always)]
    pub fn prepare<'a>(&self, entry: &Entry<'a>) -> Result<PreparedEntry<'a>, LayoutError> {
        let prepared = entry.prepare()?;
        if !prepared.header().is_plausible(self.geometry.value_bytes_max()) {
            return Err(LayoutError::ValueBytes { bytes: entry.value.len() });
        }
        Ok(prepared)
    }

    /// Writes an entry that no slot refers to yet (first half of W3). `hash` is its key's.
    ///
    /// # Errors
    /// [`LayoutError::OutOfSegment`] for an entry that would not end inside its segment.
    #[inline(always)]
    pub fn append(
        &self,
        at: Location,
        entry: &PreparedEntry<'_>,
        hash: KeyHash,
    ) -> Result<(), LayoutError> {
        let word = self.resolve(at, entry.words()).ok_or(LayoutError::OutOfSegment)?;
        crate::fault_point!("append.entry");
        // SAFETY: `resolve` found all words of the entry inside a segment of this table.
        unsafe { entry.store(&self.memory, word, self.geometry.hasher(), hash) };
        Ok(())
    }

    /// Copies `words` words of an entry to a place that no slot refers to yet.
    ///
    /// # Errors
    /// [`LayoutError::OutOfSegment`] if either range leaves its segment.
    pub fn copy(&self, from: Location, to: Location, words: usize) -> Result<(), LayoutError> {
        let (Some(source), Some(target)) = (self.resolve(from, words), self.resolve(to, words))
        else {
            return Err(LayoutError::OutOfSegment);
        };
        for index in 0..words {
            crate::fault_point!("copy.word");
            self.store(target + index, self.load(source + index));
        }
        Ok(())
    }

    /// The word of the table at which `at` is, if at least a header and `words` words fit there
    /// before the segment ends.
    #[inline(always)]
    fn resolve(&self, at: Location, words: usize) -> Option<usize> {
        let left = self.geometry.segment_words().checked_sub(at.word as usize)?;
        if words > left {
            return None;
        }
        self.geometry.resolve(at)
    }

    /// Makes the entry at `at` the key's (second half of W3): whoever sees the slot sees everything
    /// stored before. Partners with the third fence of R4.
    pub fn publish(&self, slot: usize, hash: KeyHash, at: Location) {
        self.memory.fence_release();
        crate::fault_point!("publish.slot");
        self.store_slot(slot, SlotWord::pack(hash, self.geometry.position(at)));
    }

    /// Swaps the contents of two slots of one line, with two stores. A concurrent reader can find
    /// `slot`'s entry in both slots and `other`'s in neither. It can also miss either entry, if it
    /// loads one slot before the stores and the other after them; it then treats the entry as
    /// evicted. A kill between the stores loses `other`'s entry and leaves the same word in both
    /// slots, of which a restart clears one.
    pub fn swap_slots(&self, slot: usize, other: usize) {
        let (word, other_word) = (self.slot(slot), self.slot(other));
        // No fence: the release fence of each word's publication also precedes these stores.
        crate::fault_point!("swap.first");
        self.store_slot(other, word);
        crate::fault_point!("swap.second");
        self.store_slot(slot, other_word);
    }

    /// Empties a slot.
    pub fn clear(&self, slot: usize) {
        crate::fault_point!("clear.slot");
        self.store_slot(slot, SlotWord::EMPTY);
    }

    /// Moves the entry at `at` from one slot of its key to another. Clears the old slot before it
    /// stores the new one, and whoever sees the new one sees that: the key never has two slots
    /// (W10).
    pub fn move_slot(&self, from: usize, to: usize, hash: KeyHash, at: Location) {
        crate::fault_point!("move.clear");
        self.clear(from);
        crate::fault_point!("move.publish");
        self.publish(to, hash, at);
    }

    /// Marks segment `segment` as being recycled (W4): no read of it succeeds until
    /// [`end_recycling`](Self::end_recycling). The caller then clears every slot that still refers
    /// to it. The fence partners with R6.
    pub fn begin_recycling(&self, segment: u32) {
        if let Some(word) = self.geometry.generation(segment) {
            let generation = self.load(word);
            if is_stable(generation) {
                crate::fault_point!("recycle.odd");
                self.store(word, generation + 1);
            }
            self.memory.fence_release();
        }
    }

    /// Opens the segment for new entries (W4). The fence makes the store a release store. It
    /// partners with the second fence of R4, which follows the load of the generation.
    pub fn end_recycling(&self, segment: u32) {
        if let Some(word) = self.geometry.generation(segment) {
            let generation = self.load(word);
            self.memory.fence_release();
            crate::fault_point!("recycle.even");
            self.store(word, (generation | 1).wrapping_add(1).max(FIRST_GENERATION));
        }
    }

    /// Whether segment `segment` is half recycled, as a killed owner may leave it.
    pub fn is_recycling(&self, segment: u32) -> bool {
        self.geometry.generation(segment).is_some_and(|word| !is_stable(self.load(word)))
    }

    /// Stores a segment's role and sequence number, for a restart.
    pub fn set_segment(&self, segment: u32, role: Role, sequence: u64) {
        if let Some(word) = self.geometry.segment_header(segment) {
            crate::fault_point!("segment.role");
            self.store(word + ROLE, role as u64);
            crate::fault_point!("segment.sequence");
            self.store(word + SEQUENCE, sequence);
        }
    }

    /// Stores how many bytes of a segment hold entries, and their earliest expiry tick. To be
    /// called before the last entry's slot is stored, so that a walk over the segment meets every
    /// entry that a slot can refer to.
    pub fn set_filled(&self, segment: u32, bytes: u64, earliest_expiry: u32) {
        if let Some(word) = self.geometry.segment_header(segment) {
            crate::fault_point!("segment.filled");
            self.store(word + FILLED, bytes);
            crate::fault_point!("segment.expiry");
            self.store(word + EARLIEST_EXPIRY, u64::from(earliest_expiry));
        }
    }

    /// The header of a segment: role, sequence number, filled bytes, earliest expiry tick.
    pub fn segment(&self, segment: u32) -> Option<(Option<Role>, u64, u64, u64)> {
        let word = self.geometry.segment_header(segment)?;
        Some((
            Role::from_word(self.load(word + ROLE)),
            self.load(word + SEQUENCE),
            self.load(word + FILLED),
            self.load(word + EARLIEST_EXPIRY),
        ))
    }
}
