//! Keys whose changes a daemon left unanswered when it died, as its successor knows them: by their
//! hashes in the table's header (P22).

use rapidhash::RapidHashSet;
use shm_layout::{KeyHash, TableHasher};

/// Keys of unanswered changes.
#[derive(Debug, Clone)]
pub struct Inherited {
    hasher: TableHasher,
    hashes: RapidHashSet<u64>,
    /// There may be others.
    has_more: bool,
}

impl Inherited {
    /// The keys with these hashes; with `has_more`, any key may be one.
    pub fn new(
        hasher: TableHasher,
        hashes: impl Iterator<Item = KeyHash>,
        has_more: bool,
    ) -> Inherited {
        Inherited { hasher, hashes: hashes.map(|hash| hash.0).collect(), has_more }
    }

    /// Whether `key` may be one of them.
    pub fn may_hold(&self, key: &[u8]) -> bool {
        self.has_more || self.hashes.contains(&self.hasher.hash(key).0)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty() && !self.has_more
    }
}
