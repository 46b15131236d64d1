//! LMDB: a transaction for each read, and one for all writes that are due.

use super::view::{Ask, Value, View, value};
use super::writer::Sets;
use crate::reads::rivals::lmdb::{Tree, open};
use crate::reads::workload::key;
use anyhow::Result;
use heed::Env;
use std::path::Path;

/// Bytes of the map: includes room for pages that a reader keeps the writer from reusing.
const MAP_BYTES: usize = 1 << 30;

/// The writer.
pub struct LmdbWriter {
    environment: Env,
    tree: Tree,
    due: Vec<(u32, Value)>,
}

impl LmdbWriter {
    /// Gives every key a value.
    ///
    /// # Errors
    /// LMDB's own.
    pub fn fill(directory: &Path, keys: u32) -> Result<LmdbWriter> {
        let (environment, tree) = open(directory, MAP_BYTES)?;
        let mut writer = LmdbWriter { environment, tree, due: Vec::new() };
        for number in 0..keys {
            writer.set(number, &value(0))?;
        }
        writer.publish()?;
        Ok(writer)
    }
}

impl Sets for LmdbWriter {
    fn set(&mut self, number: u32, value: &Value) -> Result<()> {
        self.due.push((number, *value));
        Ok(())
    }

    fn publish(&mut self) -> Result<()> {
        let mut write = self.environment.write_txn()?;
        for (number, value) in self.due.drain(..) {
            self.tree.put(&mut write, &key(number), &value)?;
        }
        Ok(write.commit()?)
    }
}

/// A reader.
pub struct LmdbView {
    environment: Env,
    tree: Tree,
}

impl LmdbView {
    /// Opens it in another process than the writer's.
    ///
    /// # Errors
    /// LMDB's own.
    pub fn open(directory: &Path) -> Result<LmdbView> {
        let (environment, tree) = open(directory, MAP_BYTES)?;
        Ok(LmdbView { environment, tree })
    }
}

impl View for LmdbView {
    #[inline(always)]
    fn read(&mut self, ask: &Ask, value: &mut Value) -> bool {
        let Ok(read) = self.environment.read_txn() else { return false };
        let Ok(Some(from)) = self.tree.get(&read, &ask.key) else { return false };
        from.first_chunk().is_some_and(|from| {
            *value = *from;
            true
        })
    }
}
