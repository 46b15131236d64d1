//! An L1 of one process, as services have today: a concurrent cache whose entries expire.

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Expected bytes of an entry. Sizes the cache's internal tables.
const ENTRY_BYTES: u64 = 256;
/// Far more than the scenario needs, so that nothing is evicted.
const SCENARIO_BYTES: u64 = 64 << 20;

#[derive(Clone)]
struct Kept {
    value: Arc<[u8]>,
    until: Instant,
}

#[derive(Clone)]
struct Bytes;

impl Weighter<Box<[u8]>, Kept> for Bytes {
    fn weight(&self, key: &Box<[u8]>, kept: &Kept) -> u64 {
        key.len() as u64 + kept.value.len() as u64
    }
}

/// A cache of one process.
pub struct PrivateL1 {
    cache: Cache<Box<[u8]>, Kept, Bytes>,
}

impl PrivateL1 {
    /// A cache large enough for the whole scenario.
    pub(crate) fn new() -> PrivateL1 {
        PrivateL1::with_capacity(SCENARIO_BYTES)
    }

    /// A cache that holds `bytes` bytes of keys and values.
    pub fn with_capacity(bytes: u64) -> PrivateL1 {
        let entries = usize::try_from(bytes / ENTRY_BYTES).unwrap_or(usize::MAX);
        PrivateL1 { cache: Cache::with_weighter(entries, bytes, Bytes) }
    }

    /// Reads into `value`, replacing its content. Returns whether there was a live copy; without
    /// one `value` is unchanged.
    pub fn read(&self, key: &[u8], value: &mut Vec<u8>) -> bool {
        match self.cache.get(key) {
            Some(kept) if Instant::now() < kept.until => {
                value.clear();
                value.extend_from_slice(&kept.value);
                true
            }
            _ => false,
        }
    }

    /// Keeps a copy for `ttl`.
    pub fn keep(&self, key: &[u8], value: &[u8], ttl: Duration) {
        let kept = Kept { value: value.into(), until: Instant::now() + ttl };
        self.cache.insert(key.into(), kept);
    }

    /// Number of values held, including expired ones, which take memory until they are replaced.
    pub fn copies(&self) -> u64 {
        self.cache.len() as u64
    }

    /// Bytes of their keys and values.
    pub fn copies_bytes(&self) -> u64 {
        self.cache.weight()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_read_until_it_expires_and_counted_once() {
        let l1 = PrivateL1::new();
        let mut value = Vec::new();
        assert!(!l1.read(b"key", &mut value));
        l1.keep(b"key", b"old", Duration::ZERO);
        assert!(!l1.read(b"key", &mut value), "it had no time to live");
        l1.keep(b"key", b"value", Duration::from_secs(3600));
        assert!(l1.read(b"key", &mut value));
        assert_eq!(value, b"value");
        assert_eq!((l1.copies(), l1.copies_bytes()), (1, 8));
    }
}
