//! l1d's table in private memory of the lab: its real index, log and eviction. Hits reach it as
//! they reach the daemon, some lost and all late.

use super::contestant::{Contestant, Room};
use super::reports::{Reports, Ring};
use super::shape::{KEY_BYTES, Shape};
use super::stream::Stream;
use anyhow::{Context, Result};
use l1d::advise::{Advisor, Estimate, Known};
use l1d::table::Table;
use memmap2::{MmapOptions, MmapRaw};
use shm_layout::entry::NEVER;
use shm_layout::{Entry, Geometry, KeyHash, MappedMut, Writer};

/// The table, and the reports on their way to it.
pub struct SharedTable {
    table: Table<MappedMut>,
    reports: Ring<KeyHash>,
    shape: Shape,
    value: Vec<u8>,
    advised: Option<Advised>,
    /// Mapped as long as the table exists.
    _memory: MmapRaw,
}

impl SharedTable {
    /// An empty table for this capacity, less some segments.
    ///
    /// # Errors
    /// The capacity is too small or too large for a table.
    pub fn new(
        stream: &Stream,
        room: Room,
        reports: Reports,
        segments_less: u32,
    ) -> Result<SharedTable> {
        let mut shape = Shape::of(stream, room);
        let segment = Geometry::plan(&shape.plan)?.segment_words() as u64 * 8;
        shape.plan.table_bytes -= u64::from(segments_less) * segment;
        let geometry = Geometry::plan(&shape.plan)?;
        let memory = MmapOptions::new()
            .len(geometry.words() * 8)
            .map_anon()
            .context("no memory for the table")?;
        let memory = MmapRaw::from(memory);
        // SAFETY: page-aligned, and mapped until after the table is dropped, because that is
        // declared first.
        let words = unsafe { MappedMut::new(memory.as_mut_ptr()) };
        // SAFETY: the mapping has the bytes of this geometry, all zero.
        let writer = unsafe { Writer::create(words, geometry) };
        writer.open_for_readers();
        let value = vec![0; shape.plan.value_bytes_max as usize];
        Ok(SharedTable {
            table: Table::new(writer),
            reports: Ring::new(reports),
            shape,
            value,
            advised: None,
            _memory: memory,
        })
    }

    /// The same, with an advisor that estimates other sizes.
    pub fn with_advisor(mut self) -> SharedTable {
        let advisor = Advisor::new(self.table.room_bytes());
        self.advised = Some(Advised { advisor, hits: 0, misses: 0 });
        self
    }

    /// The advisor's estimates.
    pub fn advice(&self) -> Option<Estimate> {
        self.advised.as_ref().map(|advised| advised.advisor.estimate())
    }
}

/// The advisor and its input.
struct Advised {
    advisor: Advisor,
    /// Hits since reports arrived last.
    hits: usize,
    misses: u32,
}

impl Advised {
    /// The reports that arrive stand for all hits since the last ones.
    fn hits(&mut self, arrived: &[KeyHash], table: &Table<MappedMut>) {
        self.hits += 1;
        let Some(all) = self.hits.checked_sub(arrived.len()).filter(|_| !arrived.is_empty()) else {
            return;
        };
        let (each, rest) = (all / arrived.len(), all % arrived.len());
        for (number, &hash) in arrived.iter().enumerate() {
            let times = 1 + each + usize::from(number < rest);
            let known = || table.header_by_hash(hash).map(Known::from);
            self.advisor.hit(hash, u32::try_from(times).unwrap_or(1), 0, known);
        }
        self.hits = 0;
    }

    fn missed(&mut self, hash: KeyHash, table: &Table<MappedMut>) {
        self.advisor.missed(hash, 0, 0);
        self.misses += 1;
        // A daemon does this once a second.
        if self.misses.is_multiple_of(100) {
            self.advisor.set_capacity(table.room_bytes());
        }
    }
}

impl Contestant for SharedTable {
    fn request(&mut self, id: u32, weight: u32) -> bool {
        let key: [u8; KEY_BYTES] = u64::from(id).to_le_bytes();
        let hash = self.table.hash(&key);
        if self.table.contains(&key, 0) {
            let arrived = self.reports.hit(hash);
            if let Some(advised) = &mut self.advised {
                advised.hits(&arrived, &self.table);
            }
            for hash in arrived {
                self.table.hit(hash);
            }
            return true;
        }
        if let Some(advised) = &mut self.advised {
            advised.missed(hash, &self.table);
        }
        if let Some(value) =
            self.shape.value_bytes(weight).and_then(|bytes| self.value.get(..bytes))
        {
            let entry = Entry { key: &key, value, expiry: NEVER, ..Entry::default() };
            // The table was planned for these sizes; an object that it refuses stays a miss.
            let stored = self.table.put(&entry, 0);
            if let (Some(advised), Ok(_)) = (&mut self.advised, stored)
                && let Some(header) = self.table.header_by_hash(hash)
            {
                advised.advisor.stored(hash, header.into());
            }
        }
        false
    }

    fn held(&self) -> u64 {
        let stats = self.table.stats();
        if self.shape.is_counted {
            return stats.entries;
        }
        self.shape.weight(stats.live_bytes, stats.entries)
    }

    fn segment_weight(&self) -> Option<u64> {
        let bytes = self.table.stats().segment_bytes;
        let entries = bytes / u64::from(self.shape.plan.entry_bytes);
        Some(if self.shape.is_counted { entries } else { self.shape.weight(bytes, entries) })
    }

    fn copied(&self) -> Option<f64> {
        let stats = self.table.stats();
        Some(stats.copied_forward_bytes as f64 / (stats.put_bytes as f64).max(1.0))
    }
}
