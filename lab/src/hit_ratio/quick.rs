//! quick_cache: a relative of CLOCK-Pro with a hot queue, a cold queue and a ghost queue.

use super::contestant::{Contestant, Room};
use super::hasher::FixedHasher;
use quick_cache::Weighter;
use quick_cache::unsync::{Cache, DefaultLifecycle};

/// The cache, in one piece: sharding would only cost it hits.
pub struct Quick {
    cache: Cache<u32, u32, ByValue, FixedHasher, DefaultLifecycle<u32, u32>>,
}

/// The weight of an entry is its value.
#[derive(Debug, Clone)]
struct ByValue;

impl Weighter<u32, u32> for ByValue {
    fn weight(&self, _: &u32, weight: &u32) -> u64 {
        u64::from(*weight)
    }
}

impl Quick {
    /// An empty cache.
    pub fn new(room: Room) -> Quick {
        let objects = usize::try_from(room.objects).unwrap_or(usize::MAX);
        let cache = Cache::with(
            objects,
            room.capacity,
            ByValue,
            FixedHasher::default(),
            DefaultLifecycle::default(),
        );
        Quick { cache }
    }
}

impl Contestant for Quick {
    fn request(&mut self, id: u32, weight: u32) -> bool {
        if self.cache.get(&id).is_some() {
            return true;
        }
        self.cache.insert(id, weight);
        false
    }

    fn held(&self) -> u64 {
        self.cache.weight()
    }
}
