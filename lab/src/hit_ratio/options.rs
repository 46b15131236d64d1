//! Options of `hit-ratio`.

use super::reports::Reports;
use super::size::Size;
use crate::failure::Failure;
use anyhow::{Result, bail};
use std::path::PathBuf;

/// Options of `hit-ratio`.
#[derive(Debug, Clone, clap::Args)]
pub struct HitRatioOptions {
    /// Request traces: one key per line, or a key and its size in bytes after a blank, tab or
    /// comma; plain or xz
    #[arg(value_name = "TRACE", required_unless_present = "synthetic")]
    pub traces: Vec<PathBuf>,
    /// Capacities in percent of a trace's objects (of their bytes, if it has a size column)
    #[arg(long, value_name = "P%,...", value_delimiter = ',', default_value = "1%,5%,20%")]
    pub sizes: Vec<Size>,
    /// Also six synthetic streams: zipf with drift, a loop, scans over zipf, one-hit wonders, and
    /// two of objects of unequal size
    #[arg(long)]
    pub synthetic: bool,
    /// Seed of the synthetic streams and of lost reports
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Readers report one hit in N to the table, chosen at random
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    pub report_one_in: u32,
    /// Percentage of reports that are lost
    #[arg(
        long,
        value_name = "PERCENT",
        default_value_t = 30,
        value_parser = clap::value_parser!(u8).range(0..=100)
    )]
    pub report_loss: u8,
    /// Reports that a reader collects and hands over together
    #[arg(
        long,
        value_name = "N",
        default_value_t = 64,
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    pub report_batch: u32,
    /// Parallel replays [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Instead: at each size, the table's own estimate for half, twice and four times the size
    /// (`l1ctl advise`), beside replays at these sizes
    #[arg(long, conflicts_with = "plot")]
    pub advise: bool,
    /// Also draw the curves into this SVG file
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
    /// One JSON document instead of tables
    #[arg(long)]
    pub json: bool,
}

impl HitRatioOptions {
    /// How hits reach the table.
    pub fn reports(&self) -> Reports {
        Reports {
            one_in: self.report_one_in,
            loss: f64::from(self.report_loss) / 100.0,
            batch: self.report_batch as usize,
            seed: self.seed,
        }
    }

    /// The sizes in ascending order.
    ///
    /// # Errors
    /// There is none.
    pub fn sizes(&self) -> Result<Vec<Size>> {
        let mut sizes = self.sizes.clone();
        sizes.sort();
        sizes.dedup();
        if sizes.is_empty() {
            bail!(Failure::Usage("--sizes: name at least one, such as 5%".into()));
        }
        Ok(sizes)
    }
}
