//! Concurrent maps in the reader's process, without eviction.

use super::super::contest::Read;
use super::super::workload::{Op, VALUE_BYTES};
use super::{copy, entries};
use rapidhash::fast::RandomState;
use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

type Key = Box<[u8]>;
type Value = Box<[u8]>;
type Buffer = [u8; VALUE_BYTES];

/// papaya: reads without a lock, memory reclaimed by hyaline.
pub struct Papaya(papaya::HashMap<Key, Value, RandomState>);

impl Papaya {
    /// A map with these keys.
    pub fn load(count: u32) -> Papaya {
        let map = papaya::HashMap::with_capacity_and_hasher(count as usize, RandomState::new());
        let guard = map.guard();
        for (key, value) in entries(count) {
            map.insert(key, value, &guard);
        }
        drop(guard);
        Papaya(map)
    }
}

impl Read for Papaya {
    const NAME: &'static str = "papaya";
    const HANDS_OUT: &'static str = "a reference under a guard";
    type Buffer = Buffer;

    fn buffer(&self) -> Buffer {
        [0; VALUE_BYTES]
    }

    #[inline(always)]
    fn read(&mut self, op: &Op, value: &mut Buffer) -> bool {
        let guard = self.0.guard();
        self.0.get(op.key.as_slice(), &guard).is_some_and(|from| copy(from, value))
    }
}

/// dashmap: shards, each with a lock.
pub struct Dashmap(dashmap::DashMap<Key, Value, RandomState>);

impl Dashmap {
    /// A map with these keys.
    pub fn load(count: u32) -> Dashmap {
        let map = dashmap::DashMap::with_capacity_and_hasher(count as usize, RandomState::new());
        for (key, value) in entries(count) {
            map.insert(key, value);
        }
        Dashmap(map)
    }
}

impl Read for Dashmap {
    const NAME: &'static str = "dashmap";
    const HANDS_OUT: &'static str = "a reference under a shard's lock";
    type Buffer = Buffer;

    fn buffer(&self) -> Buffer {
        [0; VALUE_BYTES]
    }

    #[inline(always)]
    fn read(&mut self, op: &Op, value: &mut Buffer) -> bool {
        self.0.get(op.key.as_slice()).is_some_and(|from| copy(&from, value))
    }
}

/// The standard library's map and lock.
pub struct RwLockMap(RwLock<HashMap<Key, Value, RandomState>>);

impl RwLockMap {
    /// A map with these keys.
    pub fn load(count: u32) -> RwLockMap {
        let mut map = HashMap::with_capacity_and_hasher(count as usize, RandomState::new());
        map.extend(entries(count));
        RwLockMap(RwLock::new(map))
    }
}

impl Read for RwLockMap {
    const NAME: &'static str = "rwlock-hashmap";
    const HANDS_OUT: &'static str = "a reference under the lock";
    type Buffer = Buffer;

    fn buffer(&self) -> Buffer {
        [0; VALUE_BYTES]
    }

    #[inline(always)]
    fn read(&mut self, op: &Op, value: &mut Buffer) -> bool {
        let map = self.0.read().unwrap_or_else(PoisonError::into_inner);
        map.get(op.key.as_slice()).is_some_and(|from| copy(from, value))
    }
}
