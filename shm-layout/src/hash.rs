//! The key hash: candidate buckets, tag and checksums come from it.
//!
//! rapidhash V3, whose output its authors keep stable across versions and platforms; daemon and
//! clients may be built years apart. Seeded from the header, so that tables differ. It does not
//! resist an attacker who may choose keys and read the seed: what a flood of colliding keys can
//! cost is bounded by the two lines that a key may stand in.

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

/// Hashes keys and values under one seed.
#[derive(Debug, Clone, Copy)]
pub struct TableHasher {
    secrets: RapidSecrets,
}

impl TableHasher {
    /// The hasher of the table with this seed.
    #[must_use]
    pub const fn new(seed: u64) -> TableHasher {
        TableHasher { secrets: RapidSecrets::seed(seed) }
    }

    /// Hashes a key.
    #[inline(always)]
    #[must_use]
    pub fn hash(&self, key: &[u8]) -> KeyHash {
        KeyHash(rapidhash_v3_inline::<true, false, false>(key, &self.secrets))
    }

    /// The checksum of an entry: its header words, its client flags, its key and its value.
    #[must_use]
    pub fn checksum(&self, header: [u64; 3], flags: u32, key: KeyHash, value: &[u8]) -> u32 {
        let mut sum = self.hash(value).0;
        for word in [key.0, header[0], header[1], header[2], u64::from(flags)] {
            sum = (sum ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            sum ^= sum >> 29;
        }
        (sum >> 32) as u32
    }
}
