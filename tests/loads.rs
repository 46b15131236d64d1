//! Hazards: a value that many processes miss at once is computed by all of them; a loader that dies
//! keeps the others waiting; a value that was computed before a change lands after it.

use l1d_client::{
    Client, Error, LoadError, LoadOptions, Pending, Reservation, ReserveStep, SetOptions,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use test_support::daemon::{Daemon, connect, connect_to};
use test_support::servers::{Proxy, Server, until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_l1d");
const CONFIG: &str = "[table]\nvalue_bytes_max = \"64KiB\"\n";
/// Tells a child of this test binary what to do.
const ROLE: &str = "L1D_TEST_ROLE";
const SOCKET: &str = "L1D_TEST_SOCKET";
const LONG: LoadOptions = LoadOptions {
    lease: Duration::from_secs(20),
    wait: Duration::from_secs(20),
    set: SetOptions { lifetime: l1d_client::Lifetime::Rule, flags: 0, write: None, no_wait: false },
};

fn start() -> Daemon {
    Daemon::start(PROGRAM, CONFIG, "16MiB")
}

fn reserve(client: &Client, key: &str) -> Option<l1d_client::LoadToken> {
    match client.reserve(key, &LONG).unwrap() {
        Reservation::Found(_) => None,
        Reservation::Reserved(token) => Some(token),
    }
}

/// Returns when somebody waits for the key's loader, as `explain` says.
fn until_waiting(client: &Client, key: &str) {
    until("somebody to wait", || {
        let explained = client.admin().explain_json(key).unwrap();
        let explained: serde_json::Value = serde_json::from_str(&explained).unwrap();
        explained["load"]["told_to_wait"].as_u64().filter(|told| *told > 0)
    });
}

#[test]
fn one_of_many_threads_and_clients_loads_and_all_get_its_value() {
    let daemon = start();
    let loads = AtomicU32::new(0);
    let clients: Vec<Client> = (0..2).map(|_| connect(&daemon)).collect();
    for round in 0..20 {
        let key = format!("cold:{round}");
        std::thread::scope(|scope| {
            // More than a process can have requests under way: those who wait must leave room for
            // the loader's value.
            for client in clients.iter().flat_map(|client| std::iter::repeat_n(client, 20)) {
                scope.spawn(|| {
                    let value = client.get_or_load(&key, || {
                        std::thread::sleep(Duration::from_millis(2));
                        let load = loads.fetch_add(1, Ordering::SeqCst);
                        Ok::<_, Error>(format!("{load}"))
                    });
                    assert_eq!(value.unwrap(), round.to_string().into_bytes());
                });
            }
        });
    }
    assert_eq!(loads.load(Ordering::SeqCst), 20, "one load for each key");
}

#[test]
fn an_error_reaches_all_who_wait_and_nobody_after_them() {
    let daemon = start();
    let (loader, waiter) = (connect(&daemon), connect(&daemon));
    let token = reserve(&loader, "key").unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            waiter.get_or_load("key", || -> Result<&str, Error> { panic!("another one loads") })
        });
        until_waiting(&loader, "key");
        loader.abandon(token, Some("the database is away")).unwrap();
        match waiting.join().unwrap() {
            Err(LoadError::Cache(Error::LoadFailed { reason })) => {
                assert_eq!(reason, "the database is away");
            }
            other => panic!("{other:?}"),
        }
    });
    let failed = waiter.get_or_load("key", || Err::<&str, _>("my own"));
    assert_eq!(failed, Err(LoadError::Load("my own")));
    assert_eq!(waiter.get_or_load("key", || Ok::<_, Error>("v")).unwrap(), b"v");
}

#[test]
fn a_panic_and_an_abandoned_reservation_hand_the_key_on() {
    let daemon = start();
    let (loader, waiter) = (connect(&daemon), connect(&daemon));
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        loader.get_or_load("key", || -> Result<&str, Error> { panic!("on purpose") })
    }));
    assert!(panicked.is_err());
    let token = reserve(&waiter, "key").expect("at once");
    std::thread::scope(|scope| {
        let next = scope.spawn(|| loader.get_or_load("key", || Ok::<_, Error>("second")));
        until_waiting(&waiter, "key");
        waiter.abandon(token, None).unwrap();
        assert_eq!(next.join().unwrap().unwrap(), b"second");
    });
}

#[test]
fn a_change_by_somebody_else_ends_a_reservation() {
    let daemon = start();
    let (loader, other) = (connect(&daemon), connect(&daemon));
    let refused = |token| match loader.fill(token, "computed before", &SetOptions::default()) {
        Err(Error::Refused { reason }) => assert!(reason.contains("has ended"), "{reason}"),
        stored => panic!("{stored:?}"),
    };
    let token = reserve(&loader, "key").unwrap();
    other.set("key", "new").unwrap();
    refused(token);
    assert_eq!(other.get("key").unwrap().unwrap().as_ref(), b"new");
    other.delete("key").unwrap();
    let token = reserve(&loader, "key").unwrap();
    other.delete("key").unwrap();
    refused(token);
    let token = reserve(&loader, "key").unwrap();
    other.admin().flush("ke").unwrap();
    refused(token);
    assert_eq!(other.peek("key"), None);
    // A set answers those who wait.
    let _token = reserve(&loader, "key").unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| other.get_or_load("key", || Ok::<_, Error>("mine")));
        until_waiting(&loader, "key");
        loader.set("key", "set").unwrap();
        assert_eq!(waiting.join().unwrap().unwrap(), b"set");
    });
}

#[test]
fn a_lease_that_runs_out_hands_the_key_on() {
    let daemon = start();
    let (slow, next) = (connect(&daemon), connect(&daemon));
    let short = LoadOptions { lease: Duration::from_millis(100), ..LONG };
    let Reservation::Reserved(token) = slow.reserve("key", &short).unwrap() else { panic!() };
    assert_eq!(next.get_or_load("key", || Ok::<_, Error>("next")).unwrap(), b"next");
    let late = slow.fill(token, "late", &SetOptions::default());
    assert!(matches!(late, Err(Error::Refused { .. })), "{late:?}");
    assert_eq!(next.get("key").unwrap().unwrap().as_ref(), b"next");
}

/// Waits at the request's descriptor, as a program with its own event loop does.
fn answer<T>(mut pending: Pending<T>) -> Result<T, Error> {
    loop {
        if let Some(answer) = pending.poll() {
            return answer;
        }
        let descriptor = pending.descriptor().expect("a request under way");
        let mut ends = [PollFd::new(descriptor, PollFlags::POLLIN)];
        assert_eq!(poll(&mut ends, PollTimeout::from(10_000_u16)), Ok(1), "never readable");
    }
}

/// The steps until there is a reservation, at most `steps`.
fn reserve_in_steps(client: &Client, steps: usize) -> Option<Reservation> {
    let mut step = answer(client.request_reserve("key", &LONG)).unwrap();
    for _ in 0..steps {
        match step {
            ReserveStep::Done(reservation) => return Some(reservation),
            ReserveStep::AskAgain(wait) => {
                std::thread::sleep(wait.pause());
                step = answer(wait.ask_again()).unwrap();
            }
        }
    }
    None
}

#[test]
fn a_program_with_a_loop_of_its_own_loads_in_steps() {
    let daemon = start();
    let (loader, waiter) = (connect(&daemon), connect(&daemon));
    let reserved = |client| match reserve_in_steps(client, 2) {
        Some(Reservation::Reserved(token)) => token,
        other => panic!("{other:?}"),
    };
    let token = reserved(&loader);
    assert!(reserve_in_steps(&waiter, 3).is_none(), "two have it");
    answer(loader.request_abandon(token, None)).unwrap();
    answer(waiter.request_fill(reserved(&waiter), "value", &SetOptions::default())).unwrap();
    match reserve_in_steps(&loader, 1) {
        Some(Reservation::Found(value)) => assert_eq!(&*value, b"value"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_waits_too_long_is_told() {
    let daemon = start();
    let (loader, waiter) = (connect(&daemon), connect(&daemon));
    let _token = reserve(&loader, "key").unwrap();
    let short = LoadOptions { wait: Duration::from_millis(50), ..LONG };
    let waited = waiter.reserve("key", &short);
    assert!(matches!(waited, Err(Error::Busy { .. })), "{waited:?}");
}

/// Runs this binary as a process with a role.
fn child(role: &str, daemon: &Daemon) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_with_a_role", "--nocapture"])
        .env(ROLE, role)
        .env(SOCKET, daemon.socket())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// No test by itself: what a child does.
#[test]
fn child_with_a_role() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let client = connect_to(std::env::var_os(SOCKET).unwrap().as_ref());
    let _token = reserve(&client, "key").unwrap();
    if role == "forks" {
        // The child of this process keeps its socket open.
        // SAFETY: the child only sleeps and ends.
        if unsafe { nix::unistd::fork() }.unwrap().is_child() {
            std::thread::sleep(Duration::from_secs(5));
            // SAFETY: ends the process, and nothing else.
            unsafe { nix::libc::_exit(0) };
        }
    }
    println!("reserved");
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn a_loader_that_is_killed_is_followed_at_once_even_if_its_child_holds_the_socket() {
    for role in ["dies", "forks"] {
        let daemon = start();
        let mut loader = child(role, &daemon);
        let mut output = loader.stdout.take().unwrap();
        let mut text = String::new();
        until("the child's reservation", || {
            let mut bytes = [0; 256];
            let count = output.read(&mut bytes).unwrap();
            text.push_str(&String::from_utf8_lossy(&bytes[..count]));
            text.contains("reserved").then_some(())
        });
        let client = connect(&daemon);
        std::thread::scope(|scope| {
            let next = scope.spawn(|| {
                let value = client.get_or_load("key", || Ok::<_, Error>("next"));
                (value, Instant::now())
            });
            until_waiting(&connect(&daemon), "key");
            let killed = Instant::now();
            loader.kill().unwrap();
            loader.wait().unwrap();
            let (value, at) = next.join().unwrap();
            assert_eq!(value.unwrap(), b"next", "{role}");
            // Far below the lease; the goal is measured elsewhere.
            assert!(at - killed < Duration::from_secs(4), "{role}: {:?}", at - killed);
        });
    }
}

#[test]
fn through_tiers_the_value_lands_in_all_of_them_once() {
    let (memcached, redis) = (Server::memcached(), Server::redis());
    let proxy = Proxy::before(&redis);
    let config = format!(
        "{CONFIG}[l2]\naddress = \"{}\"\ndeadline = \"5s\"\n[l3]\nurl = \"redis://{}\"\n\
         deadline = \"5s\"\n",
        memcached.address(),
        proxy.address()
    );
    let daemon = Daemon::start(PROGRAM, &config, "16MiB");
    let (loader, other) = (connect(&daemon), connect(&daemon));
    redis.client().resp(&[b"SET", b"there", b"of redis"]);
    let there = loader.get_or_load("there", || -> Result<&str, Error> { panic!("it is there") });
    assert_eq!(there.unwrap(), b"of redis");

    let token = reserve(&loader, "key").unwrap();
    std::thread::scope(|scope| {
        proxy.hold();
        let filled = scope.spawn(|| loader.fill(token, "value", &SetOptions::default()));
        proxy.wait_until_held();
        // While the value is on its way nobody else becomes the loader.
        let waiting = scope.spawn(|| {
            let request = other.reserve("key", &LONG);
            match request.unwrap() {
                Reservation::Found(value) => value.into_vec(),
                Reservation::Reserved(token) => panic!("{token:?}"),
            }
        });
        until("the other to wait", || (!waiting.is_finished()).then_some(()));
        proxy.release();
        filled.join().unwrap().unwrap();
        assert_eq!(waiting.join().unwrap(), b"value");
    });
    assert_eq!(redis.client().resp(&[b"GET", b"key"]), b"value");
    assert_eq!(memcached.client().ascii_get("key").unwrap().1, b"value");
}
