//! l1d's table with its owner in this process: the cost that the owner's writes alone have for a
//! reader, without the path from a client to the owner.

use super::view::{Ask, Value, View, value};
use super::writer::Sets;
use crate::reads::workload::{VALUE_BYTES, key};
use anyhow::{Context, Result};
use l1d::table::Table;
use l1d_wire::mapping::{Access, Mapping};
use shm_layout::entry::NEVER;
use shm_layout::{Destination, Entry, Geometry, Mapped, MappedMut, Outcome, Plan, Reader, Writer};
use std::fs::File;

const TABLE_BYTES: u64 = 16 << 20;
const VALUE_BYTES_MAX: u32 = 4096;

/// Bytes of the table's file, for a few keys.
pub fn bytes(keys: u32) -> u64 {
    (TABLE_BYTES + u64::from(keys) * 256).next_multiple_of(2 << 20)
}

/// The owner.
pub struct Owner {
    table: Table<MappedMut>,
    /// Mapped as long as the table exists.
    _mapping: Mapping,
}

impl Owner {
    /// Makes a table with these keys in a file of zeros.
    ///
    /// # Errors
    /// No such table, or the system's.
    pub fn create(file: &File, keys: u32) -> Result<Owner> {
        let plan = Plan {
            table_bytes: bytes(keys),
            value_bytes_max: VALUE_BYTES_MAX,
            entry_bytes: 112,
            ..Plan::default()
        };
        let geometry = Geometry::plan(&plan)?;
        let mapping =
            Mapping::of_file(file, bytes(keys), Access::Write).context("cannot map the table")?;
        // SAFETY: aligned, and mapped until after the table is dropped, because that is declared
        // first.
        let words = unsafe { MappedMut::new(mapping.base()) };
        // SAFETY: the mapping has the bytes that the geometry was planned for, all zero.
        let writer = unsafe { Writer::create(words, geometry) };
        writer.open_for_readers();
        let mut owner = Owner { table: Table::new(writer), _mapping: mapping };
        for number in 0..keys {
            owner.set(number, &value(0))?;
        }
        Ok(owner)
    }
}

impl Sets for Owner {
    fn set(&mut self, number: u32, value: &Value) -> Result<()> {
        let key = key(number);
        let entry = Entry { key: &key, value, expiry: NEVER, ..Entry::default() };
        self.table.put(&entry, 0)?;
        Ok(())
    }
}

/// A reader of the table, which does the same as the client's `peek_into`.
pub struct OwnerView {
    reader: Reader<Mapped>,
    buffer: Buffer,
    _mapping: Mapping,
}

impl OwnerView {
    /// Maps and checks it.
    ///
    /// # Errors
    /// The file holds no table, or the system call failed.
    pub fn attach(file: &File) -> Result<OwnerView> {
        let bytes = file.metadata().context("cannot measure the table")?.len();
        let mapping =
            Mapping::of_file(file, bytes, Access::Read).context("cannot map the table")?;
        // SAFETY: aligned, of that size, and mapped until after the reader is dropped, because that
        // is declared first.
        let reader = unsafe { Reader::attach(Mapped::new(mapping.base()), bytes) }?;
        let buffer = Buffer(vec![0; VALUE_BYTES]);
        Ok(OwnerView { reader, buffer, _mapping: mapping })
    }
}

impl View for OwnerView {
    #[inline(always)]
    fn read(&mut self, ask: &Ask, value: &mut Value) -> bool {
        let outcome = self.reader.read(&ask.key, || Some(0), &mut self.buffer);
        let Outcome::Hit(_) = outcome else { return false };
        self.buffer.0.first_chunk().is_some_and(|from| {
            *value = *from;
            true
        })
    }
}

struct Buffer(Vec<u8>);

// SAFETY: the room is this vector's bytes, at least as many as requested, and nothing else refers
// to it.
unsafe impl Destination for Buffer {
    #[inline(always)]
    fn room(&mut self, bytes: usize) -> *mut u8 {
        if bytes > self.0.len() {
            self.0.resize(bytes, 0);
        }
        self.0.as_mut_ptr()
    }
}
