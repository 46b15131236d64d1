//! One contestant after the other, each with fresh tiers and fresh processes.

use super::contestant::Contestant;
use super::keys::Load;
use super::options::CompareOptions;
use super::oracle::Oracle;
use super::report::{Outcome, Report, Table};
use super::servers::{Requests, Servers};
use super::tally::Tally;
use super::tiers::{L2_TTL_SECONDS, connect_redis};
use super::worker::{READY, Window};
use crate::daemon::{Daemon, TableShape};
use crate::machine::Machine;
use crate::memory::{self, Memory};
use crate::progress::Progress;
use anyhow::{Context, Result, bail, ensure};
use l1d::clock::monotonic_ns;
use l1d::demo::stamped::{self, Stamp};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

/// From telling all processes to begin until they do.
const AHEAD_NS: u64 = 50_000_000;
const SECOND_NS: u64 = 1_000_000_000;
/// Values that are put into Redis with one round trip.
const BATCH: usize = 1000;

/// Runs `compare`.
///
/// # Errors
/// A combination of options that means nothing, servers or a daemon that do not start, or a process
/// that failed.
pub fn compare(options: &CompareOptions) -> Result<()> {
    let load = options.load.load()?;
    let progress = Progress::new();
    let mut outcomes = Vec::new();
    for &contestant in &options.contestants {
        let outcome = play(options, &load, contestant, &progress);
        outcomes.push(outcome.with_context(|| format!("contestant {}", contestant.name()))?);
    }
    drop(progress);
    let report = Report::new(options, &load, Machine::this()?, outcomes);
    if options.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{}", report.text());
    }
    Ok(())
}

fn play(
    options: &CompareOptions,
    load: &Load,
    contestant: Contestant,
    progress: &Progress,
) -> Result<Outcome> {
    progress.say(&format!("{}: starting", contestant.title()));
    let servers = Servers::start()?;
    let oracle = Oracle::create(load.keys.len(), 1, monotonic_ns())?;
    if load.is_preloaded {
        preload(load, &servers)?;
    }
    let daemon =
        (contestant == Contestant::L1d).then(|| daemon(options, load, &servers)).transpose()?;
    let start =
        |reader| Process::start(options, contestant, reader, (&servers, &oracle, daemon.as_ref()));
    // The writer comes last.
    let numbers = (0..options.load.readers).map(Some).chain([None]);
    let mut processes = numbers.map(start).collect::<Result<Vec<_>>>()?;
    for process in &mut processes {
        process.ready()?;
    }
    let window = window(options, load);
    for process in &mut processes {
        process.begin(window)?;
    }
    wait_until(window.count_ns, &format!("{}: warming up", contestant.title()), progress);
    // A trace begins with empty tiers, and counts from there.
    let before = if load.is_trace() { Requests::default() } else { servers.requests()? };
    if !load.is_trace() {
        wait_until(window.end_ns, contestant.title(), progress);
    }
    let (writer, readers) = processes.split_last_mut().context("no process")?;
    let mut read = Tally::default();
    for reader in readers {
        read.add(reader.tally()?)?;
    }
    oracle.stop();
    let requests = servers.requests()?.since(before);
    let written = writer.tally()?;
    let mut memory = Memory::default();
    let daemon_id = daemon.as_ref().map(Daemon::pid);
    for id in processes.iter().map(|process| process.child.id()).chain(daemon_id) {
        memory.add(memory::of_process(id)?);
    }
    let table = daemon.as_ref().map(Table::of).transpose()?;
    Ok(Outcome { contestant, read, written, requests, memory, table })
}

fn window(options: &CompareOptions, load: &Load) -> Window {
    let begin_ns = monotonic_ns() + AHEAD_NS;
    let warm_up_seconds = if load.is_trace() { 0 } else { options.warm_up_seconds };
    let count_ns = begin_ns + warm_up_seconds * SECOND_NS;
    Window { begin_ns, count_ns, end_ns: count_ns + options.seconds * SECOND_NS }
}

/// Puts version 1 of every key into Redis.
fn preload(load: &Load, servers: &Servers) -> Result<()> {
    let mut connection = connect_redis(&servers.redis())?;
    let mut value = Vec::new();
    for keys in load.keys.chunks(BATCH) {
        let mut batch = redis::pipe();
        for key in keys {
            stamped::encode(
                &key.name,
                Stamp { version: 1, published_ns: monotonic_ns() },
                key.value_bytes,
                &mut value,
            );
            batch.set(&key.name[..], &value[..]).ignore();
        }
        batch.query::<()>(&mut connection).context("filling Redis")?;
    }
    Ok(())
}

fn daemon(options: &CompareOptions, load: &Load, servers: &Servers) -> Result<Daemon> {
    let value_bytes = load.keys.iter().map(|key| key.value_bytes as u64);
    let value_bytes_max = value_bytes.clone().max().unwrap_or(0).next_power_of_two().max(4096);
    let key_bytes: u64 = load.keys.iter().map(|key| key.name.len() as u64).sum();
    let mean = (value_bytes.sum::<u64>() + key_bytes) / load.keys.len() as u64 + 24;
    let shape = TableShape { table_bytes: options.l1.as_u64(), value_bytes_max, entry_bytes: mean };
    let rules = format!(
        "[l2]\naddress = \"{}\"\n\n[l3]\nurl = \"redis://{}\"\n\n[defaults]\nttl = \"30s\"\nl2_ttl = \"{L2_TTL_SECONDS}s\"\n\n\
         [[policy]]\nprefix = \"ohlcv:\"\nscope = \"process\"\nttl = \"30s\"\n\n\
         [[policy]]\nprefix = \"indicator:\"\nscope = \"process\"\nttl = \"30s\"\n",
        servers.memcached(),
        servers.redis()
    );
    Daemon::start(options.l1d.as_deref(), shape, &rules)
}

/// A worker of this run.
struct Process {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Process {
    fn start(
        options: &CompareOptions,
        contestant: Contestant,
        reader: Option<u32>,
        (servers, oracle, daemon): (&Servers, &Oracle, Option<&Daemon>),
    ) -> Result<Process> {
        let load = &options.load;
        let mut command = Command::new(
            std::env::current_exe().context("this program's own file cannot be found")?,
        );
        command.arg("worker").args(["--workload", &load.workload]).args(&load.trace);
        command.args(["--readers", &load.readers.to_string(), "--keys", &load.keys.to_string()]);
        command.args([
            "--value-bytes",
            &load.value_bytes.to_string(),
            "--seed",
            &load.seed.to_string(),
        ]);
        command.args(load.rate.map(|rate| format!("--rate={rate}")));
        command.args(reader.map(|reader| format!("--reader={reader}")));
        command.args(["--contestant", contestant.name(), "--oracle", oracle.name()]);
        command.args(["--memcached", &servers.memcached(), "--redis", &servers.redis()]);
        command.args(["--l1-bytes", &options.l1.as_u64().to_string()]);
        if let Some(daemon) = daemon {
            command.arg("--socket").arg(daemon.socket());
        }
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.context("cannot start a process of this run")?;
        let (Some(orders), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("a process without pipes");
        };
        Ok(Process { child, orders, answers: BufReader::new(answers) })
    }

    fn ready(&mut self) -> Result<()> {
        let line = self.answer()?;
        ensure!(line.trim() == READY, "a process says {line:?} before it is ready");
        Ok(())
    }

    fn begin(&mut self, window: Window) -> Result<()> {
        writeln!(self.orders, "{}", serde_json::to_string(&window)?)
            .context("a process does not listen")
    }

    fn tally(&mut self) -> Result<Tally> {
        let line = self.answer()?;
        serde_json::from_str(&line)
            .with_context(|| format!("a process says {line:?} for its tally"))
    }

    fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(
            self.answers.read_line(&mut line)? > 0,
            "a process ended; what it said stands above"
        );
        Ok(line)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait_until(at_ns: u64, what: &str, progress: &Progress) {
    loop {
        let left_ns = at_ns.saturating_sub(monotonic_ns());
        progress.say(&format!("{what}: {} s to go", left_ns.div_ceil(SECOND_NS)));
        if left_ns == 0 {
            return;
        }
        std::thread::sleep(Duration::from_nanos(left_ns.min(SECOND_NS)));
    }
}
