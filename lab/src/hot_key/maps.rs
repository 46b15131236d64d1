//! Maps and caches of one process, shared by threads: values in an Arc, as such caches return them.

use super::view::{Ask, Value, View, value};
use super::writer::Sets;
use crate::reads::rivals::{QuickCache, quick_cache};
use crate::reads::workload::key;
use anyhow::Result;
use rapidhash::fast::RandomState;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

type Key = Box<[u8]>;
type Held = Arc<[u8]>;

/// The operations that they share.
pub trait Store: Send + Sync + 'static {
    /// An empty one with room for this number of keys.
    fn new(keys: u32) -> Self;
    /// Stores a value.
    fn set(&self, key: &[u8], value: Held);
    /// Copies a value out. Returns whether it was found.
    fn read(&self, key: &[u8], value: &mut Value) -> bool;
}

/// A thread's handle, for reading and writing.
pub struct Shared<S>(pub Arc<S>);

impl<S: Store> Shared<S> {
    /// Fills one with a value for every key.
    pub fn fill(keys: u32) -> Shared<S> {
        let store = S::new(keys);
        for number in 0..keys {
            store.set(&key(number), Arc::from(value(0)));
        }
        Shared(Arc::new(store))
    }
}

impl<S: Store> Sets for Shared<S> {
    fn set(&mut self, number: u32, value: &Value) -> Result<()> {
        self.0.set(&key(number), Arc::from(*value));
        Ok(())
    }
}

impl<S: Store> View for Shared<S> {
    #[inline(always)]
    fn read(&mut self, ask: &Ask, value: &mut Value) -> bool {
        self.0.read(&ask.key, value)
    }
}

#[inline(always)]
fn copy(from: &[u8], to: &mut Value) -> bool {
    from.first_chunk().is_some_and(|value| {
        *to = *value;
        true
    })
}

impl Store for QuickCache<Key, Held> {
    fn new(keys: u32) -> Self {
        quick_cache(keys)
    }

    fn set(&self, key: &[u8], value: Held) {
        self.insert(Box::from(key), value);
    }

    #[inline(always)]
    fn read(&self, key: &[u8], value: &mut Value) -> bool {
        self.get(key).is_some_and(|from| copy(&from, value))
    }
}

impl Store for moka::sync::Cache<Key, Held, RandomState> {
    fn new(keys: u32) -> Self {
        moka::sync::Cache::builder()
            .max_capacity(u64::from(keys) * 2)
            .build_with_hasher(RandomState::new())
    }

    fn set(&self, key: &[u8], value: Held) {
        self.insert(Box::from(key), value);
    }

    #[inline(always)]
    fn read(&self, key: &[u8], value: &mut Value) -> bool {
        self.get(key).is_some_and(|from| copy(&from, value))
    }
}

impl Store for papaya::HashMap<Key, Held, RandomState> {
    fn new(keys: u32) -> Self {
        papaya::HashMap::with_capacity_and_hasher(keys as usize, RandomState::new())
    }

    fn set(&self, key: &[u8], value: Held) {
        self.insert(Box::from(key), value, &self.guard());
    }

    #[inline(always)]
    fn read(&self, key: &[u8], value: &mut Value) -> bool {
        let guard = self.guard();
        self.get(key, &guard).is_some_and(|from| copy(from, value))
    }
}

impl Store for dashmap::DashMap<Key, Held, RandomState> {
    fn new(keys: u32) -> Self {
        dashmap::DashMap::with_capacity_and_hasher(keys as usize, RandomState::new())
    }

    fn set(&self, key: &[u8], value: Held) {
        self.insert(Box::from(key), value);
    }

    #[inline(always)]
    fn read(&self, key: &[u8], value: &mut Value) -> bool {
        self.get(key).is_some_and(|from| copy(&from, value))
    }
}

/// The standard library's map and lock.
pub type RwLockMap = RwLock<HashMap<Key, Held, RandomState>>;

impl Store for RwLockMap {
    fn new(keys: u32) -> Self {
        RwLock::new(HashMap::with_capacity_and_hasher(keys as usize, RandomState::new()))
    }

    fn set(&self, key: &[u8], value: Held) {
        self.write().unwrap_or_else(PoisonError::into_inner).insert(Box::from(key), value);
    }

    #[inline(always)]
    fn read(&self, key: &[u8], value: &mut Value) -> bool {
        let map = self.read().unwrap_or_else(PoisonError::into_inner);
        map.get(key).is_some_and(|from| copy(from, value))
    }
}
