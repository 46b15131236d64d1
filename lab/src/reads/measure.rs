//! One workload after the other, with all contestants taking turns.

use super::arena::{Arena, slots};
use super::cases::{self, Case, Setting};
use super::command::{ReadCommand, ReadOptions};
use super::contest::{Contestant, Entrant, Held, Limit, Peek, Reads, contest};
use super::loaded::{absent, load_numbered};
use super::pass::Chain;
use super::processes::{Scaling, scaling};
use super::report::{Report, Run, Skip};
use super::rivals::Sought;
use super::workload::{Places, Stream, VALUE_BYTES, Workload};
use crate::daemon::Daemon;
use crate::machine::{self, Machine, cores, pin};
use crate::progress::Progress;
use anyhow::{Context, Result};

/// Bytes of memory per key for the limit, l1d and the list of reads.
pub const KEY_BYTES_USED: u64 = 122 + 140 + 96;

/// The stores that are read; both have the same keys.
#[derive(Debug)]
pub struct Subject {
    /// The limit's memory.
    pub arena: Arena,
    /// A daemon that holds all keys, if l1d takes part.
    pub daemon: Option<Daemon>,
}

/// Measures the limit; with a command, also all its cases, with l1d and its rivals beside the
/// limit.
///
/// # Errors
/// No memory, no core, no daemon, or a contestant read a wrong value.
pub fn measure(options: &ReadOptions, command: Option<&ReadCommand>) -> Result<Report> {
    let progress = Progress::new();
    let machine = Machine::this()?;
    let core = *machine.cores.last().context("no core to run on")?;
    let mut report = Report {
        machine,
        command: machine::command(),
        core,
        pace: options.pace(),
        runs: Vec::new(),
        rows: Vec::new(),
        skipped: Vec::new(),
    };
    for &case in command.map_or(&[Case::Hit][..], |command| &command.cases) {
        match command {
            Some(command) if case != Case::Hit => {
                let setting = Setting { command, core, progress: &progress };
                let outcome = cases::measure(case, &setting)?;
                report.rows.extend(outcome.rows);
                report.skipped.extend(outcome.skipped);
            }
            _ => {
                for workload in options.workloads() {
                    let (run, skipped) = hits(options, command, workload, (core, &progress))?;
                    report.runs.push(run);
                    report.skipped.extend(skipped);
                }
            }
        }
    }
    Ok(report)
}

fn hits(
    options: &ReadOptions,
    command: Option<&ReadCommand>,
    workload: Workload,
    (core, progress): (usize, &Progress),
) -> Result<(Run, Vec<Skip>)> {
    if let Some(command) = command {
        command.rivals.fit(workload.keys, KEY_BYTES_USED)?;
    }
    progress.say(&format!("{workload}: filling the limit's memory"));
    let arena = Arena::fill(workload.keys, VALUE_BYTES, options.seed)?;
    let load =
        |of: &ReadCommand| load_numbered(workload.keys, VALUE_BYTES, of.l1d.as_deref(), progress);
    let subject = Subject { arena, daemon: command.map(load).transpose()? };
    // Child processes would inherit the pinning, so they are started first.
    let scaling = if options.processes == 2 {
        scale(options, workload, &subject, progress)?
    } else {
        Vec::new()
    };
    let (entrants, skipped) =
        pinned(core, || alone(options, command, (workload, &subject), progress))?;
    Ok((Run { workload: workload.to_string(), entrants, scaling }, skipped))
}

/// Runs on a core, in its own thread so that nothing else in this process is pinned. Servers
/// started by it inherit the core: next to their only client they answer fastest.
pub fn pinned<T: Send>(core: usize, run: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let run = || {
        pin(core)?;
        run()
    };
    std::thread::scope(|scope| scope.spawn(run).join())
        .unwrap_or_else(|_| anyhow::bail!("the reading thread panicked"))
}

/// Rounds in one process.
fn alone(
    options: &ReadOptions,
    command: Option<&ReadCommand>,
    (workload, subject): (Workload, &Subject),
    progress: &Progress,
) -> Result<(Vec<Entrant>, Vec<Skip>)> {
    let slots = slots(workload.keys, options.seed);
    let mut places = Places { slots, absent: Vec::new(), shift: 0 };
    let mut contestants: Vec<Box<dyn Contestant>> =
        vec![Box::new(Held(Limit::<VALUE_BYTES> { arena: subject.arena.reader()? }))];
    let mut skipped = Vec::new();
    if let Some(daemon) = &subject.daemon {
        let client = daemon.client()?;
        places.absent = absent(&client, workload.keys)?;
        contestants.push(Box::new(Held(Peek { client, value_bytes: VALUE_BYTES })));
    }
    if let Some(command) = command {
        let (rivals, without) = command.rivals.load(workload.keys, Sought::Held, |rival| {
            progress.say(&format!("{workload}: filling {}", rival.name()));
        })?;
        contestants.extend(rivals);
        skipped.extend(without.into_iter().map(|skip| Skip::new(Case::Hit, workload, skip)));
    }
    progress.say(&format!("{workload}: drawing keys"));
    let stream = Stream::draw(workload, &places, options.seed);
    let every_key = Stream::every_key(workload, &places);
    let name = workload.to_string();
    let reads = Reads { name: &name, stream: &stream, every_key: &every_key, chains: &Chain::ALL };
    Ok((contest(&mut contestants, reads, options.pace(), progress)?, skipped))
}

fn scale(
    options: &ReadOptions,
    workload: Workload,
    subject: &Subject,
    progress: &Progress,
) -> Result<Vec<Scaling>> {
    let cores = cores()?;
    let (Some(&first), Some(&last)) = (cores.first(), cores.last()) else {
        anyhow::bail!("no core to run on")
    };
    anyhow::ensure!(first != last, "two processes need two cores; only core {first} may be used");
    scaling(workload, subject, [first, last], (options.seed, options.pace()), progress)
}
