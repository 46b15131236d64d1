//! The hazard: looking at the daemon slows down what it is there for.

use super::{PROGRAM, Times, is_long, median};
use l1d_client::Client;
use l1d_wire::snapshot::Snapshot;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};
use test_support::daemon::{Daemon, connect};

const POLICIES: usize = 200;
const CLIENTS: usize = 500;
/// Longer than answers are shared for: each scrape asks the owner.
const PAUSE: Duration = Duration::from_millis(600);
/// Of a turn of the owner's.
const TURN_US_MAX: u64 = 2000;

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
    // Prometheus asks every 15 s or less often; each part of a round has one scrape.
    let (rounds, part, scrapes) = if is_long() {
        (7, Duration::from_secs(15), 100)
    } else {
        (2, Duration::from_millis(300), 4)
    };
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
    let usual = median(turns.clone());
    println!("scrapes of {bytes} bytes: {}, longest {:?}", times.show(), times.at(1000));
    let above = turns.iter().filter(|turn| **turn > TURN_US_MAX).count();
    println!(
        "the owner's longest turn of a second: {usual} us (median), {longest} us; above \
         {TURN_US_MAX} us in {above} of {} seconds",
        turns.len()
    );

    // How many times `work` was done, with a scrape in the middle or without.
    let count = |is_scraped: bool, work: &mut dyn FnMut()| {
        // Its 20 s are longer than a part.
        client.set("rule001:hot", "value").unwrap();
        std::thread::scope(|scope| {
            if is_scraped {
                scope.spawn(|| {
                    std::thread::sleep(part / 2);
                    scrape(&socket);
                });
            }
            let (begun, mut done) = (Instant::now(), 0_u32);
            while begun.elapsed() < part {
                (0..1000).for_each(|_| work());
                done += 1;
            }
            f64::from(done) / begun.elapsed().as_secs_f64()
        })
    };
    let mut value = Vec::new();
    let mut set = || {
        client.set("rule001:hot", "value").unwrap();
    };
    let mut hit = || assert!(client.peek_into("rule001:hot", &mut value).is_some());
    let mut ratios = [vec![], vec![]];
    for round in 0..rounds {
        let works: [&mut dyn FnMut(); 2] = [&mut hit, &mut set];
        for (work, ratios) in works.into_iter().zip(&mut ratios) {
            // Which of the two comes first alternates, too.
            let rates = [0, 1].map(|turn| count((round + turn) % 2 == 0, work));
            let [with, without] = if round % 2 == 0 { rates } else { [rates[1], rates[0]] };
            ratios.push(with / without);
        }
    }
    println!("with a scrape every {part:?}, of those without: hits, sets: {ratios:.3?}");
    let [hits, sets] = ratios.map(median);
    println!("medians: hits {hits:.3}, sets {sets:.3}");
}
