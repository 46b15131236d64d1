//! The hazard: a damaged header that is still trusted, at attach or later.

use super::guarded::PAGE;
use super::table::{Filled, KEYS};
use proptest::prelude::*;
use shm_layout::header::{HEADER_BYTES, IDENTITY_COPIES, IDENTITY_WORDS, Identity, STATE};
use shm_layout::{Geometry, HeapTable, LayoutError, Memory, MemoryMut, Reader};

/// The error for an identity whose word `word` was changed to `to`.
fn complaint(word: usize, to: u64) -> LayoutError {
    match word {
        0 => LayoutError::Magic,
        1 => LayoutError::Version { found: u32::try_from(to).unwrap_or(u32::MAX) },
        2 => LayoutError::Fingerprint,
        _ => LayoutError::Damaged,
    }
}

/// A table of which only the header is used.
fn header() -> (HeapTable, Geometry) {
    let geometry = Geometry::plan(&super::table::plan()).unwrap();
    let heap = HeapTable::new(&geometry);
    // SAFETY: the heap table has a header, and nothing else writes it.
    unsafe { geometry.identity().store(&heap.memory_mut()) };
    (heap, geometry)
}

fn flip(heap: &HeapTable, word: usize, bit: u32) -> u64 {
    let memory = heap.memory_mut();
    // SAFETY: the callers pass words of the header.
    unsafe {
        let flipped = memory.load(word) ^ 1 << bit;
        memory.store(word, flipped);
        flipped
    }
}

fn attach(heap: &HeapTable) -> Result<(), LayoutError> {
    // SAFETY: the memory has these bytes.
    unsafe { Reader::attach(heap.memory(), heap.bytes()) }.map(|_| ())
}

#[test]
fn every_flipped_bit_of_either_copy_is_refused() {
    let (heap, _) = header();
    assert_eq!(attach(&heap), Ok(()));
    for (copy, start) in IDENTITY_COPIES.into_iter().enumerate() {
        for word in 0..IDENTITY_WORDS {
            for bit in 0..64 {
                let to = flip(&heap, start + word, bit);
                let expected = if copy == 0 { complaint(word, to) } else { LayoutError::Damaged };
                assert_eq!(attach(&heap), Err(expected), "copy {copy}, word {word}, bit {bit}");
                flip(&heap, start + word, bit);
            }
        }
    }
    assert_eq!(attach(&heap), Ok(()));
}

#[test]
fn every_bit_flipped_alike_in_both_copies_is_refused() {
    let (heap, _) = header();
    for word in 0..IDENTITY_WORDS {
        for bit in 0..64 {
            let to = IDENTITY_COPIES.map(|start| flip(&heap, start + word, bit))[0];
            assert_eq!(attach(&heap), Err(complaint(word, to)), "word {word}, bit {bit}");
            for start in IDENTITY_COPIES {
                flip(&heap, start + word, bit);
            }
        }
    }
}

/// Damage with a matching checksum, as a faulty program would leave it.
#[test]
fn impossible_figures_are_refused_by_name() {
    let (_, geometry) = header();
    let sound = *geometry.identity();
    assert!(Geometry::check(sound).is_ok());
    let bytes = sound.table_bytes;
    let impossible = [
        Identity { segment_count: 0, ..sound },
        Identity { segment_count: 15, ..sound },
        Identity { segment_count: sound.segment_count * 2, ..sound },
        Identity { segment_count: (1 << 20) + 1, ..sound },
        Identity { segment_count: u64::MAX, ..sound },
        Identity { bucket_count: 0, ..sound },
        Identity { bucket_count: u64::from(u32::MAX), ..sound },
        Identity { bucket_count: 1 << 40, ..sound },
        Identity { segment_bytes: 0, ..sound },
        Identity { segment_bytes: sound.segment_bytes + 8, ..sound },
        Identity { segment_bytes: 4096, ..sound },
        Identity { segment_bytes: u64::MAX / 4096 * 4096, ..sound },
        Identity { value_bytes_max: u64::from(u32::MAX), ..sound },
        Identity { value_bytes_max: u64::MAX, ..sound },
        Identity { table_bytes: bytes - 8, ..sound },
        Identity { table_bytes: HEADER_BYTES as u64, ..sound },
        Identity { table_bytes: 0, ..sound },
    ];
    for identity in impossible {
        let refused = Geometry::check(identity).expect_err("impossible");
        let LayoutError::Geometry { what } = refused else { panic!("{identity:?}: {refused}") };
        assert!(refused.to_string().contains(what), "{refused}");
    }
    // Valid in itself, but not for this file.
    let (heap, _) = header();
    let page = PAGE as u64;
    let larger = Identity { table_bytes: bytes + page, ..sound };
    // SAFETY: the heap table has a header, and nothing else writes it.
    unsafe { larger.store(&heap.memory_mut()) };
    assert_eq!(attach(&heap), Err(LayoutError::Size { expected: bytes + page, found: bytes }));
    for bytes in [0, 1, HEADER_BYTES as u64 - 1] {
        // SAFETY: the memory has more bytes than that.
        let short = unsafe { Reader::attach(heap.memory(), bytes) }.map(|_| ());
        assert_eq!(short, Err(LayoutError::TooSmall { bytes }));
    }
}

#[test]
fn every_complaint_names_its_fault() {
    for (error, said) in [
        (LayoutError::Magic, "not an l1d table"),
        (LayoutError::Version { found: 77 }, "layout version 77"),
        (LayoutError::Fingerprint, "other sizes or offsets"),
        (LayoutError::Damaged, "damaged"),
        (LayoutError::Size { expected: 8192, found: 4096 }, "8192 bytes, the file has 4096"),
        (LayoutError::TooSmall { bytes: 12 }, "12 bytes are too few"),
    ] {
        assert!(error.to_string().contains(said), "{error}");
    }
}

proptest! {
    #[test]
    fn two_damaged_copies_are_refused(
        first in prop::collection::vec((0..IDENTITY_WORDS, any::<u64>()), 1..5),
        second in prop::collection::vec((0..IDENTITY_WORDS, any::<u64>()), 1..5),
        alike: bool,
    ) {
        let (heap, geometry) = header();
        let packed = geometry.identity().pack();
        let memory = heap.memory_mut();
        let second = if alike { &first } else { &second };
        for (start, damages) in IDENTITY_COPIES.into_iter().zip([&first, second]) {
            for (word, to) in damages {
                // SAFETY: words of the header.
                unsafe { memory.store(start + word, *to) };
            }
        }
        // SAFETY: as above.
        let is_sound = IDENTITY_COPIES.iter().all(|start| (0..IDENTITY_WORDS).all(|word| unsafe {
            memory.load(start + word) } == packed[word]));
        prop_assert_eq!(attach(&heap).is_ok(), is_sound);
    }
}

/// R2: only the values checked at attach are used.
#[test]
fn a_header_damaged_after_attach_misleads_no_reader() {
    let table = Filled::new();
    let reader = table.reader();
    let memory = table.memory_mut();
    for to in [0, u64::MAX, 0x0101_0101_0101_0101] {
        for word in (0..STATE).filter(|word| word % 3 != usize::from(to == 0)) {
            // SAFETY: words of the header.
            unsafe { memory.store(word, to) };
        }
        for number in 0..KEYS {
            table.assert_found(&reader, number);
        }
    }
}
