//! mmap-sync: one archive of all entries, replaced as a whole by its writer.

use super::super::contest::Read;
use super::super::workload::{KEY_BYTES, Op, VALUE_BYTES, key, value};
use crate::scratch;
use anyhow::{Context, Result};
use mmap_sync::synchronizer::Synchronizer;
use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;

/// More take minutes to archive.
pub const KEYS_MAX: usize = 1_000_000;
/// The reason for the bound.
pub const TOO_MANY: &str =
    "every write archives all entries again, seconds for a million: at most that many";

/// The archived type: keys and values of fixed size, which saves a pointer for each.
pub type Entries = HashMap<[u8; KEY_BYTES], [u8; VALUE_BYTES]>;

/// A reader of the archive.
pub struct Snapshot {
    reader: Synchronizer,
    path: PathBuf,
    /// Declared last, so that it is dropped after the archive in it.
    _directory: TempDir,
}

impl Snapshot {
    /// An archive of these keys.
    ///
    /// # Errors
    /// No memory, or mmap-sync's own.
    pub fn load(count: u32) -> Result<Snapshot> {
        let directory = scratch::directory()?;
        let path = directory.path().join("snapshot");
        let entries: Entries = (0..count).map(|number| (key(number), value(number))).collect();
        Synchronizer::new(path.as_os_str())
            .write(&entries, Duration::from_secs(1))
            .context("cannot write the archive")?;
        Ok(Snapshot { reader: Synchronizer::new(path.as_os_str()), path, _directory: directory })
    }

    /// The path of its files.
    pub fn path(&self) -> PathBuf {
        self.path.clone()
    }
}

impl Read for Snapshot {
    const NAME: &'static str = "mmap-sync";
    const HANDS_OUT: &'static str = "a reference under a guard";
    type Buffer = [u8; VALUE_BYTES];

    fn buffer(&self) -> [u8; VALUE_BYTES] {
        [0; VALUE_BYTES]
    }

    #[inline(always)]
    fn read(&mut self, op: &Op, value: &mut [u8; VALUE_BYTES]) -> bool {
        // SAFETY: the archive has this type, and was written once before the reader was made, in a
        // directory private to this run; the guard is dropped before this call returns.
        let Ok(entries) = (unsafe { self.reader.read::<Entries>(false) }) else { return false };
        entries.get(&op.key).is_some_and(|from| {
            *value = *from;
            true
        })
    }
}
