//! The hazard: a reader returns a mixture of two values, a value of another key, or an older value
//! than one that it has seen, while the owner overwrites, recycles segments and is killed.
//!
//! Eight processes read in every way that the library offers, and this one writes values of many
//! sizes; every value can be verified. `L1D_TORN_READS` sets the number of reads (10^7 by default),
//! `L1D_TEST_SEED` the order of keys.

#[path = "torn_reads/reader.rs"]
mod reader;
#[path = "torn_reads/values.rs"]
mod values;

use l1d_client::{Client, Error, SetOptions};
use reader::{Reader, WAYS};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use test_support::daemon::{Daemon, connect};
use values::{KEYS, VALUE_BYTES_MAX, key, next, number, proven, value};

const READERS: u64 = 8;
/// In-place reads of each reader that pause until the owner has overwritten the value.
const LONG_LOOKS: u64 = 8;
/// Marks a process as a reader, and names the socket.
const ROLE: &str = "L1D_TORN_SOCKET";

/// A reader process. It is a test only because the test binary can run nothing else.
#[test]
fn reader_process() {
    let Ok(socket) = std::env::var(ROLE) else { return };
    // In the test that keeps killing the daemon, it may not be running at the moment.
    let begun = Instant::now();
    let client = loop {
        match Client::builder().socket(&socket).connect() {
            Ok(client) => break client,
            Err(error) => assert!(begun.elapsed() < Duration::from_secs(30), "{error}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let (reads, random) = (number("L1D_TORN_READS", 1), number("L1D_TEST_SEED", 1));
    let long_looks = number("L1D_TORN_LONG_LOOKS", 0);
    let mut reader = Reader::new(client, random);
    let (mut done, mut looks) = (0, 0);
    while done < reads {
        done += reader.read();
        if done * long_looks > looks * reads {
            looks += 1;
            reader.look_for_long();
        }
    }
    let hits = reader.hits.map(|hits| hits.to_string()).join(" ");
    println!("figures {} {} {hits}", reader.changes, reader.written_over);
}

fn start_readers(
    socket: &Path,
    reads: u64,
    long_looks: u64,
    seed: u64,
) -> Vec<std::process::Child> {
    (0..READERS)
        .map(|reader| {
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "reader_process", "--nocapture", "--test-threads=1"])
                .env(ROLE, socket)
                .env("L1D_TORN_READS", (reads / READERS).to_string())
                .env("L1D_TORN_LONG_LOOKS", long_looks.to_string())
                .env("L1D_TEST_SEED", (seed + reader).to_string())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect()
}

/// Waits for the readers. Returns the changes that they saw, the in-place reads during which the
/// owner wrote, and their hits for each way to read.
fn gather(readers: Vec<std::process::Child>) -> (u64, u64, [u64; WAYS.len()]) {
    let (mut changes, mut written_over, mut hits) = (0, 0, [0; WAYS.len()]);
    for mut reader in readers {
        let lines: Vec<String> =
            BufReader::new(reader.stdout.take().unwrap()).lines().map_while(Result::ok).collect();
        assert!(reader.wait().unwrap().success(), "a reader failed: {lines:#?}");
        let figures = lines.iter().find_map(|line| line.split("figures ").nth(1));
        let mut figures =
            figures.expect("its figures").split(' ').map(|word| word.parse().unwrap());
        changes += figures.next().unwrap_or(0);
        written_over += figures.next().unwrap_or(0);
        hits.iter_mut().zip(figures).for_each(|(hits, more): (&mut u64, u64)| *hits += more);
    }
    (changes, written_over, hits)
}

fn daemon() -> Daemon {
    // Small enough for segments to be recycled all the time.
    let config = format!("[table]\nvalue_bytes_max = \"{VALUE_BYTES_MAX}\"\n");
    Daemon::start(env!("CARGO_BIN_EXE_l1d"), &config, "8MiB")
}

/// Sets without waiting, so that a segment is often recycled while a reader in it waits for a
/// processor; waits if the daemon is behind.
fn set_soon(client: &Client, key: &[u8], value: &[u8]) {
    match client.set_with(key, value, &SetOptions { no_wait: true, ..SetOptions::default() }) {
        Err(Error::Busy { .. }) => client.set(key, value).map(|_| ()).unwrap(),
        set => drop(set.unwrap()),
    }
}

#[test]
fn eight_processes_read_while_one_overwrites() {
    let seed = number("L1D_TEST_SEED", u64::from(std::process::id()));
    let reads = number("L1D_TORN_READS", 10_000_000);
    println!("seed {seed}");
    let daemon = daemon();
    let client = connect(&daemon);
    let mut readers = start_readers(&daemon.socket(), reads, LONG_LOOKS, seed);
    let (mut random, mut bytes, mut version) = (seed, Vec::new(), 0);
    while readers.iter_mut().any(|reader| reader.try_wait().unwrap().is_none()) {
        version += 1;
        let number = next(&mut random) % KEYS;
        value(number, version, &mut bytes);
        set_soon(&client, &key(number), &bytes);
    }
    let (changes, written_over, hits) = gather(readers);
    println!("{reads} reads by {READERS} processes: {changes} new values, {version} sets");
    println!("hits by {WAYS:?}: {hits:?}; {written_over} long looks at what was written over");
    assert!(written_over > LONG_LOOKS, "the readers saw nothing recycled");
    assert!(hits.iter().sum::<u64>() > reads / 2 && changes > KEYS, "nothing happened");
    assert!(hits.iter().all(|hits| *hits > reads / 20), "a way to read that found nothing");
    let report = client.admin().check_json().unwrap();
    assert!(report.contains("\"violation_count\":0"), "{report}");
}

#[test]
fn readers_go_on_while_the_daemon_is_killed_again_and_again() {
    let seed = number("L1D_TEST_SEED", u64::from(std::process::id()));
    println!("seed {seed}");
    let mut daemon = daemon();
    let client = connect(&daemon);
    let mut readers = start_readers(&daemon.socket(), 2_000_000, 0, seed);
    let (mut random, mut bytes, mut version, mut kills) = (seed, Vec::new(), 0, 0);
    let mut acknowledged = vec![0; usize::try_from(KEYS).unwrap()];
    while readers.iter_mut().any(|reader| reader.try_wait().unwrap().is_none()) || kills < 5 {
        let sets = 200 + next(&mut random) % 400;
        // Another thread writes, so that the kill can hit any point of a set.
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
                    if let Err(error) = client.set(key(number), &*bytes) {
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
            // A value may be missing if a segment was half recycled; an older one must not
            // reappear.
            if client.peek_into(key(number), &mut bytes).is_some() {
                let Some(found) = proven(number, &bytes, &mut expected) else { continue };
                assert!(found >= *acknowledged, "key {number}: {found} after {acknowledged}");
            }
        }
    }
    let (_, _, hits) = gather(readers);
    println!("{kills} kills, {version} sets, hits by {WAYS:?}: {hits:?}");
    assert!(hits.iter().all(|hits| *hits > 10_000), "a way to read that found nothing");
    let report = client.admin().check_json().unwrap();
    assert!(report.contains("\"violation_count\":0"), "{report}");
}
