//! The contestants of `misses`.

use serde::{Deserialize, Serialize};

/// A way from a process to the tiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Contestant {
    /// Each process has private blocking connections to memcached and Redis.
    Direct,
    /// The client library and a daemon.
    L1d,
    /// A bare event loop between the processes and the tiers: the limit of any daemon with sockets.
    Forwarder,
}

impl Contestant {
    /// Its name in tables, JSON and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Contestant::Direct => "direct",
            Contestant::L1d => "l1d",
            Contestant::Forwarder => "forwarder",
        }
    }
}
