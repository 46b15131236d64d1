//! Options of `misses`.

use super::contestant::Contestant;
use super::operation::Operation;
use crate::distance::Distance;
use std::path::PathBuf;

/// Options of `misses`.
#[derive(Debug, Clone, clap::Args)]
pub struct MissesOptions {
    /// Operations to measure, separated by commas
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "absent,in-l2,in-l3,set,delete,get-many-16,get-many-64"
    )]
    pub operations: Vec<Operation>,
    /// Numbers of client processes, separated by commas [default: 1,4,8,16, with --syscalls 1,8]
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=200))]
    pub processes: Option<Vec<u32>>,
    /// Contestants, separated by commas
    #[arg(long, value_delimiter = ',', default_value = "direct,l1d,forwarder")]
    pub contestants: Vec<Contestant>,
    /// Bytes of a value
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub value_bytes: u32,
    /// Rounds; in each, every contestant takes a turn at every operation
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 1.0, value_parser = seconds)]
    pub seconds: f64,
    /// Put the tiers this round trip away, such as 0.5ms, by a proxy [default: on this host]
    #[arg(long)]
    pub distance: Option<Distance>,
    /// Count the daemon's system calls for each operation instead, with all processes asking at the
    /// same moment (needs strace)
    #[arg(long)]
    pub syscalls: bool,
    /// Operations of each process that --syscalls counts
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub steps: u32,
    /// The daemon's program [default: the l1d beside this program]
    #[arg(long, value_name = "PATH")]
    pub l1d: Option<PathBuf>,
    /// One JSON document instead of a table
    #[arg(long)]
    pub json: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.05..=60.0).contains(&seconds) => Ok(seconds),
        _ => Err("between 0.05 and 60 seconds".to_owned()),
    }
}
