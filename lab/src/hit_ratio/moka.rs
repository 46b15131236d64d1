//! moka: W-TinyLFU, one window of 1 % and a frequency sketch.

use super::contestant::Contestant;
use super::hasher::FixedHasher;
use moka::sync::Cache;

/// The cache. Its housekeeping runs after each store instead of now and then, so that it neither
/// holds too much nor learns late.
#[derive(Debug)]
pub struct Moka {
    cache: Cache<u32, u32, FixedHasher>,
}

impl Moka {
    /// An empty cache.
    pub fn new(capacity: u64) -> Moka {
        let cache = Cache::builder()
            .max_capacity(capacity)
            .weigher(|_, weight: &u32| *weight)
            .build_with_hasher(FixedHasher::default());
        Moka { cache }
    }
}

impl Contestant for Moka {
    fn request(&mut self, id: u32, weight: u32) -> bool {
        if self.cache.get(&id).is_some() {
            return true;
        }
        self.cache.insert(id, weight);
        self.cache.run_pending_tasks();
        false
    }

    fn held(&self) -> u64 {
        self.cache.weighted_size()
    }
}
