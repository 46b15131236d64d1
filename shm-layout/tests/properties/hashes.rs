//! The hazard: a build that hashes differently, and so finds nothing or another key's lines; keys
//! that cluster in a few lines.

use shm_layout::TableHasher;
use std::collections::HashSet;

/// Values that other builds must agree on; a change of any of them requires a new `HASH_ID`.
#[test]
fn hashes_stay_what_they_are() {
    let hasher = TableHasher::new(42);
    let key: Vec<u8> = (0..=255).collect();
    let hashes: Vec<String> = [1, 3, 4, 7, 8, 15, 16, 24, 32, 33, 48, 49, 200]
        .map(|bytes| format!("{:016x}", hasher.hash(&key[..bytes]).0))
        .to_vec();
    assert_eq!(hashes, HASHES);
}

const HASHES: [&str; 13] = [
    "c1d878c29a864393",
    "727ec42718cde391",
    "2ef8a558a67a2a8a",
    "2575b48877a8acc9",
    "73e00839a3b8b0d2",
    "ff2279f83f905a8a",
    "f9faf3ac9e4d6759",
    "ebc80a5114515df5",
    "7c0107b9558076f4",
    "4ee2b06ed1cc6d68",
    "bd65f53bc2891c81",
    "9927fdcb7ab83261",
    "554d450705137432",
];

#[test]
fn realistic_keys_spread_over_lines_and_tags() {
    let count = 1 << 14;
    for seed in [0, 1, 0x0123_4567_89ab_cdef] {
        let hasher = TableHasher::new(seed);
        for shape in ["market:overview:{}", "k{}", "user:{}:profile:settings:v2", "{}"] {
            let keys = 200_000u32;
            let mut lines = vec![[0u32; 2]; count as usize];
            let (mut both_same, mut tags, mut all) = (0, HashSet::new(), HashSet::new());
            for number in 0..keys {
                let key = shape.replace("{}", &number.to_string());
                let hash = hasher.hash(key.as_bytes());
                let [first, second] = hash.buckets(count);
                lines[first as usize][0] += 1;
                lines[second as usize][1] += 1;
                both_same += u32::from(first == second);
                tags.insert(hash.tag());
                all.insert(hash.0);
            }
            assert_eq!(all.len(), keys as usize, "{shape}: two keys with one hash");
            // Poisson with mean 12.2 per line; chi-squared over 16,383 degrees of freedom stays
            // within six standard deviations.
            let mean = f64::from(keys) / f64::from(count);
            for which in 0..2 {
                let chi: f64 =
                    lines.iter().map(|line| (f64::from(line[which]) - mean).powi(2) / mean).sum();
                let freedom = f64::from(count - 1);
                let deviation = (chi - freedom) / (2.0 * freedom).sqrt();
                assert!(deviation.abs() < 6.0, "{shape}, line {which}: {deviation:.1}");
            }
            assert!(both_same < 60, "{shape}: {both_same} keys have one line");
            // 65,536 tags, 3.05 keys each: 4.7 % stay unused.
            assert!((61_500..63_500).contains(&tags.len()), "{shape}: {} tags", tags.len());
        }
    }
}

#[test]
fn keys_with_equal_overlapping_words_have_different_hashes() {
    let hasher = TableHasher::new(7);
    let mut seen = HashSet::new();
    for bytes in 0..200 {
        for byte in [0u8, b'a'] {
            if bytes == 0 && byte == 0 {
                continue;
            }
            assert!(seen.insert(hasher.hash(&vec![byte; bytes]).0), "{bytes} of {byte}");
        }
    }
}
