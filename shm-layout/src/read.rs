//! The read protocol, R0 to R8. The only place that implements it.

use crate::entry::{
    ENTRY_HEADER_BYTES, EntrySizes, MARK_ABSENT, MARK_FLAGS, MARK_STRICT, NEVER, TICK_BITS,
};
use crate::error::LayoutError;
use crate::geometry::{Bucket, Geometry};
use crate::hash::KeyHash;
use crate::header::{
    CLOCK_OFFSET, LEASE_UNTIL, POLICY_EPOCH, POLICY_FLOORS, STATE, STATE_SERVING, STRICT_FLOOR,
    USABLE_SEGMENTS,
};
use crate::memory::{LINE_WORDS, Memory, WORD_BYTES, words_for};
use crate::outcome::{Hit, NoHit, Outcome, Probe, Sighting};
use crate::receive::{InPlace, Receiver};
use crate::segment::is_stable;
use crate::slot::SlotWord;

/// How often a read is tried before it is a miss (R6): a reader never waits for the owner.
pub const TRIES: usize = 3;

/// Lines of an entry that are prefetched: the most that a small entry spans.
const PREFETCHED_LINES: usize = 3;

/// One attempt at one slot.
enum Attempt {
    /// An entry that is whole, with its marks.
    Found(Hit, u8),
    NotHere,
    Retry,
}

/// Reads a table.
#[derive(Debug, Clone, Copy)]
pub struct Reader<M> {
    memory: M,
    geometry: Geometry,
}

impl<M: Memory> Reader<M> {
    /// Checks the header of the table in `memory`.
    ///
    /// # Errors
    /// The reason why the header is unfit.
    ///
    /// # Safety
    /// `memory` has `bytes` bytes.
    pub unsafe fn attach(memory: M, bytes: u64) -> Result<Reader<M>, LayoutError> {
        // SAFETY: passed on unchanged.
        let geometry = unsafe { Geometry::load(&memory, bytes) }?;
        Ok(Reader { memory, geometry })
    }

    /// The table's checked shape.
    #[must_use]
    pub const fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Whether the table is in use (R0).
    #[inline(always)]
    #[must_use]
    pub fn is_serving(&self) -> bool {
        is_serving(&self.memory)
    }

    /// The epoch of the policy in force: to be loaded where a key's rule is used, which no hit in
    /// the table does. What is done about another epoch is to ask the daemon, so no order with
    /// other words is needed.
    #[inline]
    pub fn policy_epoch(&self) -> u64 {
        // SAFETY: the word lies in the header, which `attach` has checked to be there.
        unsafe { self.memory.load(POLICY_EPOCH) }
    }

    /// Bytes from the table's start whose memory is allocated (W1): touching a page beyond them
    /// takes memory that the system may not have (SIGBUS). Reads need not ask: no slot refers
    /// beyond.
    #[must_use]
    pub fn usable_bytes(&self) -> u64 {
        // SAFETY: a word of the header, which `attach` has found there.
        let word = unsafe { self.memory.load(USABLE_SEGMENTS) };
        // Partners with the fence of `Writer::set_usable_segments`.
        self.memory.fence_acquire();
        self.geometry.bytes_up_to(self.geometry.usable(word))
    }

    /// Nanoseconds since the table's epoch, from `clock`'s CLOCK_MONOTONIC (R7).
    #[inline(always)]
    pub fn now(&self, clock: impl FnOnce() -> u64) -> u64 {
        now(&self.memory, clock())
    }

    /// Looks up `key`. `clock` returns the reader's CLOCK_MONOTONIC in ns, at most 10 ms late, and
    /// is called only for an entry that expires. `None`: the reader must first check that this
    /// table is still its daemon's (S9), so the read is detached.
    ///
    /// A hit takes effect at the second load of its slot, a miss at some moment between call and
    /// return.
    #[inline(always)]
    pub fn read(
        &self,
        key: &[u8],
        clock: impl Fn() -> Option<u64> + Copy,
        destination: &mut impl Receiver<M>,
    ) -> Outcome {
        let probe = self.probe(key);
        match self.read_fast(probe, key, clock, destination) {
            Ok(hit) => Outcome::Hit(hit),
            Err(NoHit::Miss) => Outcome::Miss,
            Err(NoHit::Detached) => Outcome::Detached,
            Err(NoHit::Unclear) => self.read_slow(probe, key, clock, destination),
        }
    }

    /// The first step of a read: the key's hash.
    #[inline(always)]
    #[must_use]
    pub fn probe(&self, key: &[u8]) -> Probe {
        Probe { hash: self.geometry.hasher().hash(key), slot: 0 }
    }

    /// The first step of reading several keys: hashes the key and prefetches its first line. The
    /// other keys' steps run while the line is on its way.
    #[inline(always)]
    #[must_use]
    pub fn prefetch_index(&self, key: &[u8]) -> Probe {
        let hash = self.geometry.hasher().hash(key);
        self.memory.prefetch(self.geometry.buckets(hash)[0].word());
        Probe { hash, slot: 0 }
    }

    /// The second step: prefetches the entry that the key's first line refers to. `false`: the line
    /// has no such tag; the second line is prefetched instead, and
    /// [`prefetch_second_entry`](Self::prefetch_second_entry) must follow.
    #[inline(always)]
    #[must_use]
    pub fn prefetch_entry(&self, probe: &mut Probe) -> bool {
        let [first, second] = self.geometry.buckets(probe.hash);
        // Scans the whole line instead of trying the key's own slot first: the scan overlaps with
        // other keys' steps, which a mispredicted slot would throw away.
        let matched = first_match(&self.memory, first, probe.hash);
        match matched {
            Some(slot) => self.prefetch_entry_of(slot, probe),
            None => self.memory.prefetch(second.word()),
        }
        matched.is_some()
    }

    /// The third step, for a key that [`prefetch_entry`](Self::prefetch_entry) has not found:
    /// prefetches the entry that its second line refers to, if any.
    pub fn prefetch_second_entry(&self, probe: &mut Probe) {
        let [_, second] = self.geometry.buckets(probe.hash);
        if let Some(slot) = first_match(&self.memory, second, probe.hash) {
            self.prefetch_entry_of(slot, probe);
        }
    }

    /// Prefetches the entry that a slot refers to. Only a hint: nothing relies on this load.
    #[inline(always)]
    fn prefetch_entry_of(&self, slot: usize, probe: &mut Probe) {
        // SAFETY: a slot of a bucket of this geometry is a word of the checked table.
        let word = SlotWord(unsafe { self.memory.load(slot) });
        probe.slot = slot;
        let at = self.geometry.word_at(word.position());
        for line in 0..PREFETCHED_LINES {
            self.memory.prefetch(at + line * LINE_WORDS);
        }
    }

    /// The last step of nearly all reads. Decides where the first slot with the key's tag refers to
    /// an entry without marks, or no slot has the tag, and the owner does not interfere. Small and
    /// without calls, so that it can be inlined where the value is used;
    /// [`read_slow`](Self::read_slow) does the rest.
    ///
    /// # Errors
    /// Why there is no hit; what was received is void.
    #[inline(always)]
    pub fn read_fast(
        &self,
        probe: Probe,
        key: &[u8],
        clock: impl Fn() -> Option<u64> + Copy,
        destination: &mut impl Receiver<M>,
    ) -> Result<Hit, NoHit> {
        // A local copy of the base address, so that no fence makes the compiler reload it.
        let memory = self.memory.clone();
        let Probe { hash, mut slot } = probe;
        if slot == 0 {
            let [first, second] = self.geometry.buckets(hash);
            // Most keys are in their own slot, and one word is enough to see that. A scan of the
            // whole line would delay the entry's address by a dozen dependent instructions.
            slot = first.slot(hash.own_slot());
            // SAFETY: a slot of a bucket of this geometry is a word of the checked table.
            if !hash.may_be_of(SlotWord(unsafe { memory.load(slot) })) {
                // So that a key in its second line, or in none, costs no second cache miss.
                memory.prefetch(second.word());
                let found = first_match(&memory, first, hash);
                let Some(found) = found.or_else(|| first_match(&memory, second, hash)) else {
                    return Err(if is_serving(&memory) { NoHit::Miss } else { NoHit::Detached });
                };
                slot = found;
            }
        }
        let attempt = self.read_slot::<true>(&memory, slot, key, destination);
        // The rest is rare: an entry with marks, a neighbour with the same tag (one key in some
        // thousands), interference by the owner. It stays out of line.
        let Attempt::Found(hit, _) = attempt else { return Err(NoHit::Unclear) };
        let Some(is_visible) = is_visible(&memory, &hit, clock) else {
            return Err(NoHit::Detached);
        };
        if !is_serving(&memory) {
            return Err(NoHit::Detached);
        }
        if is_visible { Ok(hit) } else { Err(NoHit::Miss) }
    }

    /// The last step of all other reads: tries every slot of both lines that has the key's tag,
    /// again if the owner interferes.
    #[inline(never)]
    pub fn read_slow(
        &self,
        probe: Probe,
        key: &[u8],
        clock: impl Fn() -> Option<u64> + Copy,
        destination: &mut impl Receiver<M>,
    ) -> Outcome {
        let outcome = self.find(probe.hash, key, clock, destination);
        if is_serving(&self.memory) { outcome } else { Outcome::Detached }
    }

    /// Whether the entry of a `sighting`, from an earlier read of this table, is still its key's
    /// value and visible. Loads neither key nor entry: their words cannot have changed (W2). Also
    /// `false` if the entry has moved, or without a time; the key must then be read again.
    ///
    /// Takes effect at the load of the slot.
    #[inline(always)]
    pub fn holds(&self, sighting: &Sighting, clock: impl Fn() -> Option<u64> + Copy) -> bool {
        let Sighting { slot, word, segment, generation, marks, hit } = *sighting;
        let Some(generation_word) = self.geometry.generation(segment) else {
            return false;
        };
        let lease_until = if marks & MARK_STRICT != 0 { self.lease_until() } else { 0 };
        // SAFETY: a slot of this geometry is a word of the checked table.
        if !self.geometry.is_slot(slot) || unsafe { self.memory.load(slot) } != word.0 {
            return false;
        }
        // Partners with the fence before the slot store (W3). If the slot referred to a later entry
        // at the same place, the owner would have stored a later generation before it stored that
        // slot, and whoever sees the slot would see the generation. Generations never go back (W5),
        // and within a generation each place is used once.
        self.memory.fence_acquire();
        // SAFETY: a word of the checked table.
        if unsafe { self.memory.load(generation_word) } != generation {
            return false;
        }
        let is_visible = matches!(self.verdict(hit, marks, lease_until, clock), Outcome::Hit(_));
        is_visible && is_serving(&self.memory)
    }

    fn find(
        &self,
        hash: KeyHash,
        key: &[u8],
        clock: impl Fn() -> Option<u64> + Copy,
        destination: &mut impl Receiver<M>,
    ) -> Outcome {
        'again: for _ in 0..TRIES {
            for bucket in self.geometry.buckets(hash) {
                // SAFETY: a bucket of this geometry is eight words of the checked table.
                let mut matches = unsafe { self.memory.match_tag(bucket.word(), hash.tag()) };
                while matches != 0 {
                    let slot = bucket.slot(matches.trailing_zeros() as usize);
                    matches &= matches - 1;
                    let lease_until = self.lease_until();
                    match self.read_slot::<false>(&self.memory, slot, key, destination) {
                        Attempt::Found(hit, marks) => {
                            return self.verdict(hit, marks, lease_until, clock);
                        }
                        Attempt::NotHere => {}
                        Attempt::Retry => continue 'again,
                    }
                }
            }
            return Outcome::Miss;
        }
        Outcome::Miss
    }

    /// R3 to R6 for the entry that a matching slot refers to. `PLAIN`: entries with marks are
    /// `NotHere`, and `NotHere` decides nothing, because the slow path tries all slots again.
    #[inline(always)]
    fn read_slot<const PLAIN: bool>(
        &self,
        memory: &M,
        slot: usize,
        key: &[u8],
        destination: &mut impl Receiver<M>,
    ) -> Attempt {
        // R3. SAFETY: a slot of a bucket of this geometry is a word of the checked table.
        let word = SlotWord(unsafe { memory.load(slot) });
        // Cleared since the scan. Another key's tag needs no check: the key is compared below.
        if word.is_empty() {
            return Attempt::NotHere;
        }
        let Some((at, location)) = self.geometry.locate(word.position()) else {
            return Attempt::NotHere;
        };
        let generation = self.geometry.generation_at(location);

        // R4. The fence after this load partners with the fence before the owner's store of the
        // next even generation: whoever sees that generation sees the cleared slots.
        memory.fence_acquire();
        // SAFETY: a word of the checked table.
        let before = unsafe { memory.load(generation) };
        if !is_stable(before) {
            return Attempt::Retry;
        }
        memory.fence_acquire();
        // SAFETY: as above.
        if unsafe { memory.load(slot) } != word.0 {
            return Attempt::Retry;
        }
        // Partners with the fence before the slot store that published this entry (W3).
        memory.fence_acquire();

        // R5. SAFETY: `locate` left room for the three words of a header.
        let sizes = EntrySizes(unsafe { memory.load(at) });
        let key_word = if PLAIN { ENTRY_HEADER_BYTES / WORD_BYTES } else { sizes.key_word() };
        // From the length of the requested key, so that the value's address does not depend on the
        // header; the two lengths are compared below.
        let value_word = key_word + words_for(key.len());
        let end = value_word + words_for(sizes.value_bytes() as usize);
        let of_key = if PLAIN { sizes.is_plain(key.len()) } else { sizes.key_bytes() == key.len() };
        let same = of_key
            && location.word as usize + end <= self.geometry.segment_words()
            // SAFETY: the entry ends inside its segment, so its key is part of the table.
            && unsafe { memory.equals(at + key_word, key) };
        if PLAIN && !same {
            return Attempt::NotHere;
        }
        if !same {
            // R6, as below: the bytes compared may have been another entry's.
            memory.fence_acquire();
            // SAFETY: a word of the checked table.
            let after = unsafe { memory.load(generation) };
            return if after == before { Attempt::NotHere } else { Attempt::Retry };
        }
        let marks = if PLAIN { 0 } else { sizes.marks() };
        // SAFETY: the header's words, and the word of flags if there is the mark, precede the key.
        let (version, expiry, flags) = unsafe {
            let flags = if marks & MARK_FLAGS != 0 { memory.load(at + 3) } else { 0 };
            (memory.load(at + 1), memory.load(at + 2), flags)
        };
        let bytes = sizes.value_bytes() as usize;
        // The entry ends inside its segment, so its value is part of the table.
        destination.receive(InPlace { memory, word: at + value_word, bytes });

        // R6. Partners with the fence after the store of the odd generation (W4): if any load above
        // had seen a byte of a later entry, this load would see a changed generation.
        memory.fence_acquire();
        // SAFETY: a word of the checked table.
        if unsafe { memory.load(generation) } != before {
            return Attempt::Retry;
        }
        #[expect(clippy::cast_possible_truncation, reason = "32 bits are stored")]
        let hit = Hit {
            version,
            flags: flags as u32,
            value_bytes: sizes.value_bytes(),
            expiry: expiry as u32,
            policy: sizes.policy(),
        };
        let segment = location.segment;
        destination.sighted(Sighting { slot, word, segment, generation: before, marks, hit });
        Attempt::Found(hit, marks)
    }

    /// R8: the lease, which must be loaded before the slot and the floor. The owner clears or hides
    /// what has become invalid before it renews the lease (W8), so a lease loaded after the slot
    /// could be newer than an invalidation that the slot missed. The fence partners with the one
    /// before the owner's store.
    #[inline(always)]
    fn lease_until(&self) -> u64 {
        // SAFETY: the header is part of every checked table.
        let until = unsafe { self.memory.load(LEASE_UNTIL) };
        self.memory.fence_acquire();
        until
    }

    /// R7 and R8, for an entry that is whole. `lease_until` was loaded before its slot.
    #[inline(always)]
    fn verdict(
        &self,
        hit: Hit,
        marks: u8,
        lease_until: u64,
        clock: impl Fn() -> Option<u64> + Copy,
    ) -> Outcome {
        let memory = &self.memory;
        match is_visible(memory, &hit, clock) {
            Some(true) => {}
            Some(false) => return Outcome::Miss,
            None => return Outcome::Detached,
        }
        if marks & MARK_STRICT != 0 {
            // SAFETY: a word of the header.
            let floor = unsafe { memory.load(STRICT_FLOOR) };
            let Some(time) = clock() else { return Outcome::Detached };
            if hit.version < floor || now(memory, time) >= lease_until {
                return Outcome::Miss;
            }
        }
        if marks & MARK_ABSENT != 0 { Outcome::Absent } else { Outcome::Hit(hit) }
    }
}

/// The first slot of a line that has the key's tag.
#[inline(always)]
fn first_match(memory: &impl Memory, bucket: Bucket, hash: KeyHash) -> Option<usize> {
    // SAFETY: a bucket of this geometry is eight words of the checked table.
    let matches = unsafe { memory.match_tag(bucket.word(), hash.tag()) };
    (matches != 0).then(|| bucket.slot(matches.trailing_zeros() as usize))
}

/// R0, after all other loads of a read. A client may replace a retired table with zero pages while
/// another thread's read is past its last load of the generation; floors and clock offset would
/// then read as 0 and hide nothing. All words become zero at one moment, and the fence orders this
/// load after all others: if the state is "serving", the words loaded before were the table's.
#[inline(always)]
fn is_serving(memory: &impl Memory) -> bool {
    memory.fence_acquire();
    // SAFETY: the header is part of every checked table.
    (unsafe { memory.load(STATE) }) == STATE_SERVING
}

/// R7 and R8: whether the entry is neither below its policy's floor nor expired; `None` if that
/// takes a time and `clock` gives none.
#[inline(always)]
fn is_visible(
    memory: &impl Memory,
    hit: &Hit,
    clock: impl Fn() -> Option<u64> + Copy,
) -> Option<bool> {
    // SAFETY: there is a floor for each of the 256 policies, in the header.
    if hit.version < unsafe { memory.load(POLICY_FLOORS + hit.policy as usize) } {
        return Some(false);
    }
    if hit.expiry == NEVER {
        return Some(true);
    }
    Some(now(memory, clock()?) >> TICK_BITS < u64::from(hit.expiry))
}

/// R7: nanoseconds since the table's epoch at `time` of the daemon's CLOCK_MONOTONIC.
#[inline(always)]
fn now(memory: &impl Memory, time: u64) -> u64 {
    // SAFETY: the header is part of every checked table.
    time.wrapping_add(unsafe { memory.load(CLOCK_OFFSET) })
}
