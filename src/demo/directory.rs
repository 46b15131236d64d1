//! The demo's private directory: table, socket, log. Gone when the demo ends.

use anyhow::{Context, Result};
use nix::unistd::mkdtemp;
use std::path::{Path, PathBuf};

/// Where a table is memory and not a file on a disk.
const SHARED_MEMORY: &str = "/dev/shm";

/// A directory of this user's alone, removed with all that is in it when dropped.
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    /// In shared memory, or where there is none, among the temporary files.
    pub fn new() -> Result<Directory> {
        let name = "l1d-demo.XXXXXX";
        let path = mkdtemp(&Path::new(SHARED_MEMORY).join(name))
            .or_else(|_| mkdtemp(&std::env::temp_dir().join(name)))
            .with_context(|| {
                format!(
                    "no directory can be made in {SHARED_MEMORY} or {}; set TMPDIR to one that \
                     you can write",
                    std::env::temp_dir().display()
                )
            })?;
        Ok(Directory { path })
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            eprintln!("l1d demo: {} is left behind: {error}", self.path.display());
        }
    }
}
