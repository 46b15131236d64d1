//! Memory of processes, with shared pages counted once.

use anyhow::{Context, Result};
use serde::Serialize;

/// Memory of one process, from `/proc/PID/smaps_rollup`. A page shared by several processes counts
/// proportionally (PSS), so that the sum over all of them counts it once.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Memory {
    /// Heap, stacks, data: `Pss_Anon`.
    pub anonymous_bytes: u64,
    /// Program and libraries: `Pss_File`.
    pub file_bytes: u64,
}

impl Memory {
    /// Both.
    pub fn bytes(self) -> u64 {
        self.anonymous_bytes + self.file_bytes
    }

    /// Adds the memory of another process.
    pub fn add(&mut self, other: Memory) {
        self.anonymous_bytes += other.anonymous_bytes;
        self.file_bytes += other.file_bytes;
    }
}

/// Reads the memory of a process. Shared memory (`Pss_Shmem`) is left out: a table is counted by
/// its file, which also has pages that no process has touched.
pub fn of_process(pid: u32) -> Result<Memory> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let bytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
        kib.map(|kib| kib * 1024).with_context(|| format!("{path} has no {name}"))
    };
    Ok(Memory { anonymous_bytes: bytes("Pss_Anon:")?, file_bytes: bytes("Pss_File:")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_holds_what_it_has_touched() {
        let before = of_process(std::process::id()).unwrap();
        let block = std::hint::black_box(vec![1u8; 64 << 20]);
        let after = of_process(std::process::id()).unwrap();
        // Other tests in the same process allocate and free some MiB meanwhile.
        let grown = after.anonymous_bytes.saturating_sub(before.anonymous_bytes);
        assert!(grown >= 48 << 20, "{before:?} {after:?}");
        assert!(after.file_bytes > 0);
        drop(block);
    }
}
