//! What everybody may know without asking a cache: the version of each key that the writer had
//! acknowledged last, when each of the latest was, and the version at the pretend origin.
//!
//! A small read-write region that all processes of a run share. One process, the writer, stores.
//!
//! ```text
//!  word 0: stop | for each key: acknowledged, at the origin, time of acknowledgement of the last
//!               | `ring` versions in ns, at version % ring
//! ```

use crate::interrupt;
use anyhow::{Context, Result, ensure};
use nix::fcntl::{OFlag, posix_fallocate};
use nix::sys::mman::{shm_open, shm_unlink};
use nix::sys::stat::Mode;
use shared_memory::{Shmem, ShmemConf};
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Words for all rings together, at most: 32 MiB.
const RING_WORDS_MAX: usize = 4 << 20;
const RING_MAX: usize = 512;

/// Regions that this process has made.
static CREATED: AtomicU32 = AtomicU32::new(0);

/// The region.
pub struct Oracle {
    region: Shmem,
    keys: usize,
    ring: usize,
}

impl Oracle {
    /// A new one, with every key at version `version` since `now_ns`.
    pub fn create(keys: usize, version: u64, now_ns: u64) -> Result<Oracle> {
        let bytes = words(keys) * 8;
        let error = || format!("cannot make {bytes} bytes of shared memory");
        let number = CREATED.fetch_add(1, Ordering::Relaxed);
        let file = format!("l1d-lab.{}.oracle.{number}", std::process::id());
        interrupt::remove_if_interrupted(&Path::new("/dev/shm").join(&file));
        let name = format!("/{file}");
        // What a killed run with this very process id has left.
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

    /// The one that another process has made, by its name.
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

    /// By which another process opens it.
    pub fn name(&self) -> &str {
        self.region.get_os_id()
    }

    /// Tells all to end.
    pub fn stop(&self) {
        self.word(0).store(1, Ordering::Relaxed);
    }

    /// Whether all are to end.
    pub fn is_stopped(&self) -> bool {
        self.word(0).load(Ordering::Relaxed) != 0
    }

    /// The origin has a new version; nobody has heard of it yet.
    pub fn at_origin(&self, key: usize, version: u64) {
        self.of(key, 1).store(version, Ordering::Release);
    }

    /// The origin's version.
    pub fn origin(&self, key: usize) -> u64 {
        self.of(key, 1).load(Ordering::Acquire)
    }

    /// The writer was told that this version is stored.
    pub fn acknowledge(&self, key: usize, version: u64, now_ns: u64) {
        // Versions between, whose own store failed, have this one as their successor's time.
        let first = (self.of(key, 0).load(Ordering::Relaxed) + 1)
            .max((version + 1).saturating_sub(self.ring as u64));
        for version in first..=version {
            self.time(key, version).store(now_ns, Ordering::Relaxed);
        }
        // Pairs with the load in `acknowledged`: who sees the version sees its time.
        self.of(key, 0).store(version, Ordering::Release);
    }

    /// The last acknowledged version. Whoever begins to read after this must not see an older one.
    pub fn acknowledged(&self, key: usize) -> u64 {
        self.of(key, 0).load(Ordering::Acquire)
    }

    /// Since when `version`, which is older than the acknowledged one, has been outdated: the time at
    /// which its successor was acknowledged, or the oldest time after that which is still known.
    pub fn outdated_since_ns(&self, key: usize, version: u64) -> u64 {
        // The writer may be about to store over the oldest place.
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
        // SAFETY: the region holds `words(keys)` words (made so by `create`, checked by `open`) and
        // is page-aligned, writable and mapped as long as `self`; every process touches its words
        // as AtomicU64 only.
        unsafe { &*self.region.as_ptr().cast::<AtomicU64>().add(word) }
    }
}

/// Gives the region its memory. `shared_memory` only sets its size, and a page that the system
/// cannot give later would end the process that touches it (SIGBUS).
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
