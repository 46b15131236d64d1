//! The hazard: the first request after a restart of the daemon fails, although it was never
//! executed and the new daemon would answer it.

use crate::bench::{NO_WAIT, connect, start};
use l1d_client::{Client, Lookup, SetOptions};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::thread::sleep;
use std::time::Duration;

/// Makes a request to a daemon that has been replaced, by a client whose mailbox belongs to the old
/// daemon.
fn after_a_restart(ask: impl FnOnce(&Client)) {
    let mut daemon = start("");
    let client = connect(&daemon);
    client.set("before", "1").unwrap();
    // Long enough for the daemon to go to sleep.
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
fn an_unacknowledged_write_goes_to_the_next_daemon() {
    after_a_restart(|client| {
        client.set_with("key", "2", &NO_WAIT).unwrap();
        // Requests before it in the ring are read before it.
        assert_eq!(client.lookup("nowhere"), Ok(Lookup::Unknown));
        assert_eq!(&*client.peek("key").unwrap(), b"2");
    });
}

/// The old daemon was asleep, so the client has to send it a wakeup and notices its end while
/// sending.
#[test]
fn a_request_that_is_polled_goes_to_the_next_daemon() {
    after_a_restart(|client| {
        let mut pending = client.request_set("key", "2", &SetOptions::default());
        let stored = loop {
            if let Some(stored) = pending.poll() {
                break stored;
            }
            // Without a descriptor while it attaches to the next daemon.
            let Some(descriptor) = pending.descriptor() else {
                assert!(pending.is_queued());
                std::thread::sleep(std::time::Duration::from_millis(1));
                continue;
            };
            let mut ends = [PollFd::new(descriptor, PollFlags::POLLIN)];
            assert_eq!(poll(&mut ends, PollTimeout::from(10_000_u16)), Ok(1), "never readable");
        };
        assert!(stored.unwrap().version > 0);
    });
}
