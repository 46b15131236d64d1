//! The hazard: a reader returns a mixture of two values, a value of another key, or one that is
//! older than what it has seen, while the owner overwrites, recycles segments and is killed.
//!
//! Eight processes read, this one writes; every value proves itself. `L1D_TORN_READS` sets how many
//! reads (10^7 by default), `L1D_TEST_SEED` the order of keys.

use l1d_client::Client;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use test_support::daemon::Daemon;

const READERS: u64 = 8;
const KEYS: u64 = 64;
/// Says that this process is a reader, and where the socket is.
const ROLE: &str = "L1D_TORN_SOCKET";

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn next(random: &mut u64) -> u64 {
    // splitmix64
    *random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *random;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn key(number: u64) -> Vec<u8> {
    format!("torn:{number}").into_bytes()
}

/// Key number, version, then words that follow from both; from two to about two thousand words.
fn value(key: u64, version: u64, into: &mut Vec<u8>) {
    let mut state = key << 48 ^ version;
    let words = 2 + next(&mut state) % if version.is_multiple_of(16) { 2000 } else { 40 };
    into.clear();
    into.extend_from_slice(&key.to_le_bytes());
    into.extend_from_slice(&version.to_le_bytes());
    for _ in 2..words {
        into.extend_from_slice(&next(&mut state).to_le_bytes());
    }
}

/// The version in a value that proves itself.
fn proven(key: u64, bytes: &[u8], expected: &mut Vec<u8>) -> u64 {
    let version = bytes.get(8..16).expect("a version");
    let version = u64::from_le_bytes(version.try_into().unwrap());
    value(key, version, expected);
    assert!(bytes == expected.as_slice(), "key {key}: a torn value, version {version}");
    version
}

/// A reader process: not a test of its own, but it has to be one to be run.
#[test]
fn reader_process() {
    let Ok(socket) = std::env::var(ROLE) else { return };
    // Where the daemon is killed again and again, it may be away just now.
    let begun = Instant::now();
    let client = loop {
        match Client::builder().socket(&socket).connect() {
            Ok(client) => break client,
            Err(error) => assert!(begun.elapsed() < Duration::from_secs(30), "{error}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let (reads, mut random) = (number("L1D_TORN_READS", 1), number("L1D_TEST_SEED", 1));
    let mut seen = vec![0; usize::try_from(KEYS).unwrap()];
    let (mut bytes, mut expected) = (Vec::new(), Vec::new());
    let (mut hits, mut changes) = (0u64, 0u64);
    for _ in 0..reads {
        let number = next(&mut random) % KEYS;
        if client.peek_into(&key(number), &mut bytes).is_none() {
            continue;
        }
        hits += 1;
        let version = proven(number, &bytes, &mut expected);
        let last = &mut seen[usize::try_from(number).unwrap()];
        assert!(version >= *last, "key {number} went back from {last} to {version}");
        changes += u64::from(version > *last);
        *last = version;
    }
    println!("hits {hits} changes {changes}");
}

fn start_readers(socket: &Path, reads: u64, seed: u64) -> Vec<std::process::Child> {
    (0..READERS)
        .map(|reader| {
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "reader_process", "--nocapture", "--test-threads=1"])
                .env(ROLE, socket)
                .env("L1D_TORN_READS", (reads / READERS).to_string())
                .env("L1D_TEST_SEED", (seed + reader).to_string())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect()
}

/// Waits for the readers; returns hits and changes that they saw.
fn gather(readers: Vec<std::process::Child>) -> (u64, u64) {
    let mut totals = (0, 0);
    for mut reader in readers {
        let lines: Vec<String> =
            BufReader::new(reader.stdout.take().unwrap()).lines().map_while(Result::ok).collect();
        assert!(reader.wait().unwrap().success(), "a reader failed: {lines:#?}");
        let line = lines.iter().find(|line| line.contains("hits ")).expect("its figures");
        let words: Vec<&str> = line.split_whitespace().collect();
        let at = words.iter().position(|word| *word == "hits").unwrap();
        totals.0 += words[at + 1].parse::<u64>().unwrap();
        totals.1 += words[at + 3].parse::<u64>().unwrap();
    }
    totals
}

fn daemon() -> Daemon {
    // So small that segments are recycled all the time.
    let config = "[table]\nvalue_bytes_max = \"16KiB\"\n";
    Daemon::start(env!("CARGO_BIN_EXE_l1d"), config, "6MiB")
}

fn connect(daemon: &Daemon) -> Client {
    Client::builder()
        .socket(daemon.socket())
        .deadline(Duration::from_secs(20))
        .attach_deadline(Duration::from_secs(20))
        .connect()
        .unwrap()
}

#[test]
fn eight_processes_read_while_one_overwrites() {
    let seed = number("L1D_TEST_SEED", u64::from(std::process::id()));
    let reads = number("L1D_TORN_READS", 10_000_000);
    println!("seed {seed}");
    let daemon = daemon();
    let client = connect(&daemon);
    let mut readers = start_readers(&daemon.socket(), reads, seed);
    let (mut random, mut bytes, mut version) = (seed, Vec::new(), 0);
    while readers.iter_mut().any(|reader| reader.try_wait().unwrap().is_none()) {
        version += 1;
        let number = next(&mut random) % KEYS;
        value(number, version, &mut bytes);
        client.set(&key(number), &bytes).unwrap();
    }
    let (hits, changes) = gather(readers);
    println!(
        "{reads} reads by {READERS} processes: {hits} hits, {changes} new values, {version} sets"
    );
    assert!(hits > reads / 2 && changes > KEYS, "the readers saw nothing happen");
    let report = client.check_json().unwrap();
    assert!(report.contains("\"violation_count\":0"), "{report}");
}

#[test]
fn readers_go_on_while_the_daemon_is_killed_again_and_again() {
    let seed = number("L1D_TEST_SEED", u64::from(std::process::id()));
    println!("seed {seed}");
    let mut daemon = daemon();
    let client = connect(&daemon);
    let mut readers = start_readers(&daemon.socket(), 2_000_000, seed);
    let (mut random, mut bytes, mut version, mut kills) = (seed, Vec::new(), 0, 0);
    let mut acknowledged = vec![0; usize::try_from(KEYS).unwrap()];
    while readers.iter_mut().any(|reader| reader.try_wait().unwrap().is_none()) || kills < 5 {
        let sets = 200 + next(&mut random) % 400;
        // Another thread writes, so that the kill falls anywhere in a set.
        std::thread::scope(|scope| {
            let (client, acknowledged) = (&client, &mut acknowledged);
            let (random, bytes, version) = (&mut random, &mut bytes, &mut version);
            let (half, reached) = std::sync::mpsc::channel();
            let writer = scope.spawn(move || {
                let mut set = 0;
                loop {
                    *version += 1;
                    let number = next(random) % KEYS;
                    value(number, *version, bytes);
                    if let Err(error) = client.set(&key(number), bytes) {
                        return error;
                    }
                    acknowledged[usize::try_from(number).unwrap()] = *version;
                    if set == sets {
                        let _ = half.send(());
                    }
                    set += 1;
                }
            });
            if reached.recv().is_err() {
                panic!("a set failed before the kill: {:?}", writer.join());
            }
            daemon.kill();
            writer.join().unwrap();
        });
        kills += 1;
        daemon.restart();
        assert!(daemon.log().contains("taken_over=true"), "{}", daemon.log());
        let mut expected = Vec::new();
        for (number, acknowledged) in (0..KEYS).zip(&acknowledged) {
            // A value may be gone where a segment was half recycled; an older one may not be there.
            if client.peek_into(&key(number), &mut bytes).is_some() {
                let found = proven(number, &bytes, &mut expected);
                assert!(found >= *acknowledged, "key {number}: {found} after {acknowledged}");
            }
        }
    }
    let (hits, _) = gather(readers);
    println!("{kills} kills, {version} sets, {hits} hits");
    let report = client.check_json().unwrap();
    assert!(report.contains("\"violation_count\":0"), "{report}");
}
