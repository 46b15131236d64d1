//! Two reader processes at once against each of them alone.
//!
//! The readers carry out orders, one per line: which contestant, kind of read, position, duration
//! and begin; they answer with ns per read. The begin is a time on CLOCK_MONOTONIC slightly in the
//! future, so that both begin together.

use super::arena::{ArenaReader, slots};
use super::contest::{Contestant, Held, Limit, Pace, Peek};
use super::loaded::absent;
use super::measure::Subject;
use super::pass::{Chain, Leg};
use super::workload::{Places, Stream, VALUE_BYTES, Workload};
use crate::interrupt;
use crate::machine::pin;
use crate::progress::Progress;
use anyhow::{Context, Result, bail};
use l1d::clock::monotonic_ns;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

/// Lead time between telling both to begin and the begin.
const AHEAD_NS: u64 = 5_000_000;

/// One contestant's rounds with two processes.
#[derive(Debug, Serialize)]
pub struct Scaling {
    /// Its name.
    pub name: String,
    /// Kind of read.
    pub chain: Chain,
    /// ns per read of one process while the other rests, mean of the two, by round.
    pub alone_ns: Vec<f64>,
    /// The same while both read.
    pub both_ns: Vec<f64>,
    /// Reads per second of a process while both read divided by reads per second alone, mean of the
    /// two, by round.
    pub scaling: Vec<f64>,
}

/// Options of a reader process.
#[derive(Debug, Clone, clap::Args)]
pub struct ReaderOptions {
    #[arg(long)]
    workload: Workload,
    #[arg(long)]
    seed: u64,
    #[arg(long)]
    core: usize,
    #[arg(long)]
    arena: PathBuf,
    #[arg(long)]
    socket: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Order {
    contestant: usize,
    chain: Chain,
    chunk: usize,
    warm_up_ms: u64,
    round_ms: u64,
    begin_ns: u64,
}

#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    /// Every key was read once; these contestants take part.
    Ready(Vec<String>),
    /// An order was carried out.
    Read { ns: f64 },
}

/// Measures how well two processes read at once.
///
/// # Errors
/// A reader does not start, ends, or reads a wrong value (reported on stderr).
pub fn scaling(
    workload: Workload,
    subject: &Subject,
    cores: [usize; 2],
    (seed, pace): (u64, Pace),
    progress: &Progress,
) -> Result<Vec<Scaling>> {
    progress.say(&format!("{workload}: two readers draw keys"));
    let [mut first, mut second] = cores.map(|core| Reader::start(workload, subject, core, seed));
    let (first, second) = (first.as_mut().map_err(take)?, second.as_mut().map_err(take)?);
    let names = first.ready()?;
    second.ready()?;
    let mut results = Vec::new();
    for chain in Chain::ALL {
        results.extend(names.iter().map(|name| Scaling {
            name: name.clone(),
            chain,
            alone_ns: Vec::new(),
            both_ns: Vec::new(),
            scaling: Vec::new(),
        }));
    }
    for round in 0..pace.rounds {
        for (position, result) in results.iter_mut().enumerate() {
            progress.say(&format!(
                "{workload}: two readers, round {} of {}, {}",
                round + 1,
                pace.rounds,
                result.name
            ));
            let order = || Order {
                contestant: position % names.len(),
                chain: result.chain,
                chunk: round * 97,
                warm_up_ms: pace.warm_up_ms,
                round_ms: pace.round_ms,
                begin_ns: monotonic_ns() + AHEAD_NS,
            };
            let alone = [first.carry_out(order())?, second.carry_out(order())?];
            let together = order();
            first.tell(together)?;
            second.tell(together)?;
            let both = [first.result()?, second.result()?];
            result.alone_ns.push(f64::midpoint(alone[0], alone[1]));
            result.both_ns.push(f64::midpoint(both[0], both[1]));
            result.scaling.push(f64::midpoint(alone[0] / both[0], alone[1] / both[1]));
        }
    }
    Ok(results)
}

fn take(error: &mut anyhow::Error) -> anyhow::Error {
    std::mem::replace(error, anyhow::anyhow!("told already"))
}

#[derive(Debug)]
struct Reader {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Reader {
    fn start(workload: Workload, subject: &Subject, core: usize, seed: u64) -> Result<Reader> {
        let mut command = Command::new(
            std::env::current_exe().context("this program's own file cannot be found")?,
        );
        command.args(["reader", "--workload", &workload.to_string(), "--seed", &seed.to_string()]);
        command.args(["--core", &core.to_string(), "--arena", &subject.arena.path()]);
        if let Some(daemon) = &subject.daemon {
            command.arg("--socket").arg(daemon.socket());
        }
        interrupt::die_together(&mut command);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start a reader")?;
        let (Some(orders), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("a reader without pipes")
        };
        Ok(Reader { child, orders, answers: BufReader::new(answers) })
    }

    fn ready(&mut self) -> Result<Vec<String>> {
        match self.answer()? {
            Answer::Ready(names) => Ok(names),
            other => bail!("a reader says {other:?} before it is ready"),
        }
    }

    fn carry_out(&mut self, order: Order) -> Result<f64> {
        self.tell(order)?;
        self.result()
    }

    fn tell(&mut self, order: Order) -> Result<()> {
        writeln!(self.orders, "{}", serde_json::to_string(&order)?)
            .context("a reader does not listen")
    }

    fn result(&mut self) -> Result<f64> {
        match self.answer()? {
            Answer::Read { ns } => Ok(ns),
            other => bail!("a reader says {other:?} to an order"),
        }
    }

    fn answer(&mut self) -> Result<Answer> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            bail!("a reader process ended; what it said stands above");
        }
        serde_json::from_str(&line).with_context(|| format!("a reader says {line:?}"))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a reader process: carries out orders until its stdin ends.
///
/// # Errors
/// A store cannot be read, or holds a wrong value.
pub fn reader(options: &ReaderOptions) -> Result<()> {
    pin(options.core)?;
    let workload = options.workload;
    let mut places =
        Places { slots: slots(workload.keys, options.seed), absent: Vec::new(), shift: 0 };
    let file = File::open(&options.arena)
        .with_context(|| format!("cannot open {}", options.arena.display()))?;
    let mut contestants: Vec<Box<dyn Contestant>> = vec![Box::new(Held(Limit::<VALUE_BYTES> {
        arena: ArenaReader::map(&file, workload.keys)?,
    }))];
    if let Some(socket) = &options.socket {
        let client = crate::daemon::connect(socket)?;
        places.absent = absent(&client, workload.keys)?;
        contestants.push(Box::new(Held(Peek { client, value_bytes: VALUE_BYTES })));
    }
    let every_key = Stream::every_key(workload, &places);
    for contestant in &mut contestants {
        contestant.pass(Leg::whole(&every_key))?;
    }
    // Each process reads in its own order.
    let stream = Stream::draw(workload, &places, options.seed ^ (options.core as u64 + 1) << 32);
    answer(&Answer::Ready(
        contestants.iter().map(|contestant| contestant.name().to_owned()).collect(),
    ))?;
    for line in std::io::stdin().lines() {
        let order: Order = serde_json::from_str(&line?).context("an order that cannot be read")?;
        let contestant = contestants.get_mut(order.contestant).context("an order for nobody")?;
        while monotonic_ns() < order.begin_ns {
            std::hint::spin_loop();
        }
        let time = Duration::from_millis(order.warm_up_ms);
        let warm_up =
            Leg { stream: &stream, chunk: order.chunk, chunks_min: 1, time, chain: order.chain };
        contestant.pass(warm_up)?;
        let time = Duration::from_millis(order.round_ms);
        answer(&Answer::Read {
            ns: contestant.pass(Leg {
                chunk: order.chunk + stream.sums.len() / 2,
                time,
                ..warm_up
            })?,
        })?;
    }
    Ok(())
}

fn answer(answer: &Answer) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(answer)?)?;
    Ok(out.flush()?)
}
