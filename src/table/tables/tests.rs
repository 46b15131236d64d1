use super::super::tests::{SECOND, assert_sound};
use super::*;
use proptest::prelude::*;
use shm_layout::entry::expiry_tick;
use std::collections::HashMap;

const KEYS: u8 = 200;

#[derive(Debug, Clone)]
enum Act {
    Put {
        key: u8,
        bytes: u16,
        seconds: u8,
    },
    Remove {
        key: u8,
    },
    Hit {
        key: u8,
    },
    Flush,
    FlushPrefix {
        key: u8,
    },
    Pass {
        seconds: u8,
    },
    /// A step of the move with no time left, which carries as few buckets as any.
    Step,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        8 => (0..KEYS, 0_u16..2000, any::<u8>())
            .prop_map(|(key, bytes, seconds)| Act::Put { key, bytes, seconds }),
        2 => (0..KEYS).prop_map(|key| Act::Remove { key }),
        2 => (0..KEYS).prop_map(|key| Act::Hit { key }),
        1 => Just(Act::Flush),
        1 => (0..KEYS).prop_map(|key| Act::FlushPrefix { key }),
        1 => (0_u8..20).prop_map(|seconds| Act::Pass { seconds }),
        6 => Just(Act::Step),
    ];
    proptest::collection::vec(act, 1..400)
}

fn open(directory: &Path, table_bytes: u64, entry_bytes: u32) -> Tables {
    Tables::open(FileOptions {
        directory: directory.to_owned(),
        plan: Plan { table_bytes, value_bytes_max: 2000, entry_bytes, ..Plan::default() },
        mode: 0o600,
        group: None,
        policy: PolicySet::default(),
        keeps_index: false,
    })
    .unwrap()
}

fn until_ended(tables: &mut Tables, now_ns: u64) {
    loop {
        match tables.step(now_ns, Duration::ZERO) {
            Step::Ended(result) => return result.unwrap(),
            Step::Waiting => thread::yield_now(),
            Step::More => {}
            Step::Idle => panic!("nothing moves"),
        }
    }
}

/// 600 days.
const OLD: u64 = 600 * 86_400 * SECOND;

/// The hazard: a daemon dies after a move, and its successor does not learn of the changes that
/// were under way since before it.
#[test]
fn keys_in_change_are_noted_in_the_table_that_a_move_makes() {
    let directory = tempfile::tempdir().unwrap();
    let mut tables = open(directory.path(), 5 << 20, 200);
    let noted = |tables: &Tables| -> Vec<(usize, KeyHash, bool)> {
        tables.current().writer().changing().collect()
    };
    tables.set_changing(0, Some(b"ended meanwhile"));
    tables.set_changing(1, Some(b"before"));
    tables.set_changing(503, Some(b"in doubt"));
    tables.set_doubtful(503, true);
    tables.begin_move(&Plan { table_bytes: 7 << 20, ..tables.plan() }).unwrap();
    while !tables.is_filling_successor() {
        tables.step(OLD, Duration::ZERO);
    }
    tables.set_changing(0, None);
    tables.set_changing(2, Some(b"during"));
    tables.set_doubtful(1, true);
    tables.set_changing_more(true);
    tables.set_changing_rule(77, true);
    let before = noted(&tables);
    assert_eq!(before.iter().map(|noted| noted.0).collect::<Vec<_>>(), [1, 2, 503]);
    assert_eq!(before.iter().map(|noted| noted.2).collect::<Vec<_>>(), [true, false, true]);
    let id = |tables: &Tables| tables.current().writer().geometry().identity().table_id;
    let first = id(&tables);
    until_ended(&mut tables, OLD);
    assert_ne!(id(&tables), first);
    assert_eq!(noted(&tables), before);
    assert!(tables.current().writer().changing_more());
    assert_eq!(tables.current().writer().changing_policies().collect::<Vec<_>>(), [77]);
    for (key, found) in [("before", 1), ("during", 2), ("in doubt", 503)] {
        let hash = tables.current().hash(key.as_bytes());
        assert!(before.iter().any(|noted| (noted.0, noted.1) == (found, hash)), "{key}");
    }
}

#[test]
fn a_table_whose_clock_is_half_over_moves_to_one_with_a_new_clock() {
    let directory = tempfile::tempdir().unwrap();
    let mut tables = open(directory.path(), 9 << 20, 200);
    assert!(!tables.renew_clock(400 * 86_400 * SECOND).unwrap());
    let until = |seconds| expiry_tick(OLD + seconds * SECOND);
    let put = |tables: &mut Tables, n, expiry| {
        let entry = Entry { key: &key(n), value: b"v", expiry, ..Entry::default() };
        tables.put(&entry, OLD).unwrap();
    };
    let lives = [until(0), until(1), until(100), shm_layout::entry::NEVER];
    for (n, expiry) in (0..).zip(lives) {
        put(&mut tables, n, expiry);
    }
    let epoch = |tables: &Tables| tables.current().writer().geometry().identity().epoch_ns;
    let (before, id) = (epoch(&tables), tables.current().writer().geometry().identity().table_id);
    tables.set_clock_offset(77);
    assert!(tables.renew_clock(OLD).unwrap());
    // Both what is carried over and what is stored meanwhile, whichever comes first.
    while !tables.is_filling_successor() {
        tables.step(OLD, Duration::ZERO);
    }
    for (n, expiry) in (4..).zip(lives) {
        put(&mut tables, n, expiry);
    }
    let offset = |tables: &mut Tables| tables.filling().unwrap().writer().clock_offset();
    let inherited = offset(&mut tables);
    tables.set_clock_offset(99);
    assert_eq!(offset(&mut tables), inherited.wrapping_add(22));
    until_ended(&mut tables, OLD);
    let later = epoch(&tables) - before;
    assert!(tables.current().writer().geometry().identity().table_id != id);
    assert!((1..2 * SECOND).contains(&(OLD - later)), "the new clock has just begun");
    assert_eq!(tables.current().writer().clock_offset(), 99_u64.wrapping_sub(later));
    for now in [OLD, OLD + SECOND / 2, OLD + 2 * SECOND, OLD + 99 * SECOND, OLD + 101 * SECOND] {
        for (n, expiry) in (0..).zip([lives, lives].concat()) {
            let is_visible = shm_layout::entry::tick(now) < expiry;
            let is_found = tables.current().contains(&key(n), now - later);
            assert_eq!(is_found, is_visible, "entry {n} after {} s", (now - OLD) / SECOND);
        }
    }
    assert!(!tables.renew_clock(OLD - later).unwrap());
    assert_sound(&mut tables.current.table);
}

fn flush_prefix(tables: &mut Tables, prefix: &[u8]) {
    let below = tables.current().next_version();
    let mut next = Some(0);
    while let Some(bucket) = next {
        next = tables.flush_prefix(prefix, below, bucket, 50).1;
    }
    next = tables.is_filling_successor().then_some(0);
    while let Some(bucket) = next {
        next = tables.flush_prefix_in_successor(prefix, below, bucket, 50);
    }
}

fn key(n: u8) -> Vec<u8> {
    format!("{n:03}").into_bytes()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// The hazard: the successor knows less than the table, or an older value.
    #[test]
    fn what_was_there_before_a_move_is_there_after_it(
        before in acts(), during in acts(), shrinks in any::<bool>(),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let mut tables = open(directory.path(), 9 << 20, 200);
        let mut model: HashMap<u8, (Vec<u8>, u32)> = HashMap::new();
        let mut now = SECOND;
        for (number, act) in before.iter().chain(&during).enumerate() {
            if number == before.len() {
                let table_bytes = if shrinks { 7 << 20 } else { 20 << 20 };
                let plan = Plan { table_bytes, entry_bytes: 100, ..tables.plan() };
                tables.begin_move(&plan).unwrap();
            }
            match *act {
                Act::Put { key: n, bytes, seconds } => {
                    let value = vec![u8::try_from(number % 251).unwrap(); bytes.into()];
                    let expiry = expiry_tick(now + u64::from(seconds) * SECOND);
                    let entry = Entry { key: &key(n), value: &value, expiry, ..Entry::default() };
                    tables.put(&entry, now).unwrap();
                    model.insert(n, (value, expiry));
                }
                Act::Remove { key: n } => {
                    tables.remove(&key(n), now);
                    model.remove(&n);
                }
                Act::Hit { key: n } => tables.hit(tables.current().hash(&key(n)), 1, now),
                Act::Flush => {
                    tables.flush();
                    model.clear();
                }
                Act::FlushPrefix { key: n } => {
                    flush_prefix(&mut tables, &key(n)[..2]);
                    model.retain(|other, _| key(*other)[..2] != key(n)[..2]);
                }
                Act::Pass { seconds } => now += u64::from(seconds) * SECOND,
                Act::Step => {
                    if let Step::Ended(result) = tables.step(now, Duration::ZERO) {
                        result.unwrap();
                    }
                }
            }
        }
        let before_the_end: Vec<_> =
            (0..KEYS).map(|n| tables.current().peek(&key(n), now)).collect();
        let version = tables.current().next_version();
        if tables.progress().is_some() {
            until_ended(&mut tables, now);
        }
        prop_assert_eq!(tables.current().next_version(), version);
        for (n, held) in (0..KEYS).zip(before_the_end) {
            let after = tables.current().peek(&key(n), now);
            let known = |held: &Option<Held>| {
                held.as_ref().map(|held| (held.value.clone(), held.version, held.expiry))
            };
            prop_assert_eq!(known(&after), known(&held), "key {}", n);
            // Both tables hold all that there is room for.
            let wanted = model.get(&n).filter(|(_, expiry)| shm_layout::entry::tick(now) < *expiry);
            let found = after.map(|held| (held.value, held.expiry));
            prop_assert_eq!(found.as_ref(), wanted, "key {}", n);
        }
        assert_sound(&mut tables.current.table);
        // And a daemon that starts finds it so.
        let bytes = tables.file().bytes();
        drop(tables);
        let tables = open(directory.path(), bytes, 100);
        prop_assert!(tables.was_taken_over() && tables.replaced().is_none());
    }
}

/// Both queues and uses are carried over: entries that were in use before are the ones that stay.
#[test]
fn what_was_used_stays_when_the_table_shrinks() {
    let directory = tempfile::tempdir().unwrap();
    let mut tables = open(directory.path(), 20 << 20, 2000);
    let name = |n: u32| format!("key:{n}").into_bytes();
    let expiry = expiry_tick(1000 * SECOND);
    for n in 0..6000 {
        let entry = Entry { key: &name(n), value: &[1; 1500], expiry, ..Entry::default() };
        tables.put(&entry, SECOND).unwrap();
    }
    let used = |n: &u32| n.is_multiple_of(4);
    for n in (0..6000).filter(used) {
        (0..3).for_each(|_| tables.hit(tables.current().hash(&name(n)), 1, SECOND));
    }
    let plan = Plan { table_bytes: 7 << 20, ..tables.plan() };
    tables.begin_move(&plan).unwrap();
    until_ended(&mut tables, SECOND);
    let stayed = |n: &u32| tables.current().peek(&name(*n), SECOND).is_some();
    let of_used = (0..6000).filter(used).filter(stayed).count();
    let of_others = (0..6000).filter(|n| !used(n)).filter(stayed).count();
    assert!(of_used > 1490 && of_others > 1000, "{of_used} of 1500, {of_others} of 4500");
}

#[test]
fn a_table_that_could_not_take_its_name_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut tables = open(directory.path(), 9 << 20, 200);
    let entry = Entry { key: b"key", value: b"value", expiry: u32::MAX, ..Entry::default() };
    tables.put(&entry, SECOND).unwrap();
    let plan = Plan { table_bytes: 12 << 20, ..tables.plan() };
    tables.begin_move(&plan).unwrap();
    while !tables.is_filling_successor() {
        tables.step(SECOND, Duration::ZERO);
    }
    std::fs::remove_file(directory.path().join("table.new")).unwrap();
    let error = loop {
        if let Step::Ended(result) = tables.step(SECOND, Duration::ZERO) {
            break result.unwrap_err();
        }
    };
    assert!(error.to_string().contains("table.new"), "{error}");
    assert_eq!(tables.file().bytes(), 9 << 20);
    assert!(tables.get(b"key", SECOND).is_some());
    let file = std::fs::File::open(directory.path().join("table")).unwrap();
    let mapping =
        l1d_wire::mapping::Mapping::of_file(&file, 9 << 20, l1d_wire::mapping::Access::Read)
            .unwrap();
    // SAFETY: the mapping has as many bytes and outlives the reader.
    let reader =
        unsafe { shm_layout::Reader::attach(shm_layout::Mapped::new(mapping.base()), 9 << 20) };
    assert!(reader.unwrap().is_serving(), "readers are sent away");
    tables.begin_move(&plan).unwrap();
    until_ended(&mut tables, SECOND);
    assert!(tables.get(b"key", SECOND).is_some());
}

/// The hazard: a table that is moved to evicts what the policy of meanwhile never evicts, or has no
/// room for what the table in force took of it.
#[test]
fn a_rule_that_is_pinned_during_a_move_is_pinned_in_both_tables() {
    let directory = tempfile::tempdir().unwrap();
    let mut tables = open(directory.path(), 16 << 20, 500);
    let name = |n: u32| format!("key:{n}").into_bytes();
    let put = |tables: &mut Tables, n, policy| {
        let key = name(n);
        let expiry = u32::MAX;
        tables.put(
            &Entry { key: &key, value: &[1; 1500], policy, expiry, ..Entry::default() },
            SECOND,
        )
    };
    for n in 0..500 {
        put(&mut tables, n, 0).unwrap();
    }
    let plan = Plan { table_bytes: 8 << 20, ..tables.plan() };
    tables.begin_move(&plan).unwrap();
    while !tables.is_filling_successor() {
        tables.step(SECOND, Duration::ZERO);
    }
    tables.step(SECOND, Duration::ZERO);
    tables.begin_policy(&never_evicting());
    tables.limit_policies();
    let mut held = 500;
    while put(&mut tables, held, 0).is_ok() {
        held += 1;
        if held % 50 == 0 {
            tables.step(SECOND, Duration::ZERO);
        }
    }
    assert!(held > 1000 && held * 1500 < 4 << 20, "{held}: no more than the new table can hold");
    until_ended(&mut tables, SECOND);
    for n in 0..20_000 {
        put(&mut tables, 1_000_000 + n, 1).unwrap();
    }
    let lost = (0..held).filter(|n| !tables.current().contains(&name(*n), SECOND)).count();
    assert_eq!(lost, 0, "of {held}");
    let plan = Plan { table_bytes: 7 << 20, ..tables.plan() };
    assert!(matches!(tables.begin_move(&plan), Err(MoveError::Pinned { .. })));
    assert_sound(&mut tables.current.table);
}

/// All keys are never evicted, within 40 % of the table.
fn never_evicting() -> PolicySet {
    let share_max_permille = Some(400);
    let rule =
        l1d_wire::policy::Rule { evict: Evict::Never, share_max_permille, ..Default::default() };
    PolicySet::new(vec![rule]).unwrap()
}

/// The hazard: entries of a rule that is pinned during a move are lost in the new table, which is too
/// small for them.
#[test]
fn a_move_ends_if_what_is_pinned_meanwhile_does_not_fit_the_new_table() {
    for is_filling in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let mut tables = open(directory.path(), 16 << 20, 500);
        let name = |n: u32| format!("key:{n}").into_bytes();
        for n in 0..3000 {
            let (key, expiry) = (name(n), u32::MAX);
            let entry = Entry { key: &key, value: &[1; 1500], expiry, ..Entry::default() };
            tables.put(&entry, SECOND).unwrap();
        }
        let plan = Plan { table_bytes: 8 << 20, ..tables.plan() };
        tables.begin_move(&plan).unwrap();
        while is_filling && !tables.is_filling_successor() {
            tables.step(SECOND, Duration::ZERO);
        }
        tables.begin_policy(&never_evicting());
        tables.limit_policies();
        let error = loop {
            if let Step::Ended(result) = tables.step(SECOND, Duration::ZERO) {
                break result.unwrap_err();
            }
        };
        assert!(matches!(error, MoveError::NoRoom(_)), "{error}");
        let kept = (0..3000).filter(|n| tables.current().contains(&name(*n), SECOND)).count();
        assert_eq!(kept, 3000, "{is_filling}");
        let all = std::fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(tables.progress(), None);
        assert!(all <= 4, "{all} files: an unfinished one is left");
    }
}
