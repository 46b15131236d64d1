//! The read protocol, R0 to R8. The only place that implements it.

use crate::entry::{EntryHeader, MARK_ABSENT, MARK_FLAGS, MARK_STRICT, NEVER, tick};
use crate::error::LayoutError;
use crate::geometry::{Bucket, Geometry};
use crate::hash::KeyHash;
use crate::header::{CLOCK_OFFSET, LEASE_UNTIL, POLICY_FLOORS, STATE, STATE_SERVING, STRICT_FLOOR};
use crate::memory::Memory;
use crate::segment::is_stable;
use crate::slot::SlotWord;

/// How often a read begins anew before it is a miss (R6): a reader never waits for the owner.
pub const TRIES: usize = 3;

/// Where a value is copied to.
///
/// # Safety
/// [`room`](Self::room) returns memory that is valid for writing that many bytes until the next call
/// or the end of the read, and that nobody else touches.
pub unsafe trait Destination {
    /// Room for a value of `bytes` bytes. Called again when a read begins anew; what was there is void.
    fn room(&mut self, bytes: usize) -> *mut u8;
}

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

/// One attempt at one line.
enum Attempt {
    Done(Outcome),
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
        // SAFETY: the header is part of every checked table.
        (unsafe { self.memory.load(STATE) }) == STATE_SERVING
    }

    /// Nanoseconds since the table's epoch, from `clock`'s CLOCK_MONOTONIC (R7).
    #[inline(always)]
    pub fn now(&self, clock: impl FnOnce() -> u64) -> u64 {
        // SAFETY: the header is part of every checked table.
        clock().wrapping_add(unsafe { self.memory.load(CLOCK_OFFSET) })
    }

    /// Looks `key` up. `clock` gives the reader's CLOCK_MONOTONIC in ns, at most 10 ms late, and is
    /// asked only where an entry expires.
    ///
    /// Takes effect at the second load of the slot that it returns, or, for a miss, at some moment
    /// between call and return.
    #[inline]
    pub fn read(
        &self,
        key: &[u8],
        clock: impl Fn() -> u64,
        destination: &mut impl Destination,
    ) -> Outcome {
        if !self.is_serving() {
            return Outcome::Detached;
        }
        let hash = self.geometry.hasher().hash(key);
        let [first, second] = self.geometry.buckets(hash);
        // Both lines travel at once: a key in its second line costs no second wait.
        self.memory.prefetch(first.word());
        self.memory.prefetch(second.word());
        'again: for _ in 0..TRIES {
            for bucket in [first, second] {
                match self.read_line(bucket, hash, key, &clock, destination) {
                    Attempt::Done(outcome) => return outcome,
                    Attempt::NotHere => {}
                    Attempt::Retry => continue 'again,
                }
            }
            return Outcome::Miss;
        }
        Outcome::Miss
    }

    #[inline(always)]
    fn read_line(
        &self,
        bucket: Bucket,
        hash: KeyHash,
        key: &[u8],
        clock: &impl Fn() -> u64,
        destination: &mut impl Destination,
    ) -> Attempt {
        let memory = &self.memory;
        // SAFETY: a bucket of this geometry is eight words of the checked table.
        let mut nominated = unsafe { memory.nominate(bucket.word(), hash.tag()) };
        while nominated != 0 {
            let slot = bucket.slot(nominated.trailing_zeros() as usize);
            nominated &= nominated - 1;

            // R3. SAFETY: a slot is a word of the checked table.
            let word = SlotWord(unsafe { memory.load(slot) });
            let location = word.location();
            let (Some(at), Some(generation)) =
                (self.geometry.resolve(location), self.geometry.generation(location.segment))
            else {
                continue;
            };
            if word.tag() != hash.tag() {
                continue;
            }

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

            // R5. SAFETY: `resolve` left room for the header's three words.
            let header = unsafe { EntryHeader::load(memory, at) };
            let fits = location.word as usize + header.words() <= self.geometry.segment_words();
            let plausible = fits && header.is_plausible(self.geometry.value_bytes_max());
            // SAFETY: the entry ends inside its segment, so its key is part of the table.
            let same = plausible
                && header.key_bytes as usize == key.len()
                && unsafe { memory.equals(at + header.key_word(), key) };
            let mut flags = 0;
            if same {
                if header.marks & MARK_FLAGS != 0 {
                    // SAFETY: the word behind the header is part of the entry.
                    flags = unsafe { memory.load(at + 3) };
                }
                if header.marks & MARK_ABSENT == 0 {
                    let bytes = header.value_bytes as usize;
                    let room = destination.room(bytes);
                    // SAFETY: the value is part of the table; `room` is valid for `bytes` bytes.
                    unsafe { memory.copy_out(at + header.value_word(), room, bytes) };
                }
            }

            // R6. Partners with the fence behind the store of the odd generation (W4): had any of
            // the loads above seen a byte of a later entry, this load would see a change.
            memory.fence_acquire();
            // SAFETY: a word of the checked table.
            if unsafe { memory.load(generation) } != before {
                return Attempt::Retry;
            }
            if same {
                #[expect(clippy::cast_possible_truncation, reason = "32 bits are stored")]
                return Attempt::Done(self.verdict(&header, flags as u32, clock));
            }
        }
        Attempt::NotHere
    }

    /// R7 and R8, for an entry that is whole.
    #[inline(always)]
    fn verdict(&self, header: &EntryHeader, flags: u32, clock: &impl Fn() -> u64) -> Outcome {
        let memory = &self.memory;
        // SAFETY: there is a floor for each of the 256 policies, in the header.
        let floor = unsafe { memory.load(POLICY_FLOORS + header.policy as usize) };
        if header.version < floor {
            return Outcome::Miss;
        }
        if header.expiry != NEVER && tick(self.now(clock)) >= header.expiry {
            return Outcome::Miss;
        }
        if header.marks & MARK_STRICT != 0 {
            // SAFETY: words of the header.
            let (floor, lease) = unsafe { (memory.load(STRICT_FLOOR), memory.load(LEASE_UNTIL)) };
            if header.version < floor || self.now(clock) >= lease {
                return Outcome::Miss;
            }
        }
        if header.marks & MARK_ABSENT != 0 {
            return Outcome::Absent;
        }
        Outcome::Hit(Hit {
            version: header.version,
            flags,
            value_bytes: header.value_bytes,
            expiry: header.expiry,
            policy: header.policy,
        })
    }
}
