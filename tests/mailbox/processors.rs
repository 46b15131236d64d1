//! The hazard: an owner that polls for requests from its own processor, and so keeps the sending
//! thread from running.

use crate::bench::{
    NO_WAIT, alone, clients, connect, figure, observer, pin, start, two_processors,
};
use l1d_client::{AsyncClient, Client, SetOptions};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::thread;
use test_support::servers::until;

const REQUESTS: u32 = 3000;
/// Empty polls in addition to those in the bound: those at attach.
const MORE: u64 = 8;

/// Empty polls, wakeups of the daemon, and requests so far.
fn counts(observer: &Client) -> [u64; 3] {
    let [client] = <[_; 1]>::try_from(clients(observer)).expect("one client with a mailbox");
    ["/empty_polls", "/client_reported/rings", "/requests"].map(|at| figure(&client, at))
}

/// The increase of each while `ask` ran.
fn counted_while(observer: &Client, ask: impl FnOnce()) -> [u64; 3] {
    let before = counts(observer);
    ask();
    let after = counts(observer);
    [0, 1, 2].map(|place| after[place] - before[place])
}

/// Pins the daemon and its client's thread to one processor, after the client has asked from
/// another one. Then calls `ask`, which sends at least `expected` requests.
fn ask_from_the_owners_processor(expected: u32, ask: impl FnOnce(&Client)) {
    let Some([owners, other]) = two_processors() else { return };
    let _alone = alone();
    pin(owners);
    let daemon = start("");
    let observer = observer(&daemon);
    let client = connect(&daemon);
    pin(other);
    for n in 0..100_u32 {
        client.set(n.to_le_bytes(), b"from elsewhere").unwrap();
    }
    pin(owners);
    // The owner may still be polling for a request from the other processor.
    client.set_with(b"moved", b"1", &NO_WAIT).unwrap();
    until("the first request from here", || client.peek(b"moved"));
    let [empty_polls, wakeups, requests] = counted_while(&observer, || ask(&client));
    assert!(requests >= expected.into(), "{requests} requests");
    // After each of them it sleeps until a wakeup, or finds one that arrived just before it slept.
    assert!(
        empty_polls <= wakeups + requests + MORE,
        "{empty_polls} empty polls, {wakeups} wakeups, {requests} requests"
    );
}

/// The other tests rely on this: the figures show polling.
#[test]
fn the_owner_polls_for_requests_from_another_processor() {
    let Some([owners, other]) = two_processors() else { return };
    let _alone = alone();
    pin(owners);
    let daemon = start("");
    let observer = observer(&daemon);
    let client = connect(&daemon);
    pin(other);
    until("more empty polls than requests", || {
        let [empty_polls, wakeups, requests] = counted_while(&observer, || {
            for n in 0..20_u32 {
                client.set(n.to_le_bytes(), b"value").unwrap();
            }
        });
        (empty_polls > wakeups + requests + MORE).then_some(())
    });
}

/// Sets without waiting for the answers, but waits until each set is done.
fn set_one_after_another(client: &Client, requests: u32) {
    for n in 0..requests {
        client.set_with(b"key", n.to_le_bytes(), &NO_WAIT).unwrap();
        while client.peek(b"key").as_deref() != Some(&n.to_le_bytes()) {
            thread::yield_now();
        }
    }
}

#[test]
fn the_owner_does_not_poll_for_unacknowledged_sets() {
    ask_from_the_owners_processor(REQUESTS, |client| set_one_after_another(client, REQUESTS));
}

/// Fewer requests than the interval at which the owner checks the client's processor while awake.
#[test]
fn the_owner_does_not_poll_for_a_few_unacknowledged_sets() {
    const FEW: u32 = 20;
    let ask = |client: &Client| set_one_after_another(client, FEW);
    ask_from_the_owners_processor(FEW, ask);
}

#[test]
fn the_owner_does_not_poll_for_a_client_that_waits_at_the_descriptor() {
    ask_from_the_owners_processor(REQUESTS, |client| {
        for n in 0..REQUESTS {
            let mut set = client.request_set(b"key", n.to_le_bytes(), &SetOptions::default());
            while set.poll().is_none() {
                let Some(descriptor) = set.descriptor() else { continue };
                let mut ends = [PollFd::new(descriptor, PollFlags::POLLIN)];
                assert_eq!(poll(&mut ends, PollTimeout::from(10_000_u16)), Ok(1));
            }
        }
    });
}

#[test]
fn the_owner_does_not_poll_for_a_client_that_awaits() {
    ask_from_the_owners_processor(REQUESTS, |client| {
        let cache = AsyncClient::from(client.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(async {
            for n in 0..REQUESTS {
                cache.set(b"key", &n.to_le_bytes()).await.unwrap();
            }
        });
    });
}

/// The hazard: a client that must not spin goes to sleep at once, and each of its replies needs a
/// wakeup; or it spins, and keeps the owner from replying.
#[test]
fn a_client_on_the_owners_processor_yields_it_and_hardly_sleeps() {
    const SETS: u32 = 500;
    let Some([owners, _]) = two_processors() else { return };
    let _alone = alone();
    pin(owners);
    let daemon = start("");
    let observer = observer(&daemon);
    let client = connect(&daemon);
    let sleeps = || {
        let [client] = <[_; 1]>::try_from(clients(&observer)).expect("one client with a mailbox");
        figure(&client, "/client_reported/sleeps")
    };
    // A busy machine may take the processor for longer than a client waits awake.
    until("most replies to be found without sleeping", || {
        let before = sleeps();
        for n in 0..SETS {
            client.set(n.to_le_bytes(), b"value").unwrap();
        }
        (sleeps() - before < u64::from(SETS) / 4).then_some(())
    });
}
