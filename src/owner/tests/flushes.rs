//! The hazard: whoever may flush queues walks through the whole index without a bound, keeps others
//! from theirs, or undoes what others do with keys that it may not flush.

use super::*;
use l1d_wire::protocol::Identity;

#[test]
fn flushes_by_prefix_that_wait_are_bounded_and_each_is_answered() {
    let mut scene = Scene::new();
    let flushes = 100;
    for number in (100..).take(flushes) {
        scene.ask(Origin(number), Request::Flush { prefix: b"k" });
    }
    let is_busy = |(_, bytes): &(Origin, Vec<u8>)| {
        matches!(Response::decode(bytes), Ok(Response::Error { code: ErrorCode::Busy, .. }))
    };
    let refused = std::mem::take(&mut scene.given.0);
    assert!(refused.iter().all(is_busy));
    assert!((50..flushes).contains(&refused.len()), "{}", refused.len());
    let begun = Instant::now();
    while refused.len() + scene.given.0.len() < flushes {
        assert!(begun.elapsed() < Duration::from_secs(30), "a flush is not answered");
        scene.owner.turn(Instant::now(), &mut scene.given);
    }
    assert!(!scene.given.0.iter().any(is_busy));
    scene.ask(WRITER, Request::Flush { prefix: b"k" });
    assert!(scene.given.0.iter().all(|(origin, _)| *origin != WRITER), "it is under way again");
}

#[test]
fn users_take_turns_and_one_that_floods_keeps_nobody_from_a_flush() {
    let mut scene = Scene::new();
    let flush = |scene: &mut Scene, uid: u32, number: u64| {
        let peer = Peer { uid, ..PEER };
        let request = Request::Flush { prefix: b"k" };
        scene.owner.request(Origin(number), &peer, request, &mut scene.given);
    };
    let flood = 100..200;
    flood.clone().for_each(|number| flush(&mut scene, 3000, number));
    let refused = std::mem::take(&mut scene.given.0).len();
    assert!((50..100).contains(&refused), "{refused}");
    let (others, root) = ([(3001, 1), (3001, 2), (3002, 3)], (0, 4));
    others.into_iter().chain([root]).for_each(|(uid, number)| flush(&mut scene, uid, number));
    assert!(scene.given.0.is_empty(), "one of them is refused");
    while !scene.owner.tasks.is_empty() {
        scene.owner.turn(Instant::now(), &mut scene.given);
    }
    let order: Vec<u64> = scene.given.0.iter().map(|(origin, _)| origin.0).collect();
    assert_eq!(order.len(), 100 - refused + 4);
    // The flood's first, the others' first, and so on: none of theirs waits for a second of the flood.
    let place = |number: u64| order.iter().position(|it| *it == number).unwrap();
    let floods = order.iter().filter(|number| flood.contains(number));
    let second = place(*floods.clone().nth(1).unwrap());
    assert!([1, 3, 4].iter().all(|number| place(*number) < second), "{order:?}");
    let third = place(*floods.clone().nth(2).unwrap());
    assert!(place(2) < third, "{order:?}");
}

#[test]
fn a_flush_leaves_fetches_of_other_keys_alone() {
    for (prefix, is_kept) in [(&b"other:"[..], true), (b"kk", true), (b"k", false), (b"", false)] {
        let mut scene = Scene::new();
        scene.get(WRITER);
        let flight = scene.flight();
        scene.ask(Origin(77), Request::Flush { prefix });
        // Whoever comes now joins the fetch, or begins another.
        scene.get(Origin(78));
        assert_eq!(scene.script.borrow().jobs.is_empty(), is_kept, "{prefix:?}");
        scene.land_value(flight, b"v");
        assert_eq!(scene.visible().is_some(), is_kept, "{prefix:?}");
    }
}

#[test]
fn writes_that_wait_in_no_ring_leave_room_for_those_of_other_users() {
    let mut scene = Scene::new();
    let who = Identity { uid: 3000, gid: 3000, groups: vec![] };
    let flooding = Peer { uid: 3000, grant: scene.owner.guard.access.grant(&who), ..PEER };
    let keys: Vec<String> = (0..8 * 1024).map(|number| format!("flood:{number}")).collect();
    for (number, keys) in (100..).zip(keys.chunks(1024)) {
        let set = |key| Set {
            key,
            value: b"v",
            ttl: None,
            flags: 0,
            write: Some(WriteMode::Through),
            reply: true,
        };
        let sets = keys.iter().map(|key| set(key.as_bytes())).collect();
        scene.owner.request(Origin(number), &flooding, Request::SetMany { sets }, &mut scene.given);
    }
    // Some of them are refused.
    assert!(!scene.given.0.is_empty());
    assert!(scene.owner.takes_more(), "rings of all users are left alone");
    assert!(!scene.owner.takes_more_of(&flooding));
    scene.given.0.clear();
    scene.set(b"value", WriteMode::Through);
    assert!(scene.given.0.is_empty(), "it is under way");
}
