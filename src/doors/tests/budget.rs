//! The hazard: a client with large requests, or many clients of one user, keep the others waiting.

use super::*;
use l1d_wire::protocol::{Request, Set};
use serde_json::Value;
use shm_layout::mailbox::ring::Kind;
use std::collections::HashMap;
use std::os::unix::net::UnixStream;
use std::path::Path;
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

/// Connections of the user that has many.
const CROWD: usize = 50;
/// Requests of each.
const EACH: u8 = 3;

/// Does something as another user, in a thread of that user, where this process may.
fn as_another_user<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let nobody = rustix::thread::Uid::from_raw(65534);
            rustix::thread::set_thread_res_uid(nobody, nobody, nobody).ok()?;
            Some(work())
        });
        thread.join().expect("the other user's thread ends")
    })
}

/// Has connections of another user ask for more than a turn each, and then one of this user for a key.
/// Returns how many requests of the crowd are handled before that one; all are in the end.
fn handled_before<T: Send>(
    attach: fn(&Path) -> T,
    ask: fn(&mut T),
    ask_for_one: fn(&mut T),
) -> Option<usize> {
    let daemon = Daemon::start(limits());
    let socket = daemon.socket();
    let (mut one, mut holding) = (attach(&socket), Peer::attached(&daemon));
    let crowd = as_another_user(|| (0..CROWD).map(|_| attach(&socket)).collect::<Vec<T>>());
    let Some(mut crowd) = crowd else {
        eprintln!("NOT TESTED: only root can connect as another user");
        return None;
    };
    // What the crowd owes for attaching lasts for eight milliseconds at most.
    std::thread::sleep(Duration::from_millis(20));
    holding.send(&Request::Get { key: b"block" });
    let Heard::Asked(..) = daemon.hear() else { panic!("nobody blocks") };
    crowd.iter_mut().for_each(ask);
    ask_for_one(&mut one);
    daemon.release();
    let mut before = None;
    let mut handled = HashMap::new();
    for count in 0..=CROWD * usize::from(EACH) {
        match daemon.hear() {
            Heard::Asked(..) => before = Some(count),
            Heard::Many(origin, _) => {
                *handled.entry(origin.connection()).or_insert(0) += 1;
                // Nobody has a second request handled before everybody has had a first.
                let least = handled.values().min().filter(|_| handled.len() == CROWD);
                let most = least.map_or(1, |least| least + 1);
                assert!(handled.values().all(|count| *count <= most), "{handled:?}");
            }
            other => panic!("{other:?}"),
        }
    }
    before
}

#[test]
fn many_connections_of_one_user_hold_up_no_other_user_and_take_turns() {
    let socket = |path: &Path| {
        let mut peer = Peer::over(UnixStream::connect(path).unwrap());
        peer.attach();
        peer
    };
    let one = |peer: &mut Peer| peer.send(&Request::Get { key: b"later" });
    let many: fn(&mut Peer) = |peer| {
        (0..EACH).for_each(|_| peer.send(&Request::GetMany { keys: vec![b"key"; MANY] }));
    };
    let figures: fn(&mut Peer) = |peer| (0..EACH).for_each(|_| peer.send(&Request::Policy));
    let posted: fn(&mut Posted) = |posted| {
        (0..EACH).for_each(|lane| posted.push(Kind::Whole, Some(lane), &many_keys()));
    };
    for (before, most) in [
        (handled_before(socket, many, one), 2),
        (handled_before(socket, figures, one), 1),
        (
            handled_before(Posted::attached, posted, |it| {
                it.ask(0, &Request::Get { key: b"later" })
            }),
            2,
        ),
    ] {
        assert!(before.is_none_or(|before| before <= most), "{before:?} requests of a crowd");
    }
}

/// The hazard: what has to wait is looked at again and again, or reported by every wait, so that the
/// daemon never sleeps and is slower for everybody.
#[test]
fn a_crowd_that_waits_for_its_share_costs_no_turns() {
    let daemon = Daemon::start(limits());
    let mut peers: Vec<Peer> = (0..CROWD).map(|_| Peer::attached(&daemon)).collect();
    let mut holding = Peer::attached(&daemon);
    holding.send(&Request::Get { key: b"block" });
    let Heard::Asked(..) = daemon.hear() else { panic!("nobody blocks") };
    for peer in &mut peers {
        (0..EACH).for_each(|_| peer.send(&Request::Policy));
    }
    let before = daemon.turns();
    daemon.release();
    let requests = CROWD * usize::from(EACH);
    for _ in 0..requests {
        let Heard::Many(..) = daemon.hear() else { panic!("another request") };
    }
    // Each is a whole share: a turn that uses it up, and one or two of the sleep until the next.
    let turns = daemon.turns() - before;
    assert!(turns < 8 * requests, "{turns} turns for {requests} requests");
    // One that has gone while it waits leaves nothing behind, and all are served as ever.
    for peer in &mut peers {
        (0..EACH).for_each(|_| peer.send(&Request::Policy));
    }
    let last = peers.pop();
    drop(peers);
    let mut last = last.expect("a crowd");
    last.send(&Request::Get { key: b"block later" });
    while !matches!(daemon.hear(), Heard::Asked(..)) {}
    daemon.release();
}
