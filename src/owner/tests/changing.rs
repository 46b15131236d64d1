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

/// Words in use, and the rules of keys without one.
fn noted(scene: &Scene) -> (usize, Vec<u8>) {
    let writer = scene.owner.tables.current().writer();
    (writer.changing().count(), writer.changing_policies().collect())
}

#[test]
fn a_kill_costs_the_copies_of_keys_in_change_and_no_others() {
    for in_change in [1, CHANGING_MAX] {
        let all = CHANGING_MAX + 100;
        let mut scene = Scene::new();
        store(&mut scene, all);
        assert_eq!(noted(&scene), (0, vec![]));
        for number in 0..in_change {
            set(&mut scene, &key(number), WriteMode::Through);
        }
        assert_eq!(noted(&scene), (in_change, vec![]));
        assert_eq!(kept(&scene, all), all, "P7: the old values stay visible");
        let scene = scene.restarted();
        assert_eq!(kept(&scene, all), all - in_change);
    }
}

/// Rules 0 to 3: all keys, and those that begin with their number; of number 1, L1 is the record.
fn with_rules(directory: tempfile::TempDir) -> Scene {
    let mut rules = vec![Rule::default()];
    for id in 1..=3 {
        let write = if id == 1 { WriteMode::L1Only } else { WriteMode::Through };
        rules.push(Rule { id, prefix: format!("{id}:").into(), write, ..Rule::default() });
    }
    let (owner, script) = double::owner(&directory, rules);
    Scene { owner, given: Given::default(), script, directory }
}

#[test]
fn with_more_keys_in_change_than_words_a_kill_costs_the_copies_under_their_rules_and_no_others() {
    // The key that finds no word, and how it is written: under which rule are copies dropped?
    for (last, dropped) in
        [("2:key", [false, false, true, false]), ("1:key", [false, true, false, false])]
    {
        let mut scene = with_rules(double::directory());
        for kept in ["kept", "1:kept", "2:kept", "3:kept"] {
            set(&mut scene, kept.as_bytes(), WriteMode::L1Only);
        }
        let fill = |scene: &mut Scene| {
            for number in 0..CHANGING_MAX {
                set(scene, &key(number), WriteMode::Through);
            }
            set(scene, last.as_bytes(), WriteMode::Through);
        };
        fill(&mut scene);
        let rule = last.as_bytes()[0] - b'0';
        assert_eq!(noted(&scene), (CHANGING_MAX, vec![rule]));
        let id = scene.write();
        scene.land_write(id);
        assert_eq!(noted(&scene), (CHANGING_MAX - 1, vec![rule]), "the last one has none yet");
        while !scene.script.borrow().jobs.is_empty() {
            let id = scene.write();
            scene.land_write(id);
        }
        assert_eq!(noted(&scene), (0, vec![]));
        fill(&mut scene);
        let Scene { owner, directory, .. } = scene;
        drop(owner);
        let scene = with_rules(directory);
        let (tables, now_ns) = (&scene.owner.tables, scene.owner.now_ns());
        let is_gone = ["kept", "1:kept", "2:kept", "3:kept"]
            .map(|kept| tables.current().peek(kept.as_bytes(), now_ns).is_none());
        assert_eq!(is_gone, dropped, "{last}");
        assert_eq!(noted(&scene).1, [0_u8; 0], "they are in doubt now");
        assert!(tables.current().writer().changing_more());
    }
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
    assert_eq!(noted(&scene), (0, vec![]));

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
