//! The demo's private directory: table, socket, log. Gone when the demo ends.

use anyhow::{Context, Result};
use nix::sys::statvfs::statvfs;
use nix::unistd::mkdtemp;
use std::path::{Path, PathBuf};

/// Where a table is memory and not a file on a disk.
const SHARED_MEMORY: &str = "/dev/shm";

/// A directory of this user's alone, removed with all that is in it when dropped.
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    /// In shared memory, or among the temporary files where that has not `bytes` to spare.
    pub fn new(bytes: u64) -> Result<Directory> {
        let name = "l1d-demo.XXXXXX";
        let temporary = std::env::temp_dir();
        let path = Some(Path::new(SHARED_MEMORY))
            .filter(|place| free_bytes(place) >= bytes)
            .and_then(|place| mkdtemp(&place.join(name)).ok())
            .map_or_else(|| mkdtemp(&temporary.join(name)), Ok)
            .with_context(|| {
                format!(
                    "no directory can be made in {SHARED_MEMORY} or {}; set TMPDIR to one that \
                     you can write",
                    temporary.display()
                )
            })?;
        Ok(Directory { path })
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

fn free_bytes(place: &Path) -> u64 {
    statvfs(place).map_or(0, |stat| stat.blocks_available().saturating_mul(stat.fragment_size()))
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            eprintln!("l1d demo: {} is left behind: {error}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_private_and_gone_with_all_that_is_in_it() {
        use std::os::unix::fs::PermissionsExt;
        for bytes in [0, u64::MAX] {
            let directory = Directory::new(bytes).unwrap();
            let path = directory.path.clone();
            assert_eq!(path.starts_with(SHARED_MEMORY), bytes == 0, "{}", path.display());
            std::fs::write(directory.join("file"), "x").unwrap();
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700);
            drop(directory);
            assert!(!path.exists());
        }
    }
}
