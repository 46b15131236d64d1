//! The contestants, each with its writer and readers.

use super::blackboard::BlackboardWriter;
use super::cells::{self, CellWriter, Cells};
use super::lmdb::LmdbWriter;
use super::maps::{self, Store};
use super::owner::{self, Owner};
use super::reader::{Handle, HotReaderOptions, Shared};
use super::service::ServiceWriter;
use super::view::Looping;
use super::writer::{MakeSets, Pace, Sets, Writer};
use crate::daemon::{Daemon, TableShape};
use crate::reads::rivals::{QuickCache, Rival, blackboard};
use crate::scratch;
use anyhow::{Context, Result};
use l1d_wire::mapping::Access;
use nix::sys::memfd::{MFdFlags, memfd_create};
use rapidhash::fast::RandomState;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

/// A contestant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    /// Loads and stores of words at known places.
    Limit,
    /// Daemon and clients.
    Service,
    /// A table whose owner is this process.
    Owner,
    /// A rival.
    Rival(Rival),
}

/// A running contestant. Fields are dropped in order of declaration.
pub struct Contestant {
    /// Its name in tables and JSON.
    pub name: &'static str,
    /// `processes` or `threads`.
    pub readers_are: &'static str,
    /// In the order of their cores.
    pub readers: Vec<Handle>,
    /// The writer, which is not writing yet.
    pub writer: Writer,
    _home: Home,
}

/// The resources that the contestant lives in.
#[expect(dead_code, reason = "held until the contestant ends")]
enum Home {
    Nowhere,
    Daemon(Daemon),
    Directory(TempDir),
    Place(blackboard::Place),
}

/// The settings of readers and writer.
#[derive(Debug, Clone, Copy)]
pub struct Setting<'a> {
    /// The readers' cores.
    pub cores: &'a [usize],
    /// The writer's pace and core.
    pub pace: Pace,
    /// Seed of the order of keys.
    pub seed: u64,
    /// The daemon's program.
    pub program: Option<&'a Path>,
}

/// The result of starting a contestant.
pub enum Entry {
    /// It takes part.
    Takes(Box<Contestant>),
    /// It does not, for this reason.
    Skips(&'static str),
}

impl Name {
    /// Its name in tables and JSON.
    pub fn text(self) -> &'static str {
        match self {
            Name::Limit => "limit",
            Name::Service => "l1d peek_into",
            Name::Owner => "l1d table, owner alone",
            Name::Rival(rival) => rival.name(),
        }
    }

    /// Starts it.
    ///
    /// # Errors
    /// No memory, no daemon, or the rival failed.
    pub fn start(self, setting: Setting<'_>) -> Result<Entry> {
        let keys = setting.pace.keys;
        match self {
            Name::Limit => self.file(setting, Shared::Cells, cells::bytes(keys), |file, keys| {
                Ok(Box::new(CellWriter::fill(Cells::map(&file, keys, Access::Write)?)?))
            }),
            Name::Owner => self.file(setting, Shared::Owner, owner::bytes(keys), |file, keys| {
                Ok(Box::new(Owner::create(&file, keys)?))
            }),
            Name::Service => self.service(setting),
            Name::Rival(Rival::Lmdb) => self.lmdb(setting),
            Name::Rival(Rival::Blackboard) if keys as usize > blackboard::KEYS_MAX => {
                Ok(Entry::Skips(blackboard::TOO_MANY))
            }
            Name::Rival(Rival::Blackboard) => self.blackboard(setting),
            Name::Rival(Rival::QuickCache) => self.map::<QuickCache<Box<[u8]>, Arc<[u8]>>>(setting),
            Name::Rival(Rival::Moka) => {
                self.map::<moka::sync::Cache<Box<[u8]>, Arc<[u8]>, RandomState>>(setting)
            }
            Name::Rival(Rival::Papaya) => {
                self.map::<papaya::HashMap<Box<[u8]>, Arc<[u8]>, RandomState>>(setting)
            }
            Name::Rival(Rival::Dashmap) => {
                self.map::<dashmap::DashMap<Box<[u8]>, Arc<[u8]>, RandomState>>(setting)
            }
            Name::Rival(Rival::RwLockMap) => self.map::<maps::RwLockMap>(setting),
            Name::Rival(Rival::Snapshot) => Ok(Entry::Skips(
                "a set archives all entries again, and waits a second for each reader that it \
                 meets",
            )),
            Name::Rival(Rival::Memcached | Rival::Redis) => Ok(Entry::Skips(
                "its readers share no memory with its writer: see `read` and `visibility`",
            )),
        }
    }

    /// In an unnamed file.
    fn file(
        self,
        setting: Setting<'_>,
        shared: Shared,
        bytes: u64,
        make: impl FnOnce(File, u32) -> Result<Box<dyn Sets>> + Send + 'static,
    ) -> Result<Entry> {
        let keys = setting.pace.keys;
        let memory = memfd_create(c"l1d-lab-hot-key", MFdFlags::MFD_CLOEXEC);
        let file = File::from(memory.context("cannot make a memfd")?);
        file.set_len(bytes).with_context(|| format!("cannot make a memfd of {bytes} bytes"))?;
        let at = PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()));
        let writers = file.try_clone().context("cannot share a memfd")?;
        let writer = Writer::start(Box::new(move || make(writers, keys)), setting.pace)?;
        // The file stays open until the readers have opened it.
        let readers = processes(setting, (shared, at, String::new()))?;
        Ok(self.takes(("processes", readers), writer, Home::Nowhere))
    }

    fn lmdb(self, setting: Setting<'_>) -> Result<Entry> {
        let directory = scratch::directory()?;
        let (path, keys) = (directory.path().to_owned(), setting.pace.keys);
        let make = move || Ok(Box::new(LmdbWriter::fill(&path, keys)?) as Box<dyn Sets>);
        let writer = Writer::start(Box::new(make), setting.pace)?;
        let at = directory.path().to_owned();
        let readers = processes(setting, (Shared::Lmdb, at, String::new()))?;
        Ok(self.takes(("processes", readers), writer, Home::Directory(directory)))
    }

    fn blackboard(self, setting: Setting<'_>) -> Result<Entry> {
        let place = blackboard::Place::new()?;
        let (path, prefix) = (place.path().to_owned(), place.prefix().to_owned());
        let (at, begin, keys) = (path.clone(), prefix.clone(), setting.pace.keys);
        let make =
            move || Ok(Box::new(BlackboardWriter::create(&path, &prefix, keys)?) as Box<dyn Sets>);
        let writer = Writer::start(Box::new(make), setting.pace)?;
        let readers = processes(setting, (Shared::Blackboard, at, begin))?;
        place.remove_if_interrupted();
        Ok(self.takes(("processes", readers), writer, Home::Place(place)))
    }

    fn service(self, setting: Setting<'_>) -> Result<Entry> {
        let keys = setting.pace.keys;
        let shape =
            TableShape { table_bytes: owner::bytes(keys), value_bytes_max: 4096, entry_bytes: 112 };
        let daemon = Daemon::start(setting.program, shape, "[defaults]\nttl = \"24h\"\n")?;
        if setting.pace.is_alone {
            daemon.pin(setting.pace.core)?;
        }
        let socket = daemon.socket();
        let make = move || Ok(Box::new(ServiceWriter::fill(&socket, keys)?) as Box<dyn Sets>);
        let writer = Writer::start(Box::new(make), setting.pace)?;
        let readers = processes(setting, (Shared::Service, daemon.socket(), String::new()))?;
        Ok(self.takes(("processes", readers), writer, Home::Daemon(daemon)))
    }

    /// In threads of this process.
    fn map<S: Store>(self, setting: Setting<'_>) -> Result<Entry> {
        let keys = setting.pace.keys;
        let store = maps::Shared::<S>::fill(keys).0;
        let writers = store.clone();
        let make: MakeSets = Box::new(move || Ok(Box::new(maps::Shared(writers))));
        let writer = Writer::start(make, setting.pace)?;
        let start = |(&core, seed): (&usize, u64)| {
            let view = maps::Shared(store.clone());
            let make = move |seed| Box::new(Looping::new(view, keys, seed)) as Box<_>;
            Handle::thread(Box::new(make), core, seed)
        };
        let readers = setting.cores.iter().zip(setting.seed..).map(start).collect::<Result<_>>()?;
        Ok(self.takes(("threads", readers), writer, Home::Nowhere))
    }

    fn takes(
        self,
        (readers_are, readers): (&'static str, Vec<Handle>),
        writer: Writer,
        home: Home,
    ) -> Entry {
        Entry::Takes(Box::new(Contestant {
            name: self.text(),
            readers_are,
            readers,
            writer,
            _home: home,
        }))
    }
}

fn processes(
    setting: Setting<'_>,
    (shared, at, prefix): (Shared, PathBuf, String),
) -> Result<Vec<Handle>> {
    let options = HotReaderOptions { shared, at, prefix, keys: setting.pace.keys };
    let start = |(&core, seed): (&usize, u64)| Handle::process(&options, core, seed);
    setting.cores.iter().zip(setting.seed..).map(start).collect()
}
