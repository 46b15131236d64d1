//! The key hash, which determines candidate buckets, tag and checksums.
//!
//! Short keys use a hash of our own, because every read waits for it. Long keys and values use
//! rapidhash V3, whose output is stable across versions and platforms: daemon and clients may be
//! built years apart. The seed is in the header, so that tables differ. Neither hash resists an
//! attacker who can choose keys and read the seed; the two lines of a key bound what colliding keys
//! can cost.

use crate::slot::{SLOTS, SlotWord};
use rapidhash::v3::{RapidSecrets, rapidhash_v3_inline};

/// The hash of a key under one table's seed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct KeyHash(pub u64);

impl KeyHash {
    /// The part that a slot keeps: the upper 16 bits, never zero.
    #[inline(always)]
    #[must_use]
    pub const fn tag(self) -> u16 {
        let tag = (self.0 >> 48) as u16;
        if tag == 0 { 1 } else { tag }
    }

    /// The index of the key's own slot in its first line. The key is there if possible, so that
    /// most reads load one slot only. Uses bits that determine neither the tag nor the first line.
    #[inline(always)]
    #[must_use]
    pub const fn own_slot(self) -> usize {
        (self.0 >> 45) as usize % SLOTS
    }

    /// Whether a slot has the upper 16 bits of this hash. Differs from comparing tags only for
    /// hashes whose upper 16 bits are zero.
    #[inline(always)]
    #[must_use]
    pub const fn may_be_of(self, slot: SlotWord) -> bool {
        (self.0 ^ slot.0) >> 48 == 0
    }

    /// The two candidate lines among `count`.
    ///
    /// Multiply-shift maps 32 bits to a range without a division (Lemire, "Fast random integer
    /// generation in an interval", 2019). The second index comes from a multiplicative remix, so
    /// the two lines are independent.
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

/// Raised when the hash of any key changes; part of the fingerprint. A test pins the hashes of some
/// keys.
pub const HASH_ID: usize = 2;
/// Keys up to this length are hashed inline, with independent loads.
const SHORT_BYTES_MAX: usize = 48;

/// Hashes keys and values under one seed.
#[derive(Debug, Clone, Copy)]
pub struct TableHasher {
    short: [u64; 8],
    long: RapidSecrets,
}

impl TableHasher {
    /// The hasher of the table with this seed.
    #[must_use]
    pub const fn new(seed: u64) -> TableHasher {
        // SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
        let mut short = [0; 8];
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
    /// Up to 48 bytes: the products of pairs of words, each with its own secrets and computed in
    /// parallel, combined by one more product (after wyhash, rapidhash and foldhash). Longer keys:
    /// rapidhash.
    #[inline(always)]
    #[must_use]
    pub fn hash(&self, key: &[u8]) -> KeyHash {
        let bytes = key.len();
        if bytes > SHORT_BYTES_MAX {
            return self.hash_long(key);
        }
        let [s0, s1, s2, s3, s4, s5, s6, s7] = self.short;
        let mut mixed;
        if let (Some(head), Some(tail)) = (key.first_chunk(), key.last_chunk()) {
            mixed = multiply(words(head), [s0, s1]);
            mixed = crossed(mixed, multiply(words(tail), [s2, s3]));
            if bytes > 32
                && let Some(middle) = key.get(16..).and_then(<[u8]>::first_chunk)
            {
                mixed = crossed(mixed, multiply(words(middle), [s4, s5]));
            }
        } else {
            mixed = multiply(tiny(key), [s0, s1]);
        }
        // The length distinguishes keys whose overlapping loads give the same words.
        let [low, high] = multiply(mixed, [s6 ^ bytes as u64, s7]);
        KeyHash(low ^ high)
    }

    #[cold]
    #[inline(never)]
    fn hash_long(&self, key: &[u8]) -> KeyHash {
        KeyHash(rapidhash_v3_inline::<true, false, false>(key, &self.long))
    }

    /// The checksum of an entry: of its header words, client flags, key hash and value.
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

/// Both halves of the product of two words, each combined with a secret. They are not folded into
/// one word before the last step: two keys that differ in a few low bits can have the same folded
/// product.
#[inline(always)]
const fn multiply(words: [u64; 2], secrets: [u64; 2]) -> [u64; 2] {
    halves((words[0] ^ secrets[0]) as u128 * (words[1] ^ secrets[1]) as u128)
}

/// Combines two products, low halves with high ones.
#[inline(always)]
const fn crossed(one: [u64; 2], other: [u64; 2]) -> [u64; 2] {
    [one[0] ^ other[1], one[1] ^ other[0]]
}

#[inline(always)]
const fn halves(both: u128) -> [u64; 2] {
    #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
    return [both as u64, (both >> 64) as u64];
}

#[inline(always)]
fn words(bytes: &[u8; 16]) -> [u64; 2] {
    halves(u128::from_le_bytes(*bytes))
}

/// Fewer than 16 bytes as two words, from overlapping loads.
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
