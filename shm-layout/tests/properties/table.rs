//! A table full of keys whose values identify their keys.

use super::guarded::{Bounded, Guarded};
use shm_layout::entry::NEVER;
use shm_layout::{
    Entry, Geometry, Location, MappedMut, Memory, Outcome, Plan, Reader, VecDestination, Writer,
};

pub const KEYS: u32 = 400;

pub fn plan() -> Plan {
    Plan { table_bytes: 5 << 20, value_bytes_max: 1000, entry_bytes: 96, ..Plan::default() }
}

pub fn key(number: u32) -> Vec<u8> {
    let mut key = format!("key:{number}:").into_bytes();
    key.resize(8 + number as usize % 70, b'.');
    key
}

/// At least 8 bytes, the first four of which identify the key; empty for known absences.
pub fn value(number: u32) -> Vec<u8> {
    if is_absent(number) {
        return Vec::new();
    }
    let mut value = number.to_le_bytes().to_vec();
    value.extend((0..4 + number % 300).map(|at| (number * 31 + at * 7).to_le_bytes()[0]));
    value
}

pub fn is_absent(number: u32) -> bool {
    number % 11 == 3
}

pub fn flags(number: u32) -> u32 {
    if number.is_multiple_of(5) { number } else { 0 }
}

/// A table with all keys in it.
pub struct Filled {
    pub guarded: Guarded,
    pub geometry: Geometry,
    /// The slot of each key.
    pub slots: Vec<usize>,
}

impl Filled {
    pub fn new() -> Filled {
        let geometry = Geometry::plan(&plan()).unwrap();
        let guarded = Guarded::new(geometry.words() * 8);
        let memory = guarded.memory_mut();
        // SAFETY: the memory has the bytes of this geometry, all zero.
        let writer = unsafe { Writer::create(memory, geometry) };
        writer.open_for_readers();
        writer.set_lease_until(u64::MAX);
        let (mut segment, mut word) = (0, 0);
        let mut slots = Vec::new();
        for number in 0..KEYS {
            let (key, value) = (key(number), value(number));
            let entry = Entry {
                key: &key,
                value: &value,
                version: 1,
                expiry: if number % 3 == 0 { NEVER } else { 1000 },
                flags: flags(number),
                absent: is_absent(number),
                strict: number % 7 == 2,
                ..Entry::default()
            };
            let hash = geometry.hasher().hash(&key);
            if word + 200 > geometry.segment_words() || number % 50 == 49 {
                (segment, word) = (segment + 1, 0);
            }
            let at = Location { segment, word: u32::try_from(word).unwrap() };
            let entry = writer.prepare(&entry).unwrap();
            writer.append(at, &entry, hash).unwrap();
            word += entry.words();
            let lines = geometry.buckets(hash);
            let mut empty = lines.iter().flat_map(|line| (0..8).map(move |slot| line.slot(slot)));
            // SAFETY: slots of the geometry.
            let slot = empty.find(|slot| unsafe { memory.load(*slot) } == 0).expect("a slot");
            writer.publish(slot, hash, at);
            slots.push(slot);
        }
        Filled { guarded, geometry, slots }
    }

    pub fn memory_mut(&self) -> MappedMut {
        self.guarded.memory_mut()
    }

    pub fn bytes(&self) -> u64 {
        self.geometry.words() as u64 * 8
    }

    pub fn bounded(&self) -> Bounded {
        Bounded { memory: self.guarded.memory(), words: self.geometry.words() }
    }

    /// The owner again; it panics if it would access memory outside the table.
    pub fn writer(&self) -> Writer<Bounded<MappedMut>> {
        let memory = Bounded { memory: self.memory_mut(), words: self.geometry.words() };
        // SAFETY: the memory has these bytes; the writer that filled it is gone.
        unsafe { Writer::take_over(memory, self.bytes()) }.unwrap()
    }

    pub fn reader(&self) -> Reader<Bounded> {
        // SAFETY: the memory has these bytes.
        unsafe { Reader::attach(self.bounded(), self.bytes()) }.unwrap()
    }

    /// Panics unless `number` reads as it was stored.
    pub fn assert_found(&self, reader: &Reader<Bounded>, number: u32) {
        let mut found = VecDestination::default();
        match reader.read(&key(number), || Some(0), &mut found) {
            Outcome::Hit(hit) => {
                assert!(!is_absent(number));
                assert_eq!(found.bytes(), value(number), "key {number}");
                assert_eq!(hit.flags, flags(number), "key {number}");
            }
            Outcome::Absent => assert!(is_absent(number), "key {number}"),
            other => panic!("key {number}: {other:?}"),
        }
    }
}

#[test]
fn every_key_is_found_in_a_sound_table() {
    let table = Filled::new();
    let reader = table.reader();
    for number in 0..KEYS {
        table.assert_found(&reader, number);
    }
}
