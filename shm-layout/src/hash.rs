//! The key hash: candidate buckets, tag and checksums come from it.
//!
//! Short keys have a hash of our own, as every read waits for it; long keys and values rapidhash V3,
//! whose output its authors keep stable across versions and platforms: daemon and clients may be
//! built years apart. Seeded from the header, so that tables differ. Neither resists an attacker who
//! may choose keys and read the seed: what a flood of colliding keys can cost is bounded by the two
//! lines that a key may stand in.

use rapidhash::v3::{RapidSecrets, rapidhash_v3_inline};

/// The hash of a key under one table's seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHash(pub u64);

impl KeyHash {
    /// What the slot keeps of it: the upper 16 bits, never zero.
    #[inline(always)]
    #[must_use]
    pub const fn tag(self) -> u16 {
        let tag = (self.0 >> 48) as u16;
        if tag == 0 { 1 } else { tag }
    }

    /// The two candidate lines among `count`.
    ///
    /// Multiply-shift maps 32 bits onto a range without a division (Lemire, "Fast random integer
    /// generation in an interval", 2019). The second index comes from a multiplicative remix, so the
    /// two lines are independent.
    #[inline(always)]
    #[must_use]
    pub const fn buckets(self, count: u32) -> [u32; 2] {
        let second = self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        [reduce(self.0 & 0xffff_ffff, count), reduce(second >> 32, count)]
    }
}

#[inline(always)]
const fn reduce(bits: u64, count: u32) -> u32 {
    ((bits * count as u64) >> 32) as u32
}

/// Keys up to here are hashed in line, from loads that do not wait for each other.
const SHORT_BYTES_MAX: usize = 48;

/// Hashes keys and values under one seed.
#[derive(Debug, Clone, Copy)]
pub struct TableHasher {
    short: [u64; 6],
    long: RapidSecrets,
}

impl TableHasher {
    /// The hasher of the table with this seed.
    #[must_use]
    pub const fn new(seed: u64) -> TableHasher {
        // SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
        let mut short = [0; 6];
        let mut state = seed;
        let mut index = 0;
        while index < short.len() {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            short[index] = mixed ^ (mixed >> 31);
            index += 1;
        }
        TableHasher { short, long: RapidSecrets::seed(seed) }
    }

    /// Hashes a key.
    ///
    /// Up to 48 bytes: folded multiplies of pairs of words, each pair under secrets of its own, side by
    /// side instead of one after the other (the construction of foldhash's fast variant). Longer
    /// keys: rapidhash.
    #[inline(always)]
    #[must_use]
    pub fn hash(&self, key: &[u8]) -> KeyHash {
        let bytes = key.len();
        let [s0, s1, s2, s3, s4, s5] = self.short;
        // Tells keys apart whose loads overlap to the same words.
        let s1 = s1 ^ bytes as u64;
        if bytes > SHORT_BYTES_MAX {
            return self.hash_long(key);
        }
        KeyHash(if let (Some(head), Some(tail)) = (key.first_chunk(), key.last_chunk()) {
            let ends = fold(words(head), [s0, s1]) ^ fold(words(tail), [s2, s3]);
            match key.get(16..32) {
                Some(middle) if bytes > 32 => {
                    ends ^ fold(words(middle.first_chunk().unwrap_or(&[0; 16])), [s4, s5])
                }
                _ => ends,
            }
        } else {
            fold(tiny(key), [s0, s1])
        })
    }

    #[cold]
    #[inline(never)]
    fn hash_long(&self, key: &[u8]) -> KeyHash {
        KeyHash(rapidhash_v3_inline::<true, false, false>(key, &self.long))
    }

    /// The checksum of an entry: its header words, its client flags, its key and its value.
    #[must_use]
    pub fn checksum(&self, header: [u64; 3], flags: u32, key: KeyHash, value: &[u8]) -> u32 {
        let mut sum = rapidhash_v3_inline::<true, false, false>(value, &self.long);
        for word in [key.0, header[0], header[1], header[2], u64::from(flags)] {
            sum = (sum ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            sum ^= sum >> 29;
        }
        (sum >> 32) as u32
    }
}

/// Both halves of the product of 64-bit words, folded into one.
#[inline(always)]
const fn fold(words: [u64; 2], secrets: [u64; 2]) -> u64 {
    let product = (words[0] ^ secrets[0]) as u128 * (words[1] ^ secrets[1]) as u128;
    #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
    return product as u64 ^ (product >> 64) as u64;
}

#[inline(always)]
fn words(bytes: &[u8; 16]) -> [u64; 2] {
    let both = u128::from_le_bytes(*bytes);
    #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
    [both as u64, (both >> 64) as u64]
}

/// Fewer than 16 bytes as two words, by loads that overlap.
#[inline(always)]
fn tiny(key: &[u8]) -> [u64; 2] {
    if let (Some(head), Some(tail)) = (key.first_chunk::<8>(), key.last_chunk::<8>()) {
        [u64::from_le_bytes(*head), u64::from_le_bytes(*tail)]
    } else if let (Some(head), Some(tail)) = (key.first_chunk::<4>(), key.last_chunk::<4>()) {
        [u64::from(u32::from_le_bytes(*head)), u64::from(u32::from_le_bytes(*tail))]
    } else if let (Some(head), Some(tail)) = (key.first(), key.last()) {
        let middle = key[key.len() / 2];
        [u64::from(*head) | u64::from(middle) << 8, u64::from(*tail)]
    } else {
        [0, 0]
    }
}
