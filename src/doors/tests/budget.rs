//! The hazard: a client with large requests keeps the others waiting.

use super::*;
use l1d_wire::protocol::{Request, Set};
use serde_json::Value;
use shm_layout::mailbox::ring::Kind;
use test_support::posted::{Posted, payload};

/// Keys of a large request, and the number of such requests that one client sends at once.
const MANY: usize = 1000;
const BATCHES: usize = 5;
/// Sets of the other client.
const SETS: usize = 700;
/// Keys that one client may have handled in a turn.
const BUDGET: usize = 256;

fn many_keys() -> Vec<u8> {
    payload(&Request::GetMany { keys: vec![b"key"; MANY] })
}

#[test]
fn a_client_that_asks_for_many_keys_at_once_gets_no_more_done_than_one_that_does_not() {
    let daemon = Daemon::start(limits());
    let mut many = Posted::attached(&daemon.socket());
    let mut few = Posted::attached(&daemon.socket());
    let mut holding = Peer::attached(&daemon);
    // The loop is held until all requests are in the rings.
    holding.send(&Request::Get { key: b"block" });
    let Heard::Asked(..) = daemon.hear() else { panic!("nobody blocks") };
    for lane in 0..BATCHES {
        many.push(Kind::Whole, Some(u8::try_from(lane).unwrap()), &many_keys());
    }
    let set = Set { key: b"k", value: b"", ttl: None, flags: 0, write: None, reply: false };
    for _ in 0..SETS {
        few.push(Kind::Whole, None, &payload(&Request::Set(set.clone())));
    }
    daemon.release();

    let (mut keys, mut sets) = (0, 0);
    while keys < BATCHES * MANY {
        match daemon.hear() {
            Heard::Many(_, count) => keys += count,
            Heard::Asked(..) => sets += 1,
            other => panic!("{other:?}"),
        }
        // A request is not divided; its excess is taken off the next turns.
        let allowed = sets + MANY + BUDGET;
        assert!(sets == SETS || keys <= allowed, "{keys} keys before set {sets}");
        assert!(keys > 0 || sets <= BUDGET, "{sets} sets before the first key");
    }
    assert_eq!(sets, SETS);
    assert_eq!(holding.value(), b"block");

    let known = holding.known();
    let client = |reads: usize| -> &Value {
        let clients = known["clients"].as_array().unwrap();
        clients.iter().find(|client| client["reads"] == reads).expect("the client")
    };
    // After each request but the last, its client had to sit out some turns.
    let used_up = |client: &Value| client["budgets_used_up"].as_u64().unwrap();
    let turns = u64::try_from((BATCHES - 1) * (MANY / BUDGET)).unwrap();
    assert!(used_up(client(BATCHES * MANY)) > turns, "{known}");
    assert_eq!(used_up(client(0)), u64::try_from(SETS / BUDGET).unwrap(), "{known}");
}

#[test]
fn over_a_socket_too_a_large_request_is_a_turn() {
    let daemon = Daemon::start(limits());
    let (mut many, mut few) = (Peer::attached(&daemon), Peer::attached(&daemon));
    let mut holding = Peer::attached(&daemon);
    holding.send(&Request::Get { key: b"block" });
    let Heard::Asked(..) = daemon.hear() else { panic!("nobody blocks") };
    for _ in 0..BATCHES {
        many.send(&Request::GetMany { keys: vec![b"key"; MANY] });
    }
    few.send(&Request::Get { key: b"later" });
    daemon.release();
    let heard: Vec<Heard> = (0..=BATCHES).map(|_| daemon.hear()).collect();
    let place = heard.iter().position(|heard| matches!(heard, Heard::Asked(..)));
    assert!(place.is_some_and(|place| place <= 1), "{heard:?}");
}
