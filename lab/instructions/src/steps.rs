//! A hit, assembled step by step to see what each step adds. Every step follows the read protocol,
//! and the last one does everything that `Reader::read` does for an entry without marks.

use crate::callgrind::leg;
use crate::served::Served;
use anyhow::{Result, ensure};
use l1d_client::Client;
use shm_layout::entry::{ENTRY_HEADER_BYTES, EntrySizes, NEVER, TICK_BITS};
use shm_layout::header::{CLOCK_OFFSET, POLICY_FLOORS, STATE, STATE_SERVING};
use shm_layout::memory::{WORD_BYTES, words_for};
use shm_layout::{Entry, Geometry, Mapped, Memory, Plan, SlotWord};
use std::hint::black_box;

/// Bytes of a value.
pub const VALUE_BYTES: usize = 64;

/// Find the key's slot in its first line, go to the entry, compare the key, copy the value.
pub const FIND: u8 = 1;
/// Prefetch the second line meanwhile, and search it if the first lacks the tag.
pub const SECOND_LINE: u8 = 2;
/// Load the slot again, and the generation before and after (R4, R6).
pub const GENERATION: u8 = 3;
/// The floor of the entry's policy, and whether the table is in use (R8, R0).
pub const FLOORS: u8 = 4;
/// The expiry of the entry (R7).
pub const EXPIRY: u8 = 5;

/// A table with a step-by-step reader.
#[derive(Debug, Clone, Copy)]
pub struct Steps {
    memory: Mapped,
    geometry: Geometry,
}

impl Steps {
    /// A reader of this table.
    ///
    /// # Safety
    /// `memory` is mapped and is a table of this geometry as long as this value or a copy is used.
    #[must_use]
    pub unsafe fn of(memory: Mapped, geometry: Geometry) -> Steps {
        Steps { memory, geometry }
    }

    /// Reads up to step `LAST`. Returns whether the value is in `to`.
    #[inline(always)]
    pub fn read<const LAST: u8>(
        &self,
        key: &[u8],
        clock: impl Fn() -> u64,
        to: &mut [u8; VALUE_BYTES],
    ) -> bool {
        let Steps { memory, geometry } = self;
        // SAFETY: for all loads: words of a validated geometry, in mapped memory.
        let load = |word: usize| unsafe { memory.load(word) };
        let hash = geometry.hasher().hash(key);
        let [first, second] = geometry.buckets(hash);
        let mut slot = first.slot(hash.own_slot());
        if !hash.may_be_of(SlotWord(load(slot))) {
            if LAST >= SECOND_LINE {
                memory.prefetch(second.word());
            }
            let mut bucket = first;
            // SAFETY: a bucket of the geometry.
            let mut matches = unsafe { memory.match_tag(first.word(), hash.tag()) };
            if LAST >= SECOND_LINE && matches == 0 {
                bucket = second;
                // SAFETY: as above.
                matches = unsafe { memory.match_tag(second.word(), hash.tag()) };
            }
            if matches == 0 {
                return false;
            }
            slot = bucket.slot(matches.trailing_zeros() as usize);
        }
        let word = SlotWord(load(slot));
        let Some((at, location)) = geometry.locate(word.position()) else { return false };
        let Some(generation) = geometry.generation(location.segment) else { return false };
        let mut before = 0;
        if LAST >= GENERATION {
            memory.fence_acquire();
            before = load(generation);
            memory.fence_acquire();
            if before & 1 != 0 || load(slot) != word.0 {
                return false;
            }
            memory.fence_acquire();
        }
        let sizes = EntrySizes(load(at));
        let key_word = ENTRY_HEADER_BYTES / WORD_BYTES;
        let value_word = key_word + words_for(key.len());
        let end = value_word + words_for(sizes.value_bytes() as usize);
        if !sizes.is_plain(key.len())
            || sizes.value_bytes() as usize > to.len()
            || location.word as usize + end > geometry.segment_words()
            // SAFETY: the entry ends inside its segment.
            || !unsafe { memory.equals(at + key_word, key) }
        {
            return false;
        }
        let (version, expiry) = (load(at + 1), load(at + 2));
        // SAFETY: as above, and `to` has room.
        unsafe { memory.copy_out(at + value_word, to.as_mut_ptr(), sizes.value_bytes() as usize) };
        if LAST >= GENERATION {
            memory.fence_acquire();
            if load(generation) != before {
                return false;
            }
        }
        if LAST >= FLOORS {
            let floor = load(POLICY_FLOORS + usize::from(sizes.policy()));
            if version < floor || load(STATE) != STATE_SERVING {
                return false;
            }
        }
        #[expect(clippy::cast_possible_truncation, reason = "32 bits are stored")]
        let expiry = expiry as u32;
        LAST < EXPIRY
            || expiry == NEVER
            || clock().wrapping_add(load(CLOCK_OFFSET)) >> TICK_BITS < u64::from(expiry)
    }
}

/// CLOCK_MONOTONIC as a client reads it: at most a kernel tick late.
#[inline(always)]
#[must_use]
pub fn coarse_clock() -> u64 {
    let Ok(time) = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC_COARSE) else {
        return u64::MAX;
    };
    time.tv_sec().cast_unsigned() * 1_000_000_000 + time.tv_nsec().cast_unsigned()
}

/// Names of the counted steps, which [`legs`] uses.
pub mod names {
    /// See [`super::FIND`].
    pub const FIND: &str = "hash, slot, entry, key, copy";
    /// See [`super::SECOND_LINE`].
    pub const SECOND_LINE: &str = "+ second line";
    /// See [`super::GENERATION`].
    pub const GENERATION: &str = "+ generation";
    /// See [`super::FLOORS`].
    pub const FLOORS: &str = "+ floor, state";
    /// See [`super::EXPIRY`]; the entries have an expiry.
    pub const EXPIRY: &str = "+ expiry, clock";
    /// `Client::peek_into` of entries that do not expire.
    pub const CLIENT: &str = "l1d peek_into, entries without expiry";
    /// `Client::peek_into` of entries that expire.
    pub const CLIENT_EXPIRY: &str = "l1d peek_into";
}

/// Runs each step as a leg, on a small table.
///
/// # Errors
/// No memory, or a key is missing.
pub fn legs() -> Result<()> {
    let plan =
        Plan { table_bytes: 16 << 20, value_bytes_max: 2048, table_id: 1, ..Plan::default() };
    let mut served = Served::new(&plan)?;
    let (lasting, expiring) = (*b"market:overview:00000001", *b"market:overview:00000002");
    for (key, expiry) in [(&lasting, NEVER), (&expiring, NEVER - 1)] {
        let entry = Entry { key, value: &[7; VALUE_BYTES], expiry, ..Entry::default() };
        ensure!(served.table.put(&entry, 0).is_ok(), "a refused put");
    }
    let (steps, _mapping) = served.steps()?;
    let client = served.client()?;
    let mut to = [0; VALUE_BYTES];
    let mut step = |name: &str, read: &mut dyn FnMut(&mut [u8; VALUE_BYTES]) -> bool| {
        for _ in 0..1000 {
            ensure!(read(&mut to), "{name}: not found");
        }
        for _ in 0..8 {
            ensure!(leg(name, 1, || read(black_box(&mut to))), "{name}: not found");
        }
        anyhow::Ok(())
    };
    let clock = || 0;
    step(names::FIND, &mut |to| steps.read::<FIND>(black_box(&lasting), clock, to))?;
    step(names::SECOND_LINE, &mut |to| steps.read::<SECOND_LINE>(black_box(&lasting), clock, to))?;
    step(names::GENERATION, &mut |to| steps.read::<GENERATION>(black_box(&lasting), clock, to))?;
    step(names::FLOORS, &mut |to| steps.read::<FLOORS>(black_box(&lasting), clock, to))?;
    step(names::EXPIRY, &mut |to| steps.read::<EXPIRY>(black_box(&expiring), coarse_clock, to))?;
    peeks(&client, (names::CLIENT, &lasting))?;
    peeks(&client, (names::CLIENT_EXPIRY, &expiring))
}

/// The smallest of several counts is taken: now and then a hit is due to be reported.
fn peeks(client: &Client, (name, key): (&str, &[u8])) -> Result<()> {
    let mut value = Vec::with_capacity(VALUE_BYTES);
    let mut peek = || client.peek_into(black_box(key), black_box(&mut value)).is_some();
    for _ in 0..20_000 {
        ensure!(peek(), "{name}: not found");
    }
    for _ in 0..24 {
        ensure!(leg(name, 1, &mut peek), "{name}: not found");
    }
    Ok(())
}
