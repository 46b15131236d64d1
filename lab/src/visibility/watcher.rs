//! Another process, which polls for the next value and reports when it saw it.
//!
//! The time is reported through a line of shared memory, on a clock that both processes share, so
//! that the way back is not part of the figure.

use crate::hot_key::cells::Cells;
use crate::hot_key::owner::OwnerView;
use crate::hot_key::service::ServiceView;
use crate::hot_key::view::{Ask, View, value};
use crate::interrupt;
use crate::machine::pin;
use crate::reads::rivals::Rival;
use crate::reads::workload::{VALUE_BYTES, key};
use crate::stores::{Place, Use};
use anyhow::{Context, Result, bail};
use l1d::clock::monotonic_ns;
use l1d_wire::mapping::{Access, Mapping};
use nix::sys::memfd::{MFdFlags, memfd_create};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::hint::spin_loop;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Timeout until a value is seen.
const PATIENCE: Duration = Duration::from_secs(5);
/// Loads of a word between two clock readings.
const LOOKS: u32 = 1 << 16;
const BYTES: u64 = 4096;

/// The watcher's report; all zero at first.
#[repr(C, align(128))]
struct Sighting {
    /// When it saw the value.
    ns: AtomicU64,
    /// The value's number, stored after the time.
    number: AtomicU64,
}

struct Shared(Mapping);

impl Shared {
    fn map(file: &File) -> Result<Shared> {
        let map = Mapping::of_file(file, BYTES, Access::Write).context("cannot map a sighting")?;
        Ok(Shared(map))
    }

    fn sighting(&self) -> &Sighting {
        // SAFETY: the mapping is larger than that, page-aligned, lives as long as `self`, and both
        // processes access it only by these atomic words, which may have any value.
        unsafe { &*self.0.base().cast::<Sighting>() }
    }
}

/// The values to watch for, one after another. The watcher reports the number before the first to
/// signal that it has begun.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Order {
    first: u64,
    count: u64,
}

/// The store that another process watches.
#[derive(Debug, Clone)]
pub enum Subject {
    /// The limit's cells, in a file.
    Cells(PathBuf),
    /// A table, in a file.
    Owner(PathBuf),
    /// A daemon's table, by its socket.
    Service(PathBuf),
    /// A rival.
    Rival(Place),
}

/// The watching process. Ends when dropped.
pub struct Watcher {
    child: Child,
    orders: ChildStdin,
    shared: Shared,
    _file: File,
}

impl Watcher {
    /// Starts it. Must be called by the main thread.
    ///
    /// # Errors
    /// It does not start, or cannot read the store.
    pub fn start(subject: &Subject, keys: u32, core: usize) -> Result<Watcher> {
        let memory = memfd_create(c"l1d-lab-watcher", MFdFlags::MFD_CLOEXEC);
        let file = File::from(memory.context("cannot make a memfd")?);
        file.set_len(BYTES).context("cannot make a memfd")?;
        let shared = Shared::map(&file)?;
        let (what, at, prefix) = match subject {
            Subject::Cells(at) => ("cells", at, ""),
            Subject::Owner(at) => ("owner", at, ""),
            Subject::Service(at) => ("service", at, ""),
            Subject::Rival(place) => (place.rival.name(), &place.at, place.prefix.as_str()),
        };
        let mut command = Command::new(
            std::env::current_exe().context("this program's own file cannot be found")?,
        );
        let sighting = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
        command.args(["watcher", "--what", what, "--prefix", prefix, "--sighting", &sighting]);
        command.args(["--keys", &keys.to_string(), "--core", &core.to_string(), "--at"]).arg(at);
        interrupt::die_together(&mut command);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .context("cannot start a process that watches")?;
        let orders = child.stdin.take().context("a watcher without a pipe")?;
        Ok(Watcher { child, orders, shared, _file: file })
    }

    /// Tells it to watch for values with these numbers, and waits until it has begun. `first` is at
    /// least two above the last number.
    ///
    /// # Errors
    /// It has ended, or does not begin.
    pub fn watch(&mut self, first: u64, count: u64) -> Result<()> {
        let order = serde_json::to_string(&Order { first, count })?;
        writeln!(self.orders, "{order}").context("a watcher does not listen")?;
        // Opening the store may take seconds the first time.
        self.wait(first - 1, 6 * PATIENCE, true).map(drop)
    }

    /// Waits until it has seen a value. Returns the time on CLOCK_MONOTONIC in ns.
    ///
    /// # Errors
    /// It does not see the value.
    pub fn seen(&mut self, number: u64) -> Result<u64> {
        self.wait(number, PATIENCE, false)
    }

    fn wait(&mut self, number: u64, patience: Duration, at_leisure: bool) -> Result<u64> {
        let begun = Instant::now();
        loop {
            let sighting = self.shared.sighting();
            for _ in 0..LOOKS {
                // Pairs with the store in `say`.
                if sighting.number.load(Ordering::Acquire) == number {
                    return Ok(sighting.ns.load(Ordering::Relaxed));
                }
                spin_loop();
            }
            if self.child.try_wait()?.is_some() {
                bail!("a watching process ended; what it said stands above");
            }
            if begun.elapsed() > patience {
                bail!("a value was not seen by another process within {patience:?}");
            }
            if at_leisure {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Options of a watcher.
#[derive(Debug, Clone, clap::Args)]
pub struct WatcherPlace {
    #[arg(long)]
    what: String,
    #[arg(long)]
    at: PathBuf,
    #[arg(long, default_value = "")]
    prefix: String,
    #[arg(long)]
    keys: u32,
    #[arg(long)]
    core: usize,
    #[arg(long)]
    sighting: PathBuf,
}

/// Runs the process: watches until its stdin ends.
///
/// # Errors
/// The store cannot be opened.
pub fn watcher(place: &WatcherPlace) -> Result<()> {
    pin(place.core)?;
    let sighting = File::options().read(true).write(true).open(&place.sighting);
    let shared = Shared::map(&sighting.context("cannot open a sighting")?)?;
    let (at, keys) = (&place.at, place.keys);
    let file = || File::open(at).with_context(|| format!("cannot open {}", at.display()));
    let watch = Watch { shared, asks: asks(keys) };
    match place.what.as_str() {
        "cells" => watch.with(Cells::map(&file()?, keys, Access::Read)?),
        "owner" => watch.with(OwnerView::attach(&file()?)?),
        "service" => watch.with(ServiceView::attach(at)?),
        name => {
            let rival = Rival::ALL.into_iter().find(|rival| rival.name() == name);
            let rival = rival.with_context(|| format!("{name}: nothing to look at"))?;
            let place = Place { rival, at: at.clone(), prefix: place.prefix.clone() };
            place.read(keys, watch)
        }
    }
}

fn asks(keys: u32) -> Vec<Ask> {
    (0..keys).map(|number| Ask { key: key(number), number }).collect()
}

struct Watch {
    shared: Shared,
    asks: Vec<Ask>,
}

impl Use for Watch {
    fn with(self, mut view: impl View) -> Result<()> {
        let sighting = self.shared.sighting();
        let mut found = [0; VALUE_BYTES];
        for line in std::io::stdin().lines() {
            let Order { first, count } =
                serde_json::from_str(&line?).context("an order that cannot be read")?;
            sighting.say(first - 1, 0);
            for number in first..first + count {
                let (place, wanted) = (number % self.asks.len() as u64, value(number));
                let ask = self.asks.get(usize::try_from(place)?).context("no key to look for")?;
                while !view.read(ask, &mut found) || found != wanted {
                    spin_loop();
                }
                sighting.say(number, monotonic_ns());
            }
        }
        Ok(())
    }
}

impl Sighting {
    fn say(&self, number: u64, ns: u64) {
        self.ns.store(ns, Ordering::Relaxed);
        // Pairs with the load in `wait`: a process that sees the number sees the time.
        self.number.store(number, Ordering::Release);
    }
}
