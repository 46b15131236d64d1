//! iceoryx2's blackboard: values of fixed types under keys that are fixed when it is created, in
//! shared memory, each with its own sequence counter.
//!
//! Its own lookup of a key scans all keys, so a reader keeps a handle for each key, as its
//! documentation recommends; a map in this process finds the handle.

use super::super::contest::Read;
use super::super::workload::{KEY_BYTES, Op, VALUE_BYTES, key, value};
use crate::{interrupt, scratch};
use anyhow::{Context, Result, anyhow};
use iceoryx2::port::reader::EntryHandle;
use iceoryx2::prelude::{
    Config, FileName, LogLevel, NodeBuilder, Path as SystemPath, SemanticString, ipc, set_log_level,
};
use rapidhash::fast::RandomState;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use tempfile::TempDir;

/// More take minutes to set up: adding a key scans all others.
pub const KEYS_MAX: usize = 10_000;
/// The reason for the bound.
pub const TOO_MANY: &str = "keys are fixed when the blackboard is made, and each one costs a \
    search through all of them: at most 10,000";
/// The reason why misses are not measured.
pub const NO_MISS: &str =
    "its readers hold a handle for each key, so a miss is a miss in their own map";

/// Key and value types.
pub type Key = [u8; KEY_BYTES];
/// The value type.
pub type Value = [u8; VALUE_BYTES];
/// A reader's handle to a value.
pub type Handle = EntryHandle<ipc::Service, Key, Value>;

/// The service's name.
pub const SERVICE: &str = "l1d-lab/reads";

/// Handles of all keys.
pub struct Blackboard {
    handles: HashMap<Key, Handle, RandomState>,
    _service: iceoryx2::service::port_factory::blackboard::PortFactory<ipc::Service, Key>,
    _node: iceoryx2::node::Node<ipc::Service>,
    /// Declared last, so that it is dropped after the service in it.
    place: Place,
}

/// Where an instance of iceoryx2 keeps its files: those in /dev/shm have their own prefix. All are
/// removed with this value, because iceoryx2 leaves some.
#[derive(Debug)]
pub struct Place {
    directory: TempDir,
    prefix: String,
}

impl Place {
    /// A new place.
    ///
    /// # Errors
    /// No memory.
    pub fn new() -> Result<Place> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("{}iceoryx2.{count}.", scratch::prefix());
        Ok(Place { directory: scratch::directory()?, prefix })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The prefix of names in /dev/shm.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    fn files(&self) -> Vec<PathBuf> {
        let Ok(files) = std::fs::read_dir("/dev/shm") else { return Vec::new() };
        files
            .flatten()
            .filter(|file| file.file_name().as_encoded_bytes().starts_with(self.prefix.as_bytes()))
            .map(|file| file.path())
            .collect()
    }

    /// Registers the files created so far for removal if the run is interrupted.
    pub fn remove_if_interrupted(&self) {
        for file in self.files() {
            interrupt::remove_if_interrupted(&file);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for file in self.files() {
            // Nothing can be done about a file that stays.
            let _ = std::fs::remove_file(file);
        }
    }
}

/// iceoryx2's settings for files in this directory and names in /dev/shm with this prefix.
///
/// # Errors
/// iceoryx2 does not accept the names.
pub fn config(directory: &Path, prefix: &str) -> Result<Config> {
    set_log_level(LogLevel::Error);
    let mut config = Config::default();
    config.global.prefix =
        FileName::new(prefix.as_bytes()).map_err(|error| anyhow!("iceoryx2: {error:?}"))?;
    let path = directory.to_str().context("a directory whose name is no text")?;
    let path = SystemPath::new(path.as_bytes()).map_err(|error| anyhow!("iceoryx2: {error:?}"))?;
    config.global.set_root_path(&path);
    Ok(config)
}

impl Blackboard {
    /// A blackboard with these keys.
    ///
    /// # Errors
    /// iceoryx2's own.
    pub fn load(count: u32) -> Result<Blackboard> {
        let place = Place::new()?;
        let config = config(place.path(), place.prefix())?;
        let node = NodeBuilder::new().config(&config).create::<ipc::Service>()?;
        let mut creator = node.service_builder(&SERVICE.try_into()?).blackboard_creator::<Key>();
        for number in 0..count {
            creator = creator.add::<Value>(key(number), value(number));
        }
        let service = creator.create()?;
        let reader = service.reader_builder().create()?;
        let mut handles = HashMap::with_capacity_and_hasher(count as usize, RandomState::default());
        for number in 0..count {
            handles.insert(key(number), reader.entry::<Value>(&key(number))?);
        }
        place.remove_if_interrupted();
        Ok(Blackboard { handles, _service: service, _node: node, place })
    }

    /// The place of its files.
    pub fn place(&self) -> &Place {
        &self.place
    }
}

impl Read for Blackboard {
    const NAME: &'static str = "iceoryx2";
    const HANDS_OUT: &'static str = "a copy, by a handle from a map";
    type Buffer = Value;

    fn buffer(&self) -> Value {
        [0; VALUE_BYTES]
    }

    #[inline(always)]
    fn read(&mut self, op: &Op, value: &mut Value) -> bool {
        let Some(handle) = self.handles.get(&op.key) else { return false };
        *value = *handle.get();
        true
    }
}
