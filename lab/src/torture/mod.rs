//! `l1d-lab torture`: kills, stops and faults of everything at random, under load, and a check of
//! every value that anybody reads.
//!
//! | part | file |
//! |---|---|
//! | what is done when, by the seed | `action` |
//! | what there is in each mode, and how often what happens to it | `mode` |
//! | one mode from start to end | `run`, and its end in `end` |
//! | clients, as processes that are killed | `cast`, their side in `worker` |
//! | tiers and their faults | `tiers` |
//! | what was acknowledged, and what reads may return | `ledger`, `test_support::history` |
//! | bits flipped | `flips` |
//! | memory, descriptors, mappings | `leaks` |

mod action;
mod cast;
mod end;
mod flips;
mod leaks;
mod ledger;
mod mode;
mod report;
mod run;
mod tiers;
mod worker;

use crate::machine::{self, Machine};
use crate::progress::Progress;
use anyhow::{Result, ensure};
use mode::Mode;
use report::Report;
use std::path::PathBuf;
use std::time::Duration;
pub use worker::{TortureWorkerPlace, worker};

/// Options of `torture`.
#[derive(Debug, Clone, clap::Args)]
pub struct TortureOptions {
    /// Seed of what is done when; the timing of processes is the system's
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Minutes of all modes together
    #[arg(long, default_value_t = 5.0)]
    minutes: f64,
    /// Only these modes, which share the time
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Mode::ALL)]
    modes: Vec<Mode>,
    /// Processes that write
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    writers: u32,
    /// Processes that only read
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=64))]
    readers: u32,
    /// The daemon's program [default: the l1d beside this program]
    #[arg(long, value_name = "PATH")]
    l1d: Option<PathBuf>,
    /// One JSON document instead of a table
    #[arg(long)]
    json: bool,
}

/// Runs `torture`.
///
/// # Errors
/// Something does not start; or a value was wrong, a process crashed, something leaked, or an
/// acknowledged write was lost: the report, which is printed before, says what.
pub fn torture(options: &TortureOptions) -> Result<()> {
    let progress = Progress::new();
    let sum: u32 = options.modes.iter().map(|mode| mode.percent()).sum();
    let mut parts = Vec::new();
    for &mode in &options.modes {
        let minutes = options.minutes * f64::from(mode.percent()) / f64::from(sum);
        let time = Duration::try_from_secs_f64(minutes * 60.0)?;
        parts.push(run::run(options, mode, time, &progress)?);
    }
    drop(progress);
    let report = Report {
        machine: Machine::this()?,
        command: machine::command(),
        seed: options.seed,
        parts,
    };
    if !crate::output::json(options.json, &report)? {
        crate::output::print(report.text())?;
    }
    let wrong = report.wrong();
    ensure!(wrong == 0, "torture has found {wrong} faults; the report names the first of them");
    Ok(())
}
