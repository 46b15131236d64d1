//! The hazards: an entry that is never to be evicted is evicted, by whatever makes room; room is
//! counted that is not there, or refused where there is some; the log cannot be reclaimed.

use super::*;
use crate::table::tests::{
    Mortal, SECOND, assert_sound, entry, geometry, new_table, read, value_of,
};
use proptest::prelude::*;
use shm_layout::entry::{expiry_tick, tick};
use shm_layout::{HeapTable, MappedMut, Writer};
use std::cell::Cell;
use std::collections::HashMap;

const PINNED: u8 = 1;

fn pinned<'a>(key: &'a [u8], value: &'a [u8]) -> Entry<'a> {
    Entry { policy: PINNED, ..entry(key, value) }
}

fn key(name: &str, n: u64) -> Vec<u8> {
    format!("{name}:{n}").into_bytes()
}

fn small() -> (HeapTable, Table<MappedMut>) {
    let geometry = geometry(1000, 5 << 20);
    let heap = HeapTable::new(&geometry);
    let mut table = new_table(&heap, geometry);
    assert_eq!(table.pin(&[(PINNED, 200)], 0), 0);
    (heap, table)
}

/// The next owner of the same table, with the same rules.
fn next_owner<M: MemoryMut>(memory: M, heap: &HeapTable, rules: &[(u8, u16)]) -> Table<M> {
    // SAFETY: the heap has these bytes, and its former owner does nothing any more.
    let writer = unsafe { Writer::take_over(memory, heap.bytes()) }.unwrap();
    let mut table = Table::take_over(writer);
    table.pin(rules, 0);
    table
}

/// Pins are counted as they are, and their entries are where they belong.
fn assert_counted<M: MemoryMut>(table: &mut Table<M>, now: u32) {
    table.pins.pass(now);
    let counted = table.pins.held;
    let mut held = Room::default();
    table.walk_whole_index(|table, found| {
        if table.is_kept(&found.header, now) {
            held.add(room_of(&found.header));
        }
    });
    assert_eq!(counted, held);
    assert_sound(table);
}

fn flood<M: MemoryMut>(table: &mut Table<M>, tables: u64, from: u64) {
    let log = table.stats().log_bytes;
    for n in 0..log * tables / 960 {
        let key = key("flood", from + n);
        table.put(&entry(&key, &[9; 900]), 0).unwrap();
        for _ in 0..if n % 3 == 0 { 2 } else { 0 } {
            // So that it goes to main.
            table.hit(table.hash(&key));
        }
    }
}

#[test]
fn ten_tables_of_other_keys_evict_nothing_that_is_pinned() {
    for permille in [10, PINNED_PERMILLE_MAX] {
        let (heap, mut table) = small();
        table.pin(&[(PINNED, permille)], 0);
        let mut held = 0;
        // Stored while the table fills, so that they are among the others.
        while table.put(&pinned(&key("lock", held), &[1; 300]), 0).is_ok() {
            table.put(&entry(&key("early", held), &[2; 500]), 0).unwrap();
            held += 1;
        }
        let share = table.pins.held().0 * 1000 / table.stats().log_bytes;
        assert!(share + 2 >= u64::from(permille), "{share} of {permille}");
        for round in 0..5 {
            flood(&mut table, 2, round * 100_000);
            // Counters change, in place as far as readers see.
            for n in (round..held).step_by(5) {
                table.put(&pinned(&key("lock", n), &[3; 300]), 0).unwrap();
            }
        }
        let lost = (0..held).filter(|n| read(&heap, &key("lock", *n), 0).is_none()).count();
        assert_eq!(lost, 0, "of {held}");
        assert!(table.stats().evicted > 0);
        assert_counted(&mut table, 0);
    }
}

#[test]
fn a_full_rule_refuses_what_is_new_or_larger_and_keeps_the_rest() {
    let (heap, mut table) = small();
    let mut held = 0;
    while table.put(&pinned(&key("lock", held), &[1; 300]), 0).is_ok() {
        held += 1;
    }
    let refused = |result: Result<u64, PutError>| result == Err(PutError::Full(Full::Share));
    let old = key("lock", 0);
    assert!(refused(table.put(&pinned(b"new", &[1; 300]), 0)));
    assert!(refused(table.put(&pinned(&old, &[2; 900]), 0)));
    assert_eq!(read(&heap, &old, 0), Some(vec![1; 300]));
    table.put(&pinned(&old, &[2; 300]), 0).unwrap();
    table.put(&pinned(&old, &[3; 100]), 0).unwrap();
    assert_eq!(read(&heap, &old, 0), Some(vec![3; 100]));
    // Others are not concerned, and neither are absences of the rule.
    table.put(&entry(b"other", &[1; 900]), 0).unwrap();
    table.put(&Entry { absent: true, ..pinned(b"absent", b"") }, 0).unwrap();
    assert_eq!(table.refused_as_full(PINNED), Some(3));
    // A delete, a flush and an expiry make room at once.
    assert!(table.remove(&key("lock", 1), 0));
    table.put(&pinned(b"new", &[1; 300]), 0).unwrap();
    assert_counted(&mut table, 0);
    table.flush();
    assert_eq!(table.pins.held(), (0, 0));
    for n in 0..held {
        let expiry = expiry_tick(SECOND);
        table.put(&Entry { expiry, ..pinned(&key("brie", n), &[1; 300]) }, 0).unwrap();
    }
    assert!(refused(table.put(&pinned(b"late", &[1; 300]), SECOND - SECOND / 10)));
    for n in 0..held {
        table.put(&pinned(&key("next", n), &[1; 300]), SECOND + SECOND / 10).unwrap();
    }
    assert_counted(&mut table, tick(SECOND + SECOND / 10));
}

#[test]
fn several_rules_have_each_its_own_share() {
    let (_heap, mut table) = small();
    let rules: [(u8, u16); 3] = [(1, 100), (2, 100), (7, 200)];
    table.pin(&rules, 0);
    for (policy, permille) in rules {
        let mut n = 0;
        while table
            .put(
                &Entry { policy, ..entry(&key("k", u64::from(policy) * 100_000 + n), &[1; 200]) },
                0,
            )
            .is_ok()
        {
            n += 1;
        }
        let permille_held = table.policy_bytes(policy) * 1000 / table.stats().log_bytes;
        assert!(permille_held + 2 >= u64::from(permille), "{policy}: {permille_held}");
    }
    flood(&mut table, 3, 0);
    assert_counted(&mut table, 0);
}

/// Many small entries fill the index before their share of the log.
#[test]
fn other_keys_find_slots_beside_tiny_pinned_entries() {
    let (heap, mut table) = small();
    table.pin(&[(PINNED, 300), (2, 100)], 0);
    let mut held = Vec::new();
    let mut n = 0;
    let full = loop {
        let key = key("l", n);
        n += 1;
        match table.put(&pinned(&key, b""), 0) {
            Ok(_) => held.push(key),
            Err(PutError::Full(Full::Index)) if held.len() < 5000 => {}
            Err(error) => break error,
        }
    };
    assert_eq!(full, PutError::Full(Full::Index));
    // The other rule has its part of the slots.
    table.put(&Entry { policy: 2, ..entry(b"other", b"") }, 0).unwrap();
    let taken = (0..50_000).filter(|n| table.put(&entry(&key("o", *n), b""), 0).is_ok()).count();
    assert!(taken > 49_900, "{taken}");
    assert!(held.iter().all(|key| read(&heap, key, 0).is_some()));
    assert_counted(&mut table, 0);
}

#[test]
fn a_rule_that_becomes_pinned_keeps_what_fits_and_one_that_is_no_more_makes_room_again() {
    let (_heap, mut table) = small();
    table.pin(&[], 0);
    let log = table.stats().log_bytes;
    let mine = |n| key("mine", n);
    // More of the table than can be pinned, and entries of others between them.
    for n in 0..log / 1200 {
        table.put(&pinned(&mine(n), &[1; 900]), 0).unwrap();
        table.put(&entry(&key("other", n), &[1; 100]), 0).unwrap();
    }
    let kept = |table: &Table<_>| (0..log / 1200).filter(|n| table.contains(&mine(*n), 0)).count();
    let before = kept(&table) as u64;
    let dropped = table.pin(&[(PINNED, 50)], 0);
    let held = table.pins.held().1;
    assert!(dropped > 0 && held + dropped == before, "{held} + {dropped} = {before}");
    assert!(table.pins.fit(table.pins.most));
    flood(&mut table, 5, 0);
    assert_eq!(kept(&table) as u64, held);
    // It holds more than its share, so nothing new is taken.
    assert!(table.put(&pinned(b"new", b""), 0).is_err());
    table.put(&pinned(&mine(0), &[2; 900]), 0).ok();
    assert_counted(&mut table, 0);
    table.pin(&[], 0);
    flood(&mut table, 5, 1_000_000);
    assert!((kept(&table) as u64) < held / 4, "{} of {held} are still kept", kept(&table));
    assert_counted(&mut table, 0);
}

/// While memory is short, a table has few segments.
#[test]
fn a_table_with_few_segments_goes_on() {
    for usable in [4, 5, 8] {
        let geometry = geometry(1000, 5 << 20);
        let heap = HeapTable::new(&geometry);
        // SAFETY: the heap has these bytes and outlives the table.
        let writer = unsafe { Writer::create(heap.memory_mut(), geometry) };
        writer.set_usable_segments(usable);
        writer.open_for_readers();
        let mut table = Table::new(writer);
        table.pin(&[(PINNED, PINNED_PERMILLE_MAX)], 0);
        let mut held = 0;
        while table.put(&pinned(&key("lock", held), &[1; 300]), 0).is_ok() {
            held += 1;
        }
        assert!(held > 0, "{usable}");
        let bytes = u64::from(usable) * geometry.segment_words() as u64 * 8;
        for n in 0..bytes * 4 / 960 {
            let key = key("flood", n);
            table.put(&entry(&key, &[9; 900]), 0).unwrap();
            table.hit(table.hash(&key));
            table.put(&pinned(&self::key("lock", n % held), &[2; 300]), 0).unwrap();
        }
        assert!((0..held).all(|n| table.contains(&key("lock", n), 0)), "{usable}");
        table.add_usable(geometry.segment_count());
        flood(&mut table, 2, 0);
        assert!((0..held).all(|n| table.contains(&key("lock", n), 0)), "{usable}");
        assert_counted(&mut table, 0);
    }
}

/// One kill after another, each in the middle of reclaiming segments that all hold pinned entries,
/// until no free segment is left to copy them to.
#[test]
fn kills_in_a_row_while_segments_are_reclaimed_lose_nothing_pinned() {
    let geometry = geometry(1000, 5 << 20);
    let heap = HeapTable::new(&geometry);
    let mut table = new_table(&heap, geometry);
    let mut keys = Vec::new();
    // Pinned only later, so that their entries are among the others.
    for n in 0..table.stats().log_bytes / 1100 {
        if n % 3 == 0 {
            keys.push(key("lock", n));
            table.put(&pinned(&keys[keys.len() - 1], &value_of(keys.len(), 500)), 0).unwrap();
        }
        table.put(&entry(&key("other", n), &[1; 800]), 0).unwrap();
    }
    keys.retain(|key| table.contains(key, 0));
    drop(table);
    let rules = [(PINNED, PINNED_PERMILLE_MAX)];
    let mut number = 0_u64;
    let mut was_full = false;
    for kill in 0..100_u64 {
        let stores_left = Cell::new(2000 + kill * 37 % 5000);
        let memory = Mortal { memory: heap.memory_mut(), stores_left: &stores_left };
        let mut table = next_owner(memory, &heap, &rules);
        was_full |= table.log.free.is_empty();
        if kill % 3 == 0 {
            while table.sweep(0, 1000) {}
        }
        while stores_left.get() > 0 {
            number += 1;
            // After the last store, it may fail.
            let put = table.put(&entry(&key("new", number), &[2; 900]), 0);
            assert!(put.is_ok() || stores_left.get() == 0, "{put:?} after kill {kill}");
        }
        let lost = keys.iter().filter(|key| read(&heap, key, 0).is_none()).count();
        assert_eq!(lost, 0, "of {} after kill {kill}", keys.len());
    }
    assert!(was_full, "no kill left the log without a free segment");
    let mut table = next_owner(heap.memory_mut(), &heap, &rules);
    while table.sweep(0, 1000) {}
    flood(&mut table, 3, 0);
    assert!(keys.iter().all(|key| table.contains(key, 0)));
    assert_counted(&mut table, 0);
}

#[derive(Debug, Clone)]
enum Step {
    Put { key: u16, bytes: u16, quarters: Option<u8> },
    Other { bytes: u16 },
    Remove { key: u16 },
    Pass { quarters: u8 },
    Flush,
    Sweep,
    Restart,
    Share { permille: u16 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        40 => (0..2000_u16, 0..1000_u16, prop::option::of(1..40_u8))
            .prop_map(|(key, bytes, quarters)| Step::Put { key, bytes, quarters }),
        60 => (0..1000_u16).prop_map(|bytes| Step::Other { bytes }),
        6 => (0..2000_u16).prop_map(|key| Step::Remove { key }),
        2 => (1..8_u8).prop_map(|quarters| Step::Pass { quarters }),
        1 => Just(Step::Flush),
        4 => Just(Step::Sweep),
        2 => Just(Step::Restart),
        1 => (1..=PINNED_PERMILLE_MAX).prop_map(|permille| Step::Share { permille }),
    ];
    prop::collection::vec(step, 1..300)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// After any sequence of operations, what was taken is there, and what is refused has no room.
    #[test]
    fn what_was_taken_is_there(steps in steps()) {
        let geometry = geometry(1000, 5 << 20);
        let heap = HeapTable::new(&geometry);
        let mut table = new_table(&heap, geometry);
        let mut permille = 100;
        table.pin(&[(PINNED, permille)], 0);
        let mut model: HashMap<u16, (Vec<u8>, Option<u64>)> = HashMap::new();
        let (mut now, mut others) = (0, 0);
        let words = |key: &[u8], bytes: usize| (64 + key.len() + bytes) as u64 / 8;
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Put { key: n, bytes, quarters } => {
                    let (key, value) = (n.to_be_bytes(), value_of(number, bytes.into()));
                    let until = quarters.map(|quarters| now + u64::from(quarters) * SECOND / 4);
                    let expiry = until.map_or(NEVER, expiry_tick);
                    match table.put(&Entry { expiry, ..pinned(&key, &value) }, now) {
                        Ok(_) => drop(model.insert(n, (value, until))),
                        Err(_) => {
                            // As if it were not there, the old value stays.
                            model.retain(|_, (_, until)| until.is_none_or(|until| until > now));
                            let held: u64 =
                                model.values().map(|(value, _)| words(&key, value.len())).sum();
                            let share = table.usable_words() * u64::from(permille) / 1000;
                            prop_assert!(held + words(&key, bytes.into()) + 8 > share);
                        }
                    }
                }
                Step::Other { bytes } => for _ in 0..50 {
                    others += 1;
                    let value = value_of(number, bytes.into());
                    table.put(&entry(&key("other", others), &value), now).unwrap();
                },
                Step::Remove { key } => {
                    table.remove(&key.to_be_bytes(), now);
                    model.remove(&key);
                }
                Step::Pass { quarters } => now += u64::from(quarters) * SECOND / 4,
                Step::Flush => {
                    table.flush();
                    model.clear();
                }
                Step::Sweep => { table.sweep(now, 100); }
                Step::Restart => {
                    // SAFETY: the heap has these bytes, and the former table does nothing more.
                    let next = unsafe { Writer::take_over(heap.memory_mut(), heap.bytes()) };
                    table = Table::take_over(next.unwrap());
                    table.pin(&[(PINNED, permille)], tick(now));
                }
                Step::Share { permille: other } => {
                    permille = other;
                    prop_assert_eq!(table.pin(&[(PINNED, permille)], tick(now)), 0);
                }
            }
        }
        for (key, (value, until)) in &model {
            let got = read(&heap, &key.to_be_bytes(), now);
            match until {
                Some(until) if *until <= now => prop_assert_eq!(got, None),
                Some(until) if *until <= now + SECOND / 20 => {}
                _ => prop_assert_eq!(got.as_ref(), Some(value)),
            }
        }
        assert_counted(&mut table, tick(now));
    }
}
