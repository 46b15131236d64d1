//! The placement of daemon and client, or of the two sides of the limits.

use crate::daemon::Daemon;
use crate::machine::{Machine, pin};
use anyhow::{Context, Result, bail};
use serde::Serialize;

/// The placement named on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Placement {
    /// Each on a core of its own
    TwoCores,
    /// Both on one core, where neither can spin for the other
    OneCore,
    /// Wherever the kernel puts them
    Free,
}

impl Placement {
    /// The daemon's core and the client's; `None` if the kernel decides.
    ///
    /// # Errors
    /// There are not enough cores.
    pub fn cores(self, machine: &Machine) -> Result<Option<[usize; 2]>> {
        let (first, last) = (machine.cores.first().copied(), machine.cores.last().copied());
        let (first, last) = first.zip(last).context("no core to run on")?;
        match self {
            Placement::Free => Ok(None),
            Placement::OneCore => Ok(Some([last, last])),
            Placement::TwoCores if first == last => {
                bail!("two cores are needed: with one, `write --placement one-core`")
            }
            Placement::TwoCores => Ok(Some([first, last])),
        }
    }
}

/// Pins the daemon to its core, calls `start` for the process that takes the daemon's place, and
/// then pins this thread to its own core: child processes inherit the pinning.
///
/// # Errors
/// No such core, or `start` fails.
pub fn place<T>(
    cores: Option<[usize; 2]>,
    daemon: &Daemon,
    start: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let Some([daemon_core, client_core]) = cores else { return start() };
    daemon.pin(daemon_core)?;
    pin(daemon_core)?;
    let started = start()?;
    pin(client_core)?;
    Ok(started)
}
