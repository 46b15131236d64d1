//! One workload after the other, all contestants in turns.

use super::arena::Arena;
use super::contest::{Contestant, Entrant, Limit, Peek, contest};
use super::limit::ReadOptions;
use super::loaded::load;
use super::processes::{Scaling, scaling};
use super::report::{Report, Run};
use super::workload::{Stream, Workload};
use crate::daemon::Daemon;
use crate::machine::{Machine, cores, pin};
use crate::progress::Progress;
use anyhow::{Context, Result};
use std::path::Path;

/// What is read: the same keys in both.
#[derive(Debug)]
pub struct Subject {
    /// The limit's memory.
    pub arena: Arena,
    /// A daemon that holds all keys, where l1d takes part.
    pub daemon: Option<Daemon>,
}

/// Measures the limit; with `l1d` (and perhaps the path of its program) also `peek_into`, in the
/// same rounds.
///
/// # Errors
/// No memory, no core, no daemon, or a contestant that read a wrong value.
pub fn measure(options: &ReadOptions, l1d: Option<Option<&Path>>) -> Result<Report> {
    let progress = Progress::new();
    let machine = Machine::this()?;
    let core = *machine.cores.last().context("no core to run on")?;
    let mut runs = Vec::new();
    for workload in options.workloads() {
        progress.say(&format!("{workload}: filling the limit's memory"));
        let arena = Arena::fill(workload.keys, options.seed)?;
        let daemon = l1d.map(|program| load(workload.keys, program, &progress)).transpose()?;
        let subject = Subject { arena, daemon };
        // Another process must not inherit the pin, so the processes come first.
        let scaling = if options.processes == 2 {
            scale(options, workload, &subject, &progress)?
        } else {
            Vec::new()
        };
        let entrants = alone(options, workload, &subject, (core, &progress))?;
        runs.push(Run { workload: workload.to_string(), entrants, scaling });
    }
    Ok(Report { machine, core, pace: options.pace(), runs })
}

/// Rounds in one process, in a thread of its own so that nothing else of this process is pinned.
fn alone(
    options: &ReadOptions,
    workload: Workload,
    subject: &Subject,
    (core, progress): (usize, &Progress),
) -> Result<Vec<Entrant>> {
    let run = || {
        pin(core)?;
        progress.say(&format!("{workload}: drawing keys"));
        let stream = Stream::draw(workload, &subject.arena.slots, options.seed);
        let every_key = Stream::every_key(workload, &subject.arena.slots);
        let mut contestants: Vec<Box<dyn Contestant>> =
            vec![Box::new(Limit { arena: subject.arena.reader()? })];
        if let Some(daemon) = &subject.daemon {
            contestants.push(Box::new(Peek { client: daemon.client()? }));
        }
        contest(&mut contestants, (workload, &stream, &every_key), options.pace(), progress)
    };
    std::thread::scope(|scope| scope.spawn(run).join())
        .unwrap_or_else(|_| anyhow::bail!("the reading thread panicked"))
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
