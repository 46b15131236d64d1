//! SIGTERM under load: each request that was under way is answered or refused, and what was
//! acknowledged is in the tiers.

use super::CrashOptions;
use crate::daemon::{Daemon, TableShape, connect};
use crate::statistics::Spread;
use anyhow::{Context, Result, ensure};
use l1d_client::{Client, Error, SetOptions};
use nix::sys::signal::Signal;
use serde::Serialize;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use test_support::servers::Server;

/// Clients that wait for each answer, and one that does not.
const THREADS: usize = 6;
const LOAD: Duration = Duration::from_millis(300);
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Default)]
struct Sets {
    /// Keys that were acknowledged; or, without an answer, taken.
    done: Vec<String>,
    refused: u64,
    unanswered: u64,
}

#[derive(Debug, Serialize)]
pub struct Stop {
    /// From SIGTERM to the end of the process.
    pub end_ms: Spread,
    pub acknowledged: u64,
    /// Of these, those that Redis does not have.
    pub acknowledged_lost: u64,
    /// Those that ended in an error.
    pub refused: u64,
    /// Those that ended by the client's deadline only.
    pub unanswered: u64,
    /// Sets that want no answer and were taken.
    pub posted: u64,
    /// Of these, those that Redis does not have.
    pub posted_lost: u64,
}

/// Ends a daemon under load again and again.
///
/// # Errors
/// A daemon or server does not start, or the daemon does not end.
pub fn measure(options: &CrashOptions) -> Result<Stop> {
    let (memcached, redis) = (Server::memcached(), Server::redis());
    let rules = format!(
        "[l2]\naddress = \"{}\"\n[l3]\nurl = \"redis://{}\"\n",
        memcached.address(),
        redis.address()
    );
    let shape = TableShape { table_bytes: 64 << 20, value_bytes_max: 16 << 10, entry_bytes: 256 };
    let mut daemon = Daemon::start(options.l1d.as_deref(), shape, &rules)?;
    let mut stop = Stop {
        end_ms: Spread::of(Vec::new()),
        acknowledged: 0,
        acknowledged_lost: 0,
        refused: 0,
        unanswered: 0,
        posted: 0,
        posted_lost: 0,
    };
    let mut ends = Vec::new();
    for round in 0..options.rounds {
        let (took, mut all) = end(&mut daemon, round)?;
        ends.push(took.as_secs_f64() * 1e3);
        let posted = all.pop().context("no client that posts")?;
        stop.posted += posted.done.len() as u64;
        stop.posted_lost += missing(&redis, &posted.done);
        for sets in all {
            stop.acknowledged += sets.done.len() as u64;
            stop.acknowledged_lost += missing(&redis, &sets.done);
            stop.refused += sets.refused;
            stop.unanswered += sets.unanswered;
        }
        daemon.restart()?;
    }
    stop.end_ms = Spread::of(ends);
    Ok(stop)
}

/// Ends the daemon under load. Returns how long that took, and what each client did; the last one
/// waits for no answers.
fn end(daemon: &mut Daemon, round: u32) -> Result<(Duration, Vec<Sets>)> {
    let (socket, is_over) = (daemon.socket(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..=THREADS)
            .map(|thread| {
                let (socket, is_over) = (&socket, &is_over);
                scope.spawn(move || {
                    load(socket, is_over, &format!("{round}:{thread}"), thread == THREADS)
                })
            })
            .collect();
        std::thread::sleep(LOAD);
        daemon.signal(Signal::SIGTERM)?;
        let begun = Instant::now();
        while daemon.exited()?.is_none() {
            ensure!(begun.elapsed() < PATIENCE, "the daemon does not end");
            std::thread::sleep(Duration::from_micros(200));
        }
        let took = begun.elapsed();
        is_over.store(true, Ordering::SeqCst);
        let all =
            threads.into_iter().map(|thread| thread.join().ok().context("a client panicked")?);
        Ok((took, all.collect::<Result<Vec<_>>>()?))
    })
}

/// Sets one key after the other until the daemon has ended.
fn load(socket: &Path, is_over: &AtomicBool, name: &str, no_wait: bool) -> Result<Sets> {
    // The daemon must not be asked for by this client once it has ended.
    let client: Client = connect(socket)?;
    let options = SetOptions { no_wait, ..SetOptions::default() };
    let mut sets = Sets::default();
    for number in 0_u64.. {
        if is_over.load(Ordering::SeqCst) {
            break;
        }
        let key = format!("stop:{name}:{number}");
        match client.set_with(&key, "value", &options) {
            Ok(_) => sets.done.push(key),
            Err(Error::Busy { .. }) => std::thread::yield_now(),
            Err(Error::Deadline { .. }) => sets.unanswered += 1,
            Err(_) => {
                sets.refused += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
    Ok(sets)
}

/// Those of the keys that Redis does not have.
fn missing(redis: &Server, keys: &[String]) -> u64 {
    let mut client = redis.client();
    let has = |chunk: &[String]| {
        let mut words: Vec<&[u8]> = vec![b"EXISTS"];
        words.extend(chunk.iter().map(|key| key.as_bytes()));
        u64::try_from(client.resp_int(&words)).unwrap_or(0)
    };
    keys.len() as u64 - keys.chunks(500).map(has).sum::<u64>()
}
