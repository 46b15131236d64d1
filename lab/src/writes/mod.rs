//! `l1d-lab write`: what a set costs its client, and when it is seen, beside what two sides that share
//! memory can do at best.

mod limit;

use crate::daemon::{Daemon, TableShape};
use crate::machine::{self, Machine, pin};
use crate::progress::Progress;
use crate::statistics::Spread;
use crate::table::table;
use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use l1d_client::{Client, Error, SetOptions};
use l1d_instructions::served::Served;
use serde::Serialize;
use shm_layout::entry::NEVER;
use shm_layout::{Entry, Plan};
use std::path::PathBuf;
use std::time::{Duration, Instant};

const VALUE_BYTES: usize = 64;
/// Hot keys that are written over and over.
const KEYS: usize = 10_000;
/// Between two requests that find the daemon asleep.
const PAUSE: Duration = Duration::from_millis(2);
/// Of sustained sets, in each round.
const BURSTS: usize = 50;
/// Of a table that this process owns itself.
const OWN_TABLE_BYTES: u64 = 64 << 20;
const NO_WAIT: SetOptions = SetOptions { ttl: None, flags: 0, write: None, no_wait: true };

/// Options of `write`.
#[derive(Debug, Clone, clap::Args)]
pub struct WriteOptions {
    /// Rounds; in each, everything takes its turn
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Requests of each kind in each round; a hundredth of it where the daemon sleeps before each,
    /// fifty times as many that are not waited for
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1000..=10_000_000))]
    requests: u32,
    /// Where daemon and client run
    #[arg(long, value_enum, default_value_t = Placement::TwoCores)]
    placement: Placement,
    /// The daemon's program [default: the l1d beside this program]
    #[arg(long, value_name = "PATH")]
    l1d: Option<PathBuf>,
    /// One JSON document instead of a table
    #[arg(long)]
    json: bool,
}

/// Where daemon and client run, and the two sides of the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
enum Placement {
    /// Each on a core of its own
    TwoCores,
    /// Both on one core, where nobody can spin for the other
    OneCore,
    /// Wherever the kernel puts them, which may be either
    Free,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Figure {
    SpinRoundTrip,
    FutexRoundTrip,
    SetAwake,
    SetAsleep,
    SetOverSocket,
    GetMissAwake,
    SetNoWait,
    SetMany,
    OwnerSet,
    Visibility,
}

impl Figure {
    const ALL: [Figure; 10] = [
        Figure::SpinRoundTrip,
        Figure::FutexRoundTrip,
        Figure::SetAwake,
        Figure::SetAsleep,
        Figure::SetOverSocket,
        Figure::GetMissAwake,
        Figure::SetNoWait,
        Figure::SetMany,
        Figure::OwnerSet,
        Figure::Visibility,
    ];

    fn text(self) -> &'static str {
        match self {
            Figure::SpinRoundTrip => "limit: round trip, both spin",
            Figure::FutexRoundTrip => "limit: round trip, both sleep (futex)",
            Figure::SetAwake => "set acknowledged, daemon awake",
            Figure::SetAsleep => "set acknowledged, daemon asleep",
            Figure::SetOverSocket => "set acknowledged, over the socket, awake",
            Figure::GetMissAwake => "get of an unknown key, daemon awake",
            Figure::SetNoWait => "set not waited for, sustained",
            Figure::SetMany => "set_many of 1,000, each value",
            Figure::OwnerSet => "limit: set by the owner of a table itself",
            Figure::Visibility => "set not waited for, until its writer sees it",
        }
    }

    /// What it is compared with: the sum of these, each so many times.
    fn limit(self) -> &'static [(Figure, f64)] {
        match self {
            Figure::SetAsleep => &[(Figure::FutexRoundTrip, 1.0)],
            Figure::SetAwake | Figure::GetMissAwake => &[(Figure::SpinRoundTrip, 1.0)],
            Figure::SetNoWait => &[(Figure::OwnerSet, 1.0)],
            Figure::Visibility => &[(Figure::SpinRoundTrip, 1.0), (Figure::OwnerSet, 2.0)],
            _ => &[],
        }
    }

    /// Whether it can be measured where both sides share a core: not what one side spins for.
    fn is_for_one_core(self) -> bool {
        !matches!(self, Figure::SpinRoundTrip | Figure::Visibility)
    }
}

#[derive(Debug, Serialize)]
struct Line {
    figure: Figure,
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
    keys: usize,
    lines: Vec<Line>,
}

/// Runs `write`.
///
/// # Errors
/// The daemon does not start, or refuses a request.
pub fn write(options: &WriteOptions) -> Result<()> {
    let report = measure(options)?;
    if crate::output::json(options.json, &report)? {
        return Ok(());
    }
    let placement = report.placement;
    let mut lines = table(1, ["", "ns", "x limit"]);
    for line in &report.lines {
        let times = line.times_limit.map_or(String::new(), |times| times.to_string());
        lines.add_row([line.figure.text().to_owned(), line.ns.to_string(), times]);
    }
    println!(
        "{}, kernel {}. Daemon and client: {}. {} keys, values of {} bytes. Medians (least-greatest)\n\
         of {} rounds; of each round the median of its requests, and of the means of bursts where they are sustained.\n\
         Limits: of a set asleep the futex round trip, of one not waited for the owner's, of the last\n\
         line a spinning round trip and two of the owner's sets, of others the spinning round trip.\n{lines}",
        report.machine.cpu,
        report.machine.kernel,
        placement.to_possible_value().map_or_else(String::new, |name| name.get_name().to_owned()),
        report.keys,
        report.value_bytes,
        report.rounds
    );
    Ok(())
}

fn measure(options: &WriteOptions) -> Result<Report> {
    let progress = Progress::new();
    progress.say("starting the daemon");
    // Ten times what the keys take: the log is recycled over and over.
    let shape = TableShape { table_bytes: 64 << 20, value_bytes_max: 4096, entry_bytes: 128 };
    let daemon = Daemon::start(options.l1d.as_deref(), shape, "")?;
    let socket = daemon.socket();
    let machine = Machine::this()?;
    let peer_core = place(options.placement, &machine, &daemon)?;
    let run = Run {
        peer_core,
        client: Client::connect(&socket)?,
        socket_client: Client::builder().socket(&socket).mailbox(false).connect()?,
        keys: (0..KEYS).map(|key| format!("unified:item:{key:08}").into_bytes()).collect(),
        requests: options.requests as usize,
    };
    let mut rounds = vec![Vec::new(); Figure::ALL.len()];
    for round in 0..=options.rounds {
        for (figure, figures) in Figure::ALL.into_iter().zip(&mut rounds) {
            if options.placement == Placement::OneCore && !figure.is_for_one_core() {
                continue;
            }
            progress.say(&format!("round {round} of {}: {}", options.rounds, figure.text()));
            let ns = run.measure(figure).with_context(|| figure.text())?;
            // The first one warms up.
            if round > 0 {
                figures.push(ns);
            }
        }
    }
    let of = |figure: Figure| {
        let place = Figure::ALL.iter().position(|other| *other == figure);
        place.and_then(|place| rounds.get(place)).map_or(&[][..], Vec::as_slice)
    };
    let limit = |parts: &[(Figure, f64)]| -> Option<Vec<f64>> {
        let mut sums = Vec::new();
        for (part, times) in parts {
            sums.resize(of(*part).len(), 0.0);
            sums.iter_mut().zip(of(*part)).for_each(|(sum, ns)| *sum += ns * times);
        }
        (!sums.is_empty()).then_some(sums)
    };
    let measured = Figure::ALL.into_iter().filter(|figure| !of(*figure).is_empty());
    let lines = measured.map(|figure| Line {
        figure,
        ns: Spread::of(of(figure).to_vec()),
        times_limit: limit(figure.limit()).map(|limit| Spread::of_ratios(of(figure), &limit)),
    });
    Ok(Report {
        machine,
        command: machine::command(),
        placement: options.placement,
        rounds: options.rounds,
        value_bytes: VALUE_BYTES,
        keys: KEYS,
        lines: lines.collect(),
    })
}

/// Puts this thread and the daemon where they belong. The core for the other side of a limit.
fn place(placement: Placement, machine: &Machine, daemon: &Daemon) -> Result<Option<usize>> {
    let (first, last) = (machine.cores.first().copied(), machine.cores.last().copied());
    let (first, last) = first.zip(last).context("no core to run on")?;
    let (daemon_core, client_core) = match placement {
        Placement::Free => return Ok(None),
        Placement::OneCore => (last, last),
        Placement::TwoCores if first == last => {
            bail!("two cores are needed: with one, `--placement one-core`")
        }
        Placement::TwoCores => (first, last),
    };
    daemon.pin(daemon_core)?;
    pin(client_core)?;
    Ok(Some(daemon_core))
}

struct Run {
    /// Where the other side of a limit is kept.
    peer_core: Option<usize>,
    client: Client,
    socket_client: Client,
    keys: Vec<Vec<u8>>,
    requests: usize,
}

impl Run {
    fn measure(&self, figure: Figure) -> Result<f64> {
        let value = [7; VALUE_BYTES];
        let asleep = self.requests / 100;
        let count = u32::try_from(self.requests)?;
        match figure {
            Figure::SpinRoundTrip => Ok(median(limit::round_trips(count, None, self.peer_core))),
            Figure::FutexRoundTrip => {
                Ok(median(limit::round_trips(u32::try_from(asleep)?, Some(PAUSE), self.peer_core)))
            }
            Figure::SetAwake => {
                self.each(self.requests, None, |key| self.client.set(key, &value).map(drop))
            }
            Figure::SetAsleep => {
                self.each(asleep, Some(PAUSE), |key| self.client.set(key, &value).map(drop))
            }
            Figure::SetOverSocket => self.each(self.requests / 10, None, |key| {
                self.socket_client.set(key, &value).map(drop)
            }),
            Figure::GetMissAwake => self.each(self.requests, None, |key| {
                let unknown = [b"unknown:", key].concat();
                self.client.get(&unknown).map(drop)
            }),
            Figure::SetNoWait => self.sustained(&value),
            Figure::SetMany => self.together(&value),
            Figure::OwnerSet => self.as_owner(&value),
            Figure::Visibility => self.visibility(),
        }
    }

    /// The median of single requests.
    fn each(
        &self,
        count: usize,
        pause: Option<Duration>,
        request: impl Fn(&[u8]) -> Result<(), Error>,
    ) -> Result<f64> {
        let mut ns = Vec::with_capacity(count);
        for key in self.keys.iter().cycle().take(count) {
            if let Some(pause) = pause {
                std::thread::sleep(pause);
            }
            let begun = Instant::now();
            request(key)?;
            ns.push(begun.elapsed().as_nanos() as f64);
        }
        Ok(median(ns))
    }

    /// Sets that nobody waits for, each burst until the daemon has done all of it. The median of the
    /// bursts' means: a shared machine takes a core away for milliseconds, from few of them.
    fn sustained(&self, value: &[u8]) -> Result<f64> {
        let mut ns = Vec::with_capacity(BURSTS);
        for _ in 0..BURSTS {
            let begun = Instant::now();
            for key in self.keys.iter().cycle().take(self.requests) {
                self.tell(key, value)?;
            }
            // Behind them all in the ring.
            self.client.set(b"last", value)?;
            ns.push(begun.elapsed().as_nanos() as f64 / self.requests as f64);
        }
        Ok(median(ns))
    }

    /// Sets in a table that this process owns itself, of which the log is recycled on the way.
    fn as_owner(&self, value: &[u8]) -> Result<f64> {
        let plan = Plan {
            table_bytes: OWN_TABLE_BYTES,
            value_bytes_max: 4096,
            entry_bytes: 128,
            table_id: 1,
            ..Plan::default()
        };
        let mut served = Served::new(&plan)?;
        let mut puts = |count: usize| {
            self.keys.iter().cycle().take(count).all(|key| {
                let entry = Entry { key, value, expiry: NEVER, ..Entry::default() };
                served.table.put(&entry, 0).is_ok()
            })
        };
        let mut ns = Vec::with_capacity(BURSTS);
        for _ in 0..BURSTS {
            let begun = Instant::now();
            anyhow::ensure!(puts(self.requests), "a refused put");
            ns.push(begun.elapsed().as_nanos() as f64 / self.requests as f64);
        }
        Ok(median(ns))
    }

    fn together(&self, value: &[u8]) -> Result<f64> {
        let entries: Vec<(&[u8], &[u8])> =
            self.keys.iter().take(1000).map(|key| (key.as_slice(), value)).collect();
        let mut ns = Vec::new();
        for _ in 0..20 {
            let begun = Instant::now();
            for stored in self.client.set_many(&entries)? {
                stored?;
            }
            ns.push(begun.elapsed().as_nanos() as f64 / entries.len() as f64);
        }
        Ok(median(ns))
    }

    /// From the set to the writer's own look that shows it.
    fn visibility(&self) -> Result<f64> {
        let (mut ns, mut seen) = (Vec::new(), Vec::new());
        for number in 0..self.requests as u64 {
            let value = number.to_le_bytes();
            let begun = Instant::now();
            self.tell(b"visibility", &value)?;
            while self.client.peek_into(b"visibility", &mut seen).is_none() || *seen != value {
                if begun.elapsed() > Duration::from_secs(5) {
                    bail!("a set did not become visible within 5 s");
                }
            }
            ns.push(begun.elapsed().as_nanos() as f64);
        }
        Ok(median(ns))
    }

    /// Sets without waiting for the answer; again while the daemon is behind.
    fn tell(&self, key: &[u8], value: &[u8]) -> Result<()> {
        loop {
            match self.client.set_with(key, value, &NO_WAIT) {
                Ok(_) => return Ok(()),
                Err(Error::Busy { .. }) => std::hint::spin_loop(),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn median(figures: Vec<f64>) -> f64 {
    Spread::of(figures).median
}
