//! The hazard: a copy that was torn by the owner's writes is taken for a value, in any of the copy
//! routines.
//!
//! One thread keeps recycling a segment and putting another value of the same key into the same
//! place; another one reads it. Every word of a value identifies the value.
//! and over; another one reads it. Every word of a value says which one it is.

use shm_layout::entry::NEVER;
use shm_layout::{
    Entry, Geometry, HeapTable, Location, Mapped, Memory, Outcome, Plan, Reader, VecDestination,
    Writer,
};
use std::sync::atomic::{AtomicU64, Ordering};

const KEY: &[u8] = b"torn";
const AT: Location = Location { segment: 0, word: 0 };
/// One size for each of the copy routines, and some of many lines.
const SIZES: [usize; 9] = [9, 15, 31, 64, 127, 256, 1000, 4096, 32_768];
/// Values to read of each size.
const HITS: usize = 100;

/// The same memory, copied by words: the trait's default implementation.
#[derive(Clone)]
struct ByWords(Mapped);

impl Memory for ByWords {
    unsafe fn load(&self, index: usize) -> u64 {
        // SAFETY: passed on unchanged.
        unsafe { self.0.load(index) }
    }
    fn fence_acquire(&self) {
        self.0.fence_acquire();
    }
}

#[cfg(target_arch = "x86_64")]
#[path = "../src/assembly_x86_64.rs"]
#[expect(dead_code, reason = "the library uses it")]
mod assembly;

/// Copied as on a processor without AVX: the memory and its base address.
#[cfg(target_arch = "x86_64")]
#[derive(Clone)]
struct Narrow(Mapped, *const u8);
// SAFETY: the pointer is the memory's own, which may be read from any thread.
#[cfg(target_arch = "x86_64")]
unsafe impl Send for Narrow {}
// SAFETY: as above.
#[cfg(target_arch = "x86_64")]
unsafe impl Sync for Narrow {}

#[cfg(target_arch = "x86_64")]
impl Memory for Narrow {
    unsafe fn load(&self, index: usize) -> u64 {
        // SAFETY: passed on unchanged.
        unsafe { self.0.load(index) }
    }
    fn fence_acquire(&self) {
        self.0.fence_acquire();
    }
    unsafe fn copy_out(&self, from: usize, to: *mut u8, bytes: usize) {
        if bytes <= 64 {
            // SAFETY: passed on unchanged.
            unsafe { self.0.copy_out(from, to, bytes) }
        } else {
            // SAFETY: the caller vouches for the words from `from` on, and for the room.
            unsafe { assembly::copy_narrow(self.1.add(from * 8), to, bytes) }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn copying_without_avx_gives_a_whole_value_or_no_hit() {
    for bytes in SIZES {
        read_while_written(|table| Narrow(table.memory(), table.base()), bytes);
    }
}

/// A value that repeats one number up to its last byte.
fn fill(value: &mut [u8], number: u64) {
    for chunk in value.chunks_mut(8) {
        chunk.copy_from_slice(&number.to_le_bytes()[..chunk.len()]);
    }
}

/// Reads while the owner writes; every hit is whole, and none is older than the one before.
fn read_while_written<M: Memory + Send + Sync>(memory: impl FnOnce(&HeapTable) -> M, bytes: usize) {
    let plan = Plan { table_bytes: 8 << 20, value_bytes_max: 40_000, ..Plan::default() };
    let geometry = Geometry::plan(&plan).unwrap();
    let table = HeapTable::new(&geometry);
    // SAFETY: new memory of the table's size, which this thread alone writes.
    let writer = unsafe { Writer::create(table.memory_mut(), geometry) };
    writer.open_for_readers();
    // SAFETY: the memory has the table's bytes.
    let reader = unsafe { Reader::attach(memory(&table), table.bytes()) }.unwrap();
    let hash = geometry.hasher().hash(KEY);
    let slot = geometry.buckets(hash)[0].slot(0);
    let reads = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| read_hits(&reader, bytes, &reads));
        let mut value = vec![0; bytes];
        let mut number = 0;
        while !reading.is_finished() {
            number += 1;
            fill(&mut value, number);
            writer.begin_recycling(AT.segment);
            writer.clear(slot);
            writer.end_recycling(AT.segment);
            let (value, version) = (value.as_slice(), number);
            let entry = Entry { key: KEY, value, version, expiry: NEVER, ..Entry::default() };
            writer.append(AT, &writer.prepare(&entry).unwrap(), hash).unwrap();
            writer.publish(slot, hash, AT);
            // Every second value stays until it was read completely; the others are replaced at
            // once.
            let until = reads.load(Ordering::Relaxed) + 2 * (number % 2);
            while reads.load(Ordering::Relaxed) < until && !reading.is_finished() {
                std::thread::yield_now();
            }
        }
    });
}

fn read_hits<M: Memory>(reader: &Reader<M>, bytes: usize, reads: &AtomicU64) {
    let (mut value, mut expected) = (VecDestination::default(), vec![0; bytes]);
    let (mut hits, mut last) = (0, 0);
    while hits < HITS {
        let outcome = reader.read(KEY, || Some(0), &mut value);
        reads.fetch_add(1, Ordering::Relaxed);
        let Outcome::Hit(hit) = outcome else { continue };
        hits += usize::from(hit.version > last);
        assert!(hit.version >= last, "{bytes} bytes: {} after {last}", hit.version);
        last = hit.version;
        fill(&mut expected, hit.version);
        assert!(value.bytes() == expected, "{bytes} bytes: torn, version {last}");
    }
}

#[test]
fn copying_on_this_processor_gives_a_whole_value_or_no_hit() {
    for bytes in SIZES {
        read_while_written(HeapTable::memory, bytes);
    }
}

#[test]
fn copying_by_words_gives_a_whole_value_or_no_hit() {
    for bytes in SIZES {
        read_while_written(|table| ByWords(table.memory()), bytes);
    }
}
