//! Keys whose values were too large to be kept, so that not every reader has them transferred.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rapidhash::RapidHashMap;

/// Keys remembered.
const KEYS_MAX: usize = 1024;
/// How long the answer is given from memory. Then the server is asked for the size.
const FRESH: Duration = Duration::from_secs(5);

/// Keys and the sizes that they had.
#[derive(Debug, Default)]
pub struct Oversized {
    keys: RapidHashMap<Arc<[u8]>, (u64, Instant)>,
}

/// What is known about a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// Nothing.
    Unknown,
    /// It was too large, some time ago.
    WasTooLarge,
    /// It has this many bytes.
    TooLarge(u64),
}

impl Oversized {
    /// What is known about `key`.
    pub fn look(&self, key: &[u8]) -> Size {
        // Nearly always: then the clock is not read.
        if self.keys.is_empty() {
            return Size::Unknown;
        }
        match self.keys.get(key) {
            Some(&(bytes, at)) if at.elapsed() < FRESH => Size::TooLarge(bytes),
            Some(_) => Size::WasTooLarge,
            None => Size::Unknown,
        }
    }

    /// `key` has a value of `bytes` bytes, which is too large.
    pub fn note(&mut self, key: &Arc<[u8]>, bytes: u64) {
        if self.keys.len() >= KEYS_MAX && !self.keys.contains_key(key) {
            // At the worst, each is transferred once more.
            self.keys.clear();
        }
        self.keys.insert(key.clone(), (bytes, Instant::now()));
    }

    /// `key` has another value, or none, or is about to.
    pub fn forget(&mut self, key: &[u8]) {
        if !self.keys.is_empty() {
            self.keys.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_remembered_until_they_change_and_their_number_is_bounded() {
        let mut oversized = Oversized::default();
        let key = |n: usize| -> Arc<[u8]> { n.to_le_bytes()[..].into() };
        oversized.note(&key(0), 7);
        assert_eq!(oversized.look(&key(0)), Size::TooLarge(7));
        oversized.forget(&key(0));
        assert_eq!(oversized.look(&key(0)), Size::Unknown);
        for n in 0..3 * KEYS_MAX {
            oversized.note(&key(n), 7);
            assert!(oversized.keys.len() <= KEYS_MAX);
        }
    }
}
