//! `l1d-lab write`: what a set costs its client, and when it is seen, beside what two sides that share
//! memory can do at best.

mod limit;

use crate::daemon::{Daemon, TableShape};
use crate::machine::Machine;
use crate::progress::Progress;
use crate::statistics::Spread;
use crate::table::table;
use anyhow::{Context, Result, bail};
use l1d_client::{Client, Error, SetOptions};
use serde::Serialize;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const VALUE_BYTES: usize = 64;
/// Hot keys that are written over and over.
const KEYS: usize = 10_000;
/// Between two requests that find the daemon asleep.
const PAUSE: Duration = Duration::from_millis(2);
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
    /// The daemon's program [default: the l1d beside this program]
    #[arg(long, value_name = "PATH")]
    l1d: Option<PathBuf>,
    /// One JSON document instead of a table
    #[arg(long)]
    json: bool,
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
    Visibility,
}

impl Figure {
    const ALL: [Figure; 9] = [
        Figure::SpinRoundTrip,
        Figure::FutexRoundTrip,
        Figure::SetAwake,
        Figure::SetAsleep,
        Figure::SetOverSocket,
        Figure::GetMissAwake,
        Figure::SetNoWait,
        Figure::SetMany,
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
            Figure::Visibility => "set not waited for, until its writer sees it",
        }
    }

    /// What it is compared with.
    fn limit(self) -> Option<Figure> {
        match self {
            Figure::SetAsleep => Some(Figure::FutexRoundTrip),
            Figure::SetAwake | Figure::GetMissAwake | Figure::Visibility => {
                Some(Figure::SpinRoundTrip)
            }
            _ => None,
        }
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
    if options.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
        return Ok(());
    }
    let mut lines = table(1, ["", "ns", "x limit"]);
    for line in &report.lines {
        let times = line.times_limit.map_or(String::new(), |times| times.to_string());
        lines.add_row([line.figure.text().to_owned(), line.ns.to_string(), times]);
    }
    println!(
        "{}, kernel {}. {} keys, values of {} bytes. Medians (least-greatest) of {} rounds; of each round the\n\
         median of its requests, and the mean where they are sustained.\n{lines}",
        report.machine.cpu, report.machine.kernel, report.keys, report.value_bytes, report.rounds
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
    let run = Run {
        client: Client::connect(&socket)?,
        socket_client: Client::builder().socket(&socket).mailbox(false).connect()?,
        keys: (0..KEYS).map(|key| format!("unified:item:{key:08}").into_bytes()).collect(),
        requests: options.requests as usize,
    };
    let mut rounds = vec![Vec::new(); Figure::ALL.len()];
    for round in 0..=options.rounds {
        for (figure, figures) in Figure::ALL.into_iter().zip(&mut rounds) {
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
    let lines = Figure::ALL.into_iter().map(|figure| Line {
        figure,
        ns: Spread::of(of(figure).to_vec()),
        times_limit: figure.limit().map(|limit| Spread::of_ratios(of(figure), of(limit))),
    });
    Ok(Report {
        machine: Machine::this()?,
        rounds: options.rounds,
        value_bytes: VALUE_BYTES,
        keys: KEYS,
        lines: lines.collect(),
    })
}

struct Run {
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
            Figure::SpinRoundTrip => Ok(median(limit::round_trips(count, None))),
            Figure::FutexRoundTrip => {
                Ok(median(limit::round_trips(u32::try_from(asleep)?, Some(PAUSE))))
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

    /// Sets that nobody waits for, until the daemon has done all of them.
    fn sustained(&self, value: &[u8]) -> Result<f64> {
        let count = self.requests * 50;
        let begun = Instant::now();
        for key in self.keys.iter().cycle().take(count) {
            self.tell(key, value)?;
        }
        // Behind them all in the ring.
        self.client.set(b"last", value)?;
        Ok(begun.elapsed().as_nanos() as f64 / count as f64)
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
