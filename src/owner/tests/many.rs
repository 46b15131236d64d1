//! The hazard: values that wait for the last key of their request take all memory.

use super::*;
use crate::owner::response::HELD_OF_USER_MAX;

const HITS: usize = 1000;
const VALUE: [u8; 1000] = [b'v'; 1000];

/// Answers to a request for many keys.
fn count(payload: &[u8]) -> usize {
    match Response::decode(payload).unwrap() {
        Response::Many(answers) => answers.len(),
        other => panic!("{other:?}"),
    }
}

/// A table with many values.
fn filled() -> (Scene, Vec<String>) {
    let mut scene = Scene::new();
    let keys: Vec<String> = (0..HITS).map(|number| format!("hit:{number}")).collect();
    for key in &keys {
        let (write, reply) = (Some(WriteMode::L1Only), false);
        let key = key.as_bytes();
        let set = Set { key, value: &VALUE, ttl: None, flags: 0, write, reply };
        scene.ask(WRITER, Request::Set(set));
    }
    (scene, keys)
}

#[test]
fn values_that_wait_for_other_keys_are_bounded_for_each_user() {
    let (mut scene, keys) = filled();
    let mut wanted: Vec<&[u8]> = keys.iter().map(String::as_bytes).collect();
    wanted.push(b"k");
    let requests = 2 * HELD_OF_USER_MAX / (HITS * VALUE.len());
    for number in (1000..).take(requests) {
        scene.ask(Origin(number), Request::GetMany { keys: wanted.clone() });
    }
    // What is beyond the bound is answered at once, as far as it goes.
    let answered = std::mem::take(&mut scene.given.0);
    assert!(answered.len() >= requests / 2 - 2, "{} of {requests}", answered.len());
    assert!(answered.iter().all(|(_, payload)| (1..HITS).contains(&count(payload))));
    // Others have bounds of their own.
    let other = Peer { uid: 9, ..PEER };
    let request = Request::GetMany { keys: wanted.clone() };
    scene.owner.request(Origin(9), &other, request, &mut scene.given);
    assert!(scene.given.0.is_empty());

    let flight = scene.flight();
    scene.land_value(flight, b"last");
    let rest = std::mem::take(&mut scene.given.0);
    assert_eq!(rest.len() + answered.len(), requests + 1);
    assert!(rest.iter().all(|(_, payload)| count(payload) == wanted.len()));
    // Nothing is held any more.
    scene.ask(Origin(8), Request::GetMany { keys: [&wanted[..HITS], &[b"absent"]].concat() });
    assert!(scene.given.0.is_empty(), "it waits for the last key");
    let gone = Origin(8);
    scene.owner.gone(gone);
    assert!(scene.owner.groups.holds_nothing());
}

#[test]
fn values_from_the_tiers_that_wait_for_earlier_keys_are_bounded_too() {
    let (mut scene, keys) = filled();
    // What is missing comes first, so that all that is kept stays.
    let wanted: Vec<&[u8]> =
        [&b"k"[..]].into_iter().chain(keys.iter().map(String::as_bytes)).collect();
    scene.ask(Origin(7), Request::GetMany { keys: vec![b"first", b"second"] });
    let [first, second] = [(); 2].map(|()| scene.flight());
    for number in (1000..).take(2 * HELD_OF_USER_MAX / (HITS * VALUE.len())) {
        scene.ask(Origin(number), Request::GetMany { keys: wanted.clone() });
    }
    scene.given.0.clear();
    scene.land_value(second, b"2");
    assert!(scene.given.0.is_empty());
    scene.land_value(first, b"1");
    // The client asks again for the second.
    assert_eq!(count(&scene.told(Origin(7))), 1);
}
