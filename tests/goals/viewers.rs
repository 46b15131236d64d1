//! The hazard: the page costs so much that operators close it.

use super::scrapes::get;
use super::{PROGRAM, is_long};
use nix::unistd::{SysconfVar, sysconf};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};
use test_support::daemon::{Daemon, connect};

const VIEWERS: u32 = 10;

/// Processor time that the daemon has used.
fn used(daemon: &Daemon) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", daemon.pid())).unwrap();
    let figures = stat.rsplit_once(") ").unwrap().1.split_whitespace();
    let ticks: u64 = figures.skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    let each_second = sysconf(SysconfVar::CLK_TCK).unwrap().unwrap();
    Duration::from_secs(ticks) / u32::try_from(each_second).unwrap()
}

/// Asks what an open page asks, once a second and from another moment on than the other viewers.
fn view(socket: &Path, viewer: u32, seconds: u32) {
    let begun = Instant::now() + Duration::from_secs(1) * viewer / VIEWERS;
    get(socket, "/");
    get(socket, "/api/history");
    for second in 0..seconds {
        let due = begun + Duration::from_secs(1) * second;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        get(socket, "/api/snapshot");
        get(socket, "/api/clients");
        if second % 10 == 0 {
            get(socket, "/api/advise");
        }
    }
}

#[test]
fn ten_viewers_of_the_page_take_little_of_a_processor() {
    let seconds = if is_long() { 60 } else { 2 };
    let config =
        "[table]\nvalue_bytes_max = \"64KiB\"\n[[policy]]\nprefix = \"a:\"\nttl = \"20s\"\n";
    let daemon = Daemon::start(PROGRAM, config, "64MiB");
    let socket = daemon.socket().with_file_name("l1d-status.sock");
    let clients: Vec<_> = (0..20).map(|_| connect(&daemon)).collect();
    for (number, client) in clients.iter().enumerate() {
        client.set(format!("a:{number}"), "value").unwrap();
    }
    let spent = |work: &dyn Fn()| {
        let (before, begun) = (used(&daemon), Instant::now());
        work();
        (used(&daemon) - before).as_secs_f64() / begun.elapsed().as_secs_f64()
    };
    let alone = spent(&|| std::thread::sleep(Duration::from_secs(u64::from(seconds))));
    let viewed = spent(&|| {
        std::thread::scope(|scope| {
            for viewer in 0..VIEWERS {
                let socket = &socket;
                scope.spawn(move || view(socket, viewer, seconds));
            }
        });
    });
    println!(
        "the daemon takes {:.2} % of a processor, {:.2} % beside {VIEWERS} viewers",
        alone * 100.0,
        viewed * 100.0
    );
}
