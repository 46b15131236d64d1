//! The write protocol, W2 to W5. The only place that stores to a table.
//!
//! One owner writes; nothing here locks. Which segment is appended to or recycled, and what is kept,
//! is the owner's policy and not decided here.

use crate::entry::{Entry, EntryHeader};
use crate::error::LayoutError;
use crate::geometry::{Geometry, Location};
use crate::hash::KeyHash;
use crate::header::{
    CLOCK_OFFSET, INSTANCE, LEASE_UNTIL, POLICIES, POLICY_FINGERPRINT, POLICY_FLOORS, STATE,
    STATE_SERVING, STATE_SUPERSEDED, STRICT_FLOOR, VERSION_CEILING,
};
use crate::memory::{LINE_WORDS, MemoryMut};
use crate::segment::{EARLIEST_EXPIRY, FILLED, FIRST_GENERATION, ROLE, Role, SEQUENCE, is_stable};
use crate::slot::SlotWord;
use core::cell::Cell;
use core::marker::PhantomData;

/// Writes a table.
#[derive(Debug)]
pub struct Writer<M> {
    memory: M,
    geometry: Geometry,
    /// Not `Sync`: two threads that write would break the protocol, though no rule of the language.
    one_owner: PhantomData<Cell<()>>,
}

impl<M: MemoryMut> Writer<M> {
    /// Lays a new table out in `memory`, which is all zero. Nobody may read it before
    /// [`open_for_readers`](Self::open_for_readers).
    ///
    /// # Safety
    /// `memory` has the bytes that `geometry` says, and nobody else writes it.
    pub unsafe fn create(memory: M, geometry: Geometry) -> Writer<M> {
        let writer = Writer { memory, geometry, one_owner: PhantomData };
        for segment in 0..geometry.segment_count() {
            if let Some(word) = geometry.generation(segment) {
                writer.store(word, FIRST_GENERATION);
            }
        }
        // SAFETY: the header is part of the table.
        unsafe { geometry.identity().store(&writer.memory) };
        writer
    }

    /// Takes over a table that an earlier owner has left, after checking its header.
    ///
    /// # Errors
    /// Whatever makes the header unfit.
    ///
    /// # Safety
    /// `memory` has `bytes` bytes, and nobody else writes it.
    pub unsafe fn take_over(memory: M, bytes: u64) -> Result<Writer<M>, LayoutError> {
        // SAFETY: passed on unchanged.
        let geometry = unsafe { Geometry::load(&memory, bytes) }?;
        Ok(Writer { memory, geometry, one_owner: PhantomData })
    }

    /// The memory, for reading.
    pub const fn memory(&self) -> &M {
        &self.memory
    }

    /// The table's shape.
    pub const fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Stores a word whose index came from the geometry or is a constant of the header.
    #[inline(always)]
    fn store(&self, index: usize, word: u64) {
        debug_assert!(index < self.geometry.words());
        // SAFETY: every caller passes a word of the checked table; this process alone writes.
        unsafe { self.memory.store(index, word) };
    }

    /// Loads a word whose index came from the geometry or is a constant of the header.
    #[inline(always)]
    fn load(&self, index: usize) -> u64 {
        debug_assert!(index < self.geometry.words());
        // SAFETY: every caller passes a word of the checked table.
        unsafe { self.memory.load(index) }
    }

    /// Writes an entry that no slot refers to yet (W3, first half), and returns its header.
    ///
    /// # Errors
    /// A key or value of an impossible size, or an entry that does not end inside its segment.
    #[inline(always)]
    pub fn append(
        &self,
        at: Location,
        entry: &Entry<'_>,
        hash: KeyHash,
    ) -> Result<EntryHeader, LayoutError> {
        let header = entry.header(self.geometry.hasher(), hash)?;
        if !header.is_plausible(self.geometry.value_bytes_max()) {
            return Err(LayoutError::ValueBytes { bytes: entry.value.len() });
        }
        let word = self.geometry.resolve(at).ok_or(LayoutError::OutOfSegment)?;
        if at.word as usize + header.words() > self.geometry.segment_words() {
            return Err(LayoutError::OutOfSegment);
        }
        // SAFETY: the entry ends inside its segment, which is part of the table.
        unsafe { entry.store(&self.memory, word, &header) };
        Ok(header)
    }

    /// Asks for the beginning of the entry that a slot refers to: its header and a short key.
    pub fn approach(&self, slot: usize) {
        let at = self.geometry.word_at(SlotWord(self.load(slot)).position());
        self.memory.prefetch(at);
        self.memory.prefetch(at + LINE_WORDS);
    }

    /// Copies `words` words of an entry from one place to another that no slot refers to yet.
    ///
    /// # Errors
    /// [`LayoutError::OutOfSegment`] when either place does not hold so many words.
    pub fn copy(&self, from: Location, to: Location, words: usize) -> Result<(), LayoutError> {
        let geometry = &self.geometry;
        let inside = |at: Location| at.word as usize + words <= geometry.segment_words();
        match (geometry.resolve(from), geometry.resolve(to)) {
            (Some(source), Some(target)) if inside(from) && inside(to) => {
                for index in 0..words {
                    self.store(target + index, self.load(source + index));
                }
                Ok(())
            }
            _ => Err(LayoutError::OutOfSegment),
        }
    }

    /// Makes the entry at `at` the key's (W3, second half): everything stored before is visible to
    /// whoever sees the slot. Partners with the third fence of R4.
    pub fn publish(&self, slot: usize, hash: KeyHash, at: Location) {
        self.memory.fence_release();
        self.store(slot, SlotWord::pack(hash, self.geometry.position(at)).0);
    }

    /// Exchanges what two slots of one line hold. Whoever looks meanwhile may find `slot`'s entry in both
    /// and `other`'s in neither, or miss either if it looks at the one slot before the first store and at
    /// the other behind the second, as it may miss an entry that was evicted. A kill between the
    /// two stores costs `other`'s entry, and the same word is in both: a restart clears one of them.
    pub fn exchange(&self, slot: usize, other: usize) {
        let (word, other_word) = (self.load(slot), self.load(other));
        // No fence: the one before each word's first publication stands before these stores, too.
        self.store(other, word);
        self.store(slot, other_word);
    }

    /// Empties a slot.
    pub fn clear(&self, slot: usize) {
        self.store(slot, SlotWord::EMPTY.0);
    }

    /// Moves the entry at `at` from one slot of its key to another. The old one is emptied before the new
    /// one is stored, and whoever sees the new one sees that: at no moment has a key two slots (W10).
    pub fn move_slot(&self, from: usize, to: usize, hash: KeyHash, at: Location) {
        self.clear(from);
        self.publish(to, hash, at);
    }

    /// Says that segment `segment` is being recycled (W4): from here until
    /// [`end_recycling`](Self::end_recycling) no read of it succeeds. The caller then clears every
    /// slot that still refers to it. The fence partners with R6.
    pub fn begin_recycling(&self, segment: u32) {
        if let Some(word) = self.geometry.generation(segment) {
            let generation = self.load(word);
            if is_stable(generation) {
                self.store(word, generation + 1);
            }
            self.memory.fence_release();
        }
    }

    /// Opens the segment for new entries (W4). The fence before the store makes it a release store:
    /// it partners with the second fence of R4, behind the load of the generation.
    pub fn end_recycling(&self, segment: u32) {
        if let Some(word) = self.geometry.generation(segment) {
            let generation = self.load(word);
            self.memory.fence_release();
            self.store(word, (generation | 1).wrapping_add(1).max(FIRST_GENERATION));
        }
    }

    /// Whether a killed owner left segment `segment` half recycled.
    pub fn is_recycling(&self, segment: u32) -> bool {
        self.geometry.generation(segment).is_some_and(|word| !is_stable(self.load(word)))
    }

    /// Stores what a restart needs to know of a segment.
    pub fn set_segment(&self, segment: u32, role: Role, sequence: u64) {
        if let Some(word) = self.geometry.segment_header(segment) {
            self.store(word + ROLE, role as u64);
            self.store(word + SEQUENCE, sequence);
        }
    }

    /// Stores how far a segment is filled, in bytes, and the earliest expiry in it. Before the slot
    /// store of the entry that ends there, so that a walk over a segment meets every entry that a
    /// slot can refer to.
    pub fn set_filled(&self, segment: u32, bytes: u64, earliest_expiry: u32) {
        if let Some(word) = self.geometry.segment_header(segment) {
            self.store(word + FILLED, bytes);
            self.store(word + EARLIEST_EXPIRY, u64::from(earliest_expiry));
        }
    }

    /// What the header of a segment says: role, sequence, filled bytes, earliest expiry.
    pub fn segment(&self, segment: u32) -> Option<(Option<Role>, u64, u64, u64)> {
        let word = self.geometry.segment_header(segment)?;
        Some((
            Role::from_word(self.load(word + ROLE)),
            self.load(word + SEQUENCE),
            self.load(word + FILLED),
            self.load(word + EARLIEST_EXPIRY),
        ))
    }

    /// Lets readers in. Everything stored before is visible to whoever sees this state.
    pub fn open_for_readers(&self) {
        self.memory.fence_release();
        self.store(STATE, STATE_SERVING);
    }

    /// Sends readers to another table (R0).
    pub fn supersede(&self) {
        self.memory.fence_release();
        self.store(STATE, STATE_SUPERSEDED);
    }

    /// Versions up to here may be given out from now on (W5).
    pub fn set_version_ceiling(&self, ceiling: u64) {
        self.store(VERSION_CEILING, ceiling.max(self.version_ceiling()));
        // Before any entry with such a version.
        self.memory.fence_release();
    }

    /// No version above this has been given out.
    pub fn version_ceiling(&self) -> u64 {
        self.load(VERSION_CEILING)
    }

    /// Counts one more owner, and returns the count.
    pub fn next_instance(&self) -> u64 {
        let instance = self.load(INSTANCE).wrapping_add(1);
        self.store(INSTANCE, instance);
        instance
    }

    /// Says of this table what `other` says of itself beside its entries (W11): ceiling, instance,
    /// policy, floors, lease and clock. For a table that nobody reads yet, of the same epoch.
    pub fn inherit<N: MemoryMut>(&self, other: &Writer<N>) {
        for word in [VERSION_CEILING, INSTANCE, POLICY_FINGERPRINT] {
            self.store(word, other.load(word));
        }
        for word in [STRICT_FLOOR, LEASE_UNTIL, CLOCK_OFFSET] {
            self.store(word, other.load(word));
        }
        for word in POLICY_FLOORS..POLICY_FLOORS + POLICIES {
            self.store(word, other.load(word));
        }
    }

    /// Fingerprint of the policy that the entries were stored under.
    pub fn policy_fingerprint(&self) -> u64 {
        self.load(POLICY_FINGERPRINT)
    }

    /// Stores it.
    pub fn set_policy_fingerprint(&self, fingerprint: u64) {
        self.store(POLICY_FINGERPRINT, fingerprint);
    }

    /// Makes all entries of `policy` with a lower version invisible. Never lowers the floor (W5).
    pub fn raise_policy_floor(&self, policy: u8, version: u64) {
        let word = POLICY_FLOORS + policy as usize;
        self.store(word, version.max(self.load(word)));
    }

    /// The floor of `policy`.
    pub fn policy_floor(&self, policy: u8) -> u64 {
        self.load(POLICY_FLOORS + policy as usize)
    }

    /// Makes all strict entries with a lower version invisible. Never lowers the floor (W5).
    pub fn raise_strict_floor(&self, version: u64) {
        self.store(STRICT_FLOOR, version.max(self.load(STRICT_FLOOR)));
    }

    /// The floor of strict entries.
    pub fn strict_floor(&self) -> u64 {
        self.load(STRICT_FLOOR)
    }

    /// Until when strict entries may be trusted, in ns since the table's epoch; a reader's clock may
    /// be 10 ms late. Whatever has become invalid is cleared, or below the floor, before this call
    /// (W8): whoever sees the new lease sees that, too. The fence partners with the one of R8.
    pub fn set_lease_until(&self, until_ns: u64) {
        self.memory.fence_release();
        self.store(LEASE_UNTIL, until_ns);
    }

    /// What readers add to CLOCK_MONOTONIC (R7).
    pub fn set_clock_offset(&self, offset_ns: u64) {
        self.store(CLOCK_OFFSET, offset_ns);
    }

    /// The same, as stored.
    pub fn clock_offset(&self) -> u64 {
        self.load(CLOCK_OFFSET)
    }
}

/// Sends the readers of a table away whose header may be damaged (S2).
///
/// # Safety
/// `memory` holds at least a header, and nobody else writes it.
pub unsafe fn supersede(memory: &impl MemoryMut) {
    memory.fence_release();
    // SAFETY: the state word is part of the header.
    unsafe { memory.store(STATE, STATE_SUPERSEDED) };
}
