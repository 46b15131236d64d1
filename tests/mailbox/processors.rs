//! The hazard: an owner that looks out awake for requests from its own processor, and so keeps whoever
//! would send them from running.

use crate::bench::{
    NO_WAIT, alone, clients, connect, figure, observer, pin, start, two_processors,
};
use l1d_client::{AsyncClient, Client, SetOptions};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::thread;
use test_support::servers::until;

const REQUESTS: u32 = 3000;
/// Looks that a request may come to beside those that the bound counts: at attaching.
const MORE: u64 = 8;

/// Looks in vain, times the daemon was rung, requests.
fn counted(observer: &Client) -> [u64; 3] {
    let [client] = <[_; 1]>::try_from(clients(observer)).expect("one client with a mailbox");
    ["/empty_polls", "/client_reported/rings", "/requests"].map(|at| figure(&client, at))
}

/// How much of each there was while `ask` asked.
fn counted_while(observer: &Client, ask: impl FnOnce()) -> [u64; 3] {
    let before = counted(observer);
    ask();
    let after = counted(observer);
    [0, 1, 2].map(|place| after[place] - before[place])
}

/// A daemon and its client's thread on one processor, after the client has asked from another one. What
/// `ask` does then: it sends so many requests.
fn asking_from_the_owners_processor(expected: u32, ask: impl FnOnce(&Client)) {
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
    // It may be looking out still for a request from elsewhere.
    client.set_with(b"moved", b"1", &NO_WAIT).unwrap();
    until("the first request from here", || client.peek(b"moved"));
    let [looks, rings, requests] = counted_while(&observer, || ask(&client));
    assert!(requests >= expected.into(), "{requests} requests");
    // After each of them it sleeps until it is rung, or finds one that came as it was about to.
    assert!(looks <= rings + requests + MORE, "{looks} looks, {rings} rings, {requests} requests");
}

/// What the others rely on: that looking out can be told by the figures.
#[test]
fn who_asks_from_another_processor_is_looked_out_for() {
    let Some([owners, other]) = two_processors() else { return };
    let _alone = alone();
    pin(owners);
    let daemon = start("");
    let observer = observer(&daemon);
    let client = connect(&daemon);
    pin(other);
    until("more looks than requests", || {
        let [looks, rings, requests] = counted_while(&observer, || {
            for n in 0..20_u32 {
                client.set(n.to_le_bytes(), b"value").unwrap();
            }
        });
        (looks > rings + requests + MORE).then_some(())
    });
}

/// Sets without waiting for the answers, but for each to be done.
fn set_one_after_another(client: &Client, requests: u32) {
    for n in 0..requests {
        client.set_with(b"key", n.to_le_bytes(), &NO_WAIT).unwrap();
        while client.peek(b"key").as_deref() != Some(&n.to_le_bytes()) {
            thread::yield_now();
        }
    }
}

#[test]
fn nobody_is_looked_out_for_who_sets_without_waiting() {
    asking_from_the_owners_processor(REQUESTS, |client| set_one_after_another(client, REQUESTS));
}

/// Fewer than come between two times that it is told where they come from while it is awake.
#[test]
fn nobody_is_looked_out_for_who_sets_a_few_without_waiting() {
    const FEW: u32 = 20;
    let ask = |client: &Client| set_one_after_another(client, FEW);
    asking_from_the_owners_processor(FEW, ask);
}

#[test]
fn nobody_is_looked_out_for_who_waits_at_the_descriptor() {
    asking_from_the_owners_processor(REQUESTS, |client| {
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
fn nobody_is_looked_out_for_who_awaits() {
    asking_from_the_owners_processor(REQUESTS, |client| {
        let cache = AsyncClient::from(client.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(async {
            for n in 0..REQUESTS {
                cache.set(b"key", &n.to_le_bytes()).await.unwrap();
            }
        });
    });
}
