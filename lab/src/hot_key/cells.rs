//! The limit: values at known places in shared memory, loaded and stored word by word, with no
//! protection against torn reads.

use super::view::{Ask, Value, View, value};
use super::writer::Sets;
use crate::reads::workload::VALUE_BYTES;
use anyhow::{Context, Result, ensure};
use l1d_wire::mapping::{Access, Mapping};
use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};

const WORDS: usize = VALUE_BYTES / 8;

/// The memory, mapped.
pub struct Cells {
    map: Mapping,
    keys: u32,
}

impl Cells {
    /// Maps a file that has a line for each key.
    ///
    /// # Errors
    /// The system call failed.
    pub fn map(file: &File, keys: u32, access: Access) -> Result<Cells> {
        let bytes = bytes(keys);
        let length = file.metadata().context("cannot measure the cells")?.len();
        ensure!(length == bytes && keys > 0, "the cells have {length} bytes, not {bytes}");
        let map = Mapping::of_file(file, bytes, access).context("cannot map the cells")?;
        Ok(Cells { map, keys })
    }

    #[inline(always)]
    fn cell(&self, key: u32) -> *const [AtomicU64; WORDS] {
        assert!(key < self.keys);
        self.map.base().cast::<[AtomicU64; WORDS]>().wrapping_add(key as usize)
    }
}

/// Bytes of the file.
pub fn bytes(keys: u32) -> u64 {
    u64::from(keys) * VALUE_BYTES as u64
}

impl View for Cells {
    #[inline(always)]
    fn read(&mut self, ask: &Ask, value: &mut Value) -> bool {
        // SAFETY: the cell lies within the mapping by its assertion, is aligned as the mapping is,
        // and every process accesses it only by atomic words; relaxed loads of read-only memory are
        // allowed.
        let cell = unsafe { &*self.cell(ask.number) };
        let (words, _) = value.as_chunks_mut::<8>();
        for (word, from) in words.iter_mut().zip(cell) {
            *word = from.load(Ordering::Relaxed).to_ne_bytes();
        }
        true
    }
}

/// The writer of the cells.
pub struct CellWriter(Cells);

impl CellWriter {
    /// Gives each cell a value. The mapping must be writable.
    ///
    /// # Errors
    /// None so far.
    pub fn fill(cells: Cells) -> Result<CellWriter> {
        let mut writer = CellWriter(cells);
        for key in 0..writer.0.keys {
            writer.set(key, &value(0))?;
        }
        Ok(writer)
    }
}

impl Sets for CellWriter {
    fn set(&mut self, key: u32, value: &Value) -> Result<()> {
        // SAFETY: as for reading, and the mapping is for writing.
        let cell = unsafe { &*self.0.cell(key) };
        let (words, _) = value.as_chunks::<8>();
        for (word, to) in words.iter().zip(cell) {
            to.store(u64::from_ne_bytes(*word), Ordering::Relaxed);
        }
        Ok(())
    }
}
