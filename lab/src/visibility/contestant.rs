//! The contestants: a writer, and a process that sees its values.

use super::watcher::{Subject, Watcher};
use crate::daemon::Daemon;
use crate::hot_key::cells::{self, CellWriter, Cells};
use crate::hot_key::owner::{self, Owner};
use crate::hot_key::service::ServiceWriter;
use crate::hot_key::view::value;
use crate::stores::{OF_ONE_PROCESS, Started};
use crate::writes::median;
use anyhow::{Context, Result};
use l1d::clock::monotonic_ns;
use l1d_wire::mapping::Access;
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

/// A writer in this process, and another process that watches.
pub struct Contestant {
    store: Started,
    watcher: Watcher,
    keys: u32,
    /// Number of the last value.
    last: u64,
    /// The memory that the other process opens.
    _memory: Option<File>,
}

impl Contestant {
    /// Words at known places.
    ///
    /// # Errors
    /// No memory, or no process.
    pub fn cells(keys: u32, core: usize) -> Result<Contestant> {
        let (file, at) = memory(cells::bytes(keys))?;
        let sets = Box::new(CellWriter::fill(Cells::map(&file, keys, Access::Write)?)?);
        let store = Started::of("limit: words stored", sets);
        Contestant::start(store, &Subject::Cells(at), (keys, core), Some(file))
    }

    /// A table whose owner is this process.
    ///
    /// # Errors
    /// No memory, or no process.
    pub fn owner(keys: u32, core: usize) -> Result<Contestant> {
        let (file, at) = memory(owner::bytes(keys))?;
        let store = Started::of("l1d table, owner alone", Box::new(Owner::create(&file, keys)?));
        Contestant::start(store, &Subject::Owner(at), (keys, core), Some(file))
    }

    /// A client that sets without waiting, and one in another process that peeks.
    ///
    /// # Errors
    /// The daemon cannot be reached, or no process.
    pub fn service(daemon: &Daemon, keys: u32, core: usize) -> Result<Contestant> {
        let socket = daemon.socket();
        let sets = Box::new(ServiceWriter::fill(&socket, keys)?);
        let store = Started::of("l1d set not waited for", sets);
        Contestant::start(store, &Subject::Service(socket), (keys, core), None)
    }

    /// A rival that another process can read.
    ///
    /// # Errors
    /// Another process cannot read it, or no process could be started.
    pub fn rival(store: Started, keys: u32, core: usize) -> Result<Contestant> {
        let place = store.place.clone().context(OF_ONE_PROCESS)?;
        Contestant::start(store, &Subject::Rival(place), (keys, core), None)
    }

    fn start(
        store: Started,
        subject: &Subject,
        (keys, core): (u32, usize),
        memory: Option<File>,
    ) -> Result<Contestant> {
        let watcher = Watcher::start(subject, keys, core)?;
        Ok(Contestant { store, watcher, keys, last: 0, _memory: memory })
    }

    /// Its name in tables and JSON.
    pub fn name(&self) -> &'static str {
        self.store.name
    }

    /// The median of single sets, each from its start until the other process has seen the value,
    /// in ns.
    ///
    /// # Errors
    /// The value is not seen, or the store fails.
    pub fn measure(&mut self, requests: usize) -> Result<f64> {
        let count = (requests / self.store.one_in).max(1) as u64;
        let first = self.last + 2;
        self.last = first + count - 1;
        self.watcher.watch(first, count)?;
        let mut ns = Vec::new();
        for number in first..first + count {
            let key = u32::try_from(number % u64::from(self.keys))?;
            let value = value(number);
            let begun = monotonic_ns();
            self.store.sets.set(key, &value)?;
            self.store.sets.publish()?;
            ns.push(self.watcher.seen(number)?.saturating_sub(begun) as f64);
        }
        Ok(median(ns))
    }
}

/// Anonymous memory, and the path at which another process can open it.
fn memory(bytes: u64) -> Result<(File, PathBuf)> {
    let memory = memfd_create(c"l1d-lab-visibility", MFdFlags::MFD_CLOEXEC);
    let file = File::from(memory.context("cannot make a memfd")?);
    file.set_len(bytes).with_context(|| format!("cannot make a memfd of {bytes} bytes"))?;
    let at = PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()));
    Ok((file, at))
}
