//! Eviction on a real table. The hazards: unused entries push out used ones, live entries are
//! evicted while memory is dead, and the figures for choosing victims drift away from the table.

use super::super::log::{Log, Queue};
use super::super::tests::{SECOND, assert_sound, entry, geometry, new_table, read};
use super::super::{Entry, Table};
use proptest::prelude::*;
use shm_layout::entry::{NEVER, expiry_tick};
use shm_layout::segment::Role;
use shm_layout::{Geometry, HeapTable, MappedMut, MemoryMut, Plan};

/// 128 segments and more of 64 entries with a value of 4000 bytes.
fn many_segments() -> (HeapTable, Table<MappedMut>) {
    let geometry = geometry_of_many();
    let heap = HeapTable::new(&geometry);
    let table = new_table(&heap, geometry);
    (heap, table)
}

fn geometry_of_many() -> Geometry {
    let plan = Plan {
        table_bytes: 36 << 20,
        value_bytes_max: 4000,
        entry_bytes: 4040,
        segment_bytes: Some(276 << 10),
        hash_seed: 7,
        ..Plan::default()
    };
    Geometry::plan(&plan).expect("a table of this size")
}

const VALUE: [u8; 4000] = [5; 4000];
const ENTRY_BYTES: u64 = 4000 + 24 + 8;

fn key(kind: u32, number: u64) -> [u8; 8] {
    (u64::from(kind) << 40 | number).to_le_bytes()
}

fn put(table: &mut Table<impl MemoryMut>, key: &[u8]) {
    table.put(&entry(key, &VALUE), 0).unwrap();
}

/// A request as a cache sees it: a hit is reported, a miss is stored.
fn request(table: &mut Table<impl MemoryMut>, key: &[u8]) -> bool {
    if table.contains(key, 0) {
        table.hit(table.hash(key));
        return true;
    }
    put(table, key);
    false
}

struct Random(u64);

impl Random {
    /// xorshift64*
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) * bound) >> 32
    }

    /// Ranks below `bound`, zipf with an exponent near 1.
    fn zipf(&mut self, bound: u64) -> u64 {
        let bits = 64 - bound.leading_zeros();
        loop {
            let octave = self.below(u64::from(bits));
            let rank = (1 << octave) - 1 + self.below(1 << octave);
            if rank < bound {
                return rank;
            }
        }
    }
}

fn capacity(table: &Table<impl MemoryMut>) -> u64 {
    table.stats().log_bytes / ENTRY_BYTES
}

#[test]
fn what_is_in_use_survives_a_scan_of_ten_tables() {
    let (heap, mut table) = many_segments();
    let full = capacity(&table);
    let hot = full / 2;
    let mut random = Random(1);
    for n in 0..full * 2 {
        request(&mut table, &key(1, n % hot));
    }
    for n in 0..full * 10 {
        request(&mut table, &key(2, n));
        request(&mut table, &key(1, random.below(hot)));
    }
    let kept = (0..hot).filter(|n| read(&heap, &key(1, *n), 0).is_some()).count() as u64;
    assert!(kept * 100 >= hot * 99, "{kept} of {hot}");
    assert_sound(&mut table);
}

/// The hazard: the segment that is being reclaimed when memory comes loses the rest of its entries.
#[test]
fn nothing_is_evicted_once_there_is_room_again() {
    let geometry = geometry_of_many();
    let heap = HeapTable::new(&geometry);
    let mut table = new_table(&heap, geometry);
    let (all, half) = (geometry.segment_count(), geometry.segment_count() / 2);
    table.log = Log::new(all, half);
    let mut keys = 0..;
    while table.stats().evicted == 0 || table.eviction.job.is_none() {
        put(&mut table, &key(1, keys.next().unwrap()));
    }
    let evicted = table.stats().evicted;
    table.add_usable(all);
    for n in 0..capacity(&table) / 3 {
        put(&mut table, &key(2, n));
    }
    assert_eq!(table.stats().evicted, evicted);
    assert_sound(&mut table);
}

#[test]
fn a_loop_larger_than_the_table_hits_as_often_as_part_of_it_fits() {
    let (_heap, mut table) = many_segments();
    let full = capacity(&table);
    let around = full * 3 / 2;
    for n in 0..around * 3 {
        request(&mut table, &key(1, n % around));
    }
    let hits = (0..around).filter(|n| request(&mut table, &key(1, *n))).count() as u64;
    // Two thirds fit; an LRU has none of them.
    assert!(hits * 100 >= around * 55, "{hits} of {around}");
}

#[test]
fn a_new_working_set_takes_the_place_of_the_old_one() {
    let (_heap, mut table) = many_segments();
    let full = capacity(&table);
    let mut random = Random(2);
    let mut last = 0;
    for kind in 0..4 {
        last = 0;
        for n in 0..full * 12 {
            let hit = request(&mut table, &key(kind, random.zipf(full * 3 / 4)));
            last += u64::from(hit && n >= full * 11);
        }
    }
    assert!(last * 100 >= full * 90, "{last} of the last {full}");
}

#[test]
fn one_in_ten_large_entries_does_not_cost_the_small_ones_their_place() {
    let geometry = geometry(60_000, 64 << 20);
    let heap = HeapTable::new(&geometry);
    let mut table = new_table(&heap, geometry);
    let log = table.stats().log_bytes;
    let small = log / 2 / 232;
    let value = vec![1; 60_000];
    let mut random = Random(3);
    for n in 0..small * 2 {
        let key = key(1, n % small);
        if table.contains(&key, 0) {
            table.hit(table.hash(&key));
        } else {
            table.put(&entry(&key, &value[..200]), 0).unwrap();
        }
    }
    let (mut hits, mut asked) = (0, 0);
    for n in 0..small * 4 {
        // Each of the large ones comes back, after as much as fills the table twice.
        let large = key(2, n / 10 % (log * 2 / 60_000));
        if n % 10 == 0 && !table.contains(&large, 0) {
            table.put(&entry(&large, &value), 0).unwrap();
        }
        let key = key(1, random.below(small));
        asked += 1;
        if table.contains(&key, 0) {
            table.hit(table.hash(&key));
            hits += 1;
        } else {
            table.put(&entry(&key, &value[..200]), 0).unwrap();
        }
    }
    assert!(hits * 100 >= asked * 97, "{hits} of {asked}");
}

#[test]
fn a_report_for_an_entry_that_is_gone_or_another_in_its_slot_changes_nothing() {
    let (_heap, mut table) = many_segments();
    put(&mut table, b"gone");
    let hash = table.hash(b"gone");
    let slot = table.find(b"gone", hash).unwrap().slot;
    table.hit(hash);
    assert_eq!(table.eviction.uses.get(slot), 1);
    table.remove(b"gone", 0);
    assert_eq!(table.eviction.uses.get(slot), 0);
    table.hit(hash);
    assert!(table.eviction.uses.get(slot) == 0, "counted for an empty slot");
    // Another key comes to be in that very slot.
    let other = (0..).map(|n| key(3, n)).find(|other| {
        put(&mut table, other);
        table.find(other, table.hash(other)).unwrap().slot == slot || {
            table.remove(other, 0);
            false
        }
    });
    table.hit(hash);
    assert_eq!(table.eviction.uses.get(slot), 0, "counted for {other:?}");
    assert_eq!(table.stats().hits_reported, 3);
}

#[test]
fn overwrites_evict_nothing_while_a_third_of_the_log_is_dead_and_copy_little() {
    for part in [60, 75, 90] {
        let (_heap, mut table) = many_segments();
        let keys = capacity(&table) * part / 100;
        let mut random = Random(4);
        for n in 0..keys {
            put(&mut table, &key(1, n));
        }
        let before = table.stats();
        let mut dead_most = 0;
        for _ in 0..keys * 5 {
            let stats = table.stats();
            put(&mut table, &key(1, random.zipf(keys)));
            if table.stats().evicted > stats.evicted {
                dead_most = dead_most.max(stats.dead_bytes * 100 / stats.log_bytes);
            }
        }
        let after = table.stats();
        let copied = (after.copied_forward_bytes - before.copied_forward_bytes) as f64
            / (after.put_bytes - before.put_bytes) as f64;
        println!(
            "{part} % full: copied {copied:.2} per byte, evicted {}, at most with {dead_most} % \
             dead",
            after.evicted
        );
        assert!(dead_most < 35, "{part} % full: evicted while {dead_most} % was dead");
        assert!(copied <= 1.0, "{part} % full: {copied} bytes copied for each stored");
        assert_sound(&mut table);
    }
}

#[test]
fn short_lives_beside_long_ones_push_none_of_them_out() {
    for shorts_are_hit in [false, true] {
        let (heap, mut table) = many_segments();
        let full = capacity(&table);
        let longs = full * 6 / 10;
        for n in 0..longs {
            put(&mut table, &key(1, n));
        }
        // Two seconds of short lives are a fifth of the table; old keys and new ones.
        let each_second = full / 10;
        let mut now = 0;
        for second in 0..40 {
            for n in 0..each_second {
                let number = if n % 2 == 0 { n } else { second * each_second + n };
                let key = key(2, number);
                let expiry = expiry_tick(now + 2 * SECOND);
                table.put(&Entry { expiry, ..entry(&key, &VALUE) }, now).unwrap();
                if shorts_are_hit {
                    for _ in 0..3 {
                        table.hit(table.hash(&key));
                    }
                }
                now += SECOND / each_second;
                if n % 16 == 0 {
                    table.sweep(now, 64);
                }
            }
        }
        let kept = (0..longs).filter(|n| read(&heap, &key(1, *n), now).is_some()).count() as u64;
        assert_eq!(kept, longs, "with hits: {shorts_are_hit}; {:?}", table.stats());
        assert_sound(&mut table);
    }
}

#[test]
fn what_has_expired_is_used_again_before_anything_live_goes() {
    let (heap, mut table) = many_segments();
    let full = capacity(&table);
    // Two of three expire, side by side with the third.
    let keys = full * 9 / 10;
    for n in 0..keys {
        let expiry = if n % 3 == 0 { NEVER } else { expiry_tick(SECOND) };
        table.put(&Entry { expiry, ..entry(&key(1, n), &VALUE) }, 0).unwrap();
    }
    let now = 2 * SECOND;
    while table.sweep(now, 1000) {}
    for n in 0..full * 5 / 10 {
        table.put(&entry(&key(2, n), &VALUE), now).unwrap();
    }
    assert_eq!(table.stats().evicted, 0, "{:?}", table.stats());
    let all_there = (0..keys).step_by(3).all(|n| read(&heap, &key(1, n), now).is_some());
    assert!(all_there);
    assert_sound(&mut table);
}

#[test]
fn a_key_that_was_used_until_it_expired_comes_back_to_main() {
    let (_heap, mut table) = many_segments();
    let full = capacity(&table);
    let expiry = expiry_tick(SECOND);
    table.put(&Entry { expiry, ..entry(b"used", &VALUE) }, 0).unwrap();
    for n in 0..full * 3 {
        request(&mut table, &key(1, n));
        table.hit(table.hash(b"used"));
    }
    let now = 2 * SECOND;
    while table.sweep(now, 1000) {}
    assert!(table.find(b"used", table.hash(b"used")).is_none());
    assert!(!table.stats().is_filling);
    table.put(&entry(b"used", &VALUE), now).unwrap();
    table.put(&entry(b"new", &VALUE), now).unwrap();
    let queue = |table: &mut Table<MappedMut>, key: &[u8]| {
        let at = table.find(key, table.hash(key)).unwrap().at;
        table.log.segment(at.segment).queue
    };
    assert_eq!(queue(&mut table, b"used"), Queue::Main);
    assert_eq!(queue(&mut table, b"new"), Queue::Small);
}

#[test]
fn main_fills_again_after_everything_has_expired() {
    let (_heap, mut table) = many_segments();
    let full = capacity(&table);
    let mut random = Random(5);
    for n in 0..full * 3 {
        let expiry = expiry_tick(SECOND);
        table.put(&Entry { expiry, ..entry(&key(1, n), &VALUE) }, 0).unwrap();
    }
    assert!(!table.stats().is_filling);
    let now = 2 * SECOND;
    while table.sweep(now, 1000) {}
    let mut hits = 0;
    for n in 0..full * 4 {
        let key = key(2, random.below(full * 3 / 4));
        if table.contains(&key, now) {
            table.hit(table.hash(&key));
            hits += u64::from(n >= full * 3);
        } else {
            table.put(&entry(&key, &VALUE), now).unwrap();
        }
    }
    assert!(hits * 100 >= full * 90, "{hits} of the last {full}");
}

#[test]
fn a_table_in_which_everything_is_used_still_makes_room() {
    let (heap, mut table) = many_segments();
    let full = capacity(&table);
    for n in 0..full {
        request(&mut table, &key(1, n));
    }
    for n in 0..full * 3 {
        for _ in 0..3 {
            table.hit(table.hash(&key(1, n % full)));
        }
    }
    for n in 0..full * 2 {
        request(&mut table, &key(2, n));
        table.hit(table.hash(&key(2, n)));
        table.hit(table.hash(&key(2, n)));
        assert!(read(&heap, &key(2, n), 0).is_some());
    }
    assert_sound(&mut table);
}

/// The owner's figures of its segments match the table.
fn assert_figures(table: &mut Table<MappedMut>) {
    let count = table.log.segments.len();
    let (mut words, mut entries, mut kept) = (vec![0; count], vec![0; count], vec![0; count]);
    for bucket in 0..table.writer.geometry().bucket_count() {
        for index in 0..shm_layout::slot::SLOTS {
            let slot = table.writer.geometry().bucket(bucket).slot(index);
            let Some(found) = table.at_slot(slot) else {
                assert_eq!(table.eviction.uses.get(slot), 0, "an empty slot was used");
                continue;
            };
            let segment = found.at.segment as usize;
            words[segment] += super::super::log::words_of(&found.header);
            entries[segment] += 1;
            let least = table.log.segments[segment].queue.uses_kept();
            kept[segment] += u32::from(table.eviction.uses.get(slot) >= least);
        }
    }
    let mut queued: Vec<u32> = table.log.all_closed().collect();
    for queue in [Queue::Small, Queue::Main] {
        let sequences = table.log.closed(queue).iter().map(|n| {
            assert_eq!(table.log.segments[*n as usize].queue, queue);
            table.log.segments[*n as usize].sequence
        });
        assert!(sequences.is_sorted(), "{queue:?} is out of order");
    }
    queued.sort_unstable();
    for (number, segment) in table.log.segments.iter().enumerate() {
        let n = u32::try_from(number).unwrap();
        let is_queued = queued.binary_search(&n).is_ok();
        assert_eq!(is_queued, segment.role == Role::Closed, "segment {n}");
        assert_eq!(table.log.free.contains(&n), segment.role == Role::Free, "segment {n}");
        if segment.is_counted {
            assert_eq!(segment.live_words, words[number], "words of segment {n}");
            assert_eq!(segment.live_entries, entries[number], "entries of segment {n}");
            assert_eq!(segment.kept_entries, kept[number], "kept of segment {n}");
        }
    }
    assert_eq!(table.slots_used, u64::from(entries.iter().sum::<u32>()));
}

#[derive(Debug, Clone)]
enum Step {
    Request { key: u16 },
    Overwrite { key: u16, bytes: u16, ttl: Option<u8> },
    Remove { key: u16 },
    Pass { quarters: u8 },
    Sweep { entries: u8 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        20 => (0..400u16).prop_map(|key| Step::Request { key }),
        6 => (0..400u16, 0..1000u16, prop::option::of(1..20u8))
            .prop_map(|(key, bytes, ttl)| Step::Overwrite { key, bytes, ttl }),
        1 => (0..400u16).prop_map(|key| Step::Remove { key }),
        1 => (1..8u8).prop_map(|quarters| Step::Pass { quarters }),
        1 => any::<u8>().prop_map(|entries| Step::Sweep { entries }),
    ];
    prop::collection::vec(step, 1..4000)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn the_figures_that_victims_are_chosen_by_are_right(steps in steps()) {
        let plan = Plan {
            table_bytes: 4800 << 10,
            value_bytes_max: 1000,
            entry_bytes: 20_000,
            hash_seed: 7,
            ..Plan::default()
        };
        let geometry = Geometry::plan(&plan).expect("a table of this size");
        let heap = HeapTable::new(&geometry);
        let mut table = new_table(&heap, geometry);
        let mut now = 0;
        for step in steps {
            match step {
                Step::Request { key } => {
                    // A long key: the table is full after some hundred.
                    let long = [&key.to_le_bytes()[..], &[7; 30_000]].concat();
                    if table.contains(&long, now) {
                        table.hit(table.hash(&long));
                    } else {
                        table.put(&entry(&long, &VALUE[..1000]), now).unwrap();
                    }
                }
                Step::Overwrite { key, bytes, ttl } => {
                    let long = [&key.to_le_bytes()[..], &[7; 30_000]].concat();
                    let until = ttl.map(|quarters| now + u64::from(quarters) * SECOND / 4);
                    let expiry = until.map_or(NEVER, expiry_tick);
                    let value = &VALUE[..bytes.into()];
                    table.put(&Entry { expiry, ..entry(&long, value) }, now).unwrap();
                }
                Step::Remove { key } => {
                    table.remove(&[&key.to_le_bytes()[..], &[7; 30_000]].concat(), now);
                }
                Step::Pass { quarters } => now += u64::from(quarters) * SECOND / 4,
                Step::Sweep { entries } => { table.sweep(now, entries.into()); }
            }
        }
        assert_figures(&mut table);
        assert_sound(&mut table);
    }
}
