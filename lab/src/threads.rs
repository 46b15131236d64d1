//! Processor time and sleeps of each thread of a process, as counted by the kernel.

use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::path::Path;

/// The kernel's counts of one thread.
#[derive(Debug, Clone, Copy)]
pub struct Count {
    /// Time on a processor.
    pub cpu_ns: u64,
    /// Voluntary context switches, one for each sleep.
    pub sleeps: u64,
}

/// The counts of each thread of a process, by thread id and name.
///
/// # Errors
/// The process has ended, or `/proc` does not have these counts.
pub fn counts(pid: u32) -> Result<BTreeMap<(u32, String), Count>> {
    let mut counts = BTreeMap::new();
    for (number, path) in threads(pid)? {
        let read = |name: &str| read(&path.join(name));
        let name = read("comm")?.trim().to_owned();
        let status = read("status")?;
        let sleeps = status
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")?.trim().parse().ok());
        let sleeps = sleeps.context("/proc has no count of a thread's sleeps")?;
        counts.insert((number, name), Count { cpu_ns: cpu_ns(&path)?, sleeps });
    }
    Ok(counts)
}

/// Processor time of all threads of a process together, in ns. Excludes threads that have ended.
///
/// # Errors
/// The process has ended, or `/proc` does not have these counts.
pub fn process_cpu_ns(pid: u32) -> Result<u64> {
    threads(pid)?.iter().map(|(_, path)| cpu_ns(path)).sum()
}

fn threads(pid: u32) -> Result<Vec<(u32, std::path::PathBuf)>> {
    let threads = format!("/proc/{pid}/task");
    let threads = std::fs::read_dir(&threads).with_context(|| format!("cannot read {threads}"))?;
    let one = |thread: std::io::Result<std::fs::DirEntry>| {
        let thread = thread?;
        let number = thread.file_name().to_str().and_then(|name| name.parse().ok()).unwrap_or(0);
        Ok((number, thread.path()))
    };
    threads.map(one).collect()
}

fn cpu_ns(thread: &Path) -> Result<u64> {
    let ran = read(&thread.join("schedstat"))?;
    let ns = ran.split(' ').next().and_then(|ns| ns.parse().ok());
    ns.context("/proc has no processor time of a thread")
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}
