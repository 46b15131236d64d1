//! The hazard: a reply that comes in a later turn reaches the wrong client, or none.

use super::peer::bytes;
use super::*;
use l1d_wire::protocol::Request;
use std::collections::HashMap;
use test_support::random::Random;

#[test]
fn a_late_answer_for_a_peer_that_is_gone_reaches_nobody() {
    let daemon = Daemon::start(limits());
    for _ in 0..20 {
        let mut old = Peer::attached(&daemon);
        let gone = old.origin();
        old.send(&Request::Get { key: b"later" });
        assert_eq!(daemon.hear(), Heard::Asked(gone, b"later".to_vec()));
        drop(old);
        assert_eq!(daemon.hear(), Heard::Gone(gone));

        // It gets the descriptor number that has become free, and waits for a reply as well.
        let mut new = Peer::attached(&daemon);
        new.send(&Request::Get { key: b"later too" });
        let Heard::Asked(origin, _) = daemon.hear() else { panic!("no question") };
        assert_ne!(origin, gone);
        daemon.answer(gone, b"of the old one");
        daemon.answer(origin, b"of the new one");
        assert_eq!(new.value(), b"of the new one");
        let origin = new.origin();
        drop(new);
        assert_eq!(daemon.hear(), Heard::Gone(origin));
    }
}

#[test]
fn a_second_answer_goes_nowhere() {
    let daemon = Daemon::start(limits());
    let mut peer = Peer::attached(&daemon);
    assert_eq!(peer.get(b"twice"), b"twice");
    assert_eq!(peer.get(b"the next"), b"the next");
    let origin = peer.origin();
    daemon.answer(origin, b"unasked");
    assert_eq!(peer.get(b"another"), b"another");
}

#[test]
fn a_request_waits_for_the_reply_to_the_one_before() {
    let daemon = Daemon::start(limits());
    let (mut peer, mut other) = (Peer::attached(&daemon), Peer::attached(&daemon));
    let origin = peer.origin();
    let mut sent = bytes(&Request::Get { key: b"later" });
    sent.extend_from_slice(&bytes(&Request::Get { key: b"after" }));
    peer.send_bytes(&sent);
    assert_eq!(daemon.hear(), Heard::Asked(origin, b"later".to_vec()));
    other.assert_is_served();
    assert_eq!(daemon.handled(), 2);
    daemon.answer(origin, b"at last");
    assert_eq!([peer.value(), peer.value()], [&b"at last"[..], b"after"]);
}

#[test]
fn each_of_many_connections_gets_its_own_answers_in_its_order() {
    const PEERS: usize = 40;
    const REQUESTS: usize = 50;
    let daemon = Daemon::start(limits());
    let mut random = Random::new();
    let mut peers: Vec<Peer> = (0..PEERS).map(|_| Peer::attached(&daemon)).collect();
    let key = |peer: usize, request: usize| match (peer + request) % 3 {
        0 => format!("later {peer} {request}"),
        _ => format!("{peer} {request}"),
    };
    // Requests of each peer that are still to be answered late.
    let mut later: HashMap<Origin, usize> = HashMap::new();
    let mut scripts: Vec<Vec<u8>> = Vec::new();
    for (peer, connection) in peers.iter_mut().enumerate() {
        let keys: Vec<String> = (0..REQUESTS).map(|request| key(peer, request)).collect();
        let count = keys.iter().filter(|key| key.starts_with("later")).count();
        later.insert(connection.origin(), count);
        let frames = keys.iter().map(|key| bytes(&Request::Get { key: key.as_bytes() }));
        scripts.push(frames.collect::<Vec<_>>().concat());
    }
    // Sent in pieces of any size, in any order of the peers.
    let mut unsent: Vec<usize> = (0..PEERS).collect();
    while !unsent.is_empty() {
        let place = random.below(unsent.len());
        let peer = unsent[place];
        let piece = (1 + random.below(100)).min(scripts[peer].len());
        peers[peer].send_bytes(&scripts[peer][..piece]);
        scripts[peer].drain(..piece);
        if scripts[peer].is_empty() {
            unsent.swap_remove(place);
        }
    }
    // Answered in any order, a few at a time. No peer has two requests pending.
    let mut waiting = Vec::new();
    while !later.is_empty() {
        match daemon.hear() {
            Heard::Asked(origin, key) => waiting.push((origin, key)),
            other => panic!("{other:?}"),
        }
        while waiting.len() >= later.len().min(5) && !waiting.is_empty() {
            let (origin, key) = waiting.swap_remove(random.below(waiting.len()));
            daemon.answer(origin, &key);
            let left = later.get_mut(&origin).unwrap();
            *left -= 1;
            if *left == 0 {
                later.remove(&origin);
            }
        }
    }
    for (index, peer) in peers.iter_mut().enumerate() {
        for request in 0..REQUESTS {
            let value = String::from_utf8(peer.value()).unwrap();
            assert_eq!(value, key(index, request));
        }
    }
}
