//! The hazard: whoever may flush queues walks through the whole index without a bound.

use super::*;

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
