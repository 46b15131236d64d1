//! Values that can be verified.

pub const KEYS: u64 = 64;
/// Bytes of the version at the start of a value.
const VERSION_BYTES: usize = size_of::<u32>();
pub const VALUE_BYTES_MAX: usize = 40_000;

pub fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

pub fn next(random: &mut u64) -> u64 {
    // splitmix64
    *random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *random;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A number below `end`.
pub fn below(random: &mut u64, end: usize) -> usize {
    usize::try_from(next(random) % end as u64).unwrap()
}

pub fn key(number: u64) -> Vec<u8> {
    format!("torn:{number}").into_bytes()
}

/// Exercises each way in which values are copied: by words, by two and four blocks of 16, by more
/// of them, by blocks of 32; and occasionally a value of many lines.
fn length(random: &mut u64) -> usize {
    let (from, to) = match below(random, 128) {
        0 => (1025, VALUE_BYTES_MAX),
        1..=32 => (0, 15),
        33..=64 => (16, 64),
        65..=96 => (65, 127),
        _ => (128, 1024),
    };
    from + below(random, to - from + 1)
}

/// Writes the version, then bytes that are derived from key and version, like the length.
pub fn value(key: u64, version: u64, into: &mut Vec<u8>) {
    let mut state = key << 48 ^ version;
    let bytes = length(&mut state);
    into.clear();
    into.extend_from_slice(&u32::try_from(version).unwrap().to_le_bytes());
    while into.len() < bytes {
        into.extend_from_slice(&next(&mut state).to_le_bytes());
    }
    into.truncate(bytes);
}

/// Verifies a value and returns its version, or `None` if the value has no room for one.
pub fn proven(key: u64, bytes: &[u8], expected: &mut Vec<u8>) -> Option<u64> {
    let version = bytes.first_chunk::<VERSION_BYTES>()?;
    let version = u64::from(u32::from_le_bytes(*version));
    value(key, version, expected);
    assert!(bytes == expected.as_slice(), "key {key}: a torn value, version {version}");
    Some(version)
}
