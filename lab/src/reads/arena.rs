//! The memory that the limit reads: the same span, the same strides and the same kind of pages as
//! l1d's table, and nothing of what makes it a table.
//!
//! ```text
//!  lines of 64 bytes, eight words each | entries of 112 bytes, one after another
//!                                      | 24 bytes unused, 24 bytes key, 64 bytes value
//! ```
//!
//! Four of five words hold an entry's offset, as in a table that is full by plan; which ones is
//! random.

use super::workload::{KEY_BYTES, Op, VALUE_BYTES, key, value};
use crate::random::Random;
use anyhow::{Context, Result, ensure};
use memmap2::{MmapOptions, MmapRaw};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;

/// Bytes before an entry's key, as in l1d's entries.
const HEADER_BYTES: usize = 24;
const ENTRY_BYTES: usize = HEADER_BYTES + KEY_BYTES + VALUE_BYTES;
const WORD_BYTES: usize = 8;
const LINE_WORDS: usize = 8;
const LOAD_PERCENT: usize = 80;

/// The memory, filled.
#[derive(Debug)]
pub struct Arena {
    file: File,
    /// Where the offset of each key's entry stands, as a number of words.
    pub slots: Vec<u32>,
    shape: Shape,
}

#[derive(Debug, Clone, Copy)]
struct Shape {
    keys: usize,
    words: usize,
}

impl Shape {
    fn of(keys: usize) -> Shape {
        Shape { keys, words: (keys * 100).div_ceil(LOAD_PERCENT).next_multiple_of(LINE_WORDS) }
    }

    fn entries(self) -> usize {
        self.words * WORD_BYTES
    }

    fn bytes(self) -> usize {
        self.entries() + self.keys * ENTRY_BYTES
    }
}

impl Arena {
    /// Makes and fills one.
    pub fn fill(keys: usize, seed: u64) -> Result<Arena> {
        let shape = Shape::of(keys);
        let slots = slots(keys, seed);
        let file = File::from(
            memfd_create(c"l1d-lab-limit", MFdFlags::MFD_CLOEXEC).context("cannot make a memfd")?,
        );
        let mut bytes = vec![0; shape.bytes()];
        let (index, entries) = bytes.split_at_mut(shape.entries());
        for (number, entry) in (0..).zip(entries.chunks_exact_mut(ENTRY_BYTES)) {
            let (head, value_place) = entry.split_at_mut(HEADER_BYTES + KEY_BYTES);
            value_place.copy_from_slice(&value(number));
            if let Some(key_place) = head.last_chunk_mut::<KEY_BYTES>() {
                *key_place = key(number);
            }
        }
        for (number, &slot) in slots.iter().enumerate() {
            let offset = (shape.entries() + number * ENTRY_BYTES) as u64;
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
        Ok(Arena { file, slots, shape })
    }

    /// Maps it for reading.
    pub fn reader(&self) -> Result<ArenaReader> {
        ArenaReader::map(&self.file, self.shape.keys)
    }

    /// A path by which another process opens the memory.
    pub fn path(&self) -> String {
        use std::os::fd::AsRawFd;
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }
}

/// Where the arena of these keys and this seed keeps each key.
pub fn slots(keys: usize, seed: u64) -> Vec<u32> {
    let mut slots = Random::new(seed).permutation(Shape::of(keys).words);
    slots.truncate(keys);
    slots
}

/// A read-only mapping.
#[derive(Debug)]
pub struct ArenaReader {
    map: MmapRaw,
    shape: Shape,
}

impl ArenaReader {
    /// Maps the file of an arena of that many keys.
    pub fn map(file: &File, keys: usize) -> Result<ArenaReader> {
        let shape = Shape::of(keys);
        let length = file.metadata().context("cannot measure the limit's memory")?.len();
        ensure!(
            length == shape.bytes() as u64,
            "the limit's memory has {length} bytes, not {}",
            shape.bytes()
        );
        let map = MmapOptions::new()
            .len(shape.bytes())
            .map_raw_read_only(file)
            .context("cannot map the limit's memory")?;
        Ok(ArenaReader { map, shape })
    }

    /// The least a table can do: load the known word of the index, go where it says, compare the
    /// key, copy the value out. Returns whether the key was there.
    #[inline(always)]
    pub fn read(&self, op: &Op, value: &mut [u8; VALUE_BYTES]) -> bool {
        let base = self.map.as_ptr();
        let slot = op.slot as usize;
        assert!(slot < self.shape.words);
        // SAFETY: the word lies within the index by the assertion, the mapping holds the index, is
        // page-aligned, and nobody writes to it after `fill`.
        let offset = unsafe { base.cast::<u64>().add(slot).read() };
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        assert!(offset <= self.shape.bytes() - ENTRY_BYTES);
        // SAFETY: header, key and value from `offset` on end within the mapping by the assertion;
        // arrays of bytes have no alignment; nobody writes.
        unsafe {
            let key = base.add(offset + HEADER_BYTES).cast::<[u8; KEY_BYTES]>();
            if *key != op.key {
                return false;
            }
            let from = base.add(offset + HEADER_BYTES + KEY_BYTES);
            std::ptr::copy_nonoverlapping(from, value.as_mut_ptr(), VALUE_BYTES);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_where_its_slot_says_and_no_two_share_one() {
        let arena = Arena::fill(1000, 3).unwrap();
        let reader = arena.reader().unwrap();
        let mut out = [0; VALUE_BYTES];
        for number in 0..1000u32 {
            let op = Op { key: key(number), number, slot: arena.slots[number as usize] };
            assert!(reader.read(&op, &mut out), "key {number}");
            assert_eq!(out, value(number));
            let other = Op { key: key(number + 1), ..op };
            assert!(!reader.read(&other, &mut out), "key {number}");
        }
        let mut slots = arena.slots.clone();
        slots.sort_unstable();
        slots.dedup();
        assert_eq!(slots.len(), 1000);
        assert_eq!(super::slots(1000, 3), arena.slots);
    }
}
