//! The contestants take turns, each turn with fresh tiers and fresh processes.

use super::contestant::Contestant;
use super::keys::Load;
use super::options::CompareOptions;
use super::oracle::Oracle;
use super::outcome::{Outcome, Table};
use super::process;
use super::report::Report;
use super::servers::{Requests, Servers};
use super::tally::Tally;
use super::text;
use super::tiers::{L2_TTL_SECONDS, connect_redis};
use super::worker::Window;
use crate::daemon::{self, Daemon, TableShape};
use crate::distance::Proxy;
use crate::machine::Machine;
use crate::memory::{self, Memory};
use crate::process::Process;
use crate::progress::Progress;
use anyhow::{Context, Result};
use l1d::clock::monotonic_ns;
use l1d_demo::stamped::{self, Stamp};
use std::time::Duration;

/// Lead time between telling the processes to begin and the begin.
const AHEAD_NS: u64 = 50_000_000;
const SECOND_NS: u64 = 1_000_000_000;
/// Default length of a measurement.
const SECONDS: u64 = 10;
/// A trace ends with its requests, which never takes a day.
const TRACE_SECONDS: u64 = 86_400;
/// Values that are put into Redis in one round trip.
const BATCH: usize = 1000;

/// Runs `compare`.
///
/// # Errors
/// The options contradict each other, servers or a daemon do not start, or a process failed. that
/// failed.
pub fn compare(options: &CompareOptions) -> Result<()> {
    let load = options.load.load()?;
    if options.contestants.contains(&Contestant::L1d) {
        // Checked before the other contestants have run for minutes.
        daemon::program_at(options.l1d.as_deref())?;
    }
    let progress = Progress::new();
    let mut outcomes: Vec<Outcome> = Vec::new();
    for _ in 0..options.rounds {
        for (position, &contestant) in options.contestants.iter().enumerate() {
            let outcome = play(options, &load, contestant, &progress)
                .with_context(|| format!("contestant {}", contestant.name()))?;
            match outcomes.get_mut(position) {
                Some(rounds) => rounds.add(outcome)?,
                None => outcomes.push(outcome),
            }
        }
    }
    drop(progress);
    let report = Report::new(options, &load, Machine::this()?, outcomes);
    if !crate::output::json(options.json, &report)? {
        crate::output::print(text::of(&report))?;
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
    let mut servers = Servers::start(options.distance)?;
    let oracle = Oracle::create(load.keys.len(), 1, monotonic_ns())?;
    if load.is_preloaded {
        preload(load, &servers)?;
    }
    let daemon = (contestant == Contestant::L1d)
        .then(|| start_daemon(options, load, &servers))
        .transpose()?;
    let start =
        |reader| process::start(options, contestant, reader, (&servers, &oracle, daemon.as_ref()));
    // The writer comes last.
    let numbers = (0..options.load.readers).map(Some).chain([None]);
    let mut processes = numbers.map(start).collect::<Result<Vec<_>>>()?;
    for process in &mut processes {
        process.ready()?;
    }
    let window = window(options, load);
    for process in &mut processes {
        process.tell(&window)?;
    }
    let is_trace = load.is_trace();
    let doing = if is_trace { "replaying" } else { "warming up" };
    progress.say(&format!("{}: {doing}", contestant.title()));
    sleep_until(window.count_ns);
    // A trace begins with empty tiers and is counted from there.
    let mark = servers.proxy().map(Proxy::mark).transpose()?;
    let before = if is_trace { Requests::default() } else { servers.requests()? };
    if !is_trace {
        count_down(window.end_ns, contestant.title(), progress);
    }
    let (writer, readers) = processes.split_last_mut().context("no process")?;
    let mut read = Tally::default();
    for reader in readers {
        read.add(reader.answer()?)?;
    }
    oracle.stop();
    let proxy = match (servers.proxy(), mark) {
        (Some(proxy), Some(mark)) => Some(proxy.load_since(&mark)?),
        _ => None,
    };
    let requests = servers.requests()?.since(before);
    let written = writer.answer()?;
    let mut memory = Memory::default();
    let daemon_id = daemon.as_ref().map(Daemon::pid);
    for id in processes.iter().map(Process::pid).chain(daemon_id) {
        memory.add(memory::of_process(id)?);
    }
    let table = daemon.as_ref().map(Table::of).transpose()?;
    let mut outcome = Outcome::new(contestant, (read, written), requests, memory, table);
    outcome.proxy.extend(proxy);
    Ok(outcome)
}

fn window(options: &CompareOptions, load: &Load) -> Window {
    let begin_ns = monotonic_ns() + AHEAD_NS;
    let (warm_up_seconds, seconds) =
        if load.is_trace() { (0, TRACE_SECONDS) } else { (options.warm_up_seconds, SECONDS) };
    let seconds = options.seconds.unwrap_or(seconds);
    let count_ns = begin_ns + warm_up_seconds * SECOND_NS;
    Window { begin_ns, count_ns, end_ns: count_ns + seconds * SECOND_NS }
}

/// Puts version 1 of every key into Redis.
fn preload(load: &Load, servers: &Servers) -> Result<()> {
    let [_, redis] = servers.near();
    let mut connection = connect_redis(&redis)?;
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

fn start_daemon(options: &CompareOptions, load: &Load, servers: &Servers) -> Result<Daemon> {
    let value_bytes = load.keys.iter().map(|key| key.value_bytes as u64);
    let value_bytes_max = value_bytes.clone().max().unwrap_or(0).next_power_of_two().max(4096);
    let key_bytes: u64 = load.keys.iter().map(|key| key.name.len() as u64).sum();
    let mean = (value_bytes.sum::<u64>() + key_bytes) / load.keys.len() as u64 + 24;
    let shape = TableShape { table_bytes: options.l1.as_u64(), value_bytes_max, entry_bytes: mean };
    let rules = format!(
        "[l2]\naddress = \"{}\"\n\n[l3]\nurl = \"redis://{}\"\n\n[defaults]\nttl = \
         \"30s\"\nl2_ttl = \"{L2_TTL_SECONDS}s\"\n\n\
         [[policy]]\nprefix = \"ohlcv:\"\nscope = \"process\"\nttl = \"30s\"\n\n\
         [[policy]]\nprefix = \"indicator:\"\nscope = \"process\"\nttl = \"30s\"\n",
        servers.memcached(),
        servers.redis()
    );
    Daemon::start(options.l1d.as_deref(), shape, &rules)
}

fn sleep_until(at_ns: u64) {
    std::thread::sleep(Duration::from_nanos(at_ns.saturating_sub(monotonic_ns())));
}

fn count_down(at_ns: u64, what: &str, progress: &Progress) {
    loop {
        let left_ns = at_ns.saturating_sub(monotonic_ns());
        progress.say(&format!("{what}: {} s to go", left_ns.div_ceil(SECOND_NS)));
        if left_ns == 0 {
            return;
        }
        std::thread::sleep(Duration::from_nanos(left_ns.min(SECOND_NS)));
    }
}
