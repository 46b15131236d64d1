//! The demo of l1d: one process publishes market data and signals, others serve them.
//!
//! The [`scenario`] exists once, here, as data; `l1d demo` plays it and the lab measures it.
//!
//! [`run`] starts a daemon of its own and plays the scenario in three ways at once, each with a
//! *monitoring* process and *web* processes. They run side by side and not in turn, since
//! a copy that lives for 30 s needs the whole run to show its age. To make that fair, every web
//! process serves the same number of pages a second, well below what two cores can do, and they
//! take turns in time slots, so that no page waits for another way's page.

mod below;
mod clock;
mod daemon;
mod dashboard;
mod directory;
mod durations;
mod page;
mod play;
pub mod private_l1;
mod process;
mod progress;
mod report;
pub mod scenario;
mod screen;
pub mod stamped;
mod store;
mod summary;
mod tally;
mod text;
mod wait;
mod worker;

use std::path::PathBuf;
use std::time::Duration;

pub use play::{Outcome, run};
pub use worker::run as run_worker;

/// Arguments of `l1d demo`.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Seconds to play; with --page until Ctrl-C, or a day. A copy with a TTL of 30 s shows its age
    /// only after that time.
    #[arg(long, value_name = "N", default_value_t = 35)]
    #[arg(default_value_if("page", clap::builder::ArgPredicate::IsPresent, "86400"))]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub seconds: u64,
    /// Print the comparison as one JSON document.
    #[arg(long)]
    pub json: bool,
    /// Show the three ways side by side in a browser: serves a page on 127.0.0.1 and prints where.
    #[arg(long)]
    pub page: bool,
    /// Port of the page; 0: any that is free.
    #[arg(long, value_name = "PORT", default_value_t = 0, requires = "page")]
    pub page_port: u16,
    /// A memcached to use as L2, as host:port. The demo's keys begin with "l1d-demo:".
    #[arg(long, value_name = "ADDR")]
    pub memcached: Option<String>,
    /// A Redis to use as L3, as redis://host:port. The demo's keys begin with "l1d-demo:".
    #[arg(long, value_name = "URL")]
    pub redis: Option<String>,
    /// Web processes for each of the three ways.
    #[arg(long, value_name = "N", default_value_t = 2)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=32))]
    pub web: u32,
}

impl Options {
    /// What is below L1, in words.
    fn below(&self) -> String {
        let tiers = [("memcached", &self.memcached), ("Redis", &self.redis)];
        let used: Vec<&str> =
            tiers.iter().filter(|(_, at)| at.is_some()).map(|(name, _)| *name).collect();
        match used.as_slice() {
            [] => "the daemon over its socket, no tiers".to_owned(),
            used => used.join(", then "),
        }
    }
}

/// Arguments of one process of the demo, the hidden command `l1d demo-worker`. It talks to its
/// parent over stdin and stdout.
#[derive(Debug, Clone, clap::Args)]
pub struct WorkerOptions {
    /// Its part in the scenario.
    #[arg(long)]
    role: Role,
    /// Where its L1 is.
    #[arg(long)]
    way: Way,
    /// The daemon's control socket.
    #[arg(long)]
    socket: PathBuf,
    /// Its time slot, which is also its seed.
    #[arg(long, default_value_t = 0)]
    slot: u32,
    /// How many slots there are.
    #[arg(long, default_value_t = 1)]
    slots: u32,
    /// Also tell the parent what its dashboard shows.
    #[arg(long)]
    screen: bool,
}

/// A tier that the demo was told to use failed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct TierFailed(String);

/// The part of a process in the scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
enum Role {
    /// Publishes all feeds.
    Monitor,
    /// Serves pages.
    Web,
}

/// Where the L1 of a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
enum Way {
    /// In the table that all processes share.
    L1d,
    /// In each process; keys that another process writes live for 2 s, the usual remedy for stale
    /// copies.
    #[value(name = "l1-2s")]
    #[serde(rename = "l1-2s")]
    Private2s,
    /// In each process, every key for 30 s.
    #[value(name = "l1-30s")]
    #[serde(rename = "l1-30s")]
    Private30s,
}

/// All ways, in the order they are shown.
const WAYS: [Way; 3] = [Way::L1d, Way::Private2s, Way::Private30s];

/// Prefix of all keys of the demo, so that it overwrites nothing on real tiers.
const NAMESPACE: &str = "l1d-demo:";

/// The time between two values of one signal.
fn signal_interval() -> Duration {
    scenario::FEEDS.get(scenario::SIGNALS).map_or(Duration::ZERO, |feed| feed.interval)
}

impl Way {
    /// Its name on the command line.
    fn name(self) -> &'static str {
        match self {
            Way::L1d => "l1d",
            Way::Private2s => "l1-2s",
            Way::Private30s => "l1-30s",
        }
    }

    /// Its name in sentences.
    fn title(self) -> &'static str {
        match self {
            Way::L1d => "one L1 for all (l1d)",
            Way::Private2s => "an L1 in each, 2 s",
            Way::Private30s => "an L1 in each, 30 s",
        }
    }

    /// Its name above a narrow column.
    fn label(self) -> &'static str {
        match self {
            Way::L1d => "l1d",
            Way::Private2s => "own L1, 2 s",
            Way::Private30s => "own L1, 30 s",
        }
    }

    /// Prefix of its keys: the ways share a daemon and must not see each other's values.
    fn namespace(self) -> String {
        format!("{NAMESPACE}{}:", self.name())
    }

    /// How long a process keeps its own copy of a key of this feed; `None`: it keeps none.
    fn private_ttl(self, feed: &scenario::Feed) -> Option<Duration> {
        match (self, feed.scope) {
            (Way::L1d, _) => None,
            (Way::Private2s, l1d_wire::policy::Scope::Host) => Some(Duration::from_secs(2)),
            (Way::Private2s, _) | (Way::Private30s, _) => Some(Duration::from_secs(30)),
        }
    }
}
