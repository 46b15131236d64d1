//! The machine of a run, and pinning a thread to one of its cores.

use anyhow::{Context, Result};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use serde::Serialize;

/// The machine, without which no figure means anything.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// CPU model.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: Vec<usize>,
    /// Kernel release.
    pub kernel: String,
}

impl Machine {
    /// The machine of this process.
    pub fn this() -> Result<Machine> {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model =
            cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Ok(Machine {
            cpu: model.map_or_else(|| "unknown CPU".to_owned(), |(_, model)| model.to_owned()),
            cores: cores()?,
            kernel: kernel.trim().to_owned(),
        })
    }
}

/// The command line of this run, as typed.
pub fn command() -> String {
    let words = std::env::args().skip(1);
    std::iter::once("l1d-lab".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}

/// Cores that this process may use, in order.
pub fn cores() -> Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0)).context("cannot read the CPU affinity")?;
    Ok((0..CpuSet::count()).filter(|&core| set.is_set(core).unwrap_or(false)).collect())
}

/// Pins this thread to a core.
pub fn pin(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core).with_context(|| format!("core {core} is beyond what the kernel can name"))?;
    sched_setaffinity(Pid::from_raw(0), &set).with_context(|| {
        format!("cannot pin to core {core}; choose one of those that `taskset -p $$` allows")
    })
}
