//! mmap-sync: each publication archives all entries again.

use crate::hot_key::view::{Ask, Value, View, value};
use crate::hot_key::writer::Sets;
use crate::reads::rivals::snapshot::Entries;
use crate::reads::workload::key;
use anyhow::{Context, Result};
use mmap_sync::synchronizer::Synchronizer;
use std::path::Path;
use std::time::Duration;

/// How long the writer waits for a reader that is still in the archive to be overwritten.
const GRACE: Duration = Duration::from_secs(1);

/// The writer.
pub struct SnapshotWriter {
    archive: Synchronizer,
    entries: Entries,
}

impl SnapshotWriter {
    /// Gives every key a value.
    ///
    /// # Errors
    /// No memory, or mmap-sync's own.
    pub fn fill(path: &Path, keys: u32) -> Result<SnapshotWriter> {
        let entries = (0..keys).map(|number| (key(number), value(0))).collect();
        let mut writer = SnapshotWriter { archive: Synchronizer::new(path.as_os_str()), entries };
        writer.publish()?;
        Ok(writer)
    }
}

impl Sets for SnapshotWriter {
    fn set(&mut self, number: u32, value: &Value) -> Result<()> {
        self.entries.insert(key(number), *value);
        Ok(())
    }

    fn publish(&mut self) -> Result<()> {
        self.archive.write(&self.entries, GRACE).context("cannot write the archive")?;
        Ok(())
    }
}

/// A reader.
pub struct SnapshotView(Synchronizer);

impl SnapshotView {
    /// Opens it in a process other than the writer's.
    pub fn open(path: &Path) -> SnapshotView {
        SnapshotView(Synchronizer::new(path.as_os_str()))
    }
}

impl View for SnapshotView {
    #[inline(always)]
    fn read(&mut self, ask: &Ask, value: &mut Value) -> bool {
        // SAFETY: the archive has this type, in a directory private to this run, and the guard is
        // dropped before this call returns. Of its two files the writer overwrites the one that
        // does not hold the latest version, and it waits until the reader has confirmed each
        // version before it writes the next: no reader is in that file any more.
        let Ok(entries) = (unsafe { self.0.read::<Entries>(false) }) else { return false };
        entries.get(&ask.key).is_some_and(|from| {
            *value = *from;
            true
        })
    }
}
