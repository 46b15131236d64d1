//! The read protocol, R0 to R8. The only place that implements it.

use crate::entry::{
    ENTRY_HEADER_BYTES, EntrySizes, MARK_ABSENT, MARK_FLAGS, MARK_STRICT, NEVER, TICK_BITS,
};
use crate::error::LayoutError;
use crate::geometry::{Bucket, Geometry};
use crate::hash::KeyHash;
use crate::header::{CLOCK_OFFSET, LEASE_UNTIL, POLICY_FLOORS, STATE, STATE_SERVING, STRICT_FLOOR};
use crate::memory::{LINE_WORDS, Memory, WORD_BYTES, words_for};
use crate::receive::{InPlace, Receiver};
use crate::segment::is_stable;
use crate::slot::SlotWord;

/// How often a read begins anew before it is a miss (R6): a reader never waits for the owner.
pub const TRIES: usize = 3;

/// Lines of an entry that are asked for ahead: a small one lies on as many.
const APPROACHED_LINES: usize = 3;

/// A value that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hit {
    /// Version of its entry.
    pub version: u64,
    /// Client flags.
    pub flags: u32,
    /// Bytes of the value, as many as the destination was asked for last.
    pub value_bytes: u32,
    /// Expiry tick.
    pub expiry: u32,
    /// Rule of the policy that it was stored under.
    pub policy: u8,
}

/// Where a read has found an entry, and in which generation of its segment: what tells the same entry
/// from every other that there ever was or will be in the table.
#[derive(Debug, Clone, Copy)]
pub struct Sighting {
    slot: usize,
    word: SlotWord,
    segment: u32,
    generation: u64,
    marks: u8,
    hit: Hit,
}

impl Sighting {
    /// What the read found.
    #[inline(always)]
    #[must_use]
    pub const fn hit(&self) -> &Hit {
        &self.hit
    }
}

/// What a read comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The value is in the destination.
    Hit(Hit),
    /// The key is known to have no value.
    Absent,
    /// The table does not hold the key.
    Miss,
    /// The table is not in use any more: attach anew (R0).
    Detached,
}

/// A key whose lines are on their way: see [`Reader::seek`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Sought {
    hash: KeyHash,
    /// The slot that seems to be the key's; 0, which is no slot: not known yet.
    slot: usize,
}

impl Sought {
    /// The key's hash.
    #[inline(always)]
    #[must_use]
    pub const fn hash(&self) -> KeyHash {
        self.hash
    }
}

/// What the short way of a read comes to when it is no hit: see [`Reader::read_short`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoHit {
    /// As [`Outcome::Miss`].
    Miss,
    /// As [`Outcome::Detached`].
    Detached,
    /// Not for the short way: [`Reader::read_whole`] finds out.
    Unclear,
}

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
    /// Checks the table in `memory` and reads it from now on.
    ///
    /// # Errors
    /// Whatever makes its header unfit.
    ///
    /// # Safety
    /// `memory` has `bytes` bytes.
    pub unsafe fn attach(memory: M, bytes: u64) -> Result<Reader<M>, LayoutError> {
        // SAFETY: passed on unchanged.
        let geometry = unsafe { Geometry::load(&memory, bytes) }?;
        Ok(Reader { memory, geometry })
    }

    /// The checked shape.
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

    /// Nanoseconds since the table's epoch, from `clock`'s CLOCK_MONOTONIC (R7).
    #[inline(always)]
    pub fn now(&self, clock: impl FnOnce() -> u64) -> u64 {
        now(&self.memory, clock)
    }

    /// Looks `key` up. `clock` gives the reader's CLOCK_MONOTONIC in ns, at most 10 ms late, and is
    /// asked only where an entry expires.
    ///
    /// Takes effect at the second load of the slot that it returns, or, for a miss, at some moment
    /// between call and return.
    #[inline(always)]
    pub fn read(
        &self,
        key: &[u8],
        clock: impl Fn() -> u64 + Copy,
        destination: &mut impl Receiver<M>,
    ) -> Outcome {
        let sought = self.seek_one(key);
        match self.read_short(sought, key, clock, destination) {
            Ok(hit) => Outcome::Hit(hit),
            Err(NoHit::Miss) => Outcome::Miss,
            Err(NoHit::Detached) => Outcome::Detached,
            Err(NoHit::Unclear) => self.read_whole(sought, key, clock, destination),
        }
    }

    /// The first step of a read: the key's hash.
    #[inline(always)]
    #[must_use]
    pub fn seek_one(&self, key: &[u8]) -> Sought {
        Sought { hash: self.geometry.hasher().hash(key), slot: 0 }
    }

    /// The first step of reading several keys at once: the key's hash, and its first line asked for.
    /// Other keys' steps go on while it comes.
    #[inline(always)]
    #[must_use]
    pub fn seek(&self, key: &[u8]) -> Sought {
        let hash = self.geometry.hasher().hash(key);
        self.memory.prefetch(self.geometry.buckets(hash)[0].word());
        Sought { hash, slot: 0 }
    }

    /// The second step: asks for the entry that the key's first line names. Where it names none, asks
    /// for the second line, and [`approach_second`](Self::approach_second) has to follow.
    #[inline(always)]
    #[must_use]
    pub fn approach(&self, sought: &mut Sought) -> bool {
        let [first, second] = self.geometry.buckets(sought.hash);
        // All slots at once, and not the key's own first: other keys' steps go on beside a search, and
        // come to nothing where the processor has foreseen the wrong slot.
        let named = first_match(&self.memory, first, sought.hash);
        match named {
            Some(slot) => self.approach_entry(slot, sought),
            None => self.memory.prefetch(second.word()),
        }
        named.is_some()
    }

    /// The third step, for a key that [`approach`](Self::approach) has not found: asks for the entry
    /// that its second line names, if it does.
    pub fn approach_second(&self, sought: &mut Sought) {
        let [_, second] = self.geometry.buckets(sought.hash);
        if let Some(slot) = first_match(&self.memory, second, sought.hash) {
            self.approach_entry(slot, sought);
        }
    }

    /// Asks for the entry that a slot names. Only a hint: nothing rests on what is loaded here.
    #[inline(always)]
    fn approach_entry(&self, slot: usize, sought: &mut Sought) {
        // SAFETY: a slot of a bucket of this geometry is a word of the checked table.
        let word = SlotWord(unsafe { self.memory.load(slot) });
        sought.slot = slot;
        let at = self.geometry.word_at(word.position());
        for line in 0..APPROACHED_LINES {
            self.memory.prefetch(at + line * LINE_WORDS);
        }
    }

    /// The last step, for nearly all reads: an entry without marks in the first slot that has the
    /// key's tag, or no such slot, and nobody at work there. Little code and no call, so that it can
    /// stand where the value is used; everything else is left to [`read_whole`](Self::read_whole).
    ///
    /// # Errors
    /// No hit, and what was received is void.
    #[inline(always)]
    pub fn read_short(
        &self,
        sought: Sought,
        key: &[u8],
        clock: impl Fn() -> u64 + Copy,
        destination: &mut impl Receiver<M>,
    ) -> Result<Hit, NoHit> {
        // A copy of the base address, which no fence makes the compiler load again.
        let memory = self.memory.clone();
        let Sought { hash, mut slot } = sought;
        if slot == 0 {
            let [first, second] = self.geometry.buckets(hash);
            // Mostly the key stands in its own slot, and then this one word has said so: a search of the
            // whole line would keep the entry's address waiting for a dozen instructions more, each of
            // which needs the one before.
            slot = first.slot(hash.own_slot());
            // SAFETY: a slot of a bucket of this geometry is a word of the checked table.
            if !hash.may_be_of(SlotWord(unsafe { memory.load(slot) })) {
                // A key that stands in its second line, or in none, costs no second wait.
                memory.prefetch(second.word());
                let found = first_match(&memory, first, hash);
                let Some(found) = found.or_else(|| first_match(&memory, second, hash)) else {
                    return Err(if is_serving(&memory) { NoHit::Miss } else { NoHit::Detached });
                };
                slot = found;
            }
        }
        let attempt = self.read_slot::<true>(&memory, slot, key, destination);
        // An entry with marks, one key in some thousands that shares its tag with a neighbour, the
        // owner at work: the code of all others stays short.
        let Attempt::Found(hit, _) = attempt else { return Err(NoHit::Unclear) };
        let is_visible = is_above_floor(&memory, &hit) && is_alive(&memory, &hit, clock);
        if !is_serving(&memory) {
            return Err(NoHit::Detached);
        }
        if is_visible { Ok(hit) } else { Err(NoHit::Miss) }
    }

    /// The last step, for all reads: every slot of both lines that has the key's tag, and again while
    /// the owner is at work.
    #[inline(never)]
    pub fn read_whole(
        &self,
        sought: Sought,
        key: &[u8],
        clock: impl Fn() -> u64 + Copy,
        destination: &mut impl Receiver<M>,
    ) -> Outcome {
        let outcome = self.find(sought.hash, key, clock, destination);
        if is_serving(&self.memory) { outcome } else { Outcome::Detached }
    }

    /// Whether the entry of `sighting`, of an earlier read of this table, is still its key's value,
    /// and visible. Neither key nor entry is looked at: their words cannot have changed (W2). `false`
    /// as well where the entry has moved; then the key has to be read.
    ///
    /// Takes effect at the load of the slot.
    #[inline(always)]
    pub fn holds(&self, sighting: &Sighting, clock: impl Fn() -> u64 + Copy) -> bool {
        let Sighting { slot, word, segment, generation, marks, hit } = *sighting;
        let Some(generation_word) = self.geometry.generation(segment) else {
            return false;
        };
        let lease_until = if marks & MARK_STRICT != 0 { self.lease_until() } else { 0 };
        // SAFETY: a slot of this geometry is a word of the checked table.
        if !self.geometry.is_slot(slot) || unsafe { self.memory.load(slot) } != word.0 {
            return false;
        }
        // Partners with the fence before the slot store (W3). Could the slot name a later entry at
        // the same place, the owner had stored a later generation before it stored that slot, and
        // whoever sees the one sees the other. Generations never go back (W5), and within one a
        // place is given out once.
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
        clock: impl Fn() -> u64 + Copy,
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

    /// R3 to R6 for the entry that a matches slot refers to. `PLAIN`: entries with marks are
    /// `NotHere`, and `NotHere` decides nothing, as all slots are tried again.
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
        // Cleared since it was matches. Another key's tag needs no check: the key says it.
        if word.is_empty() {
            return Attempt::NotHere;
        }
        let Some((at, location)) = self.geometry.locate(word.position()) else {
            return Attempt::NotHere;
        };
        let generation = self.geometry.generation_at(location);

        // R4. The fence below partners with the fence before the owner's store of the next even
        // generation: who sees that, sees the cleared slots.
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
        // From the length of the key that is asked for, so that the value's address does not wait
        // for the header; the two lengths are compared below.
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
            // R6, as below: what was compared may have been another entry.
            memory.fence_acquire();
            // SAFETY: a word of the checked table.
            let after = unsafe { memory.load(generation) };
            return if after == before { Attempt::NotHere } else { Attempt::Retry };
        }
        let marks = if PLAIN { 0 } else { sizes.marks() };
        // SAFETY: the header's words, and with the mark the one behind them, end before the key.
        let (version, expiry, flags) = unsafe {
            let flags = if marks & MARK_FLAGS != 0 { memory.load(at + 3) } else { 0 };
            (memory.load(at + 1), memory.load(at + 2), flags)
        };
        let bytes = sizes.value_bytes() as usize;
        // The entry ends inside its segment, so its value is part of the table.
        destination.receive(InPlace { memory, word: at + value_word, bytes });

        // R6. Partners with the fence behind the store of the odd generation (W4): had any of the
        // loads above seen a byte of a later entry, this load would see a change.
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

    /// R8: the lease, for what is loaded behind it. Before the slot and the floor, because what was
    /// invalid when it was renewed is gone from those before (W8): loaded behind them, a new lease
    /// would stand for an old slot. The fence partners with the one before the owner's store.
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
        clock: impl Fn() -> u64 + Copy,
    ) -> Outcome {
        let memory = &self.memory;
        if !is_above_floor(memory, &hit) || !is_alive(memory, &hit, clock) {
            return Outcome::Miss;
        }
        if marks & MARK_STRICT != 0 {
            // SAFETY: a word of the header.
            let floor = unsafe { memory.load(STRICT_FLOOR) };
            if hit.version < floor || now(memory, clock) >= lease_until {
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

/// R0, behind all other loads of a read: a client may put zeros in the place of a table that is out of
/// use, under a read that has looked at the generation for the last time; floors and clock offset then
/// show 0, and what they hide would be seen. All words become zero at one moment, and the fence keeps
/// this load behind all others, so a state that says "serving" proves that they were the table's own.
#[inline(always)]
fn is_serving(memory: &impl Memory) -> bool {
    memory.fence_acquire();
    // SAFETY: the header is part of every checked table.
    (unsafe { memory.load(STATE) }) == STATE_SERVING
}

/// R8: whether nothing has hidden what was stored under the entry's policy up to its version.
#[inline(always)]
fn is_above_floor(memory: &impl Memory, hit: &Hit) -> bool {
    // SAFETY: there is a floor for each of the 256 policies, in the header.
    hit.version >= unsafe { memory.load(POLICY_FLOORS + hit.policy as usize) }
}

/// R7: whether it has not expired.
#[inline(always)]
fn is_alive(memory: &impl Memory, hit: &Hit, clock: impl Fn() -> u64 + Copy) -> bool {
    hit.expiry == NEVER || now(memory, clock) >> TICK_BITS < u64::from(hit.expiry)
}

/// R7: nanoseconds since the table's epoch.
#[inline(always)]
fn now(memory: &impl Memory, clock: impl FnOnce() -> u64) -> u64 {
    // SAFETY: the header is part of every checked table.
    clock().wrapping_add(unsafe { memory.load(CLOCK_OFFSET) })
}
