//! `l1d-lab crash`: what a crash or an end costs. The daemon's: hits while it is dead, entries kept,
//! time until the next one is ready, requests under way at its clean stop. A client's: time until
//! its mailbox is gone, and the wait of others.
//!
//! | part | file |
//! |---|---|
//! | hits of a dead daemon | `hits` |
//! | a kill of a daemon with a full table | `kept` |
//! | kills of clients | `clients` |
//! | SIGTERM under load | `stop` |

mod clients;
mod hits;
mod kept;
mod stop;

use crate::daemon::{Daemon, TableShape};
use crate::machine::{self, Machine};
use crate::progress::Progress;
use crate::statistics::Spread;
use crate::table::table;
use anyhow::Result;
use bytesize::ByteSize;
pub use clients::{CrashClientPlace, client};
use serde::Serialize;
use std::path::PathBuf;

/// Options of `crash`.
#[derive(Debug, Clone, clap::Args)]
pub struct CrashOptions {
    /// Sizes of the tables that are filled
    #[arg(long, value_delimiter = ',', default_value = "1GiB,4GiB")]
    tables: Vec<ByteSize>,
    /// Rounds of the hits and of the ends of the daemon
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Kills of the daemon with each table
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    kills: u32,
    /// Kills of clients
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    client_kills: u32,
    /// Seed of the moments of kills
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The daemon's program [default: the l1d beside this program]
    #[arg(long, value_name = "PATH")]
    l1d: Option<PathBuf>,
    /// One JSON document instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    command: String,
    hits: hits::Hits,
    kept: Vec<kept::Kept>,
    clients: clients::Clients,
    stop: stop::Stop,
}

/// Runs `crash`.
///
/// # Errors
/// A daemon or server does not start.
pub fn crash(options: &CrashOptions) -> Result<()> {
    let progress = Progress::new();
    progress.say("hits of a dead daemon");
    let hits = hits::measure(options)?;
    let mut kept = Vec::new();
    for size in &options.tables {
        progress.say(&format!("kills with a table of {size}"));
        kept.push(kept::measure(options, size.as_u64())?);
    }
    progress.say("kills of clients");
    let clients = clients::measure(options)?;
    progress.say("ends of the daemon under load");
    let stop = stop::measure(options)?;
    drop(progress);
    let report = Report {
        machine: Machine::this()?,
        command: machine::command(),
        hits,
        kept,
        clients,
        stop,
    };
    if !crate::output::json(options.json, &report)? {
        crate::output::print(text(&report))?;
    }
    Ok(())
}

/// A daemon without tiers.
fn daemon(options: &CrashOptions, table_bytes: u64, entry_bytes: u64) -> Result<Daemon> {
    let shape = TableShape { table_bytes, value_bytes_max: 16 << 10, entry_bytes };
    Daemon::start(options.l1d.as_deref(), shape, "[defaults]\nttl = \"24h\"\n")
}

fn text(report: &Report) -> String {
    let Report { hits, clients, stop, .. } = report;
    let mut lines = table(1, ["", "measured", "goal"]);
    let one = |spread: &Spread, unit: &str| format!("{spread} {unit}");
    let mut row = |name: String, figure: String, goal: &str| {
        lines.add_row([name, figure, goal.to_owned()]);
    };
    row("a hit, the daemon alive".into(), one(&hits.alive_ns, "ns"), "");
    row("a hit, the daemon dead".into(), one(&hits.dead_ns, "ns"), "");
    row("dead / alive".into(), hits.ratio.to_string(), "at most 1.05");
    for kept in &report.kept {
        let size = ByteSize(kept.table_bytes);
        let gib = kept.table_bytes as f64 / f64::from(1 << 30);
        let goal = format!("at most {:.0} ms", 200.0 + 50.0 * gib);
        row(format!("{size}: SIGKILL to READY"), one(&kept.ready_ms, "ms"), &goal);
        let least = format!("{:.4} % of {}", kept.kept_percent_min, kept.entries);
        row(format!("{size}: entries kept, least"), least, "at least 99.9 %");
    }
    row("a client killed: its mailbox gone".into(), one(&clients.gone_ms, "ms"), "at most 100 ms");
    row("others meanwhile, longest set".into(), format!("{:.1} ms", clients.longest_ms), "");
    row("others before, longest set".into(), format!("{:.1} ms", clients.longest_before_ms), "");
    row("SIGTERM under load: to the end".into(), one(&stop.end_ms, "ms"), "");
    row("requests acknowledged".into(), stop.acknowledged.to_string(), "");
    row("of these not in Redis".into(), stop.acknowledged_lost.to_string(), "0");
    row("requests refused, or unknown".into(), stop.refused.to_string(), "");
    row("requests without an answer".into(), stop.unanswered.to_string(), "0");
    row("sets that want no answer".into(), stop.posted.to_string(), "");
    row("of these not in Redis".into(), stop.posted_lost.to_string(), "0");
    let Machine { cpu, kernel, .. } = &report.machine;
    format!("{cpu}, kernel {kernel}. {}\n{lines}", report.command)
}
