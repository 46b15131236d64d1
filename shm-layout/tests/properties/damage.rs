//! The hazard: damage anywhere in a table sends a reader out of its memory, into a panic or to
//! another key's value.

use super::table::{Filled, KEYS, key};
use proptest::prelude::*;
use shm_layout::header::HEADER_BYTES;
use shm_layout::slot::POSITION_BITS;
use shm_layout::{Memory, MemoryMut, Outcome, Reader, SlotWord, VecDestination};

/// One kind of damage to a table.
#[derive(Debug, Clone)]
enum Damage {
    Header {
        word: usize,
        to: u64,
    },
    Anywhere {
        word: prop::sample::Index,
        to: u64,
    },
    /// The generation of a segment, or a word of its header.
    Segment {
        segment: prop::sample::Index,
        word: usize,
        to: u64,
    },
    /// A slot in use keeps its tag and points elsewhere.
    Slot {
        slot: prop::sample::Index,
        position: u64,
    },
    /// The value length of an entry.
    ValueBytes {
        slot: prop::sample::Index,
        to: u32,
    },
    /// A word of an entry.
    Entry {
        slot: prop::sample::Index,
        word: usize,
        to: u64,
    },
}

fn extremes() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        Just(0),
        Just(u64::MAX),
        any::<u32>().prop_map(u64::from),
        (any::<u32>(), any::<u16>())
            .prop_map(|(value, key)| u64::from(value) | u64::from(key) << 32),
        any::<u8>().prop_map(|marks| u64::from(marks) << 56 | 8 << 32 | 8),
        Just(u64::from(u32::MAX) | 8 << 32),
    ]
}

fn damage() -> impl Strategy<Value = Damage> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        (0..HEADER_BYTES / 8, extremes()).prop_map(|(word, to)| Damage::Header { word, to }),
        (index(), extremes()).prop_map(|(word, to)| Damage::Anywhere { word, to }),
        (index(), prop_oneof![0..700_000u64, any::<u64>()])
            .prop_map(|(slot, position)| Damage::Slot { slot, position }),
        (index(), 0..9usize, extremes()).prop_map(|(segment, word, to)| Damage::Segment {
            segment,
            word,
            to
        }),
        (index(), prop_oneof![Just(0), 0..12usize], extremes())
            .prop_map(|(slot, word, to)| Damage::Entry { slot, word, to }),
        (index(), 0..16u32 << 20).prop_map(|(slot, to)| Damage::ValueBytes { slot, to }),
    ]
}

fn apply(damage: &Damage, table: &Filled) {
    let (geometry, memory) = (&table.geometry, table.memory_mut());
    let slot_of = |slot: &prop::sample::Index| table.slots[slot.index(table.slots.len())];
    // SAFETY: slots of the geometry.
    let load = |slot: usize| unsafe { memory.load(slot) };
    let entry_of = |slot| geometry.locate(SlotWord(load(slot_of(slot))).position());
    let mask = (1u64 << POSITION_BITS) - 1;
    let (word, to) = match damage {
        Damage::Header { word, to } => (*word, *to),
        Damage::Anywhere { word, to } => (word.index(geometry.words()), *to),
        Damage::Segment { segment, word, to } => {
            let segment = u32::try_from(segment.index(geometry.segment_count() as usize)).unwrap();
            let header = geometry.segment_header(segment).unwrap();
            (if *word == 8 { geometry.generation(segment).unwrap() } else { header + word }, *to)
        }
        Damage::Slot { slot, position } => {
            let slot = slot_of(slot);
            (slot, load(slot) & !mask | position & mask)
        }
        Damage::ValueBytes { slot, to } => {
            let Some((word, _)) = entry_of(slot) else { return };
            (word, load(word) >> 32 << 32 | u64::from(*to))
        }
        Damage::Entry { slot, word, to } => {
            let Some((first, _)) = entry_of(slot) else { return };
            ((first + word).min(geometry.words() - 1), *to)
        }
    };
    // SAFETY: a word of the table, which nothing else writes.
    unsafe { memory.store(word, to) };
}

/// The owner of these value bytes, if they have one: in a value, damaged or not, the first word is
/// the owner's number, unless that very word was damaged.
fn owner_of(found: &[u8], damages: &[Damage]) -> Option<u32> {
    let (number, _) = found.split_first_chunk()?;
    let number = u32::from_le_bytes(*number);
    let is_forged = damages.iter().any(|damage| match damage {
        Damage::Anywhere { to, .. } | Damage::Entry { to, .. } => {
            to & 0xffff_ffff == u64::from(number)
        }
        _ => false,
    });
    (number < KEYS && found.len() >= 8 && !is_forged).then_some(number)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn damage_anywhere_sends_no_reader_astray(damages in prop::collection::vec(damage(), 1..40)) {
        let table = Filled::new();
        let reader = table.reader();
        for damage in &damages {
            apply(damage, &table);
        }
        let mut found = VecDestination::default();
        for number in 0..KEYS {
            if let Outcome::Hit(hit) = reader.read(&key(number), || Some(0), &mut found) {
                prop_assert_eq!(hit.value_bytes as usize, found.bytes().len());
                // Damage to its own bytes is found by the owner's checksum.
                let owner = owner_of(found.bytes(), &damages);
                prop_assert!(owner.is_none_or(|owner| owner == number), "key {number}: {owner:?}");
            }
        }
        // A later attach refuses the table or reads it as safely.
        //
        // SAFETY: the memory has these bytes.
        if let Ok(reader) = unsafe { Reader::attach(table.bounded(), table.bytes()) } {
            for number in 0..KEYS {
                reader.read(&key(number), || Some(0), &mut found);
            }
        }
    }
}
