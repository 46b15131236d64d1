//! The hazard: assembly that differs from the plain code, or accesses memory outside its operands.

use super::guarded::{Guarded, PAGE, Plain};
use proptest::prelude::*;
use shm_layout::{Memory, MemoryMut};

proptest! {
    #[test]
    fn a_tag_scan_finds_exactly_the_tags(
        slots in any::<[u64; 8]>(), tag: u16, same in any::<[bool; 8]>(), line in 0..PAGE / 64,
    ) {
        let guarded = Guarded::new(PAGE);
        let bucket = line * 8;
        for (index, slot) in slots.iter().enumerate() {
            let tagged = slot & u64::MAX >> 16 | u64::from(tag) << 48;
            let word = if same[index] { tagged } else { *slot };
            // SAFETY: a line of the memory.
            unsafe { guarded.memory_mut().store(bucket + index, word) };
        }
        // SAFETY: as above.
        let (fast, plain) = unsafe {
            (
                guarded.memory().match_tag(bucket, tag),
                Plain(guarded.memory()).match_tag(bucket, tag),
            )
        };
        prop_assert_eq!(fast, plain);
        for (index, same) in same.iter().enumerate() {
            prop_assert!(!same || fast & 1 << index != 0);
        }
    }
}

#[test]
fn copies_of_every_size_and_alignment_are_those_of_the_plain_code() {
    let guarded = Guarded::new(20 * PAGE);
    let words = 20 * PAGE / 8;
    for index in 0..words {
        let word = (index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // SAFETY: a word of the memory.
        unsafe { guarded.memory_mut().store(index, word) };
    }
    let memory = guarded.memory();
    for bytes in (0..=700usize).chain([1000, 1024, 4095, 4096, 4097, 8000, 65_537, 20 * PAGE - 8]) {
        // Next to the guard pages on both sides, and 8 bytes away from them; sources are whole
        // words.
        let last = words - bytes.div_ceil(8);
        for from in [0, 1, last - 1, last] {
            // To every alignment, between bytes that must not change.
            for shift in 0..16 {
                let mut fast = vec![0xaa; bytes + 48];
                let mut plain = fast.clone();
                // SAFETY: the words lie inside the memory, the vectors have room.
                unsafe {
                    memory.copy_out(from, fast.as_mut_ptr().add(shift), bytes);
                    Plain(memory).copy_out(from, plain.as_mut_ptr().add(shift), bytes);
                }
                assert!(fast == plain, "{bytes} bytes from word {from} to {shift}");
            }
        }
    }
}

#[test]
fn comparisons_of_every_size_see_a_last_byte_that_differs() {
    let guarded = Guarded::new(PAGE);
    let words = PAGE / 8;
    for bytes in 1..=700usize {
        // At the very end of the memory, next to the guard page.
        let from = words - bytes.div_ceil(8);
        let mut key: Vec<u8> = (0..bytes).map(|at| (at * 7 + 1).to_le_bytes()[0]).collect();
        // SAFETY: the words lie inside the memory.
        let equals = |key: &[u8]| unsafe {
            (guarded.memory().equals(from, key), Plain(guarded.memory()).equals(from, key))
        };
        // SAFETY: as above.
        unsafe { guarded.memory_mut().copy_in(from, &key) };
        assert_eq!(equals(&key), (true, true), "{bytes} bytes");
        key[bytes - 1] ^= 1;
        assert_eq!(equals(&key), (false, false), "{bytes} bytes");
    }
}

#[test]
fn keys_of_every_length_equal_only_themselves() {
    let guarded = Guarded::new(PAGE);
    let memory = guarded.memory_mut();
    for bytes in 1..100usize {
        let key: Vec<u8> = (0..bytes).map(|at| (at * 37 + bytes).to_le_bytes()[0] | 1).collect();
        // SAFETY: inside the page.
        unsafe { memory.copy_in(0, &key) };
        // SAFETY: as above.
        assert!(unsafe { guarded.memory().equals(0, &key) });
        for at in 0..bytes {
            let mut other = key.clone();
            other[at] ^= 0x80;
            // SAFETY: as above.
            assert!(!unsafe { guarded.memory().equals(0, &other) }, "{bytes}, {at}");
        }
    }
}
