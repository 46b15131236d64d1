//! The hazard: an answer that reaches a thread other than the one that asked, a thread that keeps a
//! processor busy while nothing arrives, and idle mailboxes that slow down busy ones.

use crate::bench::{
    alone, builder, clients, connect, figure, observer, pin, sleeps, start, two_processors,
};
use l1d_client::WriteMode;
use l1d_client::{Client, SetOptions};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use nix::unistd::gettid;
use serde_json::Value;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;
use test_support::servers::{Proxy, Server, until};

/// Requests of one process that can wait at once; see `shm_layout::mailbox::SHAPE`.
const LANES: u64 = 16;
const THREADS: usize = 40;

/// A value specific to a thread, small or of several pieces.
fn value_of(thread: usize, round: usize) -> Vec<u8> {
    let bytes = if round.is_multiple_of(4) { 20_000 + thread } else { 10 * thread + round };
    vec![u8::try_from(thread).unwrap(); bytes]
}

/// Sets, reads and deletes a thread's own keys; each expected answer is unique to its request.
fn ask_for_own_keys(client: &Client, thread: usize) {
    let l1_only = SetOptions { write: Some(WriteMode::L1Only), ..SetOptions::default() };
    for round in 0..20 {
        let below = format!("below:{thread}:{}", round % 4).into_bytes();
        let got = client.get(&below).unwrap();
        assert_eq!(got.as_deref(), Some(&value_of(thread, round % 4)[..]), "{thread} {round}");
        let own = format!("own:{thread}").into_bytes();
        let stored = client.set_with(&own, value_of(thread, round), &l1_only).unwrap();
        let there = client.peek(&own).unwrap();
        assert_eq!(there.meta().version, stored.version, "{thread} {round}");
        assert_eq!(&*there, &value_of(thread, round)[..], "{thread} {round}");
        for existed in [true, false] {
            assert_eq!(client.delete(&own).unwrap().existed, existed, "{thread} {round}");
        }
        assert_eq!(client.get(&own).unwrap(), None, "{thread} {round}");
        // Makes the next round ask the tier again.
        client.admin().flush(&below).unwrap();
    }
}

#[test]
fn more_threads_than_can_wait_at_a_time_get_each_their_own_answers() {
    let redis = Server::redis();
    for thread in 0..THREADS {
        for round in 0..4 {
            let key = format!("below:{thread}:{round}").into_bytes();
            assert_eq!(redis.client().resp(&[b"SET", &key, &value_of(thread, round)]), b"+OK");
        }
    }
    let proxy = Proxy::before(&redis);
    let daemon =
        start(&format!("[l3]\nurl = \"redis://{}\"\ndeadline = \"20s\"\n", proxy.address()));
    let (client, observer) = (connect(&daemon), observer(&daemon));
    assert_eq!(client.get(b"nowhere").unwrap(), None);
    proxy.hold();
    thread::scope(|scope| {
        let (sender, ids) = channel();
        for thread in 0..THREADS {
            let (client, sender) = (&client, sender.clone());
            scope.spawn(move || {
                sender.send(gettid()).unwrap();
                ask_for_own_keys(client, thread);
            });
        }
        until("all lanes to be in use", || {
            let stats: Value =
                serde_json::from_str(&observer.admin().stats_json().unwrap()).unwrap();
            (stats["flights"]["under_way"] == LANES).then_some(())
        });
        for id in ids.iter().take(THREADS) {
            until("the others to sleep", || (sleeps(id) >= 1).then_some(()));
        }
        proxy.release();
    });
    assert!(!daemon.log().contains("dropped"), "{}", daemon.log());
}

/// User and system time of this thread.
fn processor_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).unwrap();
    let us = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(us.try_into().unwrap())
}

#[test]
fn a_thread_that_waits_for_a_stopped_daemon_sleeps() {
    // On the daemon's own processor it would not spin in any case.
    let Some([owners, own]) = two_processors() else { return };
    let _alone = alone();
    pin(owners);
    let daemon = start("");
    pin(own);
    let deadline = Duration::from_secs(1);
    let client = builder(&daemon).deadline(deadline).connect().unwrap();
    client.set(b"key", b"1").unwrap();
    daemon.stop();
    let (slept, spent) = (sleeps(gettid()), processor_time());
    client.set(b"key", b"2").unwrap_err();
    let (slept, spent) = (sleeps(gettid()) - slept, processor_time() - spent);
    daemon.resume();
    // It sleeps in slices of 50 ms but may wake late: 20 slices, or fewer on a busy machine.
    assert!((2..=100).contains(&slept), "{slept} sleeps");
    assert!(spent < deadline / 4, "{spent:?} of {deadline:?}");
    until("the daemon to answer", || client.set(b"key", b"3").ok());
    let [counted] = <[_; 1]>::try_from(clients(&observer(&daemon))).expect("one client");
    assert!(figure(&counted, "/client_reported/sleeps") >= 2, "{counted}");
}

/// If answers take long, spinning first wastes a processor and gains nothing.
#[test]
fn a_thread_whose_answers_are_late_stops_spinning() {
    const ROUNDS: u32 = 10;
    const SPIN: Duration = Duration::from_millis(5);
    let Some([owners, own]) = two_processors() else { return };
    let _alone = alone();
    pin(owners);
    let daemon = start("");
    let client = builder(&daemon).spin(SPIN).connect().unwrap();
    client.set(b"key", b"1").unwrap();
    let (go, gone) = channel::<()>();
    let (done, is_done) = channel();
    thread::scope(|scope| {
        let client = &client;
        let waiting = scope.spawn(move || {
            pin(own);
            done.send(gettid()).unwrap();
            let before = processor_time();
            for () in gone {
                client.set(b"key", b"2").unwrap();
                done.send(gettid()).unwrap();
            }
            processor_time() - before
        });
        let id = is_done.recv().unwrap();
        for _ in 0..ROUNDS {
            daemon.stop();
            let before = sleeps(id);
            go.send(()).unwrap();
            // The first sleep may be on a lock, so wait until at least one slice of its sleep for
            // the answer is over.
            until("it to sleep over its answer", || (sleeps(id) > before + 2).then_some(()));
            daemon.resume();
            is_done.recv().unwrap();
        }
        drop(go);
        let spent = waiting.join().unwrap();
        assert!(spent < SPIN * ROUNDS / 2, "{spent:?} in {ROUNDS} waits");
    });
}

#[test]
fn unused_mailboxes_are_not_polled() {
    const IDLE: usize = 300;
    const SETS: u32 = 3000;
    let daemon = start("");
    let idle: Vec<_> = (0..IDLE).map(|_| connect(&daemon)).collect();
    let (busy, observer) = (connect(&daemon), observer(&daemon));
    let looks_into_idle = || {
        let clients = clients(&observer);
        assert_eq!(clients.len(), IDLE + 1);
        let idle = clients.iter().filter(|client| figure(client, "/requests") == 0);
        idle.map(|client| figure(client, "/empty_polls")).sum::<u64>()
    };
    busy.set(b"key", b"first").unwrap();
    let before = looks_into_idle();
    assert!(before <= 2 * IDLE as u64, "{before} looks at attaching");
    for n in 0..SETS {
        busy.set(b"key", n.to_le_bytes()).unwrap();
    }
    assert_eq!(looks_into_idle(), before);
    // The daemon still notices each of them when it sends a request.
    for client in &idle {
        client.set(b"key", b"last").unwrap();
    }
    assert_eq!(looks_into_idle(), 0, "none is idle any more");
}
