//! The hazard: the first request after a restart of the daemon fails, although nobody has acted on it
//! and the next daemon would answer.

use crate::bench::{NO_WAIT, connect, start};
use l1d_client::{Client, Lookup, SetOptions};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::thread::sleep;
use std::time::Duration;

/// Asks a daemon that has been replaced, by a client whose mailbox is the former daemon's.
fn after_a_restart(ask: impl FnOnce(&Client)) {
    let mut daemon = start("");
    let client = connect(&daemon);
    client.set("before", "1").unwrap();
    // Long enough for the daemon to sleep.
    sleep(Duration::from_millis(100));
    daemon.kill();
    daemon.restart();
    ask(&client);
}

#[test]
fn a_read_is_answered_by_the_next_daemon() {
    after_a_restart(|client| assert_eq!(client.lookup("nowhere"), Ok(Lookup::Unknown)));
}

#[test]
fn a_write_that_nobody_has_read_goes_to_the_next_daemon() {
    after_a_restart(|client| {
        client.set("key", "2").unwrap();
        assert_eq!(&*client.peek("key").unwrap(), b"2");
    });
}

#[test]
fn a_write_that_nobody_waits_for_goes_to_the_next_daemon() {
    after_a_restart(|client| {
        client.set_with("key", "2", &NO_WAIT).unwrap();
        // What goes before it in the ring is read before it.
        assert_eq!(client.lookup("nowhere"), Ok(Lookup::Unknown));
        assert_eq!(&*client.peek("key").unwrap(), b"2");
    });
}

/// The end of the former daemon is noticed when it has to be rung, and so while sending: it slept.
#[test]
fn a_request_that_is_polled_goes_to_the_next_daemon() {
    after_a_restart(|client| {
        let mut pending = client.request_set("key", "2", &SetOptions::default());
        let stored = loop {
            if let Some(stored) = pending.poll() {
                break stored;
            }
            let mut ends = [PollFd::new(pending.descriptor().unwrap(), PollFlags::POLLIN)];
            assert_eq!(poll(&mut ends, PollTimeout::from(10_000_u16)), Ok(1), "never readable");
        };
        assert!(stored.unwrap().version > 0);
    });
}
