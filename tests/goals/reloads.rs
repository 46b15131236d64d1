//! The hazard: a reload costs hits under rules that have not changed.

use super::child::{Process, client, hear, say};
use super::{PROGRAM, is_long, median};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};
use test_support::daemon::{Daemon, connect};
use test_support::servers::PATIENCE;

const RULES: usize = 100;
const KEYS: usize = 20;
const READERS: usize = 4;

/// Odd rules get another life each time, and the last one comes and goes.
fn config(turn: usize) -> String {
    use std::fmt::Write;
    let mut text = "[table]\nvalue_bytes_max = \"64KiB\"\n[defaults]\nttl = \"1h\"\n".to_owned();
    for rule in 0..RULES - turn % 2 {
        let ttl = 3600 - if rule % 2 == 1 { turn % 7 * 60 } else { 0 };
        write!(text, "[[policy]]\nprefix = \"{rule}:\"\nttl = \"{ttl}s\"\n").unwrap();
    }
    text
}

/// Keys of rules that do not change.
fn keys() -> Vec<String> {
    let of_rule = |rule: usize| (0..KEYS).map(move |key| format!("{rule}:{key}"));
    (0..RULES).step_by(2).flat_map(of_rule).collect()
}

/// Not a test by itself: a process that reads these keys all the time.
#[test]
fn process_that_reads() {
    let Some(client) = client() else { return };
    let keys = keys();
    say("ready");
    loop {
        let Ok(milliseconds) = hear().parse() else { return };
        let (begun, mut hits, mut misses) = (Instant::now(), 0_u64, 0_u64);
        while begun.elapsed() < Duration::from_millis(milliseconds) {
            for key in &keys {
                *(if client.peek(key).is_some() { &mut hits } else { &mut misses }) += 1;
            }
        }
        say(&format!("{hits} {misses}"));
    }
}

#[test]
fn no_hit_is_lost_under_unchanged_rules_while_100_rules_are_reloaded() {
    let (rounds, milliseconds) = if is_long() { (10, 2000) } else { (1, 500) };
    let daemon = Daemon::start(PROGRAM, &config(0), "16MiB");
    let own = connect(&daemon);
    for key in keys() {
        own.set(key, "value").unwrap();
    }
    let (sender, lines) = channel::<(usize, String)>();
    let hear = || lines.recv_timeout(PATIENCE).unwrap().1;
    let start = |n| Process::start("reloads::process_that_reads", &daemon, n, sender.clone());
    let mut all: Vec<Process> = (0..READERS).map(start).collect();
    all.iter().for_each(|_| assert_eq!(hear(), "ready"));
    let (mut turn, mut figures) = (0, vec![]);
    for _ in 0..rounds {
        let mut play = |reloads: bool| {
            all.iter_mut().for_each(|process| process.tell(&milliseconds.to_string()));
            let end = Instant::now() + Duration::from_millis(milliseconds);
            while reloads && Instant::now() < end {
                turn += 1;
                daemon.configure(&config(turn));
                own.admin().reload_policy().unwrap();
                std::thread::sleep(Duration::from_millis(10));
            }
            let mut sum = 0_u64;
            for _ in 0..READERS {
                let said = hear();
                let (hits, misses) = said.split_once(' ').unwrap();
                assert_eq!(misses, "0", "after {turn} reloads");
                sum += hits.parse::<u64>().unwrap();
            }
            sum
        };
        let (before, during) = (play(false), play(true));
        figures.push((during as f64 / before as f64, before, during));
    }
    assert!(turn > 1, "{turn}");
    println!(
        "{turn} reloads, no hit lost; hits meanwhile: {:.2} of those before (median)",
        median(figures.clone()).0
    );
    println!("of {rounds} rounds (ratio, before, meanwhile): {figures:?}");
}
