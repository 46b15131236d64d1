//! The hazard: operations are slower when nobody reads the log (S10).

use super::{PROGRAM, Times, is_long, median, ratio};
use l1d_client::Client;
use nix::fcntl::{FcntlArg, fcntl};
use serde_json::Value;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use test_support::daemon::{Daemon, connect};
use test_support::servers::until;

/// Has the daemon log lines until the end: each peer that sends nonsense is one.
fn chatter(socket: &Path, end: &AtomicBool) {
    while !end.load(Ordering::Relaxed) {
        let mut peer = UnixStream::connect(socket).unwrap();
        peer.write_all(&[1, 0, 0, 0, 0xff]).unwrap();
        let _ = peer.read_to_end(&mut Vec::new());
    }
}

fn dropped(client: &Client) -> u64 {
    let stats: Value = serde_json::from_str(&client.admin().stats_json().unwrap()).unwrap();
    stats["daemon"]["log_lines_dropped"].as_u64().unwrap()
}

#[test]
fn operations_are_as_fast_while_nobody_reads_the_log() {
    let (rounds, time) =
        if is_long() { (15, Duration::from_secs(2)) } else { (2, Duration::from_millis(300)) };
    let mut place = Daemon::start(PROGRAM, "[table]\nvalue_bytes_max = \"64KiB\"\n", "16MiB");
    place.terminate();
    let (mut log, end) = std::io::pipe().unwrap();
    fcntl(&log, FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
    let mut daemon = place.command().env("L1D_LOG", "debug").stderr(end).spawn().unwrap();
    until("the daemon to listen", || UnixStream::connect(place.socket()).ok());
    let client = connect(&place);
    let (is_read, is_over) = (AtomicBool::new(true), AtomicBool::new(false));
    let mut figures = vec![];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut bytes = [0; 4096];
            loop {
                if !is_read.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(1));
                } else if log.read(&mut bytes).unwrap() == 0 {
                    return;
                }
            }
        });
        scope.spawn(|| chatter(&place.socket(), &is_over));
        let play = |reads: bool| {
            is_read.store(reads, Ordering::Relaxed);
            until("the queue of lines to be full, or empty", || {
                let before = dropped(&client);
                std::thread::sleep(Duration::from_millis(50));
                ((dropped(&client) == before) == reads).then_some(())
            });
            let (begun, mut times) = (Instant::now(), Times::default());
            while begun.elapsed() < time {
                for n in 0..100_u32 {
                    times.time(|| client.set(n.to_le_bytes(), b"value").unwrap());
                }
            }
            [500, 990].map(|permille| times.at(permille))
        };
        for _ in 0..rounds {
            let (read, stopped) = (play(true), play(false));
            let [p50, p99] = [0, 1].map(|which| ratio(stopped[which], read[which]));
            figures.push((p50, p99, read, stopped));
        }
        is_over.store(true, Ordering::Relaxed);
        is_read.store(true, Ordering::Relaxed);
        daemon.kill().unwrap();
        daemon.wait().unwrap();
    });
    let [p50, p99] = [0, 1].map(|which| {
        median(figures.iter().map(|figure| [figure.0, figure.1][which]).collect::<Vec<f64>>())
    });
    println!(
        "log stopped: p50 {p50:.2} and p99 {p99:.2} times that of a log that is read (median)"
    );
    println!("of {rounds} rounds (ratios, read, stopped): {figures:?}");
}
