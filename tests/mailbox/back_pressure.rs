//! The hazard: a request that is lost silently when the daemon is slow, or one that waits forever.

use crate::bench::{NO_WAIT, builder, clients, connect, figure, observer, sleeps, start};
use l1d_client::{Client, Error};
use nix::unistd::gettid;
use serde_json::Value;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;
use test_support::servers::{Proxy, Server, until};

/// Sets keys with this prefix until the ring is full and `is_held` confirms that the daemon takes
/// nothing more out of it. Returns how many were accepted.
fn set_until_busy(client: &Client, prefix: &str, mut is_held: impl FnMut() -> bool) -> u32 {
    let (mut taken, mut held) = (0, false);
    while taken < 100_000 {
        match client.set_with(
            format!("{prefix}:{taken}").as_bytes(),
            u32::to_le_bytes(taken),
            &NO_WAIT,
        ) {
            Ok(_) => taken += 1,
            Err(Error::Busy { .. }) if held => return taken,
            Err(Error::Busy { .. }) => held = is_held(),
            Err(other) => panic!("{other}"),
        }
    }
    panic!("a ring without end")
}

fn assert_all_there(client: &Client, prefix: &str, count: u32) {
    for n in 0..count {
        let value = client.peek(format!("{prefix}:{n}").as_bytes());
        assert_eq!(value.as_deref(), Some(&n.to_le_bytes()[..]), "{prefix}:{n} of {count}");
    }
}

#[test]
fn unacknowledged_sets_are_accepted_and_done_or_refused() {
    let daemon = start("");
    let (client, observer) = (connect(&daemon), observer(&daemon));
    client.set(b"before", b"1").unwrap();
    for round in ["first", "second"] {
        daemon.stop();
        let taken = set_until_busy(&client, round, || true);
        assert!(taken > 100, "{taken} sets until it was full");
        // A refused set has no effect later.
        for _ in 0..100 {
            let refused = client.set_with(b"refused", b"1", &NO_WAIT);
            assert!(matches!(refused, Err(Error::Busy { .. })), "{refused:?}");
        }
        assert_eq!(client.peek(b"before").as_deref(), Some(&b"1"[..]), "hits go on");
        daemon.resume();
        // Comes after them all, through a ring that is full.
        client.set(b"behind", b"1").unwrap();
        assert_all_there(&client, round, taken);
        assert_eq!(client.peek(b"refused"), None);
        client.set_with(b"again", b"1", &NO_WAIT).unwrap();
        until("it to be done", || client.peek(b"again"));
    }
    let [counted] = <[_; 1]>::try_from(clients(&observer)).expect("one client with a mailbox");
    assert!(figure(&counted, "/client_reported/ring_full") >= 2 * 101, "{counted}");
    assert!(!daemon.log().contains("dropped"), "{}", daemon.log());
}

#[test]
fn a_set_waits_for_room_until_its_deadline() {
    let daemon = start("");
    let deadline = Duration::from_millis(300);
    let client = builder(&daemon).deadline(deadline).connect().unwrap();
    daemon.stop();
    let taken = set_until_busy(&client, "taken", || true);
    let late = client.set(b"late", b"1");
    assert!(
        matches!(&late, Err(Error::Deadline { after, .. }) if *after == deadline),
        "not sent, so it is known that nothing was done: {late:?}"
    );
    daemon.resume();
    until("the daemon to answer again", || client.set(b"behind", b"1").ok());
    assert_all_there(&client, "taken", taken);
    assert_eq!(client.peek(b"late"), None, "it was given up before there was room");
}

/// Many threads at once, each with its own lane and its own wait for room.
#[test]
fn sets_that_wait_for_room_go_on_when_there_is_some() {
    let daemon = start("");
    let (client, observer) = (connect(&daemon), observer(&daemon));
    daemon.stop();
    let taken = set_until_busy(&client, "taken", || true);
    let (sender, ids) = channel();
    thread::scope(|scope| {
        let waiting: Vec<_> = (0..8_u8)
            .map(|n| {
                let (client, sender) = (&client, sender.clone());
                scope.spawn(move || {
                    sender.send(gettid()).unwrap();
                    client.set([n], [n; 30_000])
                })
            })
            .collect();
        for id in ids.iter().take(8) {
            until("it to have slept, looked, and slept again", || (sleeps(id) >= 2).then_some(()));
        }
        daemon.resume();
        for set in waiting {
            assert!(set.join().unwrap().unwrap().version > 0);
        }
    });
    for n in 0..8_u8 {
        assert_eq!(client.peek([n]).as_deref(), Some(&[n; 30_000][..]));
    }
    assert_all_there(&client, "taken", taken);
    let [counted] = <[_; 1]>::try_from(clients(&observer)).expect("one client with a mailbox");
    assert_eq!(figure(&counted, "/writes"), u64::from(taken) + 8, "each came once");
    assert!(figure(&counted, "/client_reported/ring_full") > 8, "{counted}");
}

/// Fetches must not crowd out writes on their way to a slow tier: an unacknowledged set that is
/// refused there would be lost silently.
#[test]
fn sets_through_a_slow_tier_are_done_however_much_is_being_fetched() {
    // Each of ten clients has as many under way as are free: ten in eleven of 8192 or nearly so.
    const FETCHES: u64 = 7300;
    let redis = Server::redis();
    let proxy = Proxy::before(&redis);
    let daemon =
        start(&format!("[l3]\nurl = \"redis://{}\"\ndeadline = \"30s\"\n", proxy.address()));
    let (client, observer) = (connect(&daemon), observer(&daemon));
    client.set(b"through", b"1").unwrap();
    proxy.hold();
    thread::scope(|scope| {
        for asker in 0..10 {
            let asking = connect(&daemon);
            scope.spawn(move || {
                let keys: Vec<_> = (0..1000).map(|n| format!("missing:{asker}:{n}")).collect();
                // Some of them are refused, which ends the call when the other answers have
                // arrived.
                let _ = asking.get_many(&keys);
            });
        }
        let stats =
            || serde_json::from_str::<Value>(&observer.admin().stats_json().unwrap()).unwrap();
        until("as many fetches as there can be", || {
            (stats()["flights"]["under_way"].as_u64()? >= FETCHES).then_some(())
        });
        let waiting = || stats()["writes_under_way"].as_u64();
        let taken = set_until_busy(&client, "taken", || waiting() >= Some(4096));
        assert_eq!(client.peek(b"taken:0"), None, "it is on its way");
        let under_way = stats()["flights"]["under_way"].as_u64();
        assert!(under_way >= Some(FETCHES), "not one of them has ended");
        proxy.release();
        until("all of them to be done", || {
            let is_there = |n| client.peek(format!("taken:{n}").as_bytes()).is_some();
            (0..taken).all(is_there).then_some(())
        });
        assert_all_there(&client, "taken", taken);
        let in_l3 = redis.client().resp_int(&[b"DBSIZE"]);
        assert_eq!(in_l3, i64::from(taken) + 1, "and in the tier");
    });
}

/// The hazard: a process that sends its requests and exits, as short-lived ones do, before the
/// daemon has processed them.
#[test]
fn requests_of_a_process_that_has_exited_are_done() {
    let daemon = start("");
    let (going, staying) = (connect(&daemon), connect(&daemon));
    going.set(b"before", b"1").unwrap();
    daemon.stop();
    let taken = set_until_busy(&going, "taken", || true);
    drop(going);
    daemon.resume();
    until("all of them to be done", || {
        let is_there = |n| staying.peek(format!("taken:{n}").as_bytes()).is_some();
        (0..taken).all(is_there).then_some(())
    });
    assert_all_there(&staying, "taken", taken);
    let observer = observer(&daemon);
    until("its mailbox to be given back", || (clients(&observer).len() == 1).then_some(()));
}

/// The guarantee of `SetOptions::no_wait` for a daemon that is killed while it is awake, so that no
/// client sends it a wakeup.
#[test]
fn an_unacknowledged_set_notices_a_killed_daemon() {
    let mut daemon = start("");
    let client = connect(&daemon);
    client.set(b"kept", b"1").unwrap();
    daemon.stop();
    client.set_with(b"rung", b"1", &NO_WAIT).unwrap();
    daemon.kill();
    let sent = (0..1000).map(|_| client.set_with(b"lost", b"1", &NO_WAIT));
    let mut failed = sent.enumerate().skip_while(|(_, sent)| sent.is_ok());
    let (taken, failed) = failed.next().expect("it is never noticed");
    assert!(matches!(failed, Err(Error::Unavailable { .. })), "{failed:?}");
    assert!(taken <= 62, "{taken} were taken");
    assert_eq!(client.peek(b"kept").as_deref(), Some(&b"1"[..]), "hits go on");
    daemon.restart();
    client.set_with(b"next", b"1", &NO_WAIT).unwrap();
    until("the next daemon to store it", || client.peek(b"next"));
    assert_eq!(client.peek(b"lost"), None);
}
