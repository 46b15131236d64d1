//! Hazard: after a write was acknowledged, somebody reads an older value, because of a fault below.
//!
//! Writers and readers run against a history while faults of both tiers are drawn by a seed:
//! replies that are held back, requests that are delivered late, connections that are cut, servers
//! that are stopped or killed. `L1D_TEST_SEED` repeats a run, `L1D_OPERATIONS` makes a longer one.

use l1d_client::Client;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use test_support::daemon::{Daemon, connect};
use test_support::history::Key;
use test_support::random::Random;
use test_support::servers::{Proxy, Server};

const PROGRAM: &str = env!("CARGO_BIN_EXE_l1d");
const WRITERS: usize = 3;
const READERS: usize = 2;
const KEYS_PER_WRITER: usize = 4;

struct History {
    keys: Vec<Key>,
    operations: AtomicU64,
    operations_max: u64,
    errors: AtomicU64,
    found: AtomicU64,
    degraded: AtomicU64,
}

impl History {
    fn goes_on(&self) -> bool {
        self.operations.fetch_add(1, Ordering::SeqCst) < self.operations_max
    }

    fn failed(&self) {
        self.errors.fetch_add(1, Ordering::SeqCst);
        // Or most operations would be those that an open breaker refuses.
        std::thread::sleep(millis(1));
    }

    fn write(&self, client: &Client, number: usize, is_delete: bool) {
        let key = &self.keys[number];
        let change = key.begin(is_delete);
        let name = name(number);
        let written = if is_delete {
            client.delete(name).map(|deleted| deleted.degraded)
        } else {
            client.set(name, format!("{number} {change}")).map(|stored| stored.degraded)
        };
        match written {
            Ok(degraded) => {
                self.degraded.fetch_add(u64::from(degraded), Ordering::SeqCst);
                key.acknowledge(change);
            }
            Err(_) => self.failed(),
        }
    }

    fn read(&self, client: &Client, number: usize) {
        let key = &self.keys[number];
        let read = key.read();
        let Ok(value) = client.get(name(number)) else { return self.failed() };
        let change = value.map(|value| {
            self.found.fetch_add(1, Ordering::SeqCst);
            let text = String::from_utf8_lossy(&value).into_owned();
            let (owner, change) = text.split_once(' ').expect("a number and a change");
            assert_eq!(owner, number.to_string(), "the value of another key");
            change.parse().unwrap()
        });
        if let Err(wrong) = key.judge(read, change) {
            panic!("key {number}: {wrong}");
        }
    }
}

fn name(number: usize) -> String {
    format!("key:{number}")
}

fn millis(count: usize) -> Duration {
    Duration::from_millis(count as u64)
}

/// One fault of one tier, and its end.
fn strike(random: &mut Random, servers: &mut [(Server, std::sync::Arc<Proxy>); 2]) {
    let tier = random.below(2);
    let (server, proxy) = &mut servers[tier];
    let lasts = millis(20 + random.below(150));
    match random.below(5) {
        0 => {
            proxy.hold();
            std::thread::sleep(lasts);
            proxy.release();
        }
        1 => {
            let late = proxy.hold_requests();
            std::thread::sleep(lasts * 4);
            late.deliver();
        }
        2 => {
            proxy.cut();
            std::thread::sleep(lasts);
            proxy.mend();
        }
        3 => {
            let pid = Pid::from_raw(i32::try_from(server.pid()).unwrap());
            kill(pid, Signal::SIGSTOP).unwrap();
            std::thread::sleep(lasts);
            kill(pid, Signal::SIGCONT).unwrap();
        }
        // Redis would lose the record.
        _ if tier == 0 => {
            server.kill();
            std::thread::sleep(lasts);
            server.restart();
        }
        _ => {}
    }
}

#[test]
fn nothing_older_is_read_after_an_acknowledged_write_whatever_fails_below() {
    let mut random = Random::new();
    let operations_max =
        std::env::var("L1D_OPERATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(12_000);
    let mut servers = [Server::memcached(), Server::redis()].map(|server| {
        let proxy = Proxy::before(&server);
        (server, proxy)
    });
    let config = format!(
        "[table]\nvalue_bytes_max = \"64KiB\"\n[l2]\naddress = \"{}\"\ndeadline = \"25ms\"\n\
         [l3]\nurl = \"redis://{}\"\ndeadline = \"25ms\"\n\
         [defaults]\nttl = \"100ms\"\nnegative_ttl = \"100ms\"\nl2_ttl = \"1m\"\n",
        servers[0].1.address(),
        servers[1].1.address()
    );
    let daemon = Daemon::start(PROGRAM, &config, "16MiB");
    let history = History {
        keys: (0..WRITERS * KEYS_PER_WRITER).map(|_| Key::default()).collect(),
        operations: AtomicU64::new(0),
        operations_max,
        errors: AtomicU64::new(0),
        found: AtomicU64::new(0),
        degraded: AtomicU64::new(0),
    };
    let (history, begun, is_over) = (&history, Instant::now(), &AtomicBool::new(false));
    std::thread::scope(|scope| {
        let mut actors = Vec::new();
        for writer in 0..WRITERS {
            let client = connect(&daemon);
            let mut random = random.split();
            actors.push(scope.spawn(move || {
                while history.goes_on() {
                    let number = writer * KEYS_PER_WRITER + random.below(KEYS_PER_WRITER);
                    match random.below(10) {
                        0 => history.write(&client, number, true),
                        1..4 => history.write(&client, number, false),
                        _ => history.read(&client, number),
                    }
                }
            }));
        }
        for _ in 0..READERS {
            let client = connect(&daemon);
            let mut random = random.split();
            actors.push(scope.spawn(move || {
                while history.goes_on() {
                    history.read(&client, random.below(WRITERS * KEYS_PER_WRITER));
                    std::thread::sleep(millis(random.below(2)));
                }
            }));
        }
        let servers = &mut servers;
        scope.spawn(move || {
            while !is_over.load(Ordering::SeqCst) {
                strike(&mut random, servers);
                std::thread::sleep(millis(random.below(100)));
            }
        });
        let ends: Vec<_> = actors.into_iter().map(|actor| actor.join()).collect();
        is_over.store(true, Ordering::SeqCst);
        assert!(ends.iter().all(Result::is_ok), "an actor has read something older");
    });
    let count = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
    let (errors, found) = (count(&history.errors), count(&history.found));
    println!(
        "{operations_max} operations in {:.1?}: {errors} errors, {} degraded, {found} values read",
        begun.elapsed(),
        count(&history.degraded),
    );
    assert!(found > operations_max / 10, "hardly anything was read");
}
