//! The hazard: of the counts of several processes one is lost, or a number is given out twice.

use super::child::{Process, client, hear, say};
use super::{PROGRAM, is_long, median, ratio};
use l1d_client::{CounterOptions, Lifetime};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};
use test_support::daemon::{Daemon, connect};

const CONFIG: &str = "[table]\nvalue_bytes_max = \"64KiB\"\n[defaults]\nwrite = \"l1-only\"\n";
const PROCESSES: usize = 8;
const COUNTER: CounterOptions = CounterOptions { initial: Some(1), lifetime: Lifetime::Forever };

/// Not a test by itself: a process that counts, or sets, as often as it is told.
#[test]
fn process_that_counts() {
    let Some(client) = client() else { return };
    let own = std::process::id().to_string();
    say("ready");
    loop {
        let order = hear();
        let Some((operation, rest)) = order.split_once(' ') else { return };
        let (count, file) = rest.split_once(' ').unwrap();
        let count: usize = count.parse().unwrap();
        if operation == "set" {
            for _ in 0..count {
                client.set(&own, "12345678").unwrap();
            }
        } else {
            let mut numbers = Vec::with_capacity(count * 4);
            for _ in 0..count {
                let counted = client.increment("count", 1, &COUNTER).unwrap().done().unwrap();
                numbers.extend(u32::try_from(counted.value).unwrap().to_le_bytes());
            }
            std::fs::write(file, numbers).unwrap();
        }
        say("done");
    }
}

#[test]
fn eight_processes_lose_no_count_and_get_no_number_twice() {
    let (rounds, each) = if is_long() { (10, 125_000) } else { (2, 5000) };
    let daemon = Daemon::start(PROGRAM, CONFIG, "16MiB");
    let files = tempfile::tempdir().unwrap();
    let (sender, lines) = channel::<(usize, String)>();
    // As long as a million counts of a busy machine may take.
    let hear = || lines.recv_timeout(Duration::from_secs(600)).unwrap().1;
    let start = |n| Process::start("counters::process_that_counts", &daemon, n, sender.clone());
    let mut all: Vec<Process> = (0..PROCESSES).map(start).collect();
    all.iter().for_each(|_| assert_eq!(hear(), "ready"));
    let mut play = |operation: &str| {
        let begun = Instant::now();
        for (number, process) in all.iter_mut().enumerate() {
            let file = files.path().join(number.to_string());
            process.tell(&format!("{operation} {each} {}", file.display()));
        }
        (0..PROCESSES).for_each(|_| assert_eq!(hear(), "done"));
        begun.elapsed()
    };
    let mut seen = vec![false; rounds * each * PROCESSES + 1];
    let mut figures = vec![];
    for _ in 0..rounds {
        let set = play("set");
        let counted = play("count");
        for number in 0..PROCESSES {
            let numbers = std::fs::read(files.path().join(number.to_string())).unwrap();
            assert_eq!(numbers.len(), each * 4);
            for number in numbers.as_chunks().0 {
                let number = u32::from_le_bytes(*number);
                assert!(!std::mem::replace(&mut seen[number as usize], true), "{number} twice");
            }
        }
        figures.push((ratio(counted, set), set, counted));
    }
    let last = connect(&daemon).increment("count", 0, &COUNTER).unwrap().done().unwrap().value;
    assert_eq!(usize::try_from(last), Ok(rounds * each * PROCESSES), "counts were lost");
    println!("{last} counts: an increment took {:.2} times a set", median(figures.clone()).0);
    println!("of {rounds} rounds (ratio, sets, increments): {figures:?}");
}
