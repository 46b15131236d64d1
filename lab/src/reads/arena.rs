//! The memory that the limit reads: the same size, strides and kind of pages as l1d's table,
//! without anything else that makes it a table.
//!
//! ```text
//!  lines of 64 bytes, eight words each | entries, one after another
//!                                      | 24 bytes unused, 24 bytes key, then the value
//! ```
//!
//! Four of five words, chosen at random, hold an entry's offset, as in a table that is as full as
//! planned.

use super::workload::{KEY_BYTES, Op, fill, key};
use crate::random::Random;
use anyhow::{Context, Result, ensure};
use l1d_wire::mapping::{Access, HUGE_PAGE_BYTES, Mapping};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;

/// Bytes before an entry's key, as in l1d's entries.
const HEADER_BYTES: usize = 24;
const WORD_BYTES: usize = 8;
const LINE_WORDS: usize = 8;
const LOAD_PERCENT: usize = 80;

/// The filled memory.
#[derive(Debug)]
pub struct Arena {
    file: File,
    shape: Shape,
}

#[derive(Debug, Clone, Copy)]
struct Shape {
    keys: usize,
    words: usize,
    entry_bytes: usize,
}

impl Shape {
    fn of(keys: usize, value_bytes: usize) -> Shape {
        let words = (keys * 100).div_ceil(LOAD_PERCENT).next_multiple_of(LINE_WORDS);
        Shape { keys, words, entry_bytes: HEADER_BYTES + KEY_BYTES + value_bytes }
    }

    fn entries(self) -> usize {
        self.words * WORD_BYTES
    }

    fn offset(self, number: usize) -> usize {
        self.entries() + number * self.entry_bytes
    }

    fn bytes(self) -> usize {
        self.entries() + self.keys * self.entry_bytes
    }
}

impl Arena {
    /// Creates and fills one.
    pub fn fill(keys: usize, value_bytes: usize, seed: u64) -> Result<Arena> {
        let shape = Shape::of(keys, value_bytes);
        let slots = slots(keys, seed);
        let file = File::from(
            memfd_create(c"l1d-lab-limit", MFdFlags::MFD_CLOEXEC).context("cannot make a memfd")?,
        );
        let mut bytes = vec![0; shape.bytes()];
        let (index, entries) = bytes.split_at_mut(shape.entries());
        for (number, entry) in (0..).zip(entries.chunks_exact_mut(shape.entry_bytes)) {
            let (head, value_place) = entry.split_at_mut(HEADER_BYTES + KEY_BYTES);
            fill(number, value_place);
            if let Some(key_place) = head.last_chunk_mut::<KEY_BYTES>() {
                *key_place = key(number);
            }
        }
        for (number, &slot) in slots.iter().enumerate() {
            let offset = shape.offset(number) as u64;
            let at = slot as usize * WORD_BYTES;
            index
                .get_mut(at..at + WORD_BYTES)
                .context("a slot beyond the index")?
                .copy_from_slice(&offset.to_le_bytes());
        }
        let error = || {
            format!("cannot fill {} bytes of shared memory; is there that much free?", bytes.len())
        };
        std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0).with_context(error)?;
        collapse(&file, shape.bytes())?;
        Ok(Arena { file, shape })
    }

    /// Maps it read-only.
    pub fn reader<const VALUE_BYTES: usize>(&self) -> Result<ArenaReader<VALUE_BYTES>> {
        ArenaReader::map(&self.file, self.shape.keys)
    }

    /// A path at which another process can open the memory.
    pub fn path(&self) -> String {
        use std::os::fd::AsRawFd;
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }
}

/// Moves a file of shared memory into large pages if the kernel can, as the daemon does with its
/// table.
pub fn collapse(file: &File, bytes: usize) -> Result<()> {
    let mapping = Mapping::of_file(file, bytes as u64, Access::Write)
        .context("cannot map the limit's memory")?;
    let whole = bytes / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
    // SAFETY: a range of this process's own mapping; the advice moves pages and changes no content.
    // If the kernel refuses, pages stay as small as the table's.
    unsafe { nix::libc::madvise(mapping.base().cast(), whole, nix::libc::MADV_COLLAPSE) };
    Ok(())
}

/// The slot of each key in the arena for these keys and this seed, as an index of words.
pub fn slots(keys: usize, seed: u64) -> Vec<u32> {
    let mut slots = Random::new(seed).permutation(Shape::of(keys, 0).words);
    slots.truncate(keys);
    slots
}

/// A read-only mapping.
#[derive(Debug)]
pub struct ArenaReader<const VALUE_BYTES: usize> {
    map: Mapping,
    shape: Shape,
}

impl<const VALUE_BYTES: usize> ArenaReader<VALUE_BYTES> {
    /// Maps the file of an arena with that number of keys.
    pub fn map(file: &File, keys: usize) -> Result<ArenaReader<VALUE_BYTES>> {
        ensure!(keys > 0, "an arena without an entry");
        let shape = Shape::of(keys, VALUE_BYTES);
        let length = file.metadata().context("cannot measure the limit's memory")?.len();
        ensure!(
            length == shape.bytes() as u64,
            "the limit's memory has {length} bytes, not {}",
            shape.bytes()
        );
        let map = Mapping::of_file(file, shape.bytes() as u64, Access::Read)
            .context("cannot map the limit's memory")?;
        Ok(ArenaReader { map, shape })
    }

    /// The minimum that any table has to do: load the known word of the index, follow its offset,
    /// compare the key, copy the value out. Returns whether the key was there.
    #[inline(always)]
    pub fn read(&self, op: &Op, value: &mut [u8; VALUE_BYTES]) -> bool {
        let offset = self.word(op);
        assert!(offset <= self.last_entry());
        let base = self.map.base();
        // SAFETY: the key of an entry at `offset` ends within the mapping by the assertion; arrays
        // of bytes have no alignment; nothing writes after `fill`.
        let key = unsafe { *base.add(offset + HEADER_BYTES).cast::<[u8; KEY_BYTES]>() };
        if key != op.key {
            return false;
        }
        self.copy(offset, value);
        true
    }

    /// The entry offset that the index holds for a key.
    #[inline(always)]
    pub fn word(&self, op: &Op) -> usize {
        let slot = op.slot as usize;
        assert!(slot < self.shape.words);
        // SAFETY: the word lies within the index by the assertion, the mapping holds the index and
        // is page-aligned, and nothing writes to it after `fill`.
        let offset = unsafe { self.map.base().cast::<u64>().add(slot).read() };
        usize::try_from(offset).unwrap_or(usize::MAX)
    }

    /// Copies the value of a key from its known place, without index and key.
    #[inline(always)]
    pub fn copy_known(&self, op: &Op, value: &mut [u8; VALUE_BYTES]) {
        let offset = self.shape.offset(op.number as usize);
        assert!(offset <= self.last_entry());
        self.copy(offset, value);
    }

    /// Prefetches a key's index word.
    #[inline(always)]
    pub fn prefetch_word(&self, op: &Op) {
        prefetch(self.map.base().wrapping_add(op.slot as usize * WORD_BYTES));
    }

    /// Prefetches the lines of a small entry.
    #[inline(always)]
    pub fn prefetch_entry(&self, offset: usize) {
        let first = self.map.base().wrapping_add(offset + HEADER_BYTES);
        prefetch(first);
        prefetch(first.wrapping_add(64));
    }

    #[inline(always)]
    fn copy(&self, offset: usize, value: &mut [u8; VALUE_BYTES]) {
        assert!(offset <= self.last_entry());
        // SAFETY: an entry with a value of that size ends within the mapping by the assertion;
        // nothing writes after `fill`, and `value` is private.
        unsafe {
            let from = self.map.base().add(offset + HEADER_BYTES + KEY_BYTES);
            std::ptr::copy_nonoverlapping(from, value.as_mut_ptr(), VALUE_BYTES);
        }
    }

    /// Offset of the last entry; there is at least one.
    #[inline(always)]
    fn last_entry(&self) -> usize {
        self.shape.bytes() - (HEADER_BYTES + KEY_BYTES + VALUE_BYTES)
    }
}

/// A prefetch hint, which accesses no memory.
#[inline(always)]
fn prefetch(place: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE is part of every x86_64, and a prefetch of any address only affects caches.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(place.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

#[cfg(test)]
mod tests {
    use super::super::workload::{VALUE_BYTES, value};
    use super::*;

    #[test]
    fn every_key_is_where_its_slot_says_and_no_two_share_one() {
        let arena = Arena::fill(1000, VALUE_BYTES, 3).unwrap();
        let mut slots = super::slots(1000, 3);
        let reader = arena.reader::<VALUE_BYTES>().unwrap();
        let mut out = [0; VALUE_BYTES];
        for number in 0..1000u32 {
            let op = Op { key: key(number), number, slot: slots[number as usize] };
            assert!(reader.read(&op, &mut out), "key {number}");
            assert_eq!(out, value(number));
            let other = Op { key: key(number + 1), ..op };
            assert!(!reader.read(&other, &mut out), "key {number}");
        }
        slots.sort_unstable();
        slots.dedup();
        assert_eq!(slots.len(), 1000);
    }
}
