//! The hazard: of many processes that miss one key, a second one loads it while the first does, or
//! all wait long for a loader that was killed.

use super::child::{Process, client, hear, say};
use super::{PROGRAM, is_long, median};
use l1d_client::Error;
use nix::time::{ClockId, clock_gettime};
use std::sync::mpsc::channel;
use std::time::Duration;
use test_support::daemon::Daemon;
use test_support::servers::PATIENCE;

const GOAL: Duration = Duration::from_millis(50);
const CONFIG: &str = "[table]\nvalue_bytes_max = \"64KiB\"\n[daemon]\nclients_max = 200\n";

fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap().into()
}

/// Not a test by itself: a process that wants one key after the other.
#[test]
fn process_that_loads() {
    let Some(client) = client() else { return };
    say("ready");
    loop {
        let key = hear();
        if key.is_empty() {
            return;
        }
        let value = client.get_or_load(&key, || {
            say(&format!("loads {}", now().as_nanos()));
            Ok::<_, Error>(hear())
        });
        say(&format!("got {}", String::from_utf8_lossy(&value.unwrap())));
    }
}

#[test]
fn a_killed_loader_of_64_processes_is_followed_soon_and_nobody_loads_beside_it() {
    let (rounds, processes) = if is_long() { (10, 64) } else { (1, 16) };
    let kills = 4;
    let mut takeovers = vec![];
    for round in 0..rounds {
        let daemon = Daemon::start(PROGRAM, CONFIG, "16MiB");
        let (sender, lines) = channel::<(usize, String)>();
        let hear = || lines.recv_timeout(PATIENCE).expect("a process says something");
        let start =
            |n| Some(Process::start("loads::process_that_loads", &daemon, n, sender.clone()));
        let mut all: Vec<Option<Process>> = (0..processes).map(start).collect();
        (0..processes).for_each(|_| assert_eq!(hear().1, "ready"));
        all.iter_mut().flatten().for_each(|process| process.tell("key"));
        let mut killed_at = None;
        for kill in 0..=kills {
            let (loader, line) = hear();
            let since = line.strip_prefix("loads ").unwrap_or_else(|| panic!("{line}"));
            let since = Duration::from_nanos(since.parse().unwrap());
            takeovers.extend(killed_at.map(|killed| since.saturating_sub(killed)));
            // All the others wait, and none of them loads.
            let second = lines.recv_timeout(Duration::from_millis(200));
            assert!(second.is_err(), "beside {loader}: {second:?}");
            if kill < kills {
                killed_at = Some(now());
                all[loader].take().unwrap().kill();
            } else {
                all[loader].as_mut().unwrap().tell("value");
            }
        }
        for _ in 0..processes - kills {
            assert_eq!(hear().1, "got value", "round {round}");
        }
    }
    let most = takeovers.iter().max().unwrap();
    println!(
        "{processes} processes, followed after {:?}, at most {most:?}",
        median(takeovers.clone())
    );
    // A busy machine has other work; the goal is for one that has not.
    assert!(*most < if is_long() { GOAL } else { 20 * GOAL }, "{takeovers:?}");
}
