//! The truth that every process can know without asking a cache: for each key, the version that was
//! acknowledged to the writer last, when each of the latest versions was acknowledged, and the
//! version at the pretend origin.
//!
//! A small read-write region that all processes of a run share. One process, the writer, stores.
//!
//! ```text
//!  word 0: stop | for each key: acknowledged version, version at the origin, times in ns at which
//!               | the last `ring` versions were acknowledged, at version % ring
//! ```

use crate::interrupt;
use anyhow::{Context, Result, ensure};
use nix::fcntl::{OFlag, posix_fallocate};
use nix::sys::mman::{shm_open, shm_unlink};
use nix::sys::stat::Mode;
use shared_memory::{Shmem, ShmemConf};
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Bound on the words of all rings together: 32 MiB.
const RING_WORDS_MAX: usize = 4 << 20;
const RING_MAX: usize = 512;

/// Number of regions that this process has created.
static CREATED: AtomicU32 = AtomicU32::new(0);

/// The shared region.
pub struct Oracle {
    region: Shmem,
    keys: usize,
    ring: usize,
}

impl Oracle {
    /// Creates a region with every key at version `version` since `now_ns`.
    pub fn create(keys: usize, version: u64, now_ns: u64) -> Result<Oracle> {
        let bytes = words(keys) * 8;
        let error = || format!("cannot make {bytes} bytes of shared memory");
        let number = CREATED.fetch_add(1, Ordering::Relaxed);
        let file = format!("l1d-lab.{}.oracle.{number}", std::process::id());
        interrupt::remove_if_interrupted(&Path::new("/dev/shm").join(&file));
        let name = format!("/{file}");
        // A killed run with the same process id may have left one.
        let _ = shm_unlink(&name[..]);
        let region = ShmemConf::new().size(bytes).os_id(&name).create().with_context(error)?;
        reserve(&name, bytes).with_context(error)?;
        let oracle = Oracle { region, keys, ring: ring(keys) };
        for key in 0..keys {
            oracle.at_origin(key, version);
            oracle.acknowledge(key, version, now_ns);
        }
        Ok(oracle)
    }

    /// Opens the region that another process created.
    pub fn open(name: &str, keys: usize) -> Result<Oracle> {
        let region = ShmemConf::new()
            .os_id(name)
            .open()
            .context("cannot open the shared memory of the run")?;
        ensure!(
            region.len() >= words(keys) * 8,
            "the shared memory of the run has {} bytes, too few",
            region.len()
        );
        Ok(Oracle { region, keys, ring: ring(keys) })
    }

    /// The name by which another process opens it.
    pub fn name(&self) -> &str {
        self.region.get_os_id()
    }

    /// Tells all processes to end.
    pub fn stop(&self) {
        self.word(0).store(1, Ordering::Relaxed);
    }

    /// All processes are to end.
    pub fn is_stopped(&self) -> bool {
        self.word(0).load(Ordering::Relaxed) != 0
    }

    /// The origin has a new version, which no cache knows yet.
    pub fn at_origin(&self, key: usize, version: u64) {
        self.of(key, 1).store(version, Ordering::Release);
    }

    /// The origin's version.
    pub fn origin(&self, key: usize) -> u64 {
        self.of(key, 1).load(Ordering::Acquire)
    }

    /// The writer was told that this version is stored.
    pub fn acknowledge(&self, key: usize, version: u64, now_ns: u64) {
        // Versions in between, whose own store failed, take this time as their successor's.
        let first = (self.of(key, 0).load(Ordering::Relaxed) + 1)
            .max((version + 1).saturating_sub(self.ring as u64));
        for version in first..=version {
            self.time(key, version).store(now_ns, Ordering::Relaxed);
        }
        // Pairs with the load in `acknowledged`: a process that sees the version sees its time.
        self.of(key, 0).store(version, Ordering::Release);
    }

    /// The last acknowledged version. A read that begins after this must not return an older one.
    pub fn acknowledged(&self, key: usize) -> u64 {
        self.of(key, 0).load(Ordering::Acquire)
    }

    /// Since when `version`, which is older than the acknowledged one, has been outdated: the time
    /// at which its successor was acknowledged, or the oldest later time that is still known.
    pub fn outdated_since_ns(&self, key: usize, version: u64) -> u64 {
        // The writer may be about to overwrite the oldest entry.
        let known = (self.acknowledged(key) + 2).saturating_sub(self.ring as u64);
        self.time(key, (version + 1).max(known)).load(Ordering::Relaxed)
    }

    fn time(&self, key: usize, version: u64) -> &AtomicU64 {
        let place = usize::try_from(version % self.ring as u64).unwrap_or(0);
        self.of(key, 2 + place)
    }

    fn of(&self, key: usize, field: usize) -> &AtomicU64 {
        assert!(key < self.keys && field < 2 + self.ring);
        self.word(1 + key * (2 + self.ring) + field)
    }

    fn word(&self, word: usize) -> &AtomicU64 {
        assert!(word < words(self.keys));
        // SAFETY: the region holds `words(keys)` words (created so, checked by `open`), is
        // page-aligned and writable, and stays mapped as long as `self`; every process accesses its
        // words only as AtomicU64.
        unsafe { &*self.region.as_ptr().cast::<AtomicU64>().add(word) }
    }
}

/// Allocates the region's memory. `shared_memory` only sets its size, and a page that the system
/// cannot provide later would kill the process that touches it (SIGBUS).
fn reserve(name: &str, bytes: usize) -> Result<()> {
    let file = shm_open(name, OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?;
    posix_fallocate(file, 0, i64::try_from(bytes)?).context("there is no room for it in /dev/shm")
}

fn ring(keys: usize) -> usize {
    (RING_WORDS_MAX / keys.max(1)).clamp(4, RING_MAX)
}

fn words(keys: usize) -> usize {
    1 + keys * (2 + ring(keys))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_of_an_old_version_counts_from_its_successor() {
        let writer = Oracle::create(3, 1, 100).unwrap();
        let reader = Oracle::open(writer.name(), 3).unwrap();
        assert_eq!((reader.acknowledged(2), reader.origin(2)), (1, 1));
        for version in 2..=5 {
            writer.acknowledge(2, version, version * 1000);
        }
        assert_eq!(reader.acknowledged(2), 5);
        assert_eq!(reader.acknowledged(1), 1, "its neighbour is as it was");
        assert_eq!(reader.outdated_since_ns(2, 1), 2000);
        assert_eq!(reader.outdated_since_ns(2, 4), 5000);
        writer.acknowledge(2, 8, 8000);
        assert_eq!(reader.outdated_since_ns(2, 5), 8000, "6 and 7 were never stored");
        for version in 9..=2000 {
            writer.acknowledge(2, version, version * 1000);
        }
        let since = reader.outdated_since_ns(2, 1);
        assert_eq!(since, (2002 - 512) * 1000, "as far back as is known");
        assert!(!reader.is_stopped());
        writer.stop();
        assert!(reader.is_stopped());
    }
}
