//! The table against its promises, on a heap buffer.

use super::*;
use proptest::prelude::*;
use shm_layout::entry::expiry_tick;
use shm_layout::{Geometry, HeapTable, MappedMut, Memory, Outcome, Plan, Reader, VecDestination};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;

pub(super) const SECOND: u64 = 1_000_000_000;

pub(super) fn geometry(value_bytes_max: u32, table_bytes: u64) -> Geometry {
    let plan =
        Plan { table_bytes, value_bytes_max, entry_bytes: 112, hash_seed: 7, ..Plan::default() };
    Geometry::plan(&plan).expect("a table of this size")
}

pub(super) fn new_table(heap: &HeapTable, geometry: Geometry) -> Table<MappedMut> {
    // SAFETY: the heap table has this geometry's bytes and outlives the table in every test.
    let writer = unsafe { Writer::create(heap.memory_mut(), geometry) };
    writer.open_for_readers();
    Table::new(writer)
}

pub(super) fn small() -> (HeapTable, Table<MappedMut>) {
    let geometry = geometry(1000, 5 << 20);
    let heap = HeapTable::new(&geometry);
    let table = new_table(&heap, geometry);
    (heap, table)
}

pub(super) fn entry<'a>(key: &'a [u8], value: &'a [u8]) -> Entry<'a> {
    Entry { key, value, expiry: NEVER, ..Entry::default() }
}

pub(super) fn read(heap: &HeapTable, key: &[u8], now_ns: u64) -> Option<Vec<u8>> {
    // SAFETY: the heap table outlives the reader.
    let reader = unsafe { Reader::attach(heap.memory(), heap.bytes()) }.expect("a sound header");
    let mut value = VecDestination::default();
    match reader.read(key, || Some(now_ns), &mut value) {
        Outcome::Hit(_) => Some(value.bytes().to_vec()),
        _ => None,
    }
}

pub(super) fn assert_sound(table: &mut Table<impl MemoryMut>) {
    let report = table.check();
    assert_eq!(report.violation_count, 0, "{:#?}", report.violations);
}

#[test]
fn what_is_put_is_read_replaced_and_removed() {
    let (heap, mut table) = small();
    table.put(&entry(b"key", b"one"), 0).unwrap();
    assert_eq!(read(&heap, b"key", 0).as_deref(), Some(&b"one"[..]));
    let version = table.put(&Entry { flags: 9, ..entry(b"key", b"") }, 0).unwrap();
    let held = table.get(b"key", 0).unwrap();
    assert_eq!((held.value.len(), held.flags, held.version), (0, 9, version));
    assert_eq!(read(&heap, b"key", 0).as_deref(), Some(&b""[..]));
    assert!(table.remove(b"key", 0));
    assert!(!table.remove(b"key", 0));
    assert_eq!(read(&heap, b"key", 0), None);
    assert_eq!(table.stats().entries, 0);
    assert_sound(&mut table);
}

#[test]
fn sizes_that_cannot_be_are_refused_and_change_nothing() {
    let (_heap, mut table) = small();
    let before = table.next_version();
    assert!(table.put(&entry(b"", b"v"), 0).is_err());
    assert!(table.put(&entry(&[1; 65_001], b"v"), 0).is_err());
    assert!(table.put(&entry(b"k", &[0; 1001]), 0).is_err());
    assert_eq!(table.next_version(), before);
    table.put(&entry(&[1; 65_000], &[2; 1000]), 0).unwrap();
    assert_eq!(table.get(&[1; 65_000], 0).unwrap().value, [2; 1000]);
}

#[test]
fn ten_keys_overwritten_with_ten_tables_evict_no_other_live_entry() {
    let (heap, mut table) = small();
    let value = [7; 900];
    let log = table.stats().log_bytes;
    // Four fifths of the log hold live entries; the rest is for the overwrites.
    let others = log * 4 / 5 / 960;
    for n in 0..others {
        table.put(&entry(format!("other:{n}").as_bytes(), &value), 0).unwrap();
    }
    assert_eq!(table.stats().evicted, 0);
    for round in 0..log * 10 / 960 {
        table.put(&entry(format!("hot:{}", round % 10).as_bytes(), &value), 0).unwrap();
    }
    assert_eq!(table.stats().evicted, 0);
    for n in 0..others {
        assert!(read(&heap, format!("other:{n}").as_bytes(), 0).is_some(), "other:{n}");
    }
    assert_sound(&mut table);
}

#[test]
fn a_full_table_evicts_the_oldest_and_never_runs_out() {
    let (heap, mut table) = small();
    let count = table.stats().log_bytes * 10 / 960;
    for n in 0..count {
        let key = format!("key:{n}");
        table.put(&entry(key.as_bytes(), &[1; 900]), 0).unwrap();
        assert!(read(&heap, key.as_bytes(), 0).is_some());
    }
    assert!(read(&heap, b"key:0", 0).is_none());
    let stats = table.stats();
    assert!(stats.evicted > 0 && stats.entries * 2 > count / 10, "{stats:?}");
    assert_sound(&mut table);
}

#[test]
fn expired_entries_are_never_read_and_make_room_before_live_ones() {
    let (heap, mut table) = small();
    let log = table.stats().log_bytes;
    for n in 0..log / 2 / 960 {
        let key = format!("long:{n}");
        table.put(&entry(key.as_bytes(), &[1; 900]), 0).unwrap();
    }
    // Ten tables of short-lived entries, each half a second after the last.
    let mut now = 0;
    for round in 0..40 {
        for n in 0..log / 4 / 960 {
            let key = format!("short:{round}:{n}");
            let expiry = expiry_tick(now + SECOND / 4);
            table.put(&Entry { expiry, ..entry(key.as_bytes(), &[2; 900]) }, now).unwrap();
        }
        now += SECOND / 2;
        assert_eq!(read(&heap, format!("short:{round}:0").as_bytes(), now), None);
        while table.sweep(now, 100) {}
    }
    assert_eq!(table.stats().evicted, 0);
    for n in 0..log / 2 / 960 {
        assert!(read(&heap, format!("long:{n}").as_bytes(), now).is_some(), "long:{n}");
    }
    assert_sound(&mut table);
}

#[test]
fn a_full_index_displaces_less_than_one_in_a_hundred() {
    let geometry = geometry(64, 16 << 20);
    let heap = HeapTable::new(&geometry);
    let mut table = new_table(&heap, geometry);
    let full = table.stats().log_bytes / 112;
    for n in 0..full * 95 / 100 {
        table.put(&entry(format!("market:overview:{n:08}").as_bytes(), &[3; 64]), 0).unwrap();
    }
    let report = table.check();
    assert_eq!(report.violation_count, 0, "{:#?}", report.violations);
    assert!(report.displaced_percent < 0.1, "{report:?}");
    assert!(table.stats().index_load_percent > 70.0, "{:?}", table.stats());
}

#[test]
fn a_flush_hides_everything_and_the_sweep_gives_it_back() {
    let (heap, mut table) = small();
    for n in 0..4000u32 {
        table
            .put(&Entry { policy: (n % 2) as u8, ..entry(&n.to_le_bytes(), &[1; 900]) }, 0)
            .unwrap();
    }
    table.hide_policies(&[1], table.next_version());
    assert!(read(&heap, &0u32.to_le_bytes(), 0).is_some());
    assert!(read(&heap, &1u32.to_le_bytes(), 0).is_none());
    table.flush();
    assert!(read(&heap, &0u32.to_le_bytes(), 0).is_none());
    while table.sweep(0, 1000) {}
    table.put(&entry(b"after", b"x"), 0).unwrap();
    assert!(read(&heap, b"after", 0).is_some());
    assert_eq!(table.stats().evicted, 0);
    assert!(table.stats().expired > 3000, "{:?}", table.stats());
    assert_sound(&mut table);
}

/// The hazard: a full index moves entries between their lines, and an entry that moves from a
/// bucket that a flush has not reached to one that it has passed stays visible after the flush was
/// acknowledged.
#[test]
fn a_flush_in_steps_misses_no_entry_that_moves_meanwhile() {
    let geometry = geometry(64, 8 << 20);
    let heap = HeapTable::new(&geometry);
    let mut table = new_table(&heap, geometry);
    // More than the index holds: almost every put moves a neighbour.
    let slots = u64::from(geometry.bucket_count()) * 8;
    let key = |prefix: &str, n: u64| format!("{prefix}:{n}").into_bytes();
    for n in 0..slots {
        table.put(&entry(&key("old", n), b"1"), 0).unwrap();
    }
    let below = table.next_version();
    let mut next = Some(0);
    let mut number = 0;
    while let Some(start) = next {
        next = table.flush_prefix(b"old", below, start, geometry.bucket_count() / 100, |_| ()).1;
        for _ in 0..slots / 100 {
            table.put(&entry(&key("new", number), b"2"), 0).unwrap();
            number += 1;
        }
    }
    let left = (0..slots).filter(|n| read(&heap, &key("old", *n), 0).is_some()).count();
    assert_eq!(left, 0, "entries of {slots} outlived the flush");
    assert_sound(&mut table);
}

/// The hazard: an entry that moves from a bucket that a carrier has not reached to one that it has
/// passed is only in the old table, and lost with it.
#[test]
fn what_moves_while_entries_are_carried_is_carried() {
    let (larger, geometry) = (geometry(64, 16 << 20), geometry(64, 8 << 20));
    let heaps = [HeapTable::new(&geometry), HeapTable::new(&larger)];
    let mut table = new_table(&heaps[0], geometry);
    let mut to = new_table(&heaps[1], larger);
    to.inherit(&table);
    // Nearly full: puts move neighbours, and hardly one evicts another.
    let slots = u64::from(geometry.bucket_count()) * 8;
    let key = |prefix: &str, n: u64| format!("{prefix}:{n}").into_bytes();
    for n in 0..slots * 85 / 100 {
        table.put(&entry(&key("old", n), b"1"), 0).unwrap();
    }
    let mut next = Some(0);
    let mut number = 0;
    while let Some(bucket) = next {
        next = table.carry(&mut to, bucket, 0, || false).unwrap();
        if number < slots / 12 {
            for _ in 0..slots / 1000 {
                table.put(&entry(&key("new", number), b"2"), 0).unwrap();
                number += 1;
            }
        }
    }
    let held = |table: &Table<_>, n| table.contains(&key("old", n), 0);
    let lost = (0..slots).filter(|n| held(&table, *n) && !held(&to, *n)).count();
    assert_eq!(lost, 0, "of {slots}");
}

/// The hazard: an entry that moves between the lines already verified after a restart and the
/// others is verified twice or never, and counted so.
#[test]
fn what_moves_while_a_table_is_verified_is_counted_once() {
    let geometry = geometry(64, 8 << 20);
    let heap = HeapTable::new(&geometry);
    let mut table = new_table(&heap, geometry);
    let slots = u64::from(geometry.bucket_count()) * 8;
    for n in 0..slots {
        table.put(&entry(format!("old:{n}").as_bytes(), b"1"), 0).unwrap();
    }
    drop(table);
    // SAFETY: the heap has these bytes; the former owner is gone.
    let writer = unsafe { Writer::take_over(heap.memory_mut(), heap.bytes()) };
    let writer = writer.unwrap();
    let mut table = Table::take_over(writer);
    let mut number = 0;
    while table.sweep.verifying.is_some() {
        table.sweep(0, 500);
        for _ in 0..200 {
            table.put(&entry(format!("new:{number}").as_bytes(), b"2"), 0).unwrap();
            number += 1;
        }
    }
    let mut live = vec![0; geometry.segment_count() as usize];
    for bucket in 0..geometry.bucket_count() {
        for index in 0..shm_layout::slot::SLOTS {
            if let Some(found) = table.at_slot(geometry.bucket(bucket).slot(index)) {
                live[found.at.segment as usize] += 1;
            }
        }
    }
    let counted: Vec<u32> = table.log.segments.iter().map(|s| s.live_entries).collect();
    assert_eq!(counted, live);
}

/// The hazard: a reader is inside an entry while its segment's header turns out to be damaged and
/// the segment is filled again, and then finds the generation that it began with.
#[test]
fn a_segment_that_a_restart_gives_back_has_another_generation() {
    let (heap, mut table) = small();
    table.put(&entry(b"key", b"value"), 0).unwrap();
    let held = table.get(b"key", 0).unwrap().segment;
    let geometry = *table.writer().geometry();
    let memory = heap.memory_mut();
    let generation = geometry.generation(held).unwrap();
    // SAFETY: both are words of the table.
    let before = unsafe {
        memory.store(geometry.segment_header(held).unwrap(), 77);
        memory.load(generation)
    };
    drop(table);
    // SAFETY: the heap has these bytes; the former owner is gone.
    let writer = unsafe { Writer::take_over(heap.memory_mut(), heap.bytes()) }.unwrap();
    let mut table = Table::take_over(writer);
    assert_eq!(read(&heap, b"key", 0), None);
    // SAFETY: a word of the table.
    let after = unsafe { memory.load(generation) };
    assert!(after > before && after.is_multiple_of(2), "{before} is {after}");
    assert_sound(&mut table);
}

#[derive(Debug, Clone)]
enum Step {
    Put { key: u8, bytes: u16, ttl: Option<u8> },
    Remove { key: u8 },
    Pass { quarters: u8 },
    Sweep { entries: u8 },
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => (any::<u8>(), 0..1000u16, prop::option::of(1..20u8))
            .prop_map(|(key, bytes, ttl)| Step::Put { key, bytes, ttl }),
        3 => any::<u8>().prop_map(|key| Step::Remove { key }),
        1 => (1..8u8).prop_map(|quarters| Step::Pass { quarters }),
        2 => any::<u8>().prop_map(|entries| Step::Sweep { entries }),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..400)
}

pub(super) fn value_of(version_like: usize, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|index| (version_like + index).to_le_bytes()[0]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// After any sequence of operations, a read returns the last value or, only if memory was
    /// needed or time has passed, nothing.
    #[test]
    fn a_read_gives_the_last_value_or_nothing(steps in steps()) {
        let geometry = geometry(1000, 5 << 20);
        let heap = HeapTable::new(&geometry);
        let mut table = new_table(&heap, geometry);
        let mut model: HashMap<u8, (Vec<u8>, Option<u64>)> = HashMap::new();
        let mut now = 0;
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Put { key, bytes, ttl } => {
                    let value = value_of(number, bytes.into());
                    let until = ttl.map(|quarters| now + u64::from(quarters) * SECOND / 4);
                    let expiry = until.map_or(NEVER, expiry_tick);
                    table.put(&Entry { expiry, ..entry(&[key], &value) }, now).unwrap();
                    model.insert(key, (value, until));
                }
                Step::Remove { key } => {
                    table.remove(&[key], now);
                    model.remove(&key);
                }
                Step::Pass { quarters } => now += u64::from(quarters) * SECOND / 4,
                Step::Sweep { entries } => { table.sweep(now, entries.into()); }
                Step::Restart => {
                    // SAFETY: the old table is dropped by the assignment; the heap outlives both.
                    let next = unsafe { Writer::take_over(heap.memory_mut(), heap.bytes()) }.unwrap();
                    table = Table::take_over(next);
                    // Unverified segments are evicted whole when room is needed before they are
                    // counted: legal, but not what is tested here.
                    while table.sweep(now, 1000) {}
                }
            }
        }
        for (key, (value, until)) in &model {
            let got = read(&heap, &[*key], now);
            match until {
                Some(until) if *until <= now => prop_assert_eq!(got, None),
                // The last two ticks before the deadline may already be over for a reader.
                Some(until) if *until <= now + SECOND / 20 => {}
                _ => prop_assert_eq!(got.as_ref(), Some(value)),
            }
        }
        let report = table.check();
        prop_assert_eq!(report.violation_count, 0, "{:#?}", report.violations);
    }
}

/// Memory in which the owner dies at a chosen store: that one and all later ones are lost.
#[derive(Debug, Clone)]
pub(super) struct Mortal<'a> {
    pub(super) memory: MappedMut,
    pub(super) stores_left: &'a Cell<u64>,
}

impl Memory for Mortal<'_> {
    unsafe fn load(&self, index: usize) -> u64 {
        // SAFETY: passed on unchanged.
        unsafe { self.memory.load(index) }
    }
    fn fence_acquire(&self) {}
}

impl MemoryMut for Mortal<'_> {
    unsafe fn store(&self, index: usize, word: u64) {
        if let Some(left) = self.stores_left.get().checked_sub(1) {
            self.stores_left.set(left);
            // SAFETY: passed on unchanged.
            unsafe { self.memory.store(index, word) }
        }
    }
    fn fence_release(&self) {}
}

/// The hazard: a daemon killed between two stores leaves a table from which a reader, or the next
/// daemon's reader, gets a mixture, a removed value, or a value older than one that was visible.
#[test]
fn an_owner_killed_at_any_store_leaves_old_or_new_values_only() {
    let geometry = geometry(1000, 5 << 20);
    let heap = HeapTable::new(&geometry);
    let image = RefCell::new(Vec::new());
    let bytes = usize::try_from(heap.bytes()).unwrap();
    // SAFETY: the heap has that many bytes, and no reader or writer accesses it while it is copied.
    let save = || image.replace(unsafe { std::slice::from_raw_parts(heap.base(), bytes) }.to_vec());
    // SAFETY: as above; the image has the same length.
    let restore = || unsafe {
        heap.base().copy_from_nonoverlapping(image.borrow().as_ptr(), bytes);
    };

    // A table just before a segment must be reclaimed, with live entries to copy forward in it.
    let mut table = new_table(&heap, geometry);
    let keys: Vec<Vec<u8>> = (0..60u32).map(|n| format!("live:{n}").into_bytes()).collect();
    let old = |n: usize| value_of(n, 700 + n);
    let mut filler = 0u32;
    while table.stats().recycled < 40 {
        let n = filler as usize;
        if n.is_multiple_of(9) {
            let n = (n / 9) % keys.len();
            table.put(&entry(&keys[n], &old(n)), 0).unwrap();
        }
        table.put(&entry(format!("filler:{}", n % 50).as_bytes(), &[9; 950]), 0).unwrap();
        filler += 1;
    }
    for (n, key) in keys.iter().enumerate() {
        table.put(&entry(key, &old(n)), 0).unwrap();
    }
    drop(table);
    save();

    let new = |n: usize| value_of(n + 100, 650);
    // The work until the owner dies: enough to recycle several segments.
    let work = |table: &mut Table<Mortal<'_>>, done: &mut Vec<&'static str>| {
        let recycled = table.stats().recycled;
        let mut filler = 0;
        while table.stats().recycled < recycled + 2 {
            if filler % 50 == 0 {
                done.push("turn");
            }
            table.put(&entry(format!("filler:{}", filler % 50).as_bytes(), &[8; 950]), 0).unwrap();
            filler += 1;
        }
        for (n, key) in keys.iter().enumerate().take(20) {
            table.put(&entry(key, &new(n)), 0).unwrap();
        }
        for key in &keys[20..25] {
            table.remove(key, 0);
        }
    };
    let run = |limit: u64| {
        restore();
        let stores_left = Cell::new(limit);
        let memory = Mortal { memory: heap.memory_mut(), stores_left: &stores_left };
        // SAFETY: the heap has these bytes; nothing else writes.
        let writer = unsafe { Writer::take_over(memory, heap.bytes()) }.unwrap();
        let mut table = Table::take_over(writer);
        work(&mut table, &mut Vec::new());
        limit - stores_left.get()
    };
    let total = run(u64::MAX);
    let seed = 0x5eed_u64 ^ total;
    println!("stores until the end: {total}, seed {seed}");
    // Every store of the first and last part, and a spread of the ones between.
    let mut at = 0;
    let mut tried = 0;
    while at < total {
        run(at);
        let check = |when: &str| {
            for (n, key) in keys.iter().enumerate() {
                let got = read(&heap, key, 0);
                let ok = match &got {
                    None => (20..25).contains(&n),
                    Some(value) => *value == old(n) || (n < 20 && *value == new(n)),
                };
                assert!(ok, "{when}, killed at store {at} of {total}: {:?} is {got:?}", n);
            }
        };
        check("before the restart");
        // SAFETY: the heap has these bytes; the dead owner is gone.
        let writer = unsafe { Writer::take_over(heap.memory_mut(), heap.bytes()) }.unwrap();
        let mut table = Table::take_over(writer);
        check("after the restart");
        while table.sweep(0, 10_000) {}
        check("after verification");
        assert_sound(&mut table);
        tried += 1;
        at += if tried < 150 { 1 } else { total / 500 + 1 };
    }
}
