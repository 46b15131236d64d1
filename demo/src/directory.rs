//! The demo's private directory for table, socket and logs. It is removed when the demo ends; if
//! the demo was killed, the next one removes it.

use anyhow::{Result, anyhow};
use l1d_wire::words;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::statvfs::statvfs;
use nix::unistd::{getuid, mkdtemp};
use std::fs::{DirEntry, File, OpenOptions};
use std::io::{Write, stderr};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A file system in memory, so that the table is not on a disk.
const SHARED_MEMORY: &str = "/dev/shm";

/// The names of all demo directories begin with this.
const PREFIX: &str = "l1d-demo.";

/// A file that a running demo holds a lock on. The kernel drops the lock when the demo dies.
const LOCK: &str = "lock";

/// A directory that only this user can enter, removed with its contents when dropped.
pub struct Directory {
    path: PathBuf,
    _lock: Flock<File>,
}

impl Directory {
    /// Creates a directory in shared memory or, if less than `bytes` are free there, among the
    /// temporary files. First removes what killed demos of this user left in these places.
    pub fn new(bytes: u64) -> Result<Directory> {
        let (memory, temporary) = (Path::new(SHARED_MEMORY), std::env::temp_dir());
        remove_leftovers(memory);
        remove_leftovers(&temporary);
        let template = format!("{PREFIX}XXXXXX");
        let path = Some(memory)
            .filter(|place| free_bytes(place) >= bytes)
            .and_then(|place| mkdtemp(&place.join(&template)).ok())
            .map_or_else(|| mkdtemp(&temporary.join(&template)), Ok)
            .map_err(|errno| {
                anyhow!(
                    "no directory can be made in {SHARED_MEMORY} or {}: {}; set TMPDIR to one that \
                     you can write",
                    temporary.display(),
                    errno.desc()
                )
            })?;
        match lock_new(&path) {
            Ok(lock) => Ok(Directory { path, _lock: lock }),
            Err(error) => {
                let _ = std::fs::remove_dir_all(&path);
                Err(error.context(format!("cannot lock {}", path.display())))
            }
        }
    }

    /// The path of a file in this directory.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            // Unlike `eprintln!`, no panic if stderr is a closed pipe.
            let (path, why) = (self.path.display(), words::of(&error));
            let _ = writeln!(stderr(), "l1d demo: {path} is left behind: {why}; remove it");
        }
    }
}

fn free_bytes(place: &Path) -> u64 {
    statvfs(place).map_or(0, |stat| stat.blocks_available().saturating_mul(stat.fragment_size()))
}

/// Creates the lock file. It gets its final name only once it is locked: an unlocked file of that
/// name always belongs to a dead demo.
fn lock_new(directory: &Path) -> Result<Flock<File>> {
    let unlocked = directory.join("lock.new");
    let file = File::create_new(&unlocked)?;
    let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno)?;
    std::fs::rename(&unlocked, directory.join(LOCK))?;
    Ok(lock)
}

/// Removes the directories in `place` whose demos are dead. Failures are ignored: they cost memory
/// that was lost before.
fn remove_leftovers(place: &Path) {
    for entry in std::fs::read_dir(place).into_iter().flatten().flatten() {
        if let Some(_lock) = lock_leftover(&entry) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// Locks a dead demo's directory of this user. `None`: it is not one, or its demo is alive.
fn lock_leftover(entry: &DirEntry) -> Option<Flock<File>> {
    if !entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes()) {
        return None;
    }
    // Does not follow links. No other user can replace a directory of ours: both places are sticky.
    let found = entry.metadata().ok()?;
    if !found.is_dir() || found.uid() != getuid().as_raw() {
        return None;
    }
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK)
        .open(entry.path().join(LOCK))
        .ok()?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).ok()
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

    #[test]
    fn only_directories_of_dead_demos_are_removed() {
        let place = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let path = place.path().join(name);
            std::fs::create_dir(&path).unwrap();
            std::fs::write(path.join("file"), "x").unwrap();
            path
        };
        let (alive, dead, other) = (make("l1d-demo.a"), make("l1d-demo.d"), make("other.demo"));
        let just_made = make("l1d-demo.n");
        let lock = lock_new(&alive).unwrap();
        drop(lock_new(&dead).unwrap());
        drop(lock_new(&other).unwrap());
        let link = place.path().join("l1d-demo.l");
        std::os::unix::fs::symlink(&other, &link).unwrap();

        remove_leftovers(place.path());
        assert!(alive.exists() && other.join("file").exists() && just_made.exists());
        assert!(link.is_symlink() && !dead.exists());

        drop(lock);
        remove_leftovers(place.path());
        assert!(!alive.exists());
    }
}
