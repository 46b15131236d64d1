//! The hazard: a daemon dies in the middle of changes, and L1 goes on showing what the record no
//! longer has (P22); or the words that tell the next daemon run out, or are never given back.

use super::*;
use shm_layout::header::CHANGING_MAX;
use std::sync::Arc;

fn key(number: usize) -> Vec<u8> {
    format!("key:{number}").into_bytes()
}

fn set(scene: &mut Scene, key: &[u8], write: WriteMode) {
    let set = Set { key, value: b"v", ttl: None, flags: 0, write: Some(write), reply: true };
    scene.ask(WRITER, Request::Set(set));
}

/// Stores `count` keys in the record and in L1.
fn store(scene: &mut Scene, count: usize) {
    for number in 0..count {
        set(scene, &key(number), WriteMode::Through);
        let id = scene.write();
        scene.land_write(id);
    }
    assert_eq!(kept(scene, count), count);
}

fn kept(scene: &Scene, count: usize) -> usize {
    let (tables, now_ns) = (&scene.owner.tables, scene.owner.now_ns());
    (0..count).filter(|number| tables.current().peek(&key(*number), now_ns).is_some()).count()
}

/// Words in use, and what is said of keys without one.
fn noted(scene: &Scene) -> (usize, u64) {
    let writer = scene.owner.tables.current().writer();
    (writer.changing().count(), writer.changing_more())
}

#[test]
fn a_kill_costs_the_copies_of_keys_in_change_and_no_others() {
    for in_change in [1, CHANGING_MAX] {
        let all = CHANGING_MAX + 100;
        let mut scene = Scene::new();
        store(&mut scene, all);
        assert_eq!(noted(&scene), (0, 0));
        for number in 0..in_change {
            set(&mut scene, &key(number), WriteMode::Through);
        }
        assert_eq!(noted(&scene), (in_change, 0));
        assert_eq!(kept(&scene, all), all, "P7: the old values stay visible");
        let scene = scene.restarted();
        assert_eq!(kept(&scene, all), all - in_change);
    }
}

#[test]
fn with_more_keys_in_change_than_words_a_kill_costs_all_copies_and_what_l1_has_alone_is_kept() {
    let all = CHANGING_MAX + 100;
    let rules = || {
        let own =
            Rule { id: 1, prefix: "own:".into(), write: WriteMode::L1Only, ..Rule::default() };
        vec![Rule::default(), own]
    };
    let scene = |directory| {
        let (owner, script) = double::owner(&directory, rules());
        Scene { owner, given: Given::default(), script, directory }
    };
    let mut before = scene(double::directory());
    store(&mut before, all);
    set(&mut before, b"own:", WriteMode::L1Only);
    for number in 0..=CHANGING_MAX {
        set(&mut before, &key(number), WriteMode::Through);
    }
    assert_eq!(noted(&before), (CHANGING_MAX, 1));
    let id = before.write();
    before.land_write(id);
    assert_eq!(noted(&before), (CHANGING_MAX - 1, 1), "the last one has none all the same");
    while !before.script.borrow().jobs.is_empty() {
        let id = before.write();
        before.land_write(id);
    }
    assert_eq!(noted(&before), (0, 0));
    for number in 0..=CHANGING_MAX {
        set(&mut before, &key(number), WriteMode::Through);
    }
    let Scene { owner, directory, .. } = before;
    drop(owner);
    let after = scene(directory);
    assert_eq!(kept(&after, all), 0);
    let now_ns = after.owner.now_ns();
    assert!(after.owner.tables.current().peek(b"own:", now_ns).is_some());
}

#[test]
fn a_word_is_held_as_long_as_a_tier_may_carry_the_change_out_and_l1_keeps_what_was_told() {
    let mut scene = Scene::with(Rule { on_write_error: OnWriteError::Publish, ..Rule::default() });
    let key: Arc<[u8]> = key(0).into();
    scene.script.borrow_mut().sent = vec![Arc::clone(&key)];
    for _ in 0..3 {
        set(&mut scene, &key, WriteMode::Through);
        let id = scene.write();
        let outcome = Written::Unknown { tier: Tier::L3, why: "no answer".into() };
        scene.land(TierEvent::Written { id, outcome });
        scene.owner.settle_changing();
        assert_eq!(noted(&scene).0, 1, "one for each key");
    }
    // Degraded, but told: a kill does not take it away.
    let Scene { owner, directory, .. } = scene;
    drop(owner);
    let mut scene = Scene::over(directory, Rule::default());
    assert_eq!((noted(&scene).0, kept(&scene, 1)), (1, 1));
    // This script inherits nothing.
    scene.owner.settle_changing();
    assert_eq!(noted(&scene), (0, 0));

    scene.script.borrow_mut().sent = vec![Arc::clone(&key)];
    set(&mut scene, &key, WriteMode::Through);
    let id = scene.write();
    let outcome = Written::Unknown { tier: Tier::L3, why: "no answer".into() };
    scene.land(TierEvent::Written { id, outcome });
    scene.owner.settle_changing();
    assert_eq!(noted(&scene).0, 1);
    scene.script.borrow_mut().sent.clear();
    scene.owner.settle_changing();
    assert_eq!(noted(&scene).0, 0);
}
