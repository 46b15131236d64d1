//! The contestants: the ways to keep an L1.

use serde::Serialize;
use std::time::Duration;

/// Where the L1 of a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Contestant {
    /// Nowhere: every read goes to memcached, then Redis.
    #[value(name = "no-l1")]
    #[serde(rename = "no-l1")]
    NoL1,
    /// In each process, for 30 s.
    #[value(name = "own-30s")]
    #[serde(rename = "own-30s")]
    Own30s,
    /// In each process: 2 s for keys that another process writes, the usual cure, and 30 s for
    /// others.
    #[value(name = "own-2s")]
    #[serde(rename = "own-2s")]
    Own2s,
    /// In the table that all processes share.
    L1d,
}

impl Contestant {
    /// Its name on the command line and in the report.
    pub fn name(self) -> &'static str {
        match self {
            Contestant::NoL1 => "no-l1",
            Contestant::Own30s => "own-30s",
            Contestant::Own2s => "own-2s",
            Contestant::L1d => "l1d",
        }
    }

    /// Its title in tables.
    pub fn title(self) -> &'static str {
        match self {
            Contestant::NoL1 => "no L1",
            Contestant::Own30s => "own L1, 30 s",
            Contestant::Own2s => "own L1, 2 s",
            Contestant::L1d => "l1d",
        }
    }

    /// How long a process keeps a copy of its own; `is_shared` means that other processes write the
    /// key.
    pub fn own_ttl(self, is_shared: bool) -> Option<Duration> {
        match self {
            Contestant::NoL1 | Contestant::L1d => None,
            Contestant::Own2s if is_shared => Some(Duration::from_secs(2)),
            Contestant::Own30s | Contestant::Own2s => Some(Duration::from_secs(30)),
        }
    }
}
