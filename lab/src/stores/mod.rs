//! Stores that `write` and `visibility` set values in: every rival with its writer in this process,
//! and its place, from which another process can read.
//!
//! | part | file |
//! |---|---|
//! | memcached and Redis | `servers` |
//! | mmap-sync | `snapshot` |
//! | all others use the writers and readers of `hot_key` | |

mod servers;
mod snapshot;

use crate::hot_key::blackboard::{BlackboardView, BlackboardWriter};
use crate::hot_key::lmdb::{LmdbView, LmdbWriter};
use crate::hot_key::maps::{RwLockMap, Shared, Store};
use crate::hot_key::view::View;
use crate::hot_key::writer::Sets;
use crate::reads::rivals::memcached::Memcached;
use crate::reads::rivals::redis::Redis;
use crate::reads::rivals::{QuickCache, Rival, blackboard};
use crate::scratch;
use anyhow::Result;
use rapidhash::fast::RandomState;
use servers::{ServerView, ServerWriter};
use snapshot::{SnapshotView, SnapshotWriter};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

/// The reason why another process cannot see a store of one process.
pub const OF_ONE_PROCESS: &str =
    "it belongs to one process: another one does not see its values at all";

/// A running store with a value for every key.
pub struct Started {
    /// Its name in tables and JSON.
    pub name: &'static str,
    /// The writer. A value that was set is visible after `publish`.
    pub sets: Box<dyn Sets>,
    /// Where another process can read it; `None` if it belongs to this process.
    pub place: Option<Place>,
    /// It gets one of this number of requests, because each takes that much longer than others'.
    pub one_in: usize,
    _home: Home,
}

/// The place of a store.
#[derive(Debug, Clone)]
pub struct Place {
    /// The kind of store.
    pub rival: Rival,
    /// A directory, file or socket.
    pub at: PathBuf,
    /// The prefix of its files in /dev/shm, if it has any.
    pub prefix: String,
}

/// The resources that the store lives in.
#[expect(dead_code, reason = "held until the store ends")]
enum Home {
    Nowhere,
    Directory(TempDir),
    Place(blackboard::Place),
    Memcached(Memcached),
    Redis(Redis),
}

impl Started {
    /// A store that has no resources except its writer.
    pub fn of(name: &'static str, sets: Box<dyn Sets>) -> Started {
        Started { name, sets, place: None, one_in: 1, _home: Home::Nowhere }
    }
}

/// The result of starting a rival.
pub enum Entry {
    /// It takes part.
    Takes(Box<Started>),
    /// It does not, for this reason.
    Skips(&'static str),
}

/// Starts a rival with this number of keys.
///
/// # Errors
/// A server is not installed or does not start, no memory, or the rival's own.
pub fn start(rival: Rival, keys: u32) -> Result<Entry> {
    let place = |at: &Path| Some(Place { rival, at: at.to_owned(), prefix: String::new() });
    let (sets, place, home): (Box<dyn Sets>, _, _) = match rival {
        Rival::QuickCache => (map::<QuickCache<Box<[u8]>, Arc<[u8]>>>(keys), None, Home::Nowhere),
        Rival::Moka => {
            (map::<moka::sync::Cache<Box<[u8]>, Arc<[u8]>, RandomState>>(keys), None, Home::Nowhere)
        }
        Rival::Papaya => {
            (map::<papaya::HashMap<Box<[u8]>, Arc<[u8]>, RandomState>>(keys), None, Home::Nowhere)
        }
        Rival::Dashmap => {
            (map::<dashmap::DashMap<Box<[u8]>, Arc<[u8]>, RandomState>>(keys), None, Home::Nowhere)
        }
        Rival::RwLockMap => (map::<RwLockMap>(keys), None, Home::Nowhere),
        Rival::Lmdb => {
            let directory = scratch::directory()?;
            let sets = Box::new(LmdbWriter::fill(directory.path(), keys)?);
            (sets, place(directory.path()), Home::Directory(directory))
        }
        Rival::Blackboard if keys as usize > blackboard::KEYS_MAX => {
            return Ok(Entry::Skips(blackboard::TOO_MANY));
        }
        Rival::Blackboard => {
            let home = blackboard::Place::new()?;
            let sets = Box::new(BlackboardWriter::create(home.path(), home.prefix(), keys)?);
            home.remove_if_interrupted();
            let place = Place { prefix: home.prefix().to_owned(), rival, at: home.path().into() };
            (sets, Some(place), Home::Place(home))
        }
        Rival::Snapshot => {
            let directory = scratch::directory()?;
            let at = directory.path().join("snapshot");
            let sets = Box::new(SnapshotWriter::fill(&at, keys)?);
            (sets, place(&at), Home::Directory(directory))
        }
        Rival::Memcached => {
            let server = Memcached::load(keys)?;
            let sets = Box::new(ServerWriter::memcached(&server.path())?);
            (sets, place(&server.path()), Home::Memcached(server))
        }
        Rival::Redis => {
            let server = Redis::load(keys)?;
            let sets = Box::new(ServerWriter::redis(&server.path())?);
            (sets, place(&server.path()), Home::Redis(server))
        }
    };
    let one_in = match rival {
        Rival::Memcached | Rival::Redis => 10,
        Rival::Snapshot => 100,
        _ => 1,
    };
    Ok(Entry::Takes(Box::new(Started { name: rival.name(), sets, place, one_in, _home: home })))
}

fn map<S: Store>(keys: u32) -> Box<dyn Sets> {
    Box::new(Shared::<S>::fill(keys))
}

/// Work with a reader of a store, generic over its type so that the compiler can inline it.
pub trait Use {
    /// Does the work.
    ///
    /// # Errors
    /// The work's own.
    fn with(self, view: impl View) -> Result<()>;
}

impl Place {
    /// Opens the store in a process other than the writer's.
    ///
    /// # Errors
    /// It does not exist, belongs to one process, or `work` fails.
    pub fn read(&self, keys: u32, work: impl Use) -> Result<()> {
        let Place { rival, at, prefix } = self;
        match rival {
            Rival::Lmdb => work.with(LmdbView::open(at)?),
            Rival::Blackboard => work.with(BlackboardView::open(at, prefix, keys)?),
            Rival::Snapshot => work.with(SnapshotView::open(at)),
            Rival::Memcached => work.with(ServerView::memcached(at)?),
            Rival::Redis => work.with(ServerView::redis(at)?),
            _ => anyhow::bail!("{}: {OF_ONE_PROCESS}", rival.name()),
        }
    }
}
