//! Keys whose fetched values are not kept for a while, because an unconfirmed write may still reach
//! a tier (P2, P7).

use rapidhash::RapidHashMap;
use std::sync::Arc;
use std::time::Instant;

/// The most keys that can be blocked at once.
const BLOCKS_MAX: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct Blocks {
    until: RapidHashMap<Arc<[u8]>, Instant>,
}

impl Blocks {
    /// Blocks `key`. `false` when there is no room: the caller then kills all flights instead.
    pub(super) fn block(&mut self, key: &Arc<[u8]>, until: Instant) -> bool {
        if self.until.len() >= BLOCKS_MAX && !self.until.contains_key(key) {
            return false;
        }
        self.until.insert(key.clone(), until);
        true
    }

    /// A write of `key` that is known to have been applied ends the doubt.
    pub(super) fn unblock(&mut self, key: &[u8]) {
        self.until.remove(key);
    }

    /// `key` is blocked now. Reads the clock only for a key that was blocked lately.
    pub(super) fn is_blocked(&self, key: &[u8]) -> bool {
        !self.until.is_empty() && self.until.get(key).is_some_and(|until| *until > Instant::now())
    }

    /// Drops the blocks that have expired; returns when the next one will.
    pub(super) fn expire(&mut self, now: Instant) -> Option<Instant> {
        self.until.retain(|_, until| *until > now);
        self.until.values().min().copied()
    }
}
