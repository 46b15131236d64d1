//! Values that identify themselves: version, time of publication, and a checksum bound to the key.
//!
//! A reader of such a value knows how old it is, whether it is older than a value acknowledged
//! before, and whether it is torn or belongs to another key. Little-endian:
//!
//! ```text
//!  0        8         16             24
//!  | checksum | version | published_ns | filler ...
//! ```

use std::fmt;

/// Bytes of the smallest value that can carry a stamp.
pub const BYTES_MIN: usize = 24;

/// The header of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Number of the value among those of its key, from 1.
    pub version: u64,
    /// CLOCK_MONOTONIC at publication, in ns: comparable between all processes of one host that
    /// share a time namespace.
    pub published_ns: u64,
}

/// Why bytes are not a value of this key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// Fewer than [`BYTES_MIN`] bytes.
    Short,
    /// Wrong checksum: torn, damaged, or written for another key.
    Checksum,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Damage::Short => "the value is too short to carry a stamp",
            Damage::Checksum => "the value is torn, damaged or belongs to another key",
        })
    }
}

impl std::error::Error for Damage {}

/// Writes a value of `bytes` bytes (at least [`BYTES_MIN`]) for `key` into `value`, replacing its
/// content. The filler depends on key and version, so that two versions differ in every word.
pub fn encode(key: &[u8], stamp: Stamp, bytes: usize, value: &mut Vec<u8>) {
    value.clear();
    value.reserve(bytes.max(BYTES_MIN));
    value.extend_from_slice(&[0; 8]);
    value.extend_from_slice(&stamp.version.to_le_bytes());
    value.extend_from_slice(&stamp.published_ns.to_le_bytes());
    let mut filler = mix(sum(SEED, key), stamp.version);
    while value.len() < bytes {
        filler = mix(filler, STEP);
        let word = filler.to_le_bytes();
        let take = word.len().min(bytes - value.len());
        value.extend(word.iter().take(take));
    }
    let checksum = checksum(key, value.get(8..).unwrap_or_default());
    if let Some(place) = value.first_chunk_mut::<8>() {
        *place = checksum.to_le_bytes();
    }
}

/// Reads the stamp of `value`, which must have been written for `key`.
///
/// # Errors
/// [`Damage`] if it was not, or if a byte has changed since.
pub fn decode(key: &[u8], value: &[u8]) -> Result<Stamp, Damage> {
    let (stored, rest) = value.split_first_chunk::<8>().ok_or(Damage::Short)?;
    let (version, after) = rest.split_first_chunk::<8>().ok_or(Damage::Short)?;
    let published_ns = after.first_chunk::<8>().ok_or(Damage::Short)?;
    if u64::from_le_bytes(*stored) != checksum(key, rest) {
        return Err(Damage::Checksum);
    }
    Ok(Stamp {
        version: u64::from_le_bytes(*version),
        published_ns: u64::from_le_bytes(*published_ns),
    })
}

const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
const STEP: u64 = 0xd1b5_4a32_d192_ed03;

fn checksum(key: &[u8], rest: &[u8]) -> u64 {
    sum(sum(SEED, key), rest)
}

/// Takes eight bytes a step; the length goes in last, so that trailing zeros count.
fn sum(seed: u64, bytes: &[u8]) -> u64 {
    let (words, tail) = bytes.as_chunks::<8>();
    let mut state = seed;
    for word in words {
        state = mix(state, u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    for (place, byte) in last.iter_mut().zip(tail) {
        *place = *byte;
    }
    mix(mix(state, u64::from_le_bytes(last)), bytes.len() as u64)
}

/// A bijection of each argument while the other is fixed, so that a change within one word is
/// always detected, and any other change missed with probability 2^-64.
fn mix(a: u64, b: u64) -> u64 {
    let product = (a ^ b).wrapping_mul(STEP);
    product ^ product >> 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STAMP: Stamp = Stamp { version: 7, published_ns: 1_234_567_890 };

    #[test]
    fn a_value_shorter_than_the_stamp_is_refused() {
        let mut value = Vec::new();
        encode(b"k", STAMP, 24, &mut value);
        for bytes in 0..24 {
            assert_eq!(decode(b"k", &value[..bytes]), Err(Damage::Short));
        }
    }

    #[test]
    fn a_value_torn_between_two_versions_is_refused_at_every_byte() {
        let (mut old, mut new) = (Vec::new(), Vec::new());
        encode(b"market:quote:SYM001", STAMP, 200, &mut old);
        encode(b"market:quote:SYM001", Stamp { version: 8, ..STAMP }, 200, &mut new);
        for cut in 1..200 {
            let torn = [&new[..cut], &old[cut..]].concat();
            if torn != new && torn != old {
                assert_eq!(
                    decode(b"market:quote:SYM001", &torn),
                    Err(Damage::Checksum),
                    "cut at {cut}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn round_trip(key: Vec<u8>, version: u64, published_ns: u64, bytes in 0usize..3000) {
            let stamp = Stamp { version, published_ns };
            let mut value = vec![9; 5];
            encode(&key, stamp, bytes, &mut value);
            prop_assert_eq!(value.len(), bytes.max(BYTES_MIN));
            prop_assert_eq!(decode(&key, &value), Ok(stamp));
        }

        #[test]
        fn any_flipped_bit_and_any_other_key_are_refused(
            key in proptest::collection::vec(any::<u8>(), 1..40),
            bytes in 24usize..300,
            place: usize,
            bit in 0u32..8,
        ) {
            let mut value = Vec::new();
            encode(&key, STAMP, bytes, &mut value);
            let mut other = key.clone();
            other[place % key.len()] ^= 1 << bit;
            prop_assert_eq!(decode(&other, &value), Err(Damage::Checksum));
            value[place % bytes] ^= 1 << bit;
            prop_assert_eq!(decode(&key, &value), Err(Damage::Checksum));
        }
    }
}
