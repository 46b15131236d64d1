//! The hazard: some bytes in a table, or some change of them during a read, that no test names,
//! send a reader out of its memory or into a panic. A target of `./dev fuzz` as well.
//!
//! An input is changes of a sound table's words: some before, the others while it is read.

use super::guarded::Bounded;
use super::shifting::{Shifting, Store};
use super::table::{Filled, KEYS, key};
use fuzz_driver::Input;
use shm_layout::header::HEADER_BYTES;
use shm_layout::{InPlace, Look, Outcome, Reader, SlotWord, VecDestination};

/// Of the keys, one in so many is read, and their slots and entries are changed.
const STEP: usize = 25;

thread_local! {
    static TABLE: Filled = Filled::new();
}

/// Reads a table that was changed, and changes further.
pub fn read_any_table(data: &[u8]) {
    TABLE.with(|table| {
        let memory = Bounded { memory: table.memory_mut(), words: table.geometry.words() };
        let memory = Shifting::new(memory);
        read_changing(table, &memory, &mut Input::new(data));
        memory.restore();
    });
}

fn read_changing(table: &Filled, memory: &Shifting, input: &mut Input<'_>) {
    // SAFETY: the memory has these bytes.
    let before = unsafe { Reader::attach(memory.clone(), table.bytes()) }.expect("a sound table");
    for _ in 0..input.byte() % 16 {
        let Store { word, to, .. } = store(table, input);
        memory.overwrite(word, to);
    }
    let is_later = input.byte().is_multiple_of(2);
    while !input.is_empty() {
        memory.add(store(table, input));
    }
    // SAFETY: the memory has these bytes.
    let after = unsafe { Reader::attach(memory.clone(), table.bytes()) };
    read_all(if is_later { after.as_ref().unwrap_or(&before) } else { &before });
}

fn read_all(reader: &Reader<Shifting>) {
    let mut found = VecDestination::default();
    // A damaged header may say more than the table allows; no value leaves its segment.
    let value_bytes_max = reader.geometry().segment_words() * 8;
    let clock = || Some(1 << 30);
    for number in (0..KEYS).step_by(STEP) {
        let key = key(number);
        if let Outcome::Hit(hit) = reader.read(&key, clock, &mut found) {
            assert_eq!(hit.value_bytes as usize, found.bytes().len());
            assert!(found.bytes().len() <= value_bytes_max);
        }
        // In place, and with the steps of a batch.
        let mut probe = reader.prefetch_index(&key);
        if !reader.prefetch_entry(&mut probe) {
            reader.prefetch_second_entry(&mut probe);
        }
        let mut look = Look(|value: InPlace<'_, Shifting>| {
            let mut part = [0; 8];
            assert!(value.len() <= value_bytes_max);
            assert_eq!(
                value.copy_to(value.len() / 2, &mut part),
                value.len() / 2 + 8 <= value.len()
            );
            let _ = value.has_at(value.len().saturating_sub(3), b"end");
        });
        let _ = reader.read_fast(probe, &key, clock, &mut look);
    }
    assert!(reader.usable_bytes() <= reader.geometry().words() as u64 * 8);
    let _ = reader.is_serving();
}

/// A change of a word in some part of the table.
fn store(table: &Filled, input: &mut Input<'_>) -> Store {
    let (part, place, after, to) = (input.byte(), input.below(1 << 16), input.byte(), input.word());
    let geometry = &table.geometry;
    let slot = table.slots[place * STEP % table.slots.len()];
    // SAFETY: slots are words of the table.
    let slot_word = SlotWord(unsafe { shm_layout::Memory::load(&table.memory_mut(), slot) });
    let entry = geometry.locate(slot_word.position()).map_or(slot, |(word, _)| word);
    let segment = u32::try_from(place).unwrap_or(0) % geometry.segment_count();
    let (word, to) = match part % 6 {
        0 => (place % (HEADER_BYTES / 8), to),
        1 => (geometry.segment_header(segment).expect("a segment") + place / 256 % 8, to),
        2 => (geometry.generation(segment).expect("a segment"), to % 8),
        // Another position under the same tag.
        3 => (slot, slot_word.0 ^ (to & 0xffff_ffff)),
        _ => (entry + usize::from(after) % 12, to),
    };
    Store { after: u32::from(after), word: word.min(geometry.words() - 1), to }
}

fn seeds() -> Vec<Vec<u8>> {
    let one = |part: u8, place: u16, after: u8, to: u64| {
        [&[part][..], &place.to_le_bytes(), &[after], &to.to_le_bytes()].concat()
    };
    let mut seeds = vec![vec![0, 0], vec![0, 1]];
    for part in 0..6 {
        seeds.push([vec![1], one(part, 7, 1, 9), vec![0]].concat());
        seeds.push([vec![0, 1], one(part, 9, 40, 1 << 33), one(part, 9, 3, u64::MAX)].concat());
    }
    seeds
}

#[test]
fn a_reader_may_meet_anything() {
    fuzz_driver::short_run("table_reads", &seeds(), read_any_table);
}
