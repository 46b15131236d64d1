//! `l1d-lab turns`: the owner's longest turn and its effect on readers, while a million entries
//! expire at once under full load, and while a gigabyte moves to another table.

use crate::daemon::{Daemon, TableShape, connect};
use crate::machine::Machine;
use crate::progress::Progress;
use crate::random::Random;
use crate::statistics::Spread;
use crate::table::table;
use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use l1d_client::{Client, Error, Lifetime, SetOptions};
use serde::Serialize;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Unacknowledged sets between two acknowledged ones.
const UNANSWERED: u64 = 256;
/// TTL of the entries that expire together.
const TTL: Duration = Duration::from_secs(6);

/// Options of `turns`.
#[derive(Debug, Clone, clap::Args)]
pub struct TurnsOptions {
    /// Rounds of each experiment, each with its own daemon
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Entries that expire at once
    #[arg(
        long,
        default_value_t = 1_000_000,
        value_parser = clap::value_parser!(u64).range(1000..=100_000_000)
    )]
    expirations: u64,
    /// MiB of live data that move
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u64).range(8..=65_536))]
    moved_mib: u64,
    /// The daemon's program [default: the l1d beside this program]
    #[arg(long, value_name = "PATH")]
    l1d: Option<PathBuf>,
    /// One JSON document instead of a table
    #[arg(long)]
    json: bool,
}

/// One round of one experiment.
#[derive(Debug, Default, Clone, Copy)]
struct Round {
    longest_turn_us: f64,
    /// Before and during the experiment.
    p50_ns: [f64; 2],
    p99_ns: [f64; 2],
    max_us: [f64; 2],
    seconds: f64,
    writes_per_second: f64,
    misses: u64,
}

#[derive(Debug, Serialize)]
struct Line {
    experiment: &'static str,
    longest_turn_us: Spread,
    reader_p50_ns_before: Spread,
    reader_p50_ns_during: Spread,
    reader_p99_ns_before: Spread,
    reader_p99_ns_during: Spread,
    reader_p99_times_before: Spread,
    reader_max_us_during: Spread,
    seconds: Spread,
    writes_per_second: Spread,
    reads_missed: u64,
}

#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    rounds: u32,
    expirations: u64,
    moved_mib: u64,
    lines: Vec<Line>,
}

/// Runs `turns`.
///
/// # Errors
/// The daemon does not start, or refuses a request.
pub fn turns(options: &TurnsOptions) -> Result<()> {
    let progress = Progress::new();
    let [mut nobody, mut quiet, mut expiring, mut moving] = [const { Vec::new() }; 4];
    for round in 1..=options.rounds {
        progress.say(&format!("round {round} of {}: the machine alone", options.rounds));
        nobody.push(pause_of_nobody());
        progress.say(&format!("round {round} of {}: a load, and nothing expires", options.rounds));
        quiet.push(expire(options, false)?);
        progress.say(&format!("round {round} of {}: expirations", options.rounds));
        expiring.push(expire(options, true)?);
        progress.say(&format!("round {round} of {}: a move", options.rounds));
        moving.push(moved(options)?);
    }
    let report = Report {
        machine: Machine::this()?,
        rounds: options.rounds,
        expirations: options.expirations,
        moved_mib: options.moved_mib,
        lines: vec![
            line("limit: a thread that does nothing", &nobody),
            line("full load", &quiet),
            line("full load, expirations", &expiring),
            line("move", &moving),
        ],
    };
    if crate::output::json(options.json, &report)? {
        return Ok(());
    }
    let mut turns = table(1, ["", "longest turn, us", "lasted, s", "sets/s"]);
    let mut reads =
        table(1, ["", "p50, ns", "during", "p99, ns", "during", "times", "max, us", "missed"]);
    for line in &report.lines {
        turns.add_row([
            line.experiment.to_owned(),
            line.longest_turn_us.to_string(),
            line.seconds.to_string(),
            line.writes_per_second.to_string(),
        ]);
        if line.reader_p50_ns_before.median > 0.0 {
            reads.add_row([
                format!("reader, {}", line.experiment),
                line.reader_p50_ns_before.to_string(),
                line.reader_p50_ns_during.to_string(),
                line.reader_p99_ns_before.to_string(),
                line.reader_p99_ns_during.to_string(),
                line.reader_p99_times_before.to_string(),
                line.reader_max_us_during.to_string(),
                line.reads_missed.to_string(),
            ]);
        }
    }
    crate::output::print(format!(
        "{}, kernel {}. {} entries expire within about a second; {} MiB of entries of 1 KiB move \
         to a table of \
         another size. A reader\nreads keys that stay, before and during that. Medians \
         (least-greatest) of {} rounds.\n{turns}\n{reads}",
        report.machine.cpu,
        report.machine.kernel,
        report.expirations,
        report.moved_mib,
        report.rounds
    ))?;
    Ok(())
}

fn line(experiment: &'static str, rounds: &[Round]) -> Line {
    let of = |figure: fn(&Round) -> f64| Spread::of(rounds.iter().map(figure).collect());
    Line {
        experiment,
        longest_turn_us: of(|round| round.longest_turn_us),
        reader_p50_ns_before: of(|round| round.p50_ns[0]),
        reader_p50_ns_during: of(|round| round.p50_ns[1]),
        reader_p99_ns_before: of(|round| round.p99_ns[0]),
        reader_p99_ns_during: of(|round| round.p99_ns[1]),
        reader_p99_times_before: of(|round| round.p99_ns[1] / round.p99_ns[0]),
        reader_max_us_during: of(|round| round.max_us[1]),
        seconds: of(|round| round.seconds),
        writes_per_second: of(|round| round.writes_per_second),
        reads_missed: rounds.iter().map(|round| round.misses).sum(),
    }
}

/// A writer at full speed while this number of entries expires together, or the writer alone.
fn expire(options: &TurnsOptions, expires: bool) -> Result<Round> {
    const STAYING: u64 = 10_000;
    let table_bytes = (options.expirations + STAYING) * 160 * 9 / 8 + (32 << 20);
    let daemon = start(options.l1d.as_deref(), table_bytes, 112)?;
    let client = daemon.client()?;
    fill(&client, "stays", STAYING, 64, Duration::from_secs(3600))?;
    let begun = Instant::now();
    if expires {
        fill(&client, "goes", options.expirations, 64, TTL)?;
    }
    let filled = begun.elapsed();
    let _ = stats(&client)?;
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| overwrite(&daemon.socket(), STAYING, &is_over));
        // Nothing reads meanwhile: on two processors, a third busy thread would compete with the
        // owner.
        std::thread::sleep(Duration::from_secs(1));
        let began = Instant::now();
        // Sleeps until the last entry has expired.
        std::thread::sleep(TTL + filled);
        let seconds = began.elapsed().as_secs_f64();
        let longest_turn_us = turn(&stats(&client)?, began);
        is_over.store(true, Ordering::Relaxed);
        let writes = writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let unread = || Ok::<Reads, anyhow::Error>((Histogram::new(3)?, 0));
        Ok(round((unread()?, unread()?), longest_turn_us, seconds, writes))
    })
}

/// The machine's own pauses: the longest time that a thread which only reads the clock is off its
/// processor, while another one spins as the writer does.
fn pause_of_nobody() -> Round {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
        let (began, mut last, mut longest) = (Instant::now(), Instant::now(), Duration::ZERO);
        while began.elapsed() < TTL {
            let now = Instant::now();
            longest = longest.max(now - last);
            last = now;
        }
        is_over.store(true, Ordering::Relaxed);
        let longest_turn_us = longest.as_secs_f64() * 1e6;
        Round { longest_turn_us, seconds: TTL.as_secs_f64(), ..Round::default() }
    })
}

/// The table moves to one of another size, under a reader and a writer with light load.
fn moved(options: &TurnsOptions) -> Result<Round> {
    const VALUE_BYTES: usize = 960;
    let entries = options.moved_mib << 10;
    let table_bytes = (options.moved_mib << 20) * 5 / 4 + (32 << 20);
    let daemon = start(options.l1d.as_deref(), table_bytes, 1024)?;
    let client = daemon.client()?;
    fill(&client, "stays", entries, VALUE_BYTES, Duration::from_secs(3600))?;
    std::thread::scope(|scope| {
        let reader = connect(&daemon.socket())?;
        let before = read(&reader, entries, Duration::from_secs(2), || false)?;
        let began = Instant::now();
        let mover = scope.spawn(|| client.admin().resize(Some(table_bytes * 5 / 4), None));
        let during = read(&reader, entries, Duration::from_secs(600), || mover.is_finished())?;
        let seconds = began.elapsed().as_secs_f64();
        mover.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let longest_turn_us = turn(&stats(&client)?, began);
        Ok(round((before, during), longest_turn_us, seconds, 0.0))
    })
}

type Reads = (Histogram<u64>, u64);

fn round(
    ((before, _), (during, misses)): (Reads, Reads),
    longest_turn_us: f64,
    seconds: f64,
    writes_per_second: f64,
) -> Round {
    let at =
        |quantile: f64| [&before, &during].map(|times| times.value_at_quantile(quantile) as f64);
    Round {
        longest_turn_us,
        p50_ns: at(0.5),
        p99_ns: at(0.99),
        max_us: at(1.0).map(|ns| ns / 1000.0),
        seconds,
        writes_per_second,
        misses,
    }
}

fn start(program: Option<&Path>, table_bytes: u64, entry_bytes: u64) -> Result<Daemon> {
    let table_bytes = table_bytes.next_multiple_of(2 << 20);
    let shape = TableShape { table_bytes, value_bytes_max: 16 << 10, entry_bytes };
    Daemon::start(program, shape, "[defaults]\nttl = \"24h\"\n")
}

fn key(what: &str, number: u64) -> Vec<u8> {
    format!("{what}:{number:012}").into_bytes()
}

fn fill(client: &Client, what: &str, keys: u64, bytes: usize, ttl: Duration) -> Result<()> {
    let value = vec![7; bytes];
    for number in 0..keys {
        let no_wait = number % UNANSWERED != 0 && number + 1 != keys;
        let options = SetOptions { lifetime: Lifetime::For(ttl), no_wait, ..SetOptions::default() };
        let key = key(what, number);
        while let Err(error) = client.set_with(&key, &value, &options) {
            match error {
                Error::Busy { .. } => std::hint::spin_loop(),
                error => return Err(error).context("filling the table"),
            }
        }
    }
    Ok(())
}

/// Overwrites the keys that stay, as fast as the daemon allows. Returns sets per second.
fn overwrite(socket: &Path, keys: u64, is_over: &AtomicBool) -> Result<f64> {
    let client = connect(socket)?;
    let (began, mut sets) = (Instant::now(), 0);
    while !is_over.load(Ordering::Relaxed) {
        fill(&client, "stays", keys, 64, Duration::from_secs(3600))?;
        sets += keys;
    }
    Ok(sets as f64 / began.elapsed().as_secs_f64())
}

/// Reads random keys for a time and times each read; also counts the missing keys.
fn read(client: &Client, keys: u64, time: Duration, is_over: impl Fn() -> bool) -> Result<Reads> {
    let mut random = Random::new(7);
    let mut times = Histogram::new_with_bounds(1, 60_000_000_000, 3)?;
    let (mut value, mut misses) = (Vec::new(), 0);
    let began = Instant::now();
    while began.elapsed() < time && !is_over() {
        for _ in 0..1000 {
            let key = key("stays", random.below(usize::try_from(keys)?) as u64);
            let asked = Instant::now();
            let hit = client.peek_into(&key, &mut value);
            let took = asked.elapsed();
            misses += u64::from(hit.is_none());
            times.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        }
    }
    Ok((times, misses))
}

fn stats(client: &Client) -> Result<Value> {
    Ok(serde_json::from_str(&client.admin().stats_json()?)?)
}

/// The longest turn since `began`, in us, to the second.
fn turn(stats: &Value, began: Instant) -> f64 {
    let seconds = began.elapsed().as_secs() + 1;
    let turns = stats.pointer("/daemon/longest_turn_each_second_us").and_then(Value::as_array);
    let turns = turns.into_iter().flatten().filter_map(Value::as_u64);
    turns.zip(0..seconds).map(|(turn, _)| turn).max().unwrap_or_default() as f64
}
