//! Memory, descriptors and mappings of a process, counted while nothing happens.

use crate::memory;
use anyhow::{Context, Result};
use serde::Serialize;
use std::time::{Duration, Instant};

/// More of each than before is a leak. A tier may have been connected or not; allocators keep some
/// memory.
const DESCRIPTORS_MAX: u64 = 2;
const MAPPINGS_MAX: u64 = 10;
const BYTES_MAX: u64 = 24 << 20;
/// Mappings of the C library's arenas for threads that come and go: two for each of eight arenas
/// for each core, which it keeps.
const MAPPINGS_PER_CORE: u64 = 16;
/// A client keeps the addresses of each former table, without memory.
const MAPPINGS_PER_TABLE: u64 = 2;
/// For what ends a little later: former tables, idle connections.
const PATIENCE: Duration = Duration::from_secs(8);

/// What a process holds.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Held {
    pub private_bytes: u64,
    pub descriptors: u64,
    pub mappings: u64,
}

/// What a process held at the start of a run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Start {
    pub held: Held,
    /// Tables that its client has had since, at most; 0 for the daemon.
    pub tables: u64,
}

/// What a process held at the start of a run, and at its end.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Leaks {
    pub start: Held,
    pub end: Held,
    /// The leak, if there is one.
    pub text: Option<String>,
}

impl Held {
    /// Of process `pid`.
    ///
    /// # Errors
    /// It has ended, or its counts cannot be read.
    pub fn by(pid: u32) -> Result<Held> {
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"));
        let maps = maps.context("the mappings of a process")?;
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd"));
        Ok(Held {
            private_bytes: memory::of_process(pid)?.anonymous_bytes,
            descriptors: descriptors.context("the descriptors of a process")?.count() as u64,
            mappings: maps.lines().count() as u64,
        })
    }

    /// What the process holds more than at `start`, in words.
    fn excess(&self, Start { held: start, tables }: &Start) -> Option<String> {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
        let mappings_max = MAPPINGS_MAX + cores * MAPPINGS_PER_CORE + tables * MAPPINGS_PER_TABLE;
        let more = [
            ("descriptors", self.descriptors, start.descriptors, DESCRIPTORS_MAX),
            ("mappings", self.mappings, start.mappings, mappings_max),
            ("private bytes", self.private_bytes, start.private_bytes, BYTES_MAX),
        ];
        let is_more = |&(_, end, start, most): &(&str, u64, u64, u64)| end > start + most;
        more.into_iter()
            .find(is_more)
            .map(|(what, end, start, _)| format!("{end} {what}, {start} at the start"))
    }
}

impl Leaks {
    /// Counts again, when what ends later has ended.
    ///
    /// # Errors
    /// As for [`Held::by`].
    pub fn since(start: Start, pid: u32) -> Result<Leaks> {
        let begun = Instant::now();
        loop {
            let end = Held::by(pid)?;
            let text = end.excess(&start);
            if text.is_none() || begun.elapsed() > PATIENCE {
                return Ok(Leaks { start: start.held, end, text });
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_that_stays_open_is_a_leak() {
        let start = Held::by(std::process::id()).unwrap();
        assert!(start.descriptors > 2 && start.mappings > 5 && start.private_bytes > 0);
        let one_more = Held { descriptors: start.descriptors + 1, ..start };
        let of = |tables| Start { held: start, tables };
        assert!(one_more.excess(&of(0)).is_none());
        let more = Held { descriptors: start.descriptors + 3, ..start };
        assert!(more.excess(&of(0)).unwrap().contains("descriptors"));
        let former = Held { mappings: start.mappings + 100_000, ..start };
        assert!(former.excess(&of(0)).is_some() && former.excess(&of(50_000)).is_none());
    }
}
