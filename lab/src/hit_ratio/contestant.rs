//! The contestants, and the operations of each.

use super::foyer::{Foyer, FoyerPolicy};
use super::lru::Lru;
use super::moka::Moka;
use super::optimum::Optimum;
use super::quick::Quick;
use super::reports::Reports;
use super::stream::Stream;
use super::table::SharedTable;
use anyhow::Result;
use serde::Serialize;

/// A cache that gets one request after another.
pub trait Contestant {
    /// Requests object `id`, which weighs `weight`, and stores it if it is missing. Returns whether
    /// it was a hit.
    fn request(&mut self, id: u32, weight: u32) -> bool;

    /// The weight it holds, in units of its capacity.
    fn held(&self) -> u64;

    /// The capacity of a segment, in units of the cache's capacity, if the cache has segments and
    /// could be made with fewer.
    fn segment_weight(&self) -> Option<u64> {
        None
    }

    /// Bytes copied again per byte stored, if the cache has a log.
    fn copied(&self) -> Option<f64> {
        None
    }
}

/// The capacity of a contestant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Room {
    /// In objects, or in bytes if the trace has sizes.
    pub capacity: u64,
    /// About how many objects that is.
    pub objects: u64,
}

/// A contestant's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub enum Name {
    #[serde(rename = "optimum")]
    Optimum,
    #[serde(rename = "l1d")]
    L1d,
    #[serde(rename = "moka")]
    Moka,
    #[serde(rename = "quick_cache")]
    QuickCache,
    #[serde(rename = "foyer S3-FIFO")]
    FoyerS3Fifo,
    #[serde(rename = "foyer W-TinyLFU")]
    FoyerTinyLfu,
    #[serde(rename = "foyer LRU")]
    FoyerLru,
    #[serde(rename = "LRU")]
    Lru,
}

impl Name {
    /// All, in the order of the report.
    pub const ALL: [Name; 8] = [
        Name::Optimum,
        Name::L1d,
        Name::Moka,
        Name::QuickCache,
        Name::FoyerS3Fifo,
        Name::FoyerTinyLfu,
        Name::FoyerLru,
        Name::Lru,
    ];

    /// l1d is to beat it: a cache in common use that does not know the future.
    pub fn is_rival(self) -> bool {
        !matches!(self, Name::Optimum | Name::L1d)
    }

    /// Its printed name.
    pub fn text(self) -> &'static str {
        match self {
            Name::Optimum => "optimum",
            Name::L1d => "l1d",
            Name::Moka => "moka",
            Name::QuickCache => "quick_cache",
            Name::FoyerS3Fifo => "foyer S3-FIFO",
            Name::FoyerTinyLfu => "foyer W-TinyLFU",
            Name::FoyerLru => "foyer LRU",
            Name::Lru => "LRU",
        }
    }

    /// An empty cache of this kind for this stream. l1d's table gets `segments_less` fewer
    /// segments.
    ///
    /// # Errors
    /// The capacity is too small or too large for a table.
    pub fn cache(
        self,
        stream: &Stream,
        room: Room,
        reports: Reports,
        segments_less: u32,
    ) -> Result<Box<dyn Contestant>> {
        Ok(match self {
            Name::Optimum => Box::new(Optimum::new(stream, room.capacity)),
            Name::L1d => Box::new(SharedTable::new(stream, room, reports, segments_less)?),
            Name::Moka => Box::new(Moka::new(room.capacity)),
            Name::QuickCache => Box::new(Quick::new(room)),
            Name::FoyerS3Fifo => Box::new(Foyer::new(FoyerPolicy::S3Fifo, room.capacity)?),
            Name::FoyerTinyLfu => Box::new(Foyer::new(FoyerPolicy::TinyLfu, room.capacity)?),
            Name::FoyerLru => Box::new(Foyer::new(FoyerPolicy::Lru, room.capacity)?),
            Name::Lru => Box::new(Lru::new(stream.objects(), room.capacity)),
        })
    }
}
