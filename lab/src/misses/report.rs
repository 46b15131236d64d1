//! The figures of a run and their ratios.

use super::contestant::Contestant;
use super::operation::Operation;
use super::options::MissesOptions;
use super::run::Measured;
use crate::distance::{Distance, Load};
use crate::machine::{self, Machine};
use crate::statistics::Spread;
use serde::Serialize;

/// The report.
#[derive(Debug, Serialize)]
pub struct Report {
    pub machine: Machine,
    pub command: String,
    pub rounds: u32,
    pub seconds: f64,
    pub value_bytes: u32,
    /// Round trip to the tiers, in ms; `None` if they are on the host.
    pub distance_ms: Option<Distance>,
    pub rows: Vec<Row>,
    /// Ratios of two contestants' figures, taken round by round.
    pub ratios: Vec<Ratio>,
}

/// A contestant's figures for an operation with a number of processes, by round.
#[derive(Debug, Serialize)]
pub struct Row {
    pub operation: Operation,
    pub processes: u32,
    pub contestant: Contestant,
    /// Operations per second of all processes together.
    pub per_second: Vec<f64>,
    pub p50_us: Vec<f64>,
    pub p99_us: Vec<f64>,
    /// Processor time of all processes and servers, per operation.
    pub cpu_us: Vec<f64>,
    /// Operations that failed or returned a wrong result, in all rounds.
    pub errors: u64,
    pub last_error: Option<String>,
    /// The load of the proxy, by round; empty if the tiers are on the host.
    pub proxy: Vec<Load>,
}

/// One contestant's figures divided by another's.
#[derive(Debug, Serialize)]
pub struct Ratio {
    pub operation: Operation,
    pub processes: u32,
    pub of: Contestant,
    pub to: Contestant,
    pub per_second: Spread,
    pub p50: Spread,
    pub p99: Spread,
    pub cpu: Spread,
}

/// The rows of a run in progress.
pub struct Rows(Vec<Row>);

impl Rows {
    /// An empty row for each combination, in the order of the tables.
    pub fn new(options: &MissesOptions, counts: &[u32]) -> Rows {
        let mut rows = Vec::new();
        for &operation in &options.operations {
            for &processes in counts {
                rows.extend(options.contestants.iter().map(|&contestant| Row {
                    operation,
                    processes,
                    contestant,
                    per_second: Vec::new(),
                    p50_us: Vec::new(),
                    p99_us: Vec::new(),
                    cpu_us: Vec::new(),
                    errors: 0,
                    last_error: None,
                    proxy: Vec::new(),
                }));
            }
        }
        Rows(rows)
    }

    /// Adds a round's figures to their row.
    pub fn add(
        &mut self,
        operation: Operation,
        processes: u32,
        contestant: Contestant,
        measured: &Measured,
    ) {
        let wanted = (operation, processes, contestant);
        let mut rows = self.0.iter_mut();
        let row = rows.find(|row| (row.operation, row.processes, row.contestant) == wanted);
        let Some(row) = row else { return };
        let us = |share| measured.done.ns.quantile(share) as f64 / 1e3;
        row.per_second.push(measured.per_second);
        row.p50_us.push(us(0.5));
        row.p99_us.push(us(0.99));
        row.cpu_us.push(measured.cpu_ns / 1e3);
        row.proxy.extend(measured.proxy);
        row.errors += measured.done.errors;
        row.last_error = measured.done.last_error.clone().or(row.last_error.take());
    }
}

impl Report {
    /// The report of these rows.
    pub fn new(options: &MissesOptions, machine: Machine, Rows(rows): Rows) -> Report {
        let mut ratios = Vec::new();
        for row in &rows {
            let others = rows.iter().filter(|other| {
                (other.operation, other.processes) == (row.operation, row.processes)
            });
            for to in others.filter(|to| is_compared(row.contestant, to.contestant)) {
                ratios.push(Ratio::of(row, to));
            }
        }
        Report {
            machine,
            command: machine::command(),
            rounds: options.rounds,
            seconds: options.seconds,
            value_bytes: options.value_bytes,
            distance_ms: options.distance,
            rows,
            ratios,
        }
    }
}

fn is_compared(of: Contestant, to: Contestant) -> bool {
    matches!(
        (of, to),
        (Contestant::L1d, Contestant::Direct | Contestant::Forwarder)
            | (Contestant::Forwarder, Contestant::Direct)
    )
}

impl Ratio {
    fn of(row: &Row, to: &Row) -> Ratio {
        Ratio {
            operation: row.operation,
            processes: row.processes,
            of: row.contestant,
            to: to.contestant,
            per_second: Spread::of_ratios(&row.per_second, &to.per_second),
            p50: Spread::of_ratios(&row.p50_us, &to.p50_us),
            p99: Spread::of_ratios(&row.p99_us, &to.p99_us),
            cpu: Spread::of_ratios(&row.cpu_us, &to.cpu_us),
        }
    }
}
