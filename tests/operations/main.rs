//! Hazard: of several changes at the same time one is lost, done twice, or based on what is no
//! longer there. Through the built binary; with real memcached and redis-server where there are
//! tiers.

mod table;
mod tiers;
mod versions;

use l1d_client::{Client, CounterOptions, Lifetime, OperationOptions};
use std::time::Duration;
use test_support::daemon::{Daemon, connect};

const PROGRAM: &str = env!("CARGO_BIN_EXE_l1d");

fn text(client: &Client, key: &str) -> Option<String> {
    let value = client.get(key).unwrap()?;
    Some(String::from_utf8_lossy(&value).into_owned())
}

fn plain() -> OperationOptions {
    OperationOptions::default()
}

fn living(ttl: Duration) -> OperationOptions {
    OperationOptions { lifetime: Lifetime::For(ttl), ..plain() }
}

fn from(initial: i64) -> CounterOptions {
    CounterOptions { initial: Some(initial), ..CounterOptions::default() }
}

/// What remains of the life of the copy in L1, in ms.
fn ttl_ms(client: &Client, key: &str) -> u64 {
    let explained = client.admin().explain_json(key).unwrap();
    let explained: serde_json::Value = serde_json::from_str(&explained).unwrap();
    explained["in_table"]["ttl_ms"].as_u64().unwrap()
}

/// Runs `work` in so many threads, each with a client of its own, as a process would have it.
fn in_parallel(daemons: &[&Daemon], clients: usize, work: impl Fn(usize, &Client) + Sync) {
    std::thread::scope(|scope| {
        for number in 0..clients {
            let (work, daemon) = (&work, daemons[number % daemons.len()]);
            scope.spawn(move || work(number, &connect(daemon)));
        }
    });
}

/// Adds 1 to "count" so many times altogether, by eight clients, and checks that none is lost and
/// that no two got the same number.
fn check_increments(daemons: &[&Daemon], total: usize) {
    // A counter keeps the life that it began with: it must not end before the test.
    let options = CounterOptions { lifetime: Lifetime::Forever, ..from(1) };
    let seen: Vec<std::sync::atomic::AtomicBool> = (0..=total).map(|_| false.into()).collect();
    in_parallel(daemons, 8, |_, client| {
        for _ in 0..total / 8 {
            let count = client.increment("count", 1, &options).unwrap().done().unwrap();
            let value = usize::try_from(count.value).unwrap();
            let was_seen = seen[value].swap(true, std::sync::atomic::Ordering::Relaxed);
            assert!(!was_seen, "{value} was given out twice");
        }
    });
    let done = total / 8 * 8;
    let last = connect(daemons[0]).increment("count", 0, &from(0)).unwrap().done().unwrap();
    assert_eq!(usize::try_from(last.value).unwrap(), done);
}

/// Each round, many clients add the same key: exactly one succeeds.
fn check_lock(daemons: &[&Daemon], rounds: usize) {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};
    let winners: Vec<AtomicUsize> = (0..rounds).map(|_| AtomicUsize::new(0)).collect();
    let barrier = Barrier::new(8);
    in_parallel(daemons, 8, |number, client| {
        for (round, winners) in winners.iter().enumerate() {
            barrier.wait();
            let added = client.add(format!("lock:{round}"), number.to_string(), &plain()).unwrap();
            winners.fetch_add(usize::from(added.is_done()), Ordering::Relaxed);
        }
    });
    for (round, winners) in winners.iter().enumerate() {
        assert_eq!(winners.load(Ordering::Relaxed), 1, "round {round}");
    }
}

/// Half of the clients count up by one. The others add a million by reading the number and comparing,
/// and give up after some conflicts. Neither kind loses a change of the other.
fn check_mixed(daemons: &[&Daemon], each: usize) {
    use std::sync::atomic::{AtomicUsize, Ordering};
    const LARGE: usize = 1_000_000;
    let options = CounterOptions { lifetime: Lifetime::Forever, ..from(0) };
    connect(daemons[0]).increment("mixed", 0, &options).unwrap().done().unwrap();
    let swaps = AtomicUsize::new(0);
    let swap = |client: &Client| {
        let found = client.get("mixed").unwrap()?;
        let token = found.meta().token()?;
        let value: usize = String::from_utf8_lossy(&found).trim_end().parse().unwrap();
        let larger = (value + LARGE).to_string();
        let swapped = client.compare_and_set("mixed", token, larger, &plain()).unwrap();
        swapped.is_done().then(|| swaps.fetch_add(1, Ordering::Relaxed))
    };
    in_parallel(daemons, 8, |number, client| {
        for _ in 0..each {
            // Each host has clients of both kinds.
            if number < 4 {
                client.increment("mixed", 1, &options).unwrap().done().unwrap();
            } else {
                let _ = (0..3).find_map(|_| swap(client));
            }
        }
    });
    let last = connect(daemons[0]).increment("mixed", 0, &from(0)).unwrap().done().unwrap();
    let swaps = swaps.into_inner();
    assert_eq!(usize::try_from(last.value).unwrap(), swaps * LARGE + 4 * each, "{swaps} swaps");
    assert!(swaps > 0, "nothing was compared");
}

/// Clients append their numbers to a list by reading it and comparing: none is lost.
fn check_compare_and_set(daemons: &[&Daemon], each: usize) {
    connect(daemons[0]).set("list", ",").unwrap();
    in_parallel(daemons, 4, |number, client| {
        for round in 0..each {
            loop {
                let list = client.get("list").unwrap().unwrap();
                let Some(token) = list.meta().token() else { continue };
                let longer = [&list[..], format!("{number}-{round},").as_bytes()].concat();
                if client.compare_and_set("list", token, longer, &plain()).unwrap().is_done() {
                    break;
                }
            }
        }
    });
    // Of the record: a copy may be older than what the other host did last.
    let list = connect(daemons[0]).get_and_touch("list", Lifetime::Rule).unwrap().unwrap();
    let list = String::from_utf8(list.into_vec()).unwrap();
    for number in 0..4 {
        for round in 0..each {
            let item = format!(",{number}-{round},");
            assert_eq!(list.matches(&item).count(), 1, "{item} in {list}");
        }
    }
}
