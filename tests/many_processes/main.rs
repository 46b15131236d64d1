//! Many processes on one host with one daemon: they share fetched and written values, a fork harms
//! no process, and only clients that need a failed tier notice it.

mod forks;

use l1d_client::WriteMode;
use l1d_client::{Client, Error, SetOptions, Source};
use l1d_wire::snapshot::Snapshot;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use test_support::daemon::{Daemon, connect};
use test_support::servers::{Proxy, Server, until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_l1d");
/// Marks a process as an asker, and names the socket.
const ROLE: &str = "L1D_ASKER_SOCKET";
const ASKERS: usize = 8;

fn config(l2: Option<&str>, l3: Option<&str>, rest: &str) -> String {
    let l2 = l2.map(|address| format!("[l2]\naddress = \"{address}\"\ndeadline = \"5s\"\n"));
    let l3 = l3.map(|address| format!("[l3]\nurl = \"redis://{address}\"\ndeadline = \"5s\"\n"));
    let tiers = l2.unwrap_or_default() + &l3.unwrap_or_default();
    format!("[table]\nvalue_bytes_max = \"64KiB\"\n{tiers}{rest}")
}

fn start(config: &str) -> Daemon {
    Daemon::start(PROGRAM, config, "16MiB")
}

/// A figure of memcached's own statistics.
fn memcached_figure(server: &Server, name: &str) -> u64 {
    let mut client = server.client();
    let mut line = client.ascii("stats");
    let wanted = format!("STAT {name} ");
    let mut figure = None;
    while line != "END" {
        figure = figure.or(line.strip_prefix(&wanted).and_then(|text| text.trim().parse().ok()));
        line = client.line();
    }
    figure.expect("the figure")
}

/// A process that asks for one key. It is a test only because the test binary can run nothing else.
#[test]
fn asking_process() {
    let Ok(socket) = std::env::var(ROLE) else { return };
    let client = Client::builder()
        .socket(socket)
        .deadline(Duration::from_secs(20))
        .attach_deadline(Duration::from_secs(20))
        .connect()
        .unwrap();
    let value = client.get(b"wanted").unwrap().expect("a value");
    println!("got {}", String::from_utf8_lossy(&value));
}

#[test]
fn eight_processes_that_miss_one_key_cost_one_fetch() {
    let memcached = Server::memcached();
    memcached.client().ascii_set("wanted", 0, 0, b"the value");
    let proxy = Proxy::before(&memcached);
    let daemon = start(&config(Some(&proxy.address()), None, ""));
    let client = connect(&daemon);
    let before = memcached_figure(&memcached, "cmd_get");
    proxy.hold();
    let askers: Vec<_> = (0..ASKERS)
        .map(|_| {
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "asking_process", "--nocapture", "--test-threads=1"])
                .env(ROLE, daemon.socket())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    until("all of them to wait", || {
        // Not by an explanation, which would ask memcached as well.
        let told: Snapshot = serde_json::from_str(&client.admin().stats_json().unwrap()).unwrap();
        (told.flights.joined + 1 == ASKERS as u64).then_some(())
    });
    proxy.release();
    for mut asker in askers {
        let mut said = String::new();
        asker.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(said.contains("got the value"), "{said}");
        assert!(asker.wait().unwrap().success());
    }
    assert_eq!(memcached_figure(&memcached, "cmd_get") - before, 1);
    assert!(client.peek(b"wanted").is_some());
}

#[test]
fn keys_that_wait_together_travel_together() {
    let redis = Server::redis();
    for n in 0..50 {
        redis.client().resp(&[b"SET", format!("key:{n}").as_bytes(), b"value"]);
    }
    let daemon = start(&config(None, Some(&redis.address()), ""));
    let client = connect(&daemon);
    let commands = || {
        let info = redis.client().resp(&[b"INFO", b"commandstats"]);
        let info = String::from_utf8(info).unwrap();
        let calls = info.lines().find_map(|line| line.strip_prefix("cmdstat_mget:calls="));
        calls.map_or(0, |line| line.split(',').next().unwrap().parse::<u64>().unwrap())
    };
    let before = commands();
    let keys: Vec<_> = (0..50).map(|n| format!("key:{n}").into_bytes()).collect();
    let values = client.get_many(&keys).unwrap();
    assert!(values.iter().all(|value| value.as_deref() == Some(&b"value"[..])));
    // The first request may leave before the others have arrived; those then wait for it together.
    let exchanges = commands() - before;
    assert!(exchanges <= 5, "fifty keys took {exchanges} exchanges");
    // Now the table has them; an absent key and an unknown one are among them.
    let mixed: Vec<&[u8]> = keys.iter().map(Vec::as_slice).chain([&b"nowhere"[..]]).rev().collect();
    let values = client.get_many(&mixed).unwrap();
    assert!(values[0].is_none() && values.len() == 51);
    for value in values.into_iter().skip(1) {
        let value = value.unwrap();
        assert_eq!((&*value, value.meta().source), (&b"value"[..], Source::Table));
    }
}

#[test]
fn children_of_a_forked_server_read_and_write_for_themselves() {
    let daemon = start(&config(None, None, ""));
    let client = connect(&daemon);
    client.set(b"from the parent", b"value").unwrap();
    let children: Vec<_> = (0..8)
        .map(|child| {
            // SAFETY: the child uses memory that malloc keeps usable after fork and ends by
            // `_exit`.
            match unsafe { fork() }.unwrap() {
                ForkResult::Parent { child } => child,
                ForkResult::Child => {
                    let work = || work_of_a_child(&client, child);
                    let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
                    // SAFETY: ends the child at once, without the parent's exit handlers.
                    unsafe { nix::libc::_exit(code.unwrap_or(101)) }
                }
            }
        })
        .collect();
    for child in children {
        assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0)));
    }
    for child in 0..8 {
        for thread in 0..2 {
            let key = format!("child {child} {thread}");
            assert_eq!(client.peek(key.as_bytes()).as_deref(), Some(&b"49"[..]), "{key}");
        }
    }
}

fn work_of_a_child(client: &Client, child: usize) -> i32 {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2)
            .map(|thread| {
                scope.spawn(move || {
                    let key = format!("child {child} {thread}");
                    for n in 0..50 {
                        let value = n.to_string();
                        if client.peek(b"from the parent").is_none() {
                            return 2;
                        }
                        if client.set(key.as_bytes(), value.as_bytes()).is_err() {
                            return 3;
                        }
                        if client.get(key.as_bytes()).ok().flatten().as_deref()
                            != Some(value.as_bytes())
                        {
                            return 4;
                        }
                    }
                    0
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or(5)).max().unwrap_or(6)
    })
}

#[test]
fn keys_of_process_scope_are_each_process_own_until_their_ttl() {
    let rules = "[[policy]]\nprefix = \"ohlcv:\"\nscope = \"process\"\nttl = \"1s\"\n";
    // With no tier below, a value kept in one process is nowhere else.
    let redis = Server::redis();
    let daemon = start(&config(None, Some(&redis.address()), rules));
    // To the daemon, two clients are two processes; each has its own cache.
    let (a, b) = (connect(&daemon), connect(&daemon));
    a.set(b"ohlcv:BTC", b"one").unwrap();
    assert_eq!(b.get(b"ohlcv:BTC").unwrap().as_deref(), Some(&b"one"[..]));
    a.set(b"ohlcv:BTC", b"two").unwrap();
    let own = a.get(b"ohlcv:BTC").unwrap().unwrap();
    assert_eq!(
        (&*own, own.meta().source),
        (&b"two"[..], Source::Process),
        "its own write, at once"
    );
    let copy = b.peek(b"ohlcv:BTC").expect("its copy lives for a second");
    assert_eq!((&*copy, copy.meta().source), (&b"one"[..], Source::Process));
    until("the copy to end", || {
        (b.get(b"ohlcv:BTC").unwrap().as_deref() == Some(&b"two"[..])).then_some(())
    });
    a.set(b"signals:BTC", b"buy").unwrap();
    a.set(b"signals:BTC", b"sell").unwrap();
    let shared = b.peek(b"signals:BTC").unwrap();
    assert_eq!((&*shared, shared.meta().source), (&b"sell"[..], Source::Table));
}

#[test]
fn only_clients_that_need_a_tier_notice_its_failure_and_return() {
    let (mut memcached, mut redis) = (Server::memcached(), Server::redis());
    let rest = "[[policy]]\nprefix = \"loose:\"\non_write_error = \"publish\"\n";
    let daemon = start(&config(Some(&memcached.address()), Some(&redis.address()), rest));
    let client = connect(&daemon);
    client.set(b"held", b"value").unwrap();
    let (stop, hits) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let reader = connect(&daemon);
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(reader.peek(b"held").as_deref(), Some(&b"value"[..]));
                    assert_eq!(reader.get(b"held").unwrap().as_deref(), Some(&b"value"[..]));
                    hits.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        memcached.kill();
        redis.kill();
        let refused = client.set(b"strict:key", b"value");
        assert!(
            matches!(refused, Err(Error::TierFailed { .. } | Error::UnknownOutcome { .. })),
            "{refused:?}"
        );
        assert!(client.peek(b"strict:key").is_none(), "L1 is as it was");
        let loose = client.set(b"loose:key", b"value").unwrap();
        assert!(loose.degraded, "taken by L1 only, and said so");
        assert!(client.peek(b"loose:key").is_some());
        let missed = client.get(b"nowhere");
        assert!(matches!(missed, Err(Error::TierFailed { .. })), "{missed:?}");
        let l1_only = SetOptions { write: Some(WriteMode::L1Only), ..SetOptions::default() };
        client.set_with(b"l1:key", b"value", &l1_only).unwrap();

        let during = hits.load(Ordering::Relaxed);
        until("more hits while both are dead", || {
            (hits.load(Ordering::Relaxed) > during + 10_000).then_some(())
        });
        memcached.restart();
        redis.restart();
        until("writes to go through again", || client.set(b"strict:key", b"again").ok());
        until("misses to be answered again", || client.get(b"nowhere").ok());
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(redis.client().resp(&[b"GET", b"strict:key"]), b"again");
}

/// The hazard: a large value travels in pieces, and if nothing waits for its answer, the next one
/// follows on the same lane before the daemon has processed the first.
#[test]
fn unacknowledged_sets_of_every_size_arrive() {
    let daemon = start(&config(None, None, "[defaults]\nttl = \"1h\"\n"));
    let client = connect(&daemon);
    let options = SetOptions { no_wait: true, ..SetOptions::default() };
    for bytes in [10, 16_383, 16_384, 20_000, 40_000] {
        for n in 0..100_u8 {
            let (key, value) = (format!("{bytes}:{n}"), vec![n; bytes]);
            while let Err(error) = client.set_with(key.as_bytes(), &value, &options) {
                assert!(matches!(error, Error::Busy { .. }), "{error}");
            }
        }
        // Comes after them all.
        client.set(b"last", b"one").unwrap();
        for n in 0..100_u8 {
            let value = client.peek(format!("{bytes}:{n}").as_bytes());
            assert_eq!(value.as_deref(), Some(&vec![n; bytes][..]), "{n} of {bytes} bytes");
        }
    }
    assert!(!daemon.log().contains("dropped"), "{}", daemon.log());
}
