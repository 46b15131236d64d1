//! `l1d-lab limit`: the physical limit of a read.

use super::arena::Arena;
use super::contest::{Contestant, Entrant, Limit, Pace, contest};
use super::pass::Chain;
use super::workload::{Stream, Workload};
use crate::machine::{Machine, cores, pin};
use crate::progress::Progress;
use crate::statistics::Spread;
use anyhow::{Context, Result};
use comfy_table::Table;
use serde::Serialize;

/// Options of `limit`, and of all that runs beside it.
#[derive(Debug, Clone, clap::Args)]
pub struct ReadOptions {
    /// KEYS-zipf or KEYS-uniform, several with commas
    #[arg(long, value_delimiter = ',', default_value = "10k-zipf,10k-uniform,1M-uniform,1M-zipf")]
    pub workload: Vec<Workload>,
    /// Also 5M-uniform (some 1.5 GB of memory)
    #[arg(long)]
    pub large: bool,
    /// Rounds; in each, the contestants take turns
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub rounds: u16,
    /// Milliseconds of each contestant in each round
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    pub round_ms: u64,
    /// Milliseconds of warm-up before each of them
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    pub warm_up_ms: u64,
    /// Seed of keys, order and places
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// One JSON document instead of a table
    #[arg(long)]
    pub json: bool,
}

/// What one workload gave.
#[derive(Debug, Serialize)]
pub struct Run {
    /// Its name.
    pub workload: String,
    /// Every contestant; the first is the limit.
    pub entrants: Vec<Entrant>,
}

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Where.
    pub machine: Machine,
    /// The core that all contestants were pinned to.
    pub core: usize,
    /// How long and how often.
    pub pace: Pace,
    /// One for each workload.
    pub runs: Vec<Run>,
}

impl ReadOptions {
    fn workloads(&self) -> Vec<Workload> {
        let five = Workload { keys: 5_000_000, popularity: super::workload::Popularity::Uniform };
        self.workload.iter().copied().chain(self.large.then_some(five)).collect()
    }

    fn pace(&self) -> Pace {
        Pace { rounds: usize::from(self.rounds), round_ms: self.round_ms, warm_up_ms: self.warm_up_ms }
    }
}

/// Measures the limit, and beside it, in the same rounds, whatever `beside` brings for a workload.
///
/// # Errors
/// No memory, no core, or a contestant that read a wrong value.
pub fn limit(options: &ReadOptions, beside: impl Fn(Workload) -> Result<Vec<Box<dyn Contestant>>>) -> Result<Report> {
    let progress = Progress::new();
    let machine = Machine::this()?;
    let core = *cores()?.last().context("no core to run on")?;
    pin(core)?;
    let mut runs = Vec::new();
    for workload in options.workloads() {
        progress.say(&format!("{workload}: drawing keys"));
        let arena = Arena::fill(workload.keys, options.seed)?;
        let stream = Stream::draw(workload, &arena.slots, options.seed);
        let every_key = Stream::every_key(workload, &arena.slots);
        let mut contestants: Vec<Box<dyn Contestant>> = vec![Box::new(Limit { arena: arena.reader()? })];
        contestants.extend(beside(workload)?);
        let entrants = contest(&mut contestants, (workload, &stream, &every_key), options.pace(), &progress)?;
        runs.push(Run { workload: workload.to_string(), entrants });
    }
    Ok(Report { machine, core, pace: options.pace(), runs })
}

impl Report {
    /// The report as a table for people, with what it means.
    pub fn text(&self) -> String {
        let mut table = Table::new();
        table.load_preset(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
        table.set_header(["keys", "contestant", "dependent ns", "x limit", "independent ns", "x limit"]);
        for run in &self.runs {
            let Some(limit) = run.entrants.first() else { continue };
            for entrant in &run.entrants {
                let figures = [Chain::Dependent, Chain::Independent].map(|chain| {
                    let ratio = Spread::of_ratios(entrant.rounds(chain), limit.rounds(chain));
                    [entrant.spread(chain).to_string(), format!("{ratio:.2}")]
                });
                let [[dependent, dependent_ratio], [independent, independent_ratio]] = figures;
                table.add_row([&run.workload, &entrant.name, &dependent, &dependent_ratio, &independent, &independent_ratio]);
            }
        }
        format!(
            "{}, kernel {}, core {}. Keys of 24 bytes, values of 64. Medians (least-greatest) of {} rounds of {} ms, in turns;\n\
             ratios are medians of the rounds' ratios. limit: a line of the index at a known place, then the entry it\n\
             points to, key compared and value copied out; no hash, no check of versions.\n{table}",
            self.machine.cpu, self.machine.kernel, self.core, self.pace.rounds, self.pace.round_ms
        )
    }
}
