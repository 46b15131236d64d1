//! `l1d-lab attach`: the cost of a process that starts, reads a hundred keys and ends, such as a
//! cron job, a command or a PHP worker.

mod visitor;

use crate::daemon::Daemon;
use crate::interrupt;
use crate::machine::{self, Machine};
use crate::progress::Progress;
use crate::reads::arena::Arena;
use crate::reads::loaded::load_numbered;
use crate::reads::rivals::blackboard::{self, Blackboard};
use crate::reads::rivals::lmdb::Lmdb;
use crate::reads::rivals::memcached::Memcached;
use crate::reads::rivals::redis::Redis;
use crate::reads::rivals::snapshot::Snapshot;
use crate::reads::rivals::{Rival, Skipped};
use crate::reads::workload::VALUE_BYTES;
use crate::statistics::Spread;
use crate::table::table;
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use std::ffi::c_ulong;
use std::path::PathBuf;
use std::process::{Command, Stdio};
pub use visitor::{VisitorPlace, visitor};

/// Options of `attach`.
#[derive(Debug, Clone, clap::Args)]
pub struct AttachOptions {
    /// Entries of 24 + 64 bytes in the table
    #[arg(
        long,
        default_value_t = 1_000_000,
        value_parser = clap::value_parser!(u32).range(1000..=10_000_000)
    )]
    entries: u32,
    /// Random keys that each process reads
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    reads: u32,
    /// Processes of each kind; the kinds take turns
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rounds: u32,
    /// Leave out memcached and Redis, which take a while to fill
    #[arg(long)]
    without_servers: bool,
    /// Seed of the random keys
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The daemon's program [default: the l1d beside this program]
    #[arg(long, value_name = "PATH")]
    l1d: Option<PathBuf>,
    /// One JSON document instead of a table
    #[arg(long)]
    json: bool,
}

/// The contestants without a row, and the reason.
const OWN: &str = "caches and maps of the process's own";
const BEGINS_EMPTY: &str = "a process that begins has nothing in them";
const NOT_ASKED_FOR: &str = "left out by --without-servers";

/// The figures that a process reports about itself.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Visit {
    /// From the start until it could read.
    attach_us: f64,
    /// All reads together.
    reads_us: f64,
    /// Page faults while it attached and read.
    faults: f64,
}

#[derive(Debug, Serialize)]
struct Row {
    contestant: String,
    attach_us: Spread,
    reads_us: Spread,
    /// Attaching and reading.
    total_us: Spread,
    faults: Spread,
}

#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    command: String,
    entries: u32,
    reads: u32,
    rounds: u32,
    rows: Vec<Row>,
    skipped: Vec<Skipped>,
}

/// One kind of process: its name, and the options that tell it where to read.
struct Kind {
    name: String,
    place: [String; 2],
    /// The prefix of its files in /dev/shm, if it has any.
    prefix: String,
    visits: Vec<Visit>,
}

/// Runs `attach`.
///
/// # Errors
/// A daemon or server does not start, or a process did not find a key that exists.
pub fn attach(options: &AttachOptions) -> Result<()> {
    let report = measure(options)?;
    if !crate::output::json(options.json, &report)? {
        crate::output::print(text(&report))?;
    }
    Ok(())
}

fn measure(options: &AttachOptions) -> Result<Report> {
    let (progress, keys) = (Progress::new(), options.entries as usize);
    let machine = Machine::this()?;
    progress.say("filling the limit's memory");
    let arena = Arena::fill(keys, VALUE_BYTES, options.seed)?;
    let load = || load_numbered(keys, VALUE_BYTES, options.l1d.as_deref(), &progress);
    let large = load()?;
    let small = without_large_pages(load)?;
    progress.say("filling lmdb and mmap-sync");
    let (lmdb, snapshot) = (Lmdb::load(options.entries)?, Snapshot::load(options.entries)?);
    let servers = if options.without_servers {
        None
    } else {
        progress.say("filling memcached and redis");
        Some((Memcached::load(options.entries)?, Redis::load(options.entries)?))
    };
    let l1d = |name: &str, daemon: &Daemon, populate: &str| {
        let socket = daemon.socket().display().to_string();
        Kind::new(name, populate, socket)
    };
    let path = |path: PathBuf| path.display().to_string();
    let mut kinds = vec![
        Kind::new("limit, large pages", "limit", arena.path()),
        l1d("l1d, large pages", &large, "l1d"),
        l1d("l1d, large pages, nothing populated", &large, "l1d-nothing"),
        l1d("l1d, small pages", &small, "l1d"),
        l1d("l1d, small pages, index populated", &small, "l1d-index"),
        Kind::new("lmdb", "lmdb", path(lmdb.path())),
        Kind::new("mmap-sync", "mmap-sync", path(snapshot.path())),
    ];
    let mut skipped = vec![Skipped { name: OWN, reason: BEGINS_EMPTY }];
    let blackboard = match keys {
        0..=blackboard::KEYS_MAX => Some(Blackboard::load(options.entries)?),
        _ => None,
    };
    if let Some(blackboard) = &blackboard {
        let place = blackboard.place();
        let kind = Kind::new("iceoryx2", "iceoryx2", path(place.path().to_owned()));
        kinds.push(Kind { prefix: place.prefix().to_owned(), ..kind });
    } else {
        let name = Rival::Blackboard.name();
        skipped.push(Skipped { name, reason: blackboard::TOO_MANY });
    }
    if let Some((memcached, redis)) = &servers {
        kinds.push(Kind::new("memcached", "memcached", path(memcached.path())));
        kinds.push(Kind::new("redis", "redis", path(redis.path())));
    } else {
        for rival in [Rival::Memcached, Rival::Redis] {
            skipped.push(Skipped { name: rival.name(), reason: NOT_ASKED_FOR });
        }
    }
    for round in 0..options.rounds {
        progress.say(&format!("round {} of {}", round + 1, options.rounds));
        for kind in &mut kinds {
            let visit = kind.visit(options, options.seed + u64::from(round))?;
            kind.visits.push(visit);
        }
    }
    Ok(Report {
        machine,
        command: machine::command(),
        entries: options.entries,
        reads: options.reads,
        rounds: options.rounds,
        rows: kinds.iter().map(Kind::row).collect(),
        skipped,
    })
}

/// Runs `start` so that nothing it starts gets large pages.
fn without_large_pages<T>(start: impl FnOnce() -> Result<T>) -> Result<T> {
    let set = |off: c_ulong| {
        // SAFETY: takes only numbers, and changes nothing but the pages of new mappings.
        unsafe {
            nix::libc::prctl(
                nix::libc::PR_SET_THP_DISABLE,
                off,
                0 as c_ulong,
                0 as c_ulong,
                0 as c_ulong,
            )
        }
    };
    ensure!(set(1) == 0, "prctl(PR_SET_THP_DISABLE): {}", std::io::Error::last_os_error());
    let started = start();
    set(0);
    started
}

impl Kind {
    fn new(name: &str, how: &str, place: String) -> Kind {
        let place = [how.to_owned(), place];
        Kind { name: name.to_owned(), place, prefix: String::new(), visits: Vec::new() }
    }

    /// Runs one process that attaches, reads and ends.
    fn visit(&self, options: &AttachOptions, seed: u64) -> Result<Visit> {
        let own = std::env::current_exe().context("this program's own file cannot be found")?;
        let mut command = Command::new(own);
        interrupt::die_together(&mut command);
        let output = command
            .arg("visitor")
            .args(&self.place)
            .args(["--prefix", &self.prefix])
            .args(["--entries", &options.entries.to_string()])
            .args(["--reads", &options.reads.to_string(), "--seed", &seed.to_string()])
            .args(["--arena-seed", &options.seed.to_string()])
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .with_context(|| format!("cannot start a process that reads {}", self.name))?;
        ensure!(output.status.success(), "{}: the reading process failed", self.name);
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("{}: what the reading process said", self.name))
    }

    fn row(&self) -> Row {
        let spread = |of: fn(&Visit) -> f64| Spread::of(self.visits.iter().map(of).collect());
        Row {
            contestant: self.name.clone(),
            attach_us: spread(|visit| visit.attach_us),
            reads_us: spread(|visit| visit.reads_us),
            total_us: spread(|visit| visit.attach_us + visit.reads_us),
            faults: spread(|visit| visit.faults),
        }
    }
}

fn text(report: &Report) -> String {
    let mut lines = table(1, ["", "attach, us", "reads, us", "both, us", "page faults"]);
    for row in &report.rows {
        lines.add_row([
            row.contestant.clone(),
            row.attach_us.to_string(),
            row.reads_us.to_string(),
            row.total_us.to_string(),
            row.faults.to_string(),
        ]);
    }
    let Machine { cpu, kernel, .. } = &report.machine;
    let mut text = format!(
        "{cpu}, kernel {kernel}. Processes that attach to {} entries of 24 + 64 bytes and read \
         {} of them;\nmedians (least-greatest) of {} processes each, in turns.\n{lines}",
        report.entries, report.reads, report.rounds
    );
    for Skipped { name, reason } in &report.skipped {
        text += &format!("\nWithout {name}: {reason}");
    }
    text
}
