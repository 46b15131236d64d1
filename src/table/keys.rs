//! Keys that stand out: by their hashes, or the largest of some buckets.

use super::{Found, Table};
use shm_layout::entry::tick;
use shm_layout::slot::SLOTS;
use shm_layout::{EntryHeader, KeyHash, MemoryMut};

/// The entries of the bucket that follows after this many are prefetched.
const AHEAD: u32 = 4;

/// A key, and the header of its entry.
#[derive(Debug, Clone)]
pub struct Key {
    /// The key.
    pub key: Vec<u8>,
    /// Its hash.
    pub hash: KeyHash,
    /// The header.
    pub header: EntryHeader,
}

/// The largest entries of those that were looked at.
#[derive(Debug)]
pub struct Largest {
    prefix: Vec<u8>,
    top: usize,
    /// The largest first.
    keys: Vec<Key>,
    /// Visible entries that were looked at.
    pub seen: u64,
}

impl Largest {
    /// At most `top` entries whose keys begin with `prefix`.
    #[must_use]
    pub fn new(prefix: &[u8], top: usize) -> Largest {
        Largest { prefix: prefix.to_vec(), top, keys: Vec::new(), seen: 0 }
    }

    /// The entries, the largest first.
    #[must_use]
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    fn takes(&self, header: &EntryHeader) -> bool {
        self.keys.len() < self.top
            || self.keys.last().is_some_and(|last| last.header.bytes() < header.bytes())
    }

    fn insert(&mut self, key: Key) {
        let bytes = key.header.bytes();
        let place = self.keys.partition_point(|other| other.header.bytes() >= bytes);
        self.keys.insert(place, key);
        self.keys.truncate(self.top);
    }
}

impl<M: MemoryMut> Table<M> {
    /// Looks at the entries in `count` buckets from `start` on.
    pub fn look_for_largest(&mut self, start: u32, count: u32, now_ns: u64, largest: &mut Largest) {
        let end = start.saturating_add(count).min(self.writer.geometry().bucket_count());
        for bucket in start..end {
            if bucket + AHEAD < end {
                self.writer.prefetch_bucket(bucket + AHEAD);
            }
            for index in 0..SLOTS {
                let slot = self.writer.geometry().bucket(bucket).slot(index);
                let Some(found) = self.at_slot(slot) else { continue };
                if !self.is_visible(&found.header, tick(now_ns)) {
                    continue;
                }
                largest.seen += 1;
                if largest.takes(&found.header) {
                    let key = self.key_of(&found);
                    if key.key.starts_with(&largest.prefix) {
                        largest.insert(key);
                    }
                }
            }
        }
    }

    /// The visible entry whose key has this hash, if there is one.
    pub fn key_by_hash(&mut self, hash: KeyHash, now_ns: u64) -> Option<Key> {
        let slots: Vec<usize> = self.writer.tagged_slots(hash).collect();
        slots.into_iter().find_map(|slot| {
            let found = self.at_slot(slot)?;
            let key = self.key_of(&found);
            (key.hash == hash && self.is_visible(&found.header, tick(now_ns))).then_some(key)
        })
    }

    fn key_of(&mut self, found: &Found) -> Key {
        let key = self.key_at(found.at, &found.header).to_vec();
        let hash = self.writer.geometry().hasher().hash(&key);
        Key { key, hash, header: found.header }
    }
}
