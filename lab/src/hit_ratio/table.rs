//! l1d's table in memory of the lab's own: its real index, log and eviction. Hits reach it as they
//! reach the daemon, some lost and all late.

use super::contestant::{Contestant, Room};
use super::reports::{Reports, Ring};
use super::shape::{KEY_BYTES, Shape};
use super::stream::Stream;
use anyhow::{Context, Result};
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
    /// Mapped as long as the table is there.
    _memory: MmapRaw,
}

impl SharedTable {
    /// An empty table for this capacity, less some segments.
    ///
    /// # Errors
    /// So little or so much cannot be a table.
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
        // SAFETY: page-aligned, and mapped until after the table is dropped, which is declared first.
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
            _memory: memory,
        })
    }
}

impl Contestant for SharedTable {
    fn request(&mut self, id: u32, weight: u32) -> bool {
        let key: [u8; KEY_BYTES] = u64::from(id).to_le_bytes();
        if self.table.contains(&key, 0) {
            for hash in self.reports.hit(self.table.hash(&key)) {
                self.table.hit(hash);
            }
            return true;
        }
        if let Some(value) =
            self.shape.value_bytes(weight).and_then(|bytes| self.value.get(..bytes))
        {
            let entry = Entry { key: &key, value, expiry: NEVER, ..Entry::default() };
            // Sizes are those that the table was planned for; one that it refuses stays a miss.
            let _ = self.table.put(&entry, 0);
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
