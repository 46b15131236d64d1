//! `l1d-lab idle`: the activity of an idle daemon.

use crate::daemon::{Daemon, TableShape};
use crate::machine::{self, Machine};
use crate::progress::Progress;
use crate::table::table;
use crate::threads::{Count, counts};
use anyhow::{Context, Result};
use l1d_client::{Client, SetOptions};
use serde::Serialize;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Length of the load: sets as fast as one client can.
const LOAD: Duration = Duration::from_secs(1);
const SHAPE: TableShape =
    TableShape { table_bytes: 64 << 20, value_bytes_max: 4096, entry_bytes: 128 };

/// Options of `idle`.
#[derive(Debug, Clone, clap::Args)]
pub struct IdleOptions {
    /// Idle clients that are attached
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=500))]
    clients: u32,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// The daemon's program [default: the l1d beside this program]
    #[arg(long, value_name = "PATH")]
    l1d: Option<PathBuf>,
    /// One JSON document instead of a table
    #[arg(long)]
    json: bool,
}

/// A thread of the idle daemon.
#[derive(Debug, Serialize)]
struct Row {
    when: &'static str,
    /// Its name, or `all`.
    thread: String,
    /// Percent of one core.
    cpu_percent: f64,
    wakeups_per_second: f64,
}

#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    command: String,
    clients: u32,
    seconds: u64,
    rows: Vec<Row>,
}

/// Runs `idle`.
///
/// # Errors
/// The daemon does not start, or `/proc` lacks the counts of its threads.
pub fn idle(options: &IdleOptions) -> Result<()> {
    let (progress, machine) = (Progress::new(), Machine::this()?);
    let daemon = Daemon::start(options.l1d.as_deref(), SHAPE, "[defaults]\nttl = \"1h\"\n")?;
    let clients: Result<Vec<Client>> = (0..options.clients).map(|_| daemon.client()).collect();
    let clients = clients?;
    let mut rows = Vec::new();
    let mut rest = |when| {
        progress.say(&format!("{when}: {} s of nothing", options.seconds));
        rows.extend(while_idle(when, daemon.pid(), options.seconds)?);
        anyhow::Ok(())
    };
    rest("since the start")?;
    load(clients.first().context("no client")?)?;
    // The daemon polls for the next request a moment longer, and its timer ticks.
    std::thread::sleep(Duration::from_millis(500));
    rest("after a load")?;
    let report = Report {
        machine,
        command: machine::command(),
        clients: options.clients,
        seconds: options.seconds,
        rows,
    };
    if !crate::output::json(options.json, &report)? {
        crate::output::print(text(&report))?;
    }
    Ok(())
}

/// Sets and reads, to give the daemon enough to do.
fn load(client: &Client) -> Result<()> {
    let options = SetOptions { no_wait: true, ..SetOptions::default() };
    let (begun, mut number) = (Instant::now(), 0_u32);
    while begun.elapsed() < LOAD {
        let key = (number % 10_000).to_le_bytes();
        match client.set_with(key, [7; 64], &options) {
            Ok(_) => number += 1,
            Err(l1d_client::Error::Busy { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let _ = client.peek(key);
    }
    client.set(b"last", b"one")?;
    Ok(())
}

fn while_idle(when: &'static str, pid: u32, seconds: u64) -> Result<Vec<Row>> {
    let (before, begun) = (counts(pid)?, Instant::now());
    std::thread::sleep(Duration::from_secs(seconds));
    let (after, took) = (counts(pid)?, begun.elapsed().as_secs_f64());
    #[expect(clippy::cast_precision_loss, reason = "counts of some seconds")]
    let row = |thread: String, cpu_ns: u64, sleeps: u64| Row {
        when,
        thread,
        cpu_percent: cpu_ns as f64 / took / 1e7,
        wakeups_per_second: sleeps as f64 / took,
    };
    let mut all = (0, 0);
    let mut rows = Vec::new();
    for (thread, now) in after {
        let then = before.get(&thread).copied().unwrap_or(Count { cpu_ns: 0, sleeps: 0 });
        let (cpu_ns, sleeps) = (now.cpu_ns - then.cpu_ns, now.sleeps - then.sleeps);
        all = (all.0 + cpu_ns, all.1 + sleeps);
        rows.push(row(thread.1, cpu_ns, sleeps));
    }
    rows.push(row("all".to_owned(), all.0, all.1));
    Ok(rows)
}

fn text(report: &Report) -> String {
    let mut lines = table(2, ["", "thread", "CPU, %", "wake-ups/s"]);
    for row in &report.rows {
        lines.add_row([
            row.when.to_owned(),
            row.thread.clone(),
            format!("{:.3}", row.cpu_percent),
            format!("{:.2}", row.wakeups_per_second),
        ]);
    }
    let Machine { cpu, kernel, .. } = &report.machine;
    format!(
        "{cpu}, kernel {kernel}. An idle daemon with {} clients attached, over {} s.\n{lines}",
        report.clients, report.seconds
    )
}
