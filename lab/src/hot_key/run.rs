//! The command.

use super::contestant::{Contestant, Entry, Name, Setting};
use super::reader::Order;
use super::report::{Report, Row, Scaling};
use super::view::Figures;
use super::writer::Pace;
use crate::machine::{self, Machine};
use crate::progress::Progress;
use crate::reads::rivals::{Rivals, Skipped};
use anyhow::{Context, Result, ensure};
use l1d::clock::monotonic_ns;
use std::path::PathBuf;

/// Lead time between telling readers to begin and the begin.
const AHEAD_NS: u64 = 5_000_000;

/// Options of `hot-key`.
#[derive(Debug, Clone, clap::Args)]
pub struct HotKeyOptions {
    /// Numbers of concurrent readers, separated by commas
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "1,2",
        value_parser = clap::value_parser!(u16).range(1..=256)
    )]
    readers: Vec<u16>,
    /// Sets per second
    #[arg(
        long,
        default_value_t = 100_000,
        value_parser = clap::value_parser!(u32).range(1..=10_000_000)
    )]
    sets: u32,
    /// Keys, read at random and set in turn
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    keys: u32,
    /// Rivals: `none`, `all`, or names separated by commas: quick_cache, moka, papaya, dashmap,
    /// rwlock-hashmap (threads of one process), lmdb, iceoryx2 (processes)
    #[arg(long, default_value = "all")]
    rivals: Rivals,
    /// Rounds; in each, the contestants take turns, each without and with the writer
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// Milliseconds of each turn
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    round_ms: u64,
    /// Milliseconds of warm-up before each of them
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    warm_up_ms: u64,
    /// Seed of the order of keys
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The daemon's program [default: the l1d beside this program]
    #[arg(long, value_name = "PATH")]
    l1d: Option<PathBuf>,
    /// One JSON document instead of a table
    #[arg(long)]
    json: bool,
}

/// One contestant's rounds.
#[derive(Default)]
struct Rounds {
    name: &'static str,
    readers_are: &'static str,
    /// Without and with the writer.
    ns: [Vec<f64>; 2],
    missed: [u64; 2],
    torn: [u64; 2],
    sets_per_second: Vec<f64>,
    /// Without the writer: one reader while the others rest, mean over the readers; if there are
    /// several.
    alone_ns: Vec<f64>,
}

/// Runs `hot-key`.
///
/// # Errors
/// No memory, no core, no daemon, or a rival failed.
pub fn hot_key(options: &HotKeyOptions) -> Result<()> {
    let progress = Progress::new();
    let machine = Machine::this()?;
    let mut report = Report {
        command: machine::command(),
        rounds: usize::from(options.rounds),
        round_ms: options.round_ms,
        keys: options.keys,
        sets: options.sets,
        rows: Vec::new(),
        scaling: Vec::new(),
        skipped: Vec::new(),
        machine,
    };
    for &readers in &options.readers {
        let readers = usize::from(readers);
        let cores = report.machine.cores.clone();
        ensure!(
            readers <= cores.len(),
            "{readers} readers need as many cores; {} may be used",
            cores.len()
        );
        let (rounds, skipped) = measure(options, (readers, &cores), &progress)?;
        report.rows.extend(rows(readers, &rounds));
        report.scaling.extend(scaling(readers, &rounds));
        report.skipped = skipped;
    }
    drop(progress);
    if !crate::output::json(options.json, &report)? {
        crate::output::print(report.text())?;
    }
    Ok(())
}

fn measure(
    options: &HotKeyOptions,
    (readers, cores): (usize, &[usize]),
    progress: &Progress,
) -> Result<(Vec<Rounds>, Vec<Skipped>)> {
    let core = *cores.last().context("no core to run on")?;
    let is_alone = readers < cores.len();
    let pace = Pace { keys: options.keys, rate: options.sets, core, is_alone };
    let cores = cores.get(..readers).unwrap_or_default();
    let setting = Setting { cores, pace, seed: options.seed, program: options.l1d.as_deref() };
    let (mut contestants, mut skipped) = (Vec::new(), Vec::new());
    let rivals = options.rivals.0.iter().copied().map(Name::Rival);
    for name in [Name::Limit, Name::Service, Name::Owner].into_iter().chain(rivals) {
        progress.say(&format!("{readers} readers: starting {}", name.text()));
        match name.start(setting).with_context(|| name.text())? {
            Entry::Takes(contestant) => contestants.push(contestant),
            Entry::Skips(reason) => skipped.push(Skipped { name: name.text(), reason }),
        }
    }
    let begin = |contestant: &Contestant| Rounds {
        name: contestant.name,
        readers_are: contestant.readers_are,
        ..Rounds::default()
    };
    let mut all: Vec<Rounds> = contestants.iter().map(|contestant| begin(contestant)).collect();
    for round in 1..=options.rounds {
        for (contestant, rounds) in contestants.iter_mut().zip(&mut all) {
            progress.say(&format!(
                "{readers} readers: round {round} of {}, {}",
                options.rounds, contestant.name
            ));
            turn(options, contestant, rounds).context(contestant.name)?;
        }
    }
    Ok((all, skipped))
}

/// Reads without the writer (each reader alone if there are several, then all together), then with
/// it.
fn turn(options: &HotKeyOptions, contestant: &mut Contestant, rounds: &mut Rounds) -> Result<()> {
    if contestant.readers.len() > 1 {
        let alone = contestant.readers.iter_mut().map(|reader| {
            reader.tell(order(options))?;
            Ok(reader.figures()?.ns)
        });
        let alone: Vec<f64> = alone.collect::<Result<_>>()?;
        rounds.alone_ns.push(mean(&alone));
    }
    for is_written in [false, true] {
        if is_written {
            contestant.writer.begin()?;
        }
        let order = order(options);
        for reader in &mut contestant.readers {
            reader.tell(order)?;
        }
        let figures = contestant.readers.iter_mut().map(super::reader::Handle::figures);
        let figures: Vec<Figures> = figures.collect::<Result<_>>()?;
        if is_written {
            rounds.sets_per_second.push(contestant.writer.end()?);
        }
        let [quiet, written] = &mut rounds.ns;
        let ns = mean(&figures.iter().map(|figures| figures.ns).collect::<Vec<_>>());
        if is_written {
            written.push(ns)
        } else {
            quiet.push(ns)
        }
        let case = usize::from(is_written);
        for (counts, count) in [
            (&mut rounds.missed, figures.iter().map(|figures| figures.missed).sum::<u64>()),
            (&mut rounds.torn, figures.iter().map(|figures| figures.torn).sum::<u64>()),
        ] {
            if let Some(counts) = counts.get_mut(case) {
                *counts += count;
            }
        }
    }
    Ok(())
}

/// An order to begin slightly in the future, so that all readers that get it begin together.
fn order(options: &HotKeyOptions) -> Order {
    Order {
        begin_ns: monotonic_ns() + AHEAD_NS,
        warm_up_ms: options.warm_up_ms,
        round_ms: options.round_ms,
    }
}

fn mean(figures: &[f64]) -> f64 {
    figures.iter().sum::<f64>() / figures.len() as f64
}

/// Scaling of readers together against each alone, and relative to the limit's; empty for one
/// reader.
fn scaling(readers: usize, all: &[Rounds]) -> Vec<Scaling> {
    let of = |rounds: &Rounds| -> Vec<f64> {
        let [both, _] = &rounds.ns;
        rounds.alone_ns.iter().zip(both).map(|(alone, both)| alone / both).collect()
    };
    let limit = all.first().map(of).unwrap_or_default();
    let measured = all.iter().filter(|rounds| !rounds.alone_ns.is_empty());
    measured
        .map(|rounds| Scaling {
            readers,
            contestant: rounds.name,
            alone_ns: rounds.alone_ns.clone(),
            together_ns: rounds.ns[0].clone(),
            to_limit: of(rounds).iter().zip(&limit).map(|(own, limit)| own / limit).collect(),
            scaling: of(rounds),
        })
        .collect()
}

/// Each contestant beside the limit, without and with the writer, and beside itself without.
fn rows(readers: usize, all: &[Rounds]) -> Vec<Row> {
    let Some(limit) = all.first() else { return Vec::new() };
    let mut rows = Vec::new();
    for rounds in all {
        let [quiet, written] = &rounds.ns;
        let [quiet_limit, written_limit] = &limit.ns;
        for (case, yardstick, ns, base) in [
            (0, "limit", quiet, quiet_limit),
            (1, "limit", written, written_limit),
            (1, "quiet", written, quiet),
        ] {
            rows.push(Row {
                case: if case == 0 { "quiet" } else { "written" },
                readers,
                contestant: rounds.name,
                readers_are: rounds.readers_are,
                yardstick,
                ns: ns.clone(),
                ratio: ns.iter().zip(base).map(|(ns, base)| ns / base).collect(),
                sets_per_second: if case == 0 {
                    Vec::new()
                } else {
                    rounds.sets_per_second.clone()
                },
                missed: rounds.missed.get(case).copied().unwrap_or(0),
                torn: rounds.torn.get(case).copied().unwrap_or(0),
            });
        }
    }
    rows
}
