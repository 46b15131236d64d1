//! The hazard: looking at the daemon slows down what it is there for.

use super::{PROGRAM, Times, is_long, median, ratio};
use l1d_client::Client;
use l1d_wire::snapshot::Snapshot;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use test_support::daemon::{Daemon, connect};

const POLICIES: usize = 200;
const CLIENTS: usize = 500;
/// Longer than answers are shared for: each scrape asks the owner.
const PAUSE: Duration = Duration::from_millis(600);

/// The status server's reply.
pub(super) fn get(socket: &Path, path: &str) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: l1d\r\n\r\n").unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    reply
}

fn scrape(socket: &Path) -> String {
    get(socket, "/metrics")
}

fn snapshot(client: &Client) -> Snapshot {
    serde_json::from_str(&client.admin().stats_json().unwrap()).unwrap()
}

#[test]
fn a_scrape_is_quick_and_slows_nobody_down() {
    let (rounds, hits, sets, scrapes) =
        if is_long() { (21, 4_000_000, 40_000, 100) } else { (3, 100_000, 1000, 4) };
    let mut config = "[table]\nvalue_bytes_max = \"64KiB\"\n".to_owned();
    for number in 1..POLICIES {
        writeln!(config, "[[policy]]\nprefix = \"rule{number:03}:\"\nttl = \"20s\"").unwrap();
    }
    let daemon = Daemon::start(PROGRAM, &config, "64MiB");
    let socket = daemon.socket().with_file_name("l1d-status.sock");
    let others: Vec<Client> = (0..CLIENTS).map(|_| connect(&daemon)).collect();
    for (number, client) in others.iter().enumerate() {
        client.set(format!("rule{:03}:key", number % POLICIES), "value").unwrap();
    }
    let client = connect(&daemon);

    // The turns in which those attached are over.
    std::thread::sleep(Duration::from_millis(2100));
    let begun = Instant::now();
    let mut times = Times::default();
    let mut bytes = 0;
    for _ in 0..scrapes {
        std::thread::sleep(PAUSE);
        bytes = times.time(|| scrape(&socket)).len();
    }
    let seconds = usize::try_from(begun.elapsed().as_secs()).unwrap().min(60);
    let mut turns = snapshot(&client).daemon.longest_turn_each_second_us;
    turns.truncate(seconds);
    let longest = turns.iter().max().copied().unwrap_or(0);
    // A busy machine may take the processor away in some of the seconds.
    let usual = median(turns);
    println!("scrapes of {bytes} bytes: {}, longest {:?}", times.show(), times.at(1000));
    println!("the owner's longest turn in a second of these: {usual} us (median), {longest} us");

    client.set("rule001:hot", "value").unwrap();
    let mut value = Vec::new();
    let mut play = |is_scraped: bool| {
        let ends = AtomicBool::new(false);
        std::thread::scope(|scope| {
            if is_scraped {
                scope.spawn(|| {
                    while !ends.load(Ordering::Relaxed) {
                        scrape(&socket);
                        std::thread::sleep(PAUSE);
                    }
                });
            }
            let begun = Instant::now();
            for _ in 0..sets {
                client.set("rule001:hot", "value").unwrap();
            }
            let set = begun.elapsed();
            let begun = Instant::now();
            for _ in 0..hits {
                assert!(client.peek_into("rule001:hot", &mut value).is_some());
            }
            let hit = begun.elapsed();
            ends.store(true, Ordering::Relaxed);
            (hit, set)
        })
    };
    let mut ratios = [vec![], vec![]];
    for round in 0..rounds {
        // Which of the two comes first alternates, too.
        let first = play(round % 2 == 0);
        let second = play(round % 2 == 1);
        let (with, without) = if round % 2 == 0 { (first, second) } else { (second, first) };
        ratios[0].push(ratio(with.0, without.0));
        ratios[1].push(ratio(with.1, without.1));
    }
    let [hits, sets] = ratios.map(median);
    println!("time with scrapes to time without: hits {hits:.3}, sets {sets:.3}");
}
