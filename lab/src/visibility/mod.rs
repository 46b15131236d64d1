//! `l1d-lab visibility`: the time until a set value is visible to its writer and to others.
//!
//! | part | file |
//! |---|---|
//! | l1d's own figures and their bounds | `own` |
//! | the writers, each with a watching process | `contestant` |
//! | the watching process | `watcher` |

mod contestant;
mod own;
mod watcher;

pub use watcher::{WatcherPlace, watcher};

use crate::daemon::Daemon;
use crate::machine::{self, Machine, pin};
use crate::progress::Progress;
use crate::reads::rivals::{Rivals, Skipped};
use crate::statistics::Spread;
use crate::stores::{self, Entry, OF_ONE_PROCESS};
use crate::table::table;
use crate::writes::{Peer, Placement, SHAPE, place};
use anyhow::{Context, Result};
use contestant::Contestant;
use own::{Figure, Own};
use serde::Serialize;
use std::path::PathBuf;

const TOO_FEW_CORES: &str =
    "writer, daemon and reader would spin on three cores, and there are two";

/// Options of `visibility`.
#[derive(Debug, Clone, clap::Args)]
pub struct VisibilityOptions {
    /// Rounds; in each, every figure takes its turn
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Sets of each kind in each round; a tenth of that through sockets, a hundredth for mmap-sync,
    /// fifty times as many by the owner
    #[arg(
        long,
        default_value_t = 10_000,
        value_parser = clap::value_parser!(u32).range(100..=10_000_000)
    )]
    requests: u32,
    /// Keys, set in turn by every contestant
    #[arg(
        long,
        default_value_t = 10_000,
        value_parser = clap::value_parser!(u32).range(1..=10_000)
    )]
    keys: u32,
    /// Rivals: `none`, `all`, or names separated by commas: lmdb, iceoryx2, mmap-sync (in shared
    /// memory), memcached, redis (over a unix socket)
    #[arg(long, default_value = "all")]
    rivals: Rivals,
    /// The daemon's program [default: the l1d beside this program]
    #[arg(long, value_name = "PATH")]
    l1d: Option<PathBuf>,
    /// One JSON document instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Line {
    figure: &'static str,
    /// The process that sees the value.
    seen_by: &'static str,
    #[serde(skip)]
    text: &'static str,
    ns: Spread,
    /// Ratio to a spinning round trip plus two of the owner's sets.
    times_limit: Spread,
}

#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    command: String,
    rounds: u32,
    requests: u32,
    keys: u32,
    value_bytes: usize,
    lines: Vec<Line>,
    skipped: Vec<Skipped>,
}

/// Runs `visibility`.
///
/// # Errors
/// The daemon does not start, a value is not seen, or a rival fails.
pub fn visibility(options: &VisibilityOptions) -> Result<()> {
    let report = measure(options)?;
    if !crate::output::json(options.json, &report)? {
        crate::output::print(text(&report))?;
    }
    Ok(())
}

fn measure(options: &VisibilityOptions) -> Result<Report> {
    let (progress, machine) = (Progress::new(), Machine::this()?);
    let cores = Placement::TwoCores.cores(&machine)?.context("no cores")?;
    let [daemon_core, writer_core] = cores;
    progress.say("starting the daemon");
    let daemon = Daemon::start(options.l1d.as_deref(), SHAPE, "")?;
    // Before anything is pinned, so that their servers run where the kernel puts them.
    let (stores, mut skipped) = rivals(options, &progress)?;
    let peer = place(Some(cores), &daemon, || Peer::start(Some(daemon_core)))?;
    pin(writer_core)?;
    let (keys, requests) = (options.keys, options.requests as usize);
    let mut own = Own::of(&daemon, peer, keys, requests)?;
    let between = machine.cores.get(1..machine.cores.len() - 1).unwrap_or_default().first();
    let reader_core = between.copied().unwrap_or(daemon_core);
    let mut others =
        vec![Contestant::cells(keys, reader_core)?, Contestant::owner(keys, reader_core)?];
    if between.is_some() {
        others.push(Contestant::service(&daemon, keys, reader_core)?);
    } else {
        let name = "l1d set not waited for, another process";
        skipped.push(Skipped { name, reason: TOO_FEW_CORES });
    }
    for store in stores {
        let name = store.name;
        others.push(Contestant::rival(store, keys, reader_core).context(name)?);
    }
    let mut rounds: Vec<Vec<f64>> = vec![Vec::new(); Figure::ALL.len() + others.len()];
    for round in 0..=options.rounds {
        let say =
            |what: &str| progress.say(&format!("round {round} of {}: {what}", options.rounds));
        let mut ns = Vec::with_capacity(rounds.len());
        for figure in Figure::ALL {
            say(figure.name());
            ns.push(own.measure(figure).with_context(|| figure.name())?);
        }
        for other in &mut others {
            say(other.name());
            ns.push(other.measure(requests).with_context(|| other.name())?);
        }
        // The first round is a warm-up.
        if round > 0 {
            rounds.iter_mut().zip(ns).for_each(|(rounds, ns)| rounds.push(ns));
        }
    }
    Ok(Report {
        machine,
        command: machine::command(),
        rounds: options.rounds,
        requests: options.requests,
        keys,
        value_bytes: crate::reads::workload::VALUE_BYTES,
        lines: lines(&others, &rounds),
        skipped,
    })
}

/// Starts those that can be read from another process.
fn rivals(
    options: &VisibilityOptions,
    progress: &Progress,
) -> Result<(Vec<stores::Started>, Vec<Skipped>)> {
    let (mut started, mut skipped) = (Vec::new(), Vec::new());
    for &rival in &options.rivals.0 {
        let name = rival.name();
        progress.say(&format!("starting {name}"));
        match stores::start(rival, options.keys).context(name)? {
            Entry::Takes(store) if store.place.is_none() => {
                skipped.push(Skipped { name, reason: OF_ONE_PROCESS });
            }
            Entry::Takes(store) => started.push(*store),
            Entry::Skips(reason) => skipped.push(Skipped { name, reason }),
        }
    }
    Ok((started, skipped))
}

fn lines(others: &[Contestant], rounds: &[Vec<f64>]) -> Vec<Line> {
    let of = |figure: Figure| {
        let place = Figure::ALL.iter().position(|other| *other == figure);
        place.and_then(|place| rounds.get(place)).map_or(&[][..], Vec::as_slice)
    };
    let limits = of(Figure::SpinRoundTrip).iter().zip(of(Figure::OwnerSet));
    let limits: Vec<f64> = limits.map(|(trip, set)| trip + 2.0 * set).collect();
    let own = Figure::ALL.map(|figure| {
        let [text, seen_by] = figure.text();
        (figure.name(), text, seen_by)
    });
    let others =
        others.iter().map(|other| (other.name(), other.name(), "another process, which spins"));
    own.into_iter()
        .chain(others)
        .zip(rounds)
        .map(|((figure, text, seen_by), ns)| Line {
            figure,
            seen_by,
            text,
            ns: Spread::of(ns.clone()),
            times_limit: Spread::of_ratios(ns, &limits),
        })
        .collect()
}

fn text(report: &Report) -> String {
    let mut lines = table(2, ["what was set", "until it is seen by", "ns", "x bound"]);
    for line in &report.lines {
        lines.add_row([
            line.text.to_owned(),
            line.seen_by.to_owned(),
            line.ns.to_string(),
            line.times_limit.to_string(),
        ]);
    }
    let Machine { cpu, kernel, cores } = &report.machine;
    let mut text = format!(
        "{cpu}, kernel {kernel}, {} cores. {} keys, set in turn, values of {} bytes. Medians \
         (least-greatest) of\n\
         {} rounds, of each the median of its sets, in turns; from the begin of a set until the \
         value is seen.\n\
         Bound: a round trip of two processes that spin, and two of the owner's sets.\n{lines}",
        cores.len(),
        report.keys,
        report.value_bytes,
        report.rounds
    );
    for Skipped { name, reason } in &report.skipped {
        text += &format!("\nWithout {name}: {reason}");
    }
    text
}
