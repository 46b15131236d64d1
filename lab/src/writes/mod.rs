//! `l1d-lab write`: the cost of a set for its client, beside the best that two processes with
//! shared memory can do, and beside other stores.
//!
//! | part | file |
//! |---|---|
//! | the figures and their limits | `figure` |
//! | the client's side | `run` |
//! | the other process of a round trip | `peer` |
//! | the owner of a table alone | `owner` |
//! | other stores | `rivals` |
//! | the placement on cores | `place` |

mod figure;
mod owner;
mod peer;
mod place;
mod rivals;
mod run;

pub use owner::owner_set;
pub use peer::{Peer, PeerPlace, peer};
pub use place::{Placement, place};
pub use run::tell;

use crate::daemon::{DEADLINE, Daemon, TableShape};
use crate::machine::{self, Machine};
use crate::progress::Progress;
use crate::reads::rivals::{Rivals, Skipped};
use crate::statistics::Spread;
use crate::table::table;
use anyhow::{Context, Result};
use clap::ValueEnum;
use figure::Figure;
use l1d_client::Client;
use run::Run;
use serde::Serialize;
use std::path::PathBuf;

/// Bytes of a value.
const VALUE_BYTES: usize = 64;
/// Hot keys that are written repeatedly.
const KEYS: u32 = 10_000;
/// Bursts of sustained sets in each round.
const BURSTS: usize = 50;
/// Ten times the size of the keys' entries, so that the log is recycled repeatedly.
pub const SHAPE: TableShape =
    TableShape { table_bytes: 64 << 20, value_bytes_max: 4096, entry_bytes: 128 };

/// Options of `write`.
#[derive(Debug, Clone, clap::Args)]
pub struct WriteOptions {
    /// Rounds; in each, every figure takes its turn
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Requests of each kind in each round; a hundredth of that if the daemon sleeps before each,
    /// fifty times as many unacknowledged ones
    #[arg(
        long,
        default_value_t = 10_000,
        value_parser = clap::value_parser!(u32).range(1000..=10_000_000)
    )]
    requests: u32,
    /// Placement of daemon and client on cores
    #[arg(long, value_enum, default_value_t = Placement::TwoCores)]
    placement: Placement,
    /// Rivals: `none`, `all`, or names separated by commas: quick_cache, moka, papaya, dashmap,
    /// rwlock-hashmap (in the client's process), lmdb, iceoryx2, mmap-sync (in shared memory),
    /// memcached, redis (over a unix socket, on the daemon's core)
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
    figure: String,
    #[serde(skip)]
    text: String,
    ns: Spread,
    times_limit: Option<Spread>,
}

#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    command: String,
    placement: Placement,
    rounds: u32,
    value_bytes: usize,
    keys: u32,
    lines: Vec<Line>,
    skipped: Vec<Skipped>,
}

/// A figure by round.
struct Rounds {
    name: String,
    text: String,
    limit: Option<Figure>,
    ns: Vec<f64>,
}

/// Runs `write`.
///
/// # Errors
/// The daemon does not start or refuses a request, or a rival fails.
pub fn write(options: &WriteOptions) -> Result<()> {
    let report = measure(options)?;
    if !crate::output::json(options.json, &report)? {
        crate::output::print(text(&report))?;
    }
    Ok(())
}

fn text(report: &Report) -> String {
    let mut lines = table(1, ["", "ns", "x limit"]);
    for line in &report.lines {
        let times = line.times_limit.map_or(String::new(), |times| times.to_string());
        lines.add_row([line.text.clone(), line.ns.to_string(), times]);
    }
    let placement = report.placement.to_possible_value();
    let mut text = format!(
        "{}, kernel {}. Daemon and client: {}. {} keys, values of {} bytes. Medians \
         (least-greatest)\n\
         of {} rounds; of each round the median of its requests, and of the means of bursts \
         where they are sustained.\n\
         Limits: of a set asleep the futex round trip, of what is sustained the owner's set, of \
         others the\n\
         spinning round trip. Rivals: of one process where they are maps and caches; sustained, \
         lmdb,\n\
         mmap-sync and the servers take a hundred sets at once.\n{lines}",
        report.machine.cpu,
        report.machine.kernel,
        placement.map_or_else(String::new, |name| name.get_name().to_owned()),
        report.keys,
        report.value_bytes,
        report.rounds
    );
    for Skipped { name, reason } in &report.skipped {
        text += &format!("\nWithout {name}: {reason}");
    }
    text
}

fn measure(options: &WriteOptions) -> Result<Report> {
    let (progress, machine) = (Progress::new(), Machine::this()?);
    let cores = options.placement.cores(&machine)?;
    progress.say("starting the daemon");
    let daemon = Daemon::start(options.l1d.as_deref(), SHAPE, "")?;
    let say = |name: &str| progress.say(&format!("starting {name}"));
    let (peer, (mut stores, skipped)) = place(cores, &daemon, || {
        let peer = Peer::start(cores.map(|[daemon_core, _]| daemon_core))?;
        Ok((peer, rivals::start(&options.rivals, KEYS, say)?))
    })?;
    let mut run = Run {
        peer,
        client: daemon.client()?,
        socket_client: Client::builder()
            .socket(daemon.socket())
            .deadline(DEADLINE)
            .attach_deadline(DEADLINE)
            .mailbox(false)
            .connect()?,
        keys: (0..KEYS).map(|key| format!("unified:item:{key:08}").into_bytes()).collect(),
        requests: options.requests as usize,
    };
    let is_measured =
        |figure: &Figure| options.placement != Placement::OneCore || figure.is_for_one_core();
    let figures: Vec<Figure> = Figure::ALL.into_iter().filter(is_measured).collect();
    let mut all: Vec<Rounds> = figures.iter().map(|figure| Rounds::of(*figure)).collect();
    all.extend(stores.iter().flat_map(|store| Rounds::of_rival(store.name)));
    for round in 0..=options.rounds {
        let say =
            |what: &str| progress.say(&format!("round {round} of {}: {what}", options.rounds));
        let mut ns = Vec::with_capacity(all.len());
        for &figure in &figures {
            say(figure.text());
            ns.push(run.measure(figure).with_context(|| figure.text())?);
        }
        for store in &mut stores {
            say(store.name);
            ns.push(rivals::single(store, KEYS, run.requests).context(store.name)?);
            ns.push(rivals::sustained(store, KEYS, run.requests).context(store.name)?);
        }
        // The first round is a warm-up.
        if round > 0 {
            all.iter_mut().zip(ns).for_each(|(rounds, ns)| rounds.ns.push(ns));
        }
    }
    let lines = all.iter().map(|rounds| rounds.line(&all)).collect();
    Ok(Report {
        machine,
        command: machine::command(),
        placement: options.placement,
        rounds: options.rounds,
        value_bytes: VALUE_BYTES,
        keys: KEYS,
        lines,
        skipped,
    })
}

impl Rounds {
    fn of(figure: Figure) -> Rounds {
        Rounds {
            name: figure.name().to_owned(),
            text: figure.text().to_owned(),
            limit: figure.limit(),
            ns: Vec::new(),
        }
    }

    /// A set that is visible when it returns, and sustained sets.
    fn of_rival(name: &str) -> [Rounds; 2] {
        let rounds = |what: &str, limit| {
            let name = format!("{name}: {what}");
            Rounds { text: name.clone(), name, limit: Some(limit), ns: Vec::new() }
        };
        [rounds("set", Figure::SpinRoundTrip), rounds("set, sustained", Figure::OwnerSet)]
    }

    fn line(&self, all: &[Rounds]) -> Line {
        let limit = self.limit.and_then(|limit| all.iter().find(|one| one.name == limit.name()));
        Line {
            figure: self.name.clone(),
            text: self.text.clone(),
            ns: Spread::of(self.ns.clone()),
            times_limit: limit.map(|limit| Spread::of_ratios(&self.ns, &limit.ns)),
        }
    }
}

/// The median of requests or bursts.
pub fn median(figures: Vec<f64>) -> f64 {
    Spread::of(figures).median
}
