//! The rivals of l1d: other ways to keep values near a reader.
//!
//! | family | file |
//! |---|---|
//! | maps of one process | `maps` |
//! | caches of one process | `caches` |
//! | shared memory | `lmdb`, `blackboard`, `snapshot` |
//! | servers behind a unix socket | `server`, `memcached`, `redis` |
//!
//! Maps and caches have heap-allocated slices of any length as keys and values, like l1d, and all
//! of them hash with rapidhash, like l1d.

pub mod blackboard;
mod caches;
pub mod lmdb;
mod maps;
pub mod memcached;
pub mod redis;
pub mod server;
pub mod snapshot;

pub use caches::{QuickCache, quick_cache};

use super::contest::{Absent, Contestant, Held, Read};
use super::workload::{VALUE_BYTES, key, value};
use crate::failure::Failure;
use anyhow::{Context, Result, bail};
use serde::Serialize;
use std::str::FromStr;

/// A rival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rival {
    /// quick_cache.
    QuickCache,
    /// moka.
    Moka,
    /// papaya.
    Papaya,
    /// dashmap.
    Dashmap,
    /// `RwLock<HashMap>`.
    RwLockMap,
    /// LMDB.
    Lmdb,
    /// iceoryx2's blackboard.
    Blackboard,
    /// mmap-sync.
    Snapshot,
    /// memcached.
    Memcached,
    /// Redis.
    Redis,
}

/// The existence of the keys that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sought {
    /// They exist.
    Held,
    /// They do not exist.
    Absent,
}

/// A rival that does not take part, and why.
#[derive(Debug, Clone, Serialize)]
pub struct Skipped {
    /// Its name.
    pub name: &'static str,
    /// The reason.
    pub reason: &'static str,
}

/// The rivals that take part, and those that do not.
pub type Line = (Vec<Box<dyn Contestant>>, Vec<Skipped>);

/// The result of starting a rival.
pub enum Entry {
    /// It takes part.
    Takes(Box<dyn Contestant>),
    /// It does not, for this reason.
    Skips(&'static str),
}

impl Rival {
    /// All rivals, in the order of tables.
    pub const ALL: [Rival; 10] = [
        Rival::QuickCache,
        Rival::Moka,
        Rival::Papaya,
        Rival::Dashmap,
        Rival::RwLockMap,
        Rival::Lmdb,
        Rival::Blackboard,
        Rival::Snapshot,
        Rival::Memcached,
        Rival::Redis,
    ];

    /// Its name on the command line and in tables.
    pub fn name(self) -> &'static str {
        match self {
            Rival::QuickCache => caches::Quick::NAME,
            Rival::Moka => caches::Moka::NAME,
            Rival::Papaya => maps::Papaya::NAME,
            Rival::Dashmap => maps::Dashmap::NAME,
            Rival::RwLockMap => maps::RwLockMap::NAME,
            Rival::Lmdb => lmdb::Lmdb::NAME,
            Rival::Blackboard => blackboard::Blackboard::NAME,
            Rival::Snapshot => snapshot::Snapshot::NAME,
            Rival::Memcached => memcached::Memcached::NAME,
            Rival::Redis => redis::Redis::NAME,
        }
    }

    /// A generous estimate of the memory for a key of 24 bytes and its value of 64, including
    /// temporary memory while it is filled.
    fn key_bytes(self) -> u64 {
        match self {
            Rival::QuickCache | Rival::Papaya | Rival::Dashmap | Rival::RwLockMap => 260,
            Rival::Moka => 500,
            Rival::Lmdb => 160,
            Rival::Blackboard => 0,
            // The map that the archive is made from, the archive in a buffer, and in a file.
            Rival::Snapshot => 450,
            Rival::Memcached | Rival::Redis => 220,
        }
    }

    /// Fills a rival with this number of keys.
    ///
    /// # Errors
    /// A server is not installed or does not start, no memory, or the rival's own.
    pub fn load(self, keys: usize, sought: Sought) -> Result<Entry> {
        let count = u32::try_from(keys).context("too many keys")?;
        let entry = match self {
            Rival::QuickCache => takes(caches::Quick::load(count), sought),
            Rival::Moka => takes(caches::Moka::load(count), sought),
            Rival::Papaya => takes(maps::Papaya::load(count), sought),
            Rival::Dashmap => takes(maps::Dashmap::load(count), sought),
            Rival::RwLockMap => takes(maps::RwLockMap::load(count), sought),
            Rival::Lmdb => takes(lmdb::Lmdb::load(count)?, sought),
            Rival::Blackboard if keys > blackboard::KEYS_MAX => Entry::Skips(blackboard::TOO_MANY),
            Rival::Blackboard if sought == Sought::Absent => Entry::Skips(blackboard::NO_MISS),
            Rival::Blackboard => takes(blackboard::Blackboard::load(count)?, sought),
            Rival::Snapshot if keys > snapshot::KEYS_MAX => Entry::Skips(snapshot::TOO_MANY),
            Rival::Snapshot => takes(snapshot::Snapshot::load(count)?, sought),
            Rival::Memcached => takes(memcached::Memcached::load(count)?, sought),
            Rival::Redis => takes(redis::Redis::load(count)?, sought),
        };
        Ok(entry)
    }
}

fn takes<R: Read + 'static>(rival: R, sought: Sought) -> Entry {
    Entry::Takes(match sought {
        Sought::Held => Box::new(Held(rival)),
        Sought::Absent => Box::new(Absent(rival)),
    })
}

/// The rivals named on the command line: `none`, `all`, or names separated by commas.
#[derive(Debug, Clone)]
pub struct Rivals(pub Vec<Rival>);

impl FromStr for Rivals {
    type Err = String;

    fn from_str(text: &str) -> Result<Rivals, String> {
        let one = |name: &str| {
            Rival::ALL.into_iter().find(|rival| rival.name() == name).ok_or_else(|| {
                let names = Rival::ALL.map(Rival::name).join(", ");
                format!("`{name}` is no rival; write none, all, or some of {names} with commas")
            })
        };
        match text {
            "none" => Ok(Rivals(Vec::new())),
            "all" => Ok(Rivals(Rival::ALL.to_vec())),
            names => names.split(',').map(one).collect::<Result<_, _>>().map(Rivals),
        }
    }
}

impl Rivals {
    /// Fills them, and collects those that do not take part.
    ///
    /// # Errors
    /// The same as for [`Rival::load`].
    pub fn load(&self, keys: usize, sought: Sought, say: impl Fn(Rival)) -> Result<Line> {
        let (mut contestants, mut skipped) = (Vec::new(), Vec::new());
        for &rival in &self.0 {
            say(rival);
            match rival.load(keys, sought).with_context(|| rival.name())? {
                Entry::Takes(contestant) => contestants.push(contestant),
                Entry::Skips(reason) => skipped.push(Skipped { name: rival.name(), reason }),
            }
        }
        Ok((contestants, skipped))
    }

    /// Fails if the machine lacks the memory, with `others` bytes per key for the other
    /// contestants.
    ///
    /// # Errors
    /// Too little memory, with figures.
    pub fn fit(&self, keys: usize, others: u64) -> Result<()> {
        let each = others + self.0.iter().map(|rival| rival.key_bytes()).sum::<u64>();
        let needed = keys as u64 * each;
        let free = available_bytes()?;
        if needed > free {
            bail!(
                "{keys} keys need some {} with these rivals, and {} are available: name fewer \
                 with --rivals, or fewer keys with --workload",
                bytesize::ByteSize(needed),
                bytesize::ByteSize(free)
            );
        }
        Ok(())
    }
}

fn available_bytes() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").context("cannot read /proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.map(|kib| kib * 1024).context("/proc/meminfo has no MemAvailable")
}

/// Copies a value out. Returns whether it has the expected length.
#[inline(always)]
fn copy(from: &[u8], to: &mut [u8; VALUE_BYTES]) -> bool {
    from.first_chunk().is_some_and(|value| {
        *to = *value;
        true
    })
}

/// All keys with their values.
fn entries(count: u32) -> impl Iterator<Item = (Box<[u8]>, Box<[u8]>)> {
    (0..count).map(|number| (Box::from(key(number)), Box::from(value(number))))
}

/// Fails if a server is not installed.
fn installed(program: &str, package: &str) -> Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|directory| directory.join(program).is_file()) {
        return Ok(());
    }
    bail!(Failure::Tier(format!(
        "not in the PATH: {program}; on Debian: apt-get install {package}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rivals_are_named_as_in_tables() {
        assert_eq!("none".parse::<Rivals>().unwrap().0, []);
        assert_eq!("all".parse::<Rivals>().unwrap().0, Rival::ALL);
        assert_eq!("lmdb,moka".parse::<Rivals>().unwrap().0, [Rival::Lmdb, Rival::Moka]);
        for wrong in ["", "lmdb,", "leveldb"] {
            assert!(wrong.parse::<Rivals>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_does_not_fit_into_memory_is_refused() {
        let all = "all".parse::<Rivals>().unwrap();
        assert!(all.fit(1000, 500).is_ok());
        let error = all.fit(1 << 40, 500).unwrap_err().to_string();
        assert!(error.contains("--rivals"), "{error}");
    }
}
