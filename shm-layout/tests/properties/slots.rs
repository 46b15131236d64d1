//! The hazard: a slot that points to a wrong place, at the worst places there are: another key's
//! entry, the last words of a segment and of the table, lengths that reach beyond them.

use super::guarded::Bounded;
use super::table::{Filled, KEYS, is_absent, key, value};
use shm_layout::entry::{KEY_BYTES_MAX, MARK_ABSENT, MARK_FLAGS, NEVER};
use shm_layout::memory::words_for;
use shm_layout::slot::POSITION_BITS;
use shm_layout::{
    Destination, Entry, EntryHeader, Geometry, Location, Memory, MemoryMut, NoHit, Outcome, Reader,
    SlotWord, VecDestination,
};

const POSITION: u64 = (1 << POSITION_BITS) - 1;

/// A destination that must never be asked for more than a segment.
struct AtMost {
    bytes_max: usize,
    value: VecDestination,
}

// SAFETY: passed on unchanged.
unsafe impl Destination for AtMost {
    fn room(&mut self, bytes: usize) -> *mut u8 {
        assert!(bytes <= self.bytes_max, "room for {bytes} bytes");
        self.value.room(bytes)
    }
}

fn read(reader: &Reader<Bounded>, key: &[u8]) -> (Outcome, Vec<u8>) {
    let bytes_max = reader.geometry().segment_words() * 8;
    let mut found = AtMost { bytes_max, value: VecDestination::default() };
    let outcome = reader.read(key, || Some(0), &mut found);
    let value = found.value.bytes().to_vec();
    assert_eq!(read_by_steps(reader, key, &mut found), outcome);
    if matches!(outcome, Outcome::Hit(_)) {
        assert_eq!(found.value.bytes(), value);
    }
    (outcome, value)
}

/// Reads as a batch does.
fn read_by_steps(reader: &Reader<Bounded>, key: &[u8], found: &mut AtMost) -> Outcome {
    let mut probe = reader.prefetch_index(key);
    if !reader.prefetch_entry(&mut probe) {
        reader.prefetch_second_entry(&mut probe);
    }
    match reader.read_fast(probe, key, || Some(0), found) {
        Ok(hit) => Outcome::Hit(hit),
        Err(NoHit::Miss) => Outcome::Miss,
        Err(NoHit::Detached) => Outcome::Detached,
        Err(NoHit::Unclear) => reader.read_slow(probe, key, || Some(0), found),
    }
}

/// Points the slot at `position` and keeps its tag.
fn point(table: &Filled, slot: usize, position: u64) {
    let memory = table.memory_mut();
    // SAFETY: a slot of the geometry.
    unsafe { memory.store(slot, memory.load(slot) & !POSITION | position & POSITION) };
}

#[test]
fn a_slot_that_points_at_another_keys_entry_is_a_miss() {
    let table = Filled::new();
    let reader = table.reader();
    // SAFETY: slots of the geometry.
    let words: Vec<u64> =
        table.slots.iter().map(|slot| unsafe { table.memory_mut().load(*slot) }).collect();
    for number in 0..KEYS {
        for step in [1, 2, 70, 140] {
            let other = (number + step) % KEYS;
            point(&table, table.slots[number as usize], words[other as usize]);
            assert_eq!(read(&reader, &key(number)).0, Outcome::Miss, "{number} at {other}");
        }
        point(&table, table.slots[number as usize], words[number as usize]);
        table.assert_found(&reader, number);
    }
}

#[test]
fn a_slot_that_points_into_the_middle_of_entries_never_finds_another_value() {
    let table = Filled::new();
    let reader = table.reader();
    for number in [0, 1, 3, 5, 77, 399] {
        for position in 0..2000 {
            point(&table, table.slots[number as usize], position);
            let (outcome, found) = read(&reader, &key(number));
            match outcome {
                Outcome::Hit(_) => assert_eq!(found, value(number), "{number} at {position}"),
                Outcome::Absent => assert!(is_absent(number)),
                _ => {}
            }
        }
    }
}

/// The padding of a shorter key looks like the zero bytes of a longer one.
#[test]
fn keys_that_differ_in_zero_bytes_only_are_not_the_same() {
    let table = Filled::new();
    let reader = table.reader();
    let memory = table.memory_mut();
    let log = table.geometry.resolve(Location { segment: 5, word: 0 }).unwrap();
    for stored in 1..8usize {
        for asked in (1..8usize).filter(|asked| *asked != stored) {
            let bytes = [b'a', 0, 0, 0, 0, 0, 0, 0];
            let (stored, asked) = (&bytes[..stored], &bytes[..asked]);
            let entry = Entry {
                key: stored,
                value: b"foreign",
                version: 1,
                expiry: NEVER,
                ..Entry::default()
            };
            let hash = table.geometry.hasher().hash(asked);
            let slot = table.geometry.buckets(hash)[0].slot(0);
            let position = table.geometry.position(Location { segment: 5, word: 0 });
            // SAFETY: words of an unused segment and a slot, of a table that nothing else writes.
            unsafe {
                entry.prepare().unwrap().store(&memory, log, table.geometry.hasher(), hash);
                memory.store(slot, SlotWord::pack(hash, position).0);
            }
            assert_eq!(read(&reader, asked).0, Outcome::Miss, "{stored:?}, {asked:?}");
        }
    }
}

#[test]
fn positions_after_the_log_are_misses() {
    let table = Filled::new();
    let reader = table.reader();
    let words = table.geometry.log_bytes() / 8;
    let slot = table.slots[1];
    let beyond = (0..70).map(|shift| words + (1u64 << shift.min(47)) - 1);
    for position in beyond.chain([words - 2, words - 1, words, words + 1, POSITION - 1, POSITION]) {
        point(&table, slot, position);
        assert_eq!(read(&reader, &key(1)).0, Outcome::Miss, "{position}");
    }
}

/// Stores as much of a forged entry as the table has room for, across the end of its segment if
/// need be, and returns whether all of it is inside the segment.
fn forge(table: &Filled, at: Location, header: &EntryHeader, key: &[u8]) -> bool {
    let geometry = &table.geometry;
    let first = geometry.resolve(Location { word: 0, ..at }).unwrap() + at.word as usize;
    let mut words = header.pack().to_vec();
    words.resize(header.key_word(), 7);
    for chunk in key.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        words.push(u64::from_le_bytes(word));
    }
    for (index, word) in words.into_iter().enumerate() {
        if first + index < geometry.words() {
            // SAFETY: a word of the table, which nothing else writes.
            unsafe { table.memory_mut().store(first + index, word) };
        }
    }
    at.word as usize + header.words() <= geometry.segment_words()
}

fn clear(table: &Filled, segment: u32) {
    let geometry = &table.geometry;
    let first = geometry.resolve(Location { segment, word: 0 }).unwrap();
    let end = (first + geometry.segment_words() + 200).min(geometry.words());
    for word in end - 300..end {
        // SAFETY: words of the table, which nothing else writes.
        unsafe { table.memory_mut().store(word, 0) };
    }
}

/// All first words that an entry of `room` words can have.
fn headers(geometry: &Geometry, room: usize, key_bytes: u16) -> Vec<EntryHeader> {
    let value_room = |key: u16| (room.saturating_sub(3 + words_for(usize::from(key)))) * 8;
    let mut headers = Vec::new();
    for marks in [0, MARK_FLAGS, MARK_ABSENT, MARK_FLAGS | MARK_ABSENT, 0xff, 0x80] {
        for key_bytes in
            [key_bytes, 0, key_bytes + 1, u16::MAX, u16::try_from(KEY_BYTES_MAX).unwrap()]
        {
            let fitting = u32::try_from(value_room(key_bytes)).unwrap();
            let segment = u32::try_from(geometry.segment_words() * 8).unwrap();
            for value_bytes in [
                0,
                1,
                8,
                fitting.saturating_sub(8),
                fitting,
                fitting + 1,
                fitting + 8,
                fitting + 16,
                segment,
                u32::MAX / 8,
                u32::MAX - 7,
                u32::MAX,
            ] {
                let header = EntryHeader {
                    value_bytes,
                    key_bytes,
                    policy: 0,
                    marks,
                    version: 1,
                    expiry: NEVER,
                    checksum: 0,
                };
                headers.push(header);
            }
        }
    }
    headers
}

#[test]
fn an_entry_at_the_end_of_a_segment_never_reaches_beyond() {
    let table = Filled::new();
    let reader = table.reader();
    let geometry = &table.geometry;
    let last = geometry.segment_count() - 1;
    let (mut hits, mut beyond) = (0, 0);
    // Keys of one word and of several, so that the key can cross the end, too.
    for number in [0, 1, 2, 40, 66] {
        let key = key(number);
        let key_bytes = u16::try_from(key.len()).unwrap();
        for segment in [10, last - 1, last] {
            for room in 1..24u32 {
                let at = Location {
                    segment,
                    word: u32::try_from(geometry.segment_words()).unwrap() - room,
                };
                point(&table, table.slots[number as usize], geometry.position(at));
                for header in headers(geometry, room as usize, key_bytes) {
                    clear(&table, segment);
                    let fits = forge(&table, at, &header, &key);
                    let (outcome, found) = read(&reader, &key);
                    if !fits || header.key_bytes != key_bytes {
                        assert_eq!(outcome, Outcome::Miss, "{room} words left, {header:?}");
                        beyond += 1;
                    } else if let Outcome::Hit(hit) = outcome {
                        assert_eq!(hit.value_bytes, header.value_bytes);
                        assert_eq!(found.len(), header.value_bytes as usize);
                        hits += 1;
                    }
                }
            }
        }
    }
    assert!(hits > 100 && beyond > 100, "{hits} that fit, {beyond} that do not");
}
