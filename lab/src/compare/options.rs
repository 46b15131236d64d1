//! Options of `compare` and of its processes.

use super::contestant::Contestant;
use super::keys::Load;
use crate::distance::Distance;
use anyhow::{Result, bail};
use bytesize::ByteSize;
use std::path::PathBuf;

/// Options of `compare`.
#[derive(Debug, Clone, clap::Args)]
pub struct CompareOptions {
    #[command(flatten)]
    pub load: LoadOptions,
    /// Contestants, separated by commas
    #[arg(long, value_delimiter = ',', default_value = "no-l1,own-30s,own-2s,l1d")]
    pub contestants: Vec<Contestant>,
    /// Seconds to measure; a copy with a TTL of 30 s shows its age only after 30 s [default: 10,
    /// for a trace until its requests end]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub seconds: Option<u64>,
    /// Turns of each contestant; counts and times of all turns are added up, reads/s is the median
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// Seconds of warm-up that are not counted; a trace has none
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(0..=3600))]
    pub warm_up_seconds: u64,
    /// Put the tiers this round trip away, such as 0.5ms, by a proxy [default: on this host]
    #[arg(long)]
    pub distance: Option<Distance>,
    /// Capacity of the L1: of each process, or of l1d's one table
    #[arg(long, default_value = "16MiB")]
    pub l1: ByteSize,
    /// The daemon's program [default: the l1d beside this program]
    #[arg(long, value_name = "PATH")]
    pub l1d: Option<PathBuf>,
    /// One JSON document instead of tables
    #[arg(long)]
    pub json: bool,
}

/// The workload.
#[derive(Debug, Clone, clap::Args)]
pub struct LoadOptions {
    /// dashboard: pages over market data that one process publishes; zipf: single keys; trace: the
    /// requests of a file, each once
    #[arg(long, value_name = "dashboard|zipf|trace", default_value = "dashboard")]
    pub workload: String,
    /// Requests of the workload "trace": one key per line, plain or xz
    #[arg(value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Reader processes
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub readers: u32,
    /// Keys of the workload "zipf"
    #[arg(
        long,
        default_value_t = 20_000,
        value_parser = clap::value_parser!(u32).range(2..=100_000_000)
    )]
    pub keys: u32,
    /// Bytes of a value ("dashboard" has sizes of its own)
    #[arg(
        long,
        default_value_t = 512,
        value_parser = clap::value_parser!(u32).range(24..=1_000_000)
    )]
    pub value_bytes: u32,
    /// Writes a second of the writer process [default: 2404 for "dashboard", 100 for others]
    #[arg(long)]
    pub rate: Option<f64>,
    /// Seed of all random choices
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

impl LoadOptions {
    /// The keys and requests of these options.
    ///
    /// # Errors
    /// The options contradict each other, or the file is no trace.
    pub fn load(&self) -> Result<Load> {
        if let Some(rate) = self.rate
            && !(0.001..=1e6).contains(&rate)
        {
            bail!(usage(format!("--rate {rate}: between 0.001 and 1,000,000 writes a second")));
        }
        match (self.workload.as_str(), &self.trace) {
            ("dashboard", None) => Ok(Load::dashboard(self.rate)),
            ("zipf", None) => {
                Ok(Load::zipf(self.keys as usize, self.value_bytes as usize, self.rate, self.seed))
            }
            ("trace", Some(file)) => Load::trace(file, self.value_bytes as usize, self.rate),
            ("trace", None) => {
                bail!(usage("--workload trace wants a FILE with one key per line".to_owned()))
            }
            ("dashboard" | "zipf", Some(file)) => {
                bail!(usage(format!("{} is for --workload trace", file.display())))
            }
            (other, _) => {
                bail!(usage(format!("--workload {other}: write dashboard, zipf or trace")))
            }
        }
    }
}

fn usage(text: String) -> crate::failure::Failure {
    crate::failure::Failure::Usage(text)
}

/// Options of one process.
#[derive(Debug, Clone, clap::Args)]
pub struct WorkerOptions {
    #[command(flatten)]
    pub load: LoadOptions,
    /// Number of the reader; `None` for the writer.
    #[arg(long)]
    pub reader: Option<u32>,
    #[arg(long)]
    pub contestant: Contestant,
    #[arg(long)]
    pub oracle: String,
    #[arg(long)]
    pub memcached: String,
    #[arg(long)]
    pub redis: String,
    #[arg(long)]
    pub socket: Option<PathBuf>,
    #[arg(long)]
    pub l1_bytes: u64,
}
