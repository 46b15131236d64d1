//! The hazard: a stop drops requests that clients have left in their rings, some of which nobody
//! waits for.

use super::L1D;
use l1d_client::{Client, SetOptions};
use nix::sys::signal::Signal;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use test_support::daemon::{Daemon, connect};

/// The configuration without tiers.
const CONFIG: &str = "[defaults]\nttl = \"1h\"\n";

/// Hands a set to the daemon without waiting for it. Returns whether it was taken.
fn post(client: &Client, key: &str) -> bool {
    client.set_with(key, "value", &SetOptions { no_wait: true, ..SetOptions::default() }).is_ok()
}

fn assert_stored(daemon: &Daemon, keys: impl IntoIterator<Item = String>) -> usize {
    let reader = connect(daemon);
    keys.into_iter().map(|key| assert!(reader.peek(&key).is_some(), "{key} was dropped")).count()
}

#[test]
fn what_was_in_the_rings_before_a_stop_is_served() {
    let mut daemon = Daemon::start(L1D, CONFIG, "16MiB");
    let clients: Vec<_> = (0..3).map(|_| connect(&daemon)).collect();
    assert!(clients.iter().all(|client| client.set("attached", "value").is_ok()));
    daemon.stop();
    let keys: Vec<String> = (0..300).map(|key| format!("left:{key}")).collect();
    for (key, client) in keys.iter().zip(clients.iter().cycle()) {
        assert!(post(client, key));
    }
    daemon.signal(Signal::SIGTERM);
    daemon.resume();
    assert!(daemon.terminate().success());
    daemon.restart();
    assert_stored(&daemon, keys);
}

#[test]
fn a_set_that_nobody_waits_for_is_served_or_refused_while_the_daemon_stops() {
    // On a busy machine the writers may end before the daemon does.
    let met = (0..10).any(|_| sets_meet_a_stop());
    assert!(met, "no daemon has stopped while it was written to");
}

/// Several threads of each client set without waiting while the daemon stops: what was taken is
/// there, and soon nothing is taken any more. Returns whether something was refused.
fn sets_meet_a_stop() -> bool {
    let mut daemon = Daemon::start(L1D, CONFIG, "64MiB");
    let mut writers = Vec::new();
    for number in 0..2 {
        let client = Client::builder().socket(daemon.socket()).deadline(Duration::from_millis(100));
        let client = Arc::new(client.connect().unwrap());
        for thread in 0..3 {
            let client = client.clone();
            writers.push(thread::spawn(move || {
                let mut taken = Vec::new();
                let mut refused = 0;
                // A full ring refuses as well, now and then.
                for key in 0..20_000 {
                    if key % 50 == 0 {
                        thread::sleep(Duration::from_millis(1));
                    }
                    let key = format!("load:{number}:{thread}:{key}");
                    if post(&client, &key) {
                        taken.push(key);
                        refused = 0;
                    } else {
                        refused += 1;
                        thread::sleep(Duration::from_millis(1));
                    }
                    if refused > 50 {
                        break;
                    }
                }
                (taken, refused)
            }));
        }
    }
    thread::sleep(Duration::from_millis(30));
    assert!(daemon.terminate().success());
    let ends: Vec<_> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
    let met = ends.iter().any(|(_, refused)| *refused > 0);
    daemon.restart();
    let count = assert_stored(&daemon, ends.into_iter().flat_map(|(taken, _)| taken));
    assert!(count > 0);
    met
}
