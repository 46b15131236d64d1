//! `misses --syscalls`: the daemon's system calls for each operation. All processes ask at the same
//! moment and pause until both sides sleep, so that the count does not depend on the timing of
//! spins, and a regression shows as reliably as one of instructions.

use super::cast::Cast;
use super::contestant::Contestant;
use super::operation::Operation;
use super::options::MissesOptions;
use super::prepare;
use super::strace::{Calls, Strace, now};
use super::worker::{Done, Order};
use crate::machine::{self, Machine};
use crate::progress::Progress;
use crate::table::table;
use anyhow::{Context, Result, ensure};
use l1d::clock::monotonic_ns;
use serde::Serialize;
use std::collections::BTreeMap;

/// Pause between two steps, long enough for both sides to be asleep.
const PAUSE_NS: u64 = 6_000_000;
/// Steps before counting begins, with strace attached.
const WARM_UP: u32 = 20;
/// Default numbers of processes.
const PROCESSES: [u32; 2] = [1, 8];

#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    command: String,
    steps: u32,
    syscalls: Vec<Row>,
}

/// The daemon's calls for each operation.
#[derive(Debug, Serialize)]
struct Row {
    operation: Operation,
    processes: u32,
    /// All but empty polls.
    total: f64,
    /// `epoll_wait` calls that returned 0.
    empty_polls: f64,
    by_name: BTreeMap<String, f64>,
}

/// Runs `misses --syscalls`.
///
/// # Errors
/// Servers, daemon or strace do not start, or an operation fails.
pub fn syscalls(options: &MissesOptions) -> Result<()> {
    let (progress, machine) = (Progress::new(), Machine::this()?);
    let options = MissesOptions { contestants: vec![Contestant::L1d], ..options.clone() };
    let mut rows = Vec::new();
    for &processes in options.processes.as_deref().unwrap_or(&PROCESSES) {
        let mut cast = Cast::start(&options, processes)?;
        for (&operation, measurement) in options.operations.iter().zip(1..) {
            progress.say(&format!("{processes} processes: {}", operation.name()));
            let calls = count(&options, &mut cast, operation, measurement)
                .with_context(|| format!("{}, {processes} processes", operation.name()))?;
            rows.push(Row::of(operation, processes, options.steps, &calls));
        }
    }
    drop(progress);
    let report =
        Report { machine, command: machine::command(), steps: options.steps, syscalls: rows };
    if !crate::output::json(options.json, &report)? {
        crate::output::print(text(&report))?;
    }
    Ok(())
}

/// Counts the calls of `--steps` operations of each process.
fn count(
    options: &MissesOptions,
    cast: &mut Cast,
    operation: Operation,
    measurement: u32,
) -> Result<Calls> {
    let (batch, steps) = (operation.batch(), WARM_UP + options.steps);
    let processes = u32::try_from(cast.team(Contestant::L1d)?.processes.len())?;
    let value = vec![7; options.value_bytes as usize];
    prepare::fill(&cast.servers, operation, measurement, (processes, steps * batch), &value)?;
    let strace = Strace::attach(cast.daemon_pid()?)?;
    let mut from = now();
    for step in 0..steps {
        if step == WARM_UP {
            // Within the pause between two steps.
            from = now();
        }
        let begin_ns = monotonic_ns() + PAUSE_NS;
        let order = Order {
            operation,
            measurement,
            first: step * batch,
            keys: (step + 1) * batch,
            begin_ns,
            count_ns: begin_ns,
            end_ns: begin_ns,
        };
        let team = cast.team(Contestant::L1d)?;
        team.processes.iter_mut().try_for_each(|process| process.tell(&order))?;
        for process in &mut team.processes {
            let Done { count, last_error, .. } = process.answer()?;
            ensure!(count == 1, "an operation failed: {}", last_error.unwrap_or_default());
        }
    }
    strace.calls(from, now())
}

impl Row {
    fn of(operation: Operation, processes: u32, steps: u32, calls: &Calls) -> Row {
        let operations = f64::from(steps) * f64::from(processes);
        let each = |count: u64| count as f64 / operations;
        let by_name = calls.by_name.iter().map(|(name, &count)| (name.clone(), each(count)));
        Row {
            operation,
            processes,
            total: each(calls.by_name.values().sum()),
            empty_polls: each(calls.empty_polls),
            by_name: by_name.collect(),
        }
    }
}

fn text(report: &Report) -> String {
    let mut lines = table(1, ["operation", "processes", "calls", "empty polls", "by name"]);
    for row in &report.syscalls {
        let mut names: Vec<_> = row.by_name.iter().filter(|(_, each)| **each >= 0.005).collect();
        names.sort_by(|a, b| b.1.total_cmp(a.1));
        let names: Vec<_> = names.iter().map(|(name, each)| format!("{name} {each:.2}")).collect();
        lines.add_row([
            row.operation.name().to_owned(),
            row.processes.to_string(),
            format!("{:.2}", row.total),
            format!("{:.2}", row.empty_polls),
            names.join(", "),
        ]);
    }
    format!(
        "The daemon's system calls for each operation, over {} steps in which all processes ask \
         at one moment, \
         both sides asleep before.\n{lines}",
        report.steps
    )
}
