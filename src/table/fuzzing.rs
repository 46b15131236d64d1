//! Target: a daemon that starts on whatever is left of a table.
//!
//! An input is changes of a sound table's words. Either its header is refused, or the daemon serves
//! from it: it never touches other memory, and once it has verified the entries it finds nothing
//! wrong with the table, and no key has another value than it was given.

// Memory that panics if an access would leave it, from the tests of the layout.
#[path = "../../shm-layout/tests/properties/guarded.rs"]
#[allow(dead_code, reason = "the tests of the layout use all of it")]
mod guarded;

use super::Table;
use super::directory::{boot_id, sound_header};
use fuzz_driver::Input;
use guarded::Bounded;
use memmap2::{MmapMut, MmapOptions};
use shm_layout::entry::NEVER;
use shm_layout::{Entry, Geometry, MappedMut, MemoryMut, Outcome, Plan, Reader, Writer};
use shm_layout::{VecDestination, header};
use std::fs::File;
use std::sync::OnceLock;

const KEYS: u32 = 300;
const SECOND: u64 = 1_000_000_000;

/// Takes over a table of which some words were changed.
pub fn restart(data: &[u8]) {
    let (memory, geometry, _mapping) = sound();
    let bytes = geometry.words() as u64 * 8;
    let mut input = Input::new(data);
    // SAFETY: the memory has these bytes; a reader may meet anything in it.
    let reader = unsafe { Reader::attach(memory.clone(), bytes) };
    for _ in 0..input.byte() % 32 {
        change(&memory, &geometry, &mut input);
    }
    // SAFETY: the memory has these bytes, more than a header.
    if unsafe { sound_header(&memory, bytes) }.is_err() {
        return;
    }
    // SAFETY: the same; nobody else writes it.
    let Ok(writer) = (unsafe { Writer::take_over(memory.clone(), bytes) }) else { return };
    let mut table = Table::take_over(writer);
    table.writer().open_for_readers();
    use_damaged(&mut table, &mut input);
    let mut turns = 0;
    while table.sweep(SECOND, 4096) {
        turns += 1;
        assert!(turns < 10_000, "the sweep does not end");
    }
    let report = table.check();
    assert_eq!(report.violation_count, 0, "{:?}", report.violations);
    let reader = reader.expect("the table was sound");
    for number in 0..KEYS {
        let key = key(number);
        if let Some(held) = table.get(&key, SECOND) {
            assert!(is_value(number, &held.value), "key {number}");
        }
        let mut value = VecDestination::default();
        if let Outcome::Hit(_) = reader.read(&key, || Some(SECOND), &mut value) {
            assert!(is_value(number, value.bytes()), "key {number}, to a reader");
        }
    }
}

/// What a daemon does before it has verified the entries.
fn use_damaged<M: MemoryMut>(table: &mut Table<M>, input: &mut Input<'_>) {
    for _ in 0..input.byte() % 16 {
        let number = u32::from(input.short()) % KEYS;
        let key = key(number);
        match input.byte() % 5 {
            0 => drop(table.get(&key, SECOND)),
            1 => drop(table.remove(&key, SECOND)),
            2 => drop(table.sweep(SECOND, 16)),
            // Enough to recycle segments.
            3 => (0..20).for_each(|_| put(table, number, 16_000)),
            _ => put(table, number, 100),
        }
    }
}

fn put<M: MemoryMut>(table: &mut Table<M>, number: u32, bytes: u32) {
    let (key, value) = (key(number), value(number, bytes));
    let entry = Entry { key: &key, value: &value, expiry: NEVER, ..Entry::default() };
    // A damaged header may leave no versions or no room.
    let _ = table.put(&entry, SECOND);
}

/// Changes a word of some part of the table.
fn change(memory: &Bounded<MappedMut>, geometry: &Geometry, input: &mut Input<'_>) {
    let (part, place, to) = (input.byte(), input.short(), input.word());
    let place = usize::from(place);
    let segment = u32::from(input.byte()) % geometry.segment_count();
    let word = match part % 5 {
        0 => place % (header::HEADER_BYTES / 8),
        1 => geometry.segment_header(segment).expect("a segment") + place % 8,
        2 => geometry.generation(segment).expect("a segment"),
        3 => {
            let bucket =
                geometry.bucket(u32::try_from(place).unwrap_or(0) % geometry.bucket_count());
            bucket.slot(usize::from(segment.to_le_bytes()[0]) % 8)
        }
        // Most entries are at the beginning of a segment.
        _ => {
            let position = u64::from(segment) * geometry.segment_words() as u64;
            let first = geometry.locate(position).map_or(0, |(word, _)| word);
            (first + place % 4096).min(geometry.words() - 1)
        }
    };
    // SAFETY: a word of the table, which nothing else writes now.
    unsafe {
        use shm_layout::Memory;
        let before = memory.load(word);
        let to = if part < 128 { to } else { before ^ to };
        memory.store(word, to);
    }
}

/// A private copy of a sound table: what is not changed is not copied.
fn sound() -> (Bounded<MappedMut>, Geometry, MmapMut) {
    static SOUND: OnceLock<(File, Geometry)> = OnceLock::new();
    let (file, geometry) = SOUND.get_or_init(|| {
        let plan = Plan {
            table_bytes: 6 << 20,
            value_bytes_max: 16 << 10,
            entry_bytes: 112,
            hash_seed: 7,
            table_id: 1,
            boot_id: boot_id(),
            epoch_ns: crate::clock::boottime_ns().saturating_sub(SECOND),
            ..Plan::default()
        };
        let geometry = Geometry::plan(&plan).expect("a table of this size");
        let file = tempfile::tempfile_in("/dev/shm").expect("a file in memory");
        file.set_len(geometry.words() as u64 * 8).expect("room for it");
        // SAFETY: nothing else has the file.
        let mut mapping = unsafe { MmapOptions::new().map_mut(&file) }.expect("a mapping");
        fill(bounded(&mut mapping, &geometry), geometry);
        (file, geometry)
    });
    // SAFETY: nothing writes the file any more.
    let mut mapping = unsafe { MmapOptions::new().map_copy(file) }.expect("a mapping");
    (bounded(&mut mapping, geometry), *geometry, mapping)
}

fn bounded(mapping: &mut MmapMut, geometry: &Geometry) -> Bounded<MappedMut> {
    // SAFETY: page-aligned; the callers keep the mapping, and touch it through this only.
    let memory = unsafe { MappedMut::new(mapping.as_mut_ptr()) };
    Bounded { memory, words: geometry.words() }
}

fn fill(memory: Bounded<MappedMut>, geometry: Geometry) {
    // SAFETY: the memory has the bytes of this geometry, all zero.
    let writer = unsafe { Writer::create(memory, geometry) };
    writer.open_for_readers();
    let mut table = Table::new(writer);
    for number in 0..KEYS {
        put(&mut table, number, 40 + number);
    }
    // Some were replaced, and some segments were recycled.
    for number in 0..KEYS {
        put(&mut table, number % 7, 9000);
        put(&mut table, number, 40 + number % 50);
    }
    assert_eq!(table.check().violation_count, 0);
}

fn key(number: u32) -> Vec<u8> {
    format!("key:{number}:{:.<1$}", "", number as usize % 40).into_bytes()
}

/// A value of so many bytes that tells whose it is.
fn value(number: u32, bytes: u32) -> Vec<u8> {
    number.to_le_bytes().iter().copied().cycle().take(bytes as usize).collect()
}

fn is_value(number: u32, found: &[u8]) -> bool {
    u32::try_from(found.len()).is_ok_and(|bytes| found == value(number, bytes))
}

/// Inputs that change one word each, or none.
#[cfg(test)]
pub fn seeds() -> Vec<Vec<u8>> {
    let one = |part: u8, place: u16, to: u64, segment: u8| {
        let change = [&[1, part][..], &place.to_le_bytes(), &to.to_le_bytes(), &[segment]].concat();
        // Then some use of it.
        [&change[..], &[4, 1, 0, 0, 2, 0, 3, 3, 0, 1, 4, 0, 4]].concat()
    };
    let header = (0..8).map(|word| one(128, word * 5, 1, 0));
    let segments = (0..4).flat_map(|segment| {
        [one(1, 0, 2, segment), one(1, 2, u64::MAX, segment), one(130, 0, 1, segment)]
    });
    let slots = (0..4).map(|bucket| one(131, bucket * 11, 64, 1));
    let entries = (0..4).map(|word| one(132, word, 1 << (8 * word), 1));
    let nothing = vec![0, 3, 1, 0, 3, 2, 0, 3, 3, 0, 0];
    std::iter::once(nothing).chain(header).chain(segments).chain(slots).chain(entries).collect()
}
