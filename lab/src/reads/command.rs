//! `l1d-lab limit` and `l1d-lab read`.

use super::cases::Case;
use super::contest::Pace;
use super::measure::measure;
use super::report::Report;
use super::rivals::Rivals;
use super::workload::{Popularity, Workload};
use anyhow::Result;
use std::path::PathBuf;

/// Options of `limit`, and of every experiment that includes it.
#[derive(Debug, Clone, clap::Args)]
pub struct ReadOptions {
    /// KEYS-zipf or KEYS-uniform, separated by commas [default: for hits
    /// 10k-zipf,10k-uniform,1M-uniform,1M-zipf; for other cases 1M-uniform if values are small, and
    /// 10k-zipf or 10k-uniform if they are large]
    #[arg(long, value_delimiter = ',')]
    workload: Vec<Workload>,
    /// Also hits of 5M-uniform (about 1.5 GB of memory, and 11 more with all rivals)
    #[arg(long)]
    large: bool,
    /// 2: also two reader processes at once, each on its own core, and each of them alone
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
    pub(super) processes: u8,
    /// Rounds; in each, the contestants take turns
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// Milliseconds of each turn
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    round_ms: u64,
    /// Milliseconds of warm-up before each turn
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    warm_up_ms: u64,
    /// Seed of keys, order and places
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
    /// One JSON document instead of tables
    #[arg(long)]
    json: bool,
}

/// Options of `read`.
#[derive(Debug, Clone, clap::Args)]
pub struct ReadCommand {
    #[command(flatten)]
    pub(super) options: ReadOptions,
    /// Cases to run, separated by commas
    #[arg(long = "case", value_name = "CASE", value_delimiter = ',', default_value = "hit")]
    pub(super) cases: Vec<Case>,
    /// Rivals: `none`, `all`, or names separated by commas: quick_cache, moka, papaya, dashmap,
    /// rwlock-hashmap (in the reader's process), lmdb, iceoryx2, mmap-sync (in shared memory),
    /// memcached, redis (over a unix socket)
    #[arg(long, default_value = "all")]
    pub(super) rivals: Rivals,
    /// The daemon's program [default: the l1d beside this program]
    #[arg(long, value_name = "PATH")]
    pub(super) l1d: Option<PathBuf>,
}

impl ReadOptions {
    /// The workloads for hits.
    pub(super) fn workloads(&self) -> Vec<Workload> {
        let workload = |keys, popularity| Workload { keys, popularity };
        let default = [
            workload(10_000, Popularity::Zipf),
            workload(10_000, Popularity::Uniform),
            workload(1_000_000, Popularity::Uniform),
            workload(1_000_000, Popularity::Zipf),
        ];
        let five = workload(5_000_000, Popularity::Uniform);
        self.workloads_or(&default).into_iter().chain(self.large.then_some(five)).collect()
    }

    /// The requested workloads, or else these.
    pub(super) fn workloads_or(&self, default: &[Workload]) -> Vec<Workload> {
        if self.workload.is_empty() { default.to_vec() } else { self.workload.clone() }
    }

    /// Number and length of the rounds.
    pub(super) fn pace(&self) -> Pace {
        Pace {
            rounds: usize::from(self.rounds),
            round_ms: self.round_ms,
            warm_up_ms: self.warm_up_ms,
        }
    }

    /// JSON was asked for.
    pub(super) fn is_json(&self) -> bool {
        self.json
    }

    fn print(&self, report: &Report) -> Result<()> {
        if !crate::output::json(self.json, report)? {
            crate::output::print(report.text())?;
        }
        Ok(())
    }
}

/// Runs `limit`.
///
/// # Errors
/// No memory, no core, or a wrong value.
pub fn limit(options: &ReadOptions) -> Result<()> {
    options.print(&measure(options, None)?)
}

/// Runs `read`.
///
/// # Errors
/// The same, or a daemon that does not start or does not hold the keys it was given.
pub fn read(command: &ReadCommand) -> Result<()> {
    command.options.print(&measure(&command.options, Some(command))?)
}
