//! Caches in the reader's process: bounded, with room for every key.

use super::super::contest::Read;
use super::super::workload::{Op, VALUE_BYTES};
use super::{copy, entries};
use quick_cache::UnitWeighter;
use quick_cache::sync::{Cache, DefaultLifecycle};
use rapidhash::fast::RandomState;
use std::sync::Arc;

type Key = Box<[u8]>;
type Value = Arc<[u8]>;
type Buffer = [u8; VALUE_BYTES];

/// Room for all keys although shards fill unevenly.
fn capacity(count: u32) -> usize {
    count as usize * 2
}

/// A quick_cache with this hasher.
pub type QuickCache<K, V> = Cache<K, V, UnitWeighter, RandomState, DefaultLifecycle<K, V>>;

/// An empty cache with room for this number of objects.
pub fn quick_cache<K: std::hash::Hash + Eq, V: Clone>(count: u32) -> QuickCache<K, V> {
    let capacity = capacity(count);
    let (weights, hashes) = (UnitWeighter, RandomState::new());
    Cache::with(capacity, capacity as u64, weights, hashes, DefaultLifecycle::default())
}

/// quick_cache: shards with a lock each, a hit sets a mark.
pub struct Quick(QuickCache<Key, Value>);

impl Quick {
    /// A cache with these keys.
    pub fn load(count: u32) -> Quick {
        let cache = quick_cache(count);
        for (key, value) in entries(count) {
            cache.insert(key, Arc::from(value));
        }
        Quick(cache)
    }
}

impl Read for Quick {
    const NAME: &'static str = "quick_cache";
    const HANDS_OUT: &'static str = "an Arc";
    type Buffer = Buffer;

    fn buffer(&self) -> Buffer {
        [0; VALUE_BYTES]
    }

    #[inline(always)]
    fn read(&mut self, op: &Op, value: &mut Buffer) -> bool {
        self.0.get(op.key.as_slice()).is_some_and(|from| copy(&from, value))
    }
}

/// moka: a concurrent map, and a log of hits that readers apply now and then.
pub struct Moka(moka::sync::Cache<Key, Value, RandomState>);

impl Moka {
    /// A cache with these keys.
    pub fn load(count: u32) -> Moka {
        let cache = moka::sync::Cache::builder()
            .max_capacity(capacity(count) as u64)
            .initial_capacity(count as usize)
            .build_with_hasher(RandomState::new());
        for (key, value) in entries(count) {
            cache.insert(key, Arc::from(value));
        }
        cache.run_pending_tasks();
        Moka(cache)
    }
}

impl Read for Moka {
    const NAME: &'static str = "moka";
    const HANDS_OUT: &'static str = "an Arc";
    type Buffer = Buffer;

    fn buffer(&self) -> Buffer {
        [0; VALUE_BYTES]
    }

    #[inline(always)]
    fn read(&mut self, op: &Op, value: &mut Buffer) -> bool {
        self.0.get(op.key.as_slice()).is_some_and(|from| copy(&from, value))
    }
}
