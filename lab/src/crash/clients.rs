//! Clients are killed in the middle of requests: their mailboxes go, and nobody else waits.

use super::CrashOptions;
use crate::daemon::{Daemon, connect};
use crate::process::{Process, READY, say};
use crate::random::Random;
use crate::statistics::Spread;
use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Serialize;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(10);

/// The client's options.
#[derive(Debug, Clone, clap::Args)]
pub struct CrashClientPlace {
    socket: PathBuf,
}

#[derive(Debug, Serialize)]
pub struct Clients {
    pub kills: u32,
    /// From the kill until the client's mailbox was gone.
    pub gone_ms: Spread,
    /// The longest set of another client while clients were killed, and before that.
    pub longest_ms: f64,
    pub longest_before_ms: f64,
}

/// Sets keys of many sizes until it is killed.
///
/// # Errors
/// There is no daemon.
pub fn client(place: &CrashClientPlace) -> Result<()> {
    let client = connect(&place.socket)?;
    say(READY)?;
    for number in 0_u64.. {
        // Now and then in pieces.
        let bytes = if number.is_multiple_of(16) { 16_000 } else { 100 };
        client.set(format!("client:{}", number % 100), vec![1; bytes])?;
    }
    Ok(())
}

/// Kills one client after another.
///
/// # Errors
/// The daemon does not start, or a mailbox stays.
pub fn measure(options: &CrashOptions) -> Result<Clients> {
    let daemon = super::daemon(options, 64 << 20, 1024)?;
    let (is_over, longest) = (AtomicBool::new(false), AtomicU64::new(0));
    let watcher = connect(&daemon.socket())?;
    std::thread::scope(|scope| {
        let watching = scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let begun = Instant::now();
                watcher.set("watched", "value")?;
                let took = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
                longest.fetch_max(took, Ordering::Relaxed);
                std::thread::sleep(Duration::from_micros(200));
            }
            Ok::<(), l1d_client::Error>(())
        });
        let measured = kills(options, &daemon, &longest);
        is_over.store(true, Ordering::Relaxed);
        let watched = watching.join().ok().context("the watching client panicked")?;
        watched.context("another client's set failed")?;
        measured
    })
}

fn kills(options: &CrashOptions, daemon: &Daemon, longest: &AtomicU64) -> Result<Clients> {
    let start = || {
        let mut client = Process::start(|command| {
            command.arg("crash-client").arg(daemon.socket());
        })?;
        client.ready()?;
        Ok::<Process, anyhow::Error>(client)
    };
    // The same load, and nobody is killed.
    let living = start()?;
    std::thread::sleep(Duration::from_secs(2));
    let longest_before = longest.swap(0, Ordering::Relaxed);
    drop(living);
    let (administrator, mut random) = (daemon.client()?, Random::new(options.seed));
    let mut gone = Vec::new();
    for _ in 0..options.client_kills {
        let client = start()?;
        std::thread::sleep(Duration::from_micros(random.below(5000) as u64));
        let (pid, begun) = (client.pid(), Instant::now());
        kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGKILL)?;
        loop {
            let clients: l1d_wire::snapshot::Clients =
                serde_json::from_str(&administrator.admin().clients_json()?)?;
            if !clients.clients.iter().any(|c| u32::try_from(c.pid) == Ok(pid)) {
                break;
            }
            ensure!(begun.elapsed() < PATIENCE, "a killed client's mailbox stays");
        }
        gone.push(begun.elapsed().as_secs_f64() * 1e3);
        drop(client);
    }
    Ok(Clients {
        kills: options.client_kills,
        gone_ms: Spread::of(gone),
        longest_ms: longest.load(Ordering::Relaxed) as f64 / 1e6,
        longest_before_ms: longest_before as f64 / 1e6,
    })
}
