//! foyer's in-memory cache, with three of its policies.

use super::contestant::Contestant;
use super::hasher::FixedHasher;
use anyhow::{Context, Result};
use foyer_memory::{Cache, CacheBuilder, CacheProperties, EvictionConfig};
use foyer_memory::{LfuConfig, LruConfig, S3FifoConfig};

/// The policy, with foyer's own settings.
#[derive(Debug, Clone, Copy)]
pub enum FoyerPolicy {
    /// S3-FIFO: small, main and ghost queue.
    S3Fifo,
    /// W-TinyLFU: a window, segmented LRU, a frequency sketch.
    TinyLfu,
    /// LRU: one list.
    Lru,
}

/// The cache, in one piece: sharding would only cost it hits.
pub struct Foyer {
    cache: Cache<u32, u32, FixedHasher, CacheProperties>,
}

impl Foyer {
    /// An empty cache.
    ///
    /// # Errors
    /// The capacity does not fit into a machine word.
    pub fn new(policy: FoyerPolicy, capacity: u64) -> Result<Foyer> {
        let policy = match policy {
            FoyerPolicy::S3Fifo => EvictionConfig::from(S3FifoConfig::default()),
            FoyerPolicy::TinyLfu => LfuConfig::default().into(),
            FoyerPolicy::Lru => LruConfig::default().into(),
        };
        let capacity = usize::try_from(capacity).context("a capacity beyond the machine's")?;
        let cache = CacheBuilder::new(capacity)
            .with_shards(1)
            .with_eviction_config(policy)
            .with_hash_builder(FixedHasher::default())
            .with_weighter(|_: &u32, weight: &u32| *weight as usize)
            .build();
        Ok(Foyer { cache })
    }
}

impl Contestant for Foyer {
    fn request(&mut self, id: u32, weight: u32) -> bool {
        if self.cache.get(&id).is_some() {
            return true;
        }
        self.cache.insert(id, weight);
        false
    }

    fn held(&self) -> u64 {
        self.cache.usage() as u64
    }
}
