//! The hazards: hits end with the daemon; a client keeps reading a table that is no longer updated;
//! an old table's memory is never released.

mod fake;

use fake::{Act, FakeDaemon, FakeTable, found};
use l1d_client::{Client, Error, Lookup, Source};
use shm_layout::Entry;
use shm_layout::entry::NEVER;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

#[test]
fn hits_need_no_daemon_and_misses_say_so() {
    let directory = tempfile::tempdir().unwrap();
    let table = FakeTable::new(directory.path(), 5);
    table.put(b"key", b"value");
    table.put(b"empty", b"");
    table.publish(&Entry {
        key: b"absent",
        absent: true,
        version: 1,
        expiry: NEVER,
        ..Entry::default()
    });
    let socket = directory.path().join("socket");
    let daemon = FakeDaemon::start(&socket, &table, |_, _| Act::Reply(found(b"from below")));
    let cache = Client::connect(&socket).unwrap();
    drop(daemon);

    let value = cache.get(b"key").unwrap().unwrap();
    assert_eq!((&*value, value.meta().source), (&b"value"[..], Source::Table));
    assert_eq!(&*cache.get(b"empty").unwrap().unwrap(), b"");
    assert_eq!(cache.lookup(b"absent").unwrap(), Lookup::Absent);
    assert_eq!(cache.get(b"absent").unwrap(), None);
    assert_eq!(cache.peek_lookup(b"other"), Lookup::Unknown);
    let error = cache.get(b"other").expect_err("nobody could answer");
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    table.put(b"later", b"seen at once");
    assert_eq!(&*cache.peek(b"later").unwrap(), b"seen at once");

    let _daemon = FakeDaemon::start(&socket, &table, |_, _| Act::Reply(found(b"from below")));
    let value = cache.get(b"other").unwrap().unwrap();
    assert_eq!(&*value, b"from below");
    assert_eq!((value.meta().flags, value.meta().source), (7, Source::Daemon));
}

#[test]
fn reads_into_a_vector_replace_what_was_there() {
    let directory = tempfile::tempdir().unwrap();
    let table = FakeTable::new(directory.path(), 5);
    table.put(b"key", b"value");
    let socket = directory.path().join("socket");
    let unknown = fake::framed(&l1d_wire::protocol::Response::Unknown);
    let _daemon = FakeDaemon::start(&socket, &table, move |_, _| Act::Reply(unknown.clone()));
    let cache = Client::connect(&socket).unwrap();
    let mut value = b"something longer".to_vec();
    assert!(cache.peek_into(b"key", &mut value).is_some());
    assert_eq!(value, b"value");
    assert!(cache.peek_into(b"other", &mut value).is_none());
    assert_eq!(value, b"");
    value.extend_from_slice(b"rest");
    assert!(cache.get_into(b"other", &mut value).unwrap().is_none());
    assert_eq!(value, b"");
}

#[test]
fn a_replaced_table_is_left_and_given_back() {
    let directory = tempfile::tempdir().unwrap();
    let old = FakeTable::new(directory.path(), 1);
    let new = FakeTable::new(directory.path(), 2);
    old.put(b"key", b"old");
    new.put(b"key", b"new");
    let socket = directory.path().join("socket");
    let daemon = FakeDaemon::start(&socket, &old, |_, _| Act::Silence);
    let cache = Client::connect(&socket).unwrap();
    assert_eq!(&*cache.peek(b"key").unwrap(), b"old");

    daemon.set_table(&new);
    assert_eq!(&*cache.peek(b"key").unwrap(), b"old", "still serving");
    old.writer().supersede();
    assert_eq!(&*cache.peek(b"key").unwrap(), b"new");
    assert!(!is_mapped_read_only(&old), "the old table is still mapped");
    assert!(is_mapped_read_only(&new));
    drop(cache);
    assert!(!is_mapped_read_only(&new), "left behind");
}

/// The test's writer also maps the table, writable.
fn is_mapped_read_only(table: &FakeTable) -> bool {
    let path = table.path.to_str().unwrap();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().any(|line| line.contains(path) && line.contains(" r--s "))
}

#[test]
fn a_client_that_began_without_a_daemon_attaches_when_it_comes() {
    let directory = tempfile::tempdir().unwrap();
    let table = FakeTable::new(directory.path(), 1);
    table.put(b"key", b"value");
    let socket = directory.path().join("socket");
    let cache = Client::builder().socket(&socket).connect_later().unwrap();
    assert_eq!(cache.peek(b"key"), None);
    assert!(matches!(cache.get(b"key"), Err(Error::Unavailable { .. })));
    let _daemon = FakeDaemon::start(&socket, &table, |_, _| Act::Silence);
    // The pause after a failed attempt ends by itself; nothing but peek is called.
    while cache.peek(b"key").is_none() {
        std::thread::yield_now();
    }
}

#[test]
fn an_older_connections_table_does_not_replace_a_newer_one() {
    let directory = tempfile::tempdir().unwrap();
    let old = FakeTable::new(directory.path(), 1);
    let new = FakeTable::new(directory.path(), 2);
    old.put(b"key", b"old");
    new.put(b"key", b"new");
    let socket = directory.path().join("socket");
    let daemon = FakeDaemon::start(&socket, &old, |_, _| Act::Reply(found(b"from below")));
    let minute = std::time::Duration::from_secs(60);
    let cache = Client::builder()
        .socket(&socket)
        .attach_deadline(minute)
        .deadline(minute)
        .connect_later()
        .unwrap();
    let (reached, held) = daemon.hold_next_attach();
    let slow = cache.clone();
    let slow = std::thread::spawn(move || slow.get(b"other").unwrap());
    reached.recv().unwrap();
    daemon.set_table(&new);
    cache.get(b"other").unwrap();
    assert_eq!(&*cache.peek(b"key").unwrap(), b"new");
    drop(held);
    slow.join().unwrap();
    assert_eq!(&*cache.peek(b"key").unwrap(), b"new");
}

#[test]
fn readers_go_on_through_many_replacements() {
    // A reader inside a table while its memory is released must see its key's value from some
    // table, or nothing: never another key's bytes, never a fault. Each value identifies its table.
    const TABLES: u64 = 60;
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("socket");
    let table_of = |id: u64| {
        let table = FakeTable::new(directory.path(), id);
        table.put(b"key", &[u8::try_from(id).unwrap(); 800]);
        // An entry hidden by a floor must not return when the words of the floor become zero.
        table.put(b"hidden", b"hidden");
        table.writer().raise_policy_floor(0, 1);
        table.publish(&Entry {
            key: b"below the floor",
            value: b"stale",
            version: 0,
            expiry: NEVER,
            ..Entry::default()
        });
        table
    };
    let mut current = table_of(1);
    let daemon = FakeDaemon::start(&socket, &current, |_, _| Act::Silence);
    let cache = Client::connect(&socket).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let hits = Arc::new(AtomicU64::new(0));
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (cache, stop, hits) = (cache.clone(), Arc::clone(&stop), Arc::clone(&hits));
            std::thread::spawn(move || {
                let mut value = Vec::new();
                let mut last = 0;
                while !stop.load(Ordering::Relaxed) {
                    assert!(cache.peek_into(b"below the floor", &mut value).is_none());
                    if cache.peek_into(b"key", &mut value).is_none() {
                        continue;
                    }
                    assert_eq!(value.len(), 800);
                    assert!(value.iter().all(|byte| *byte == value[0]), "torn");
                    assert!(value[0] >= last, "back to an older table");
                    last = value[0];
                    hits.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for id in 2..=TABLES {
        let next = table_of(id);
        daemon.set_table(&next);
        current.writer().supersede();
        let seen = hits.load(Ordering::Relaxed);
        while hits.load(Ordering::Relaxed) < seen + 100 {
            std::thread::yield_now();
        }
        current = next;
    }
    stop.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.join().unwrap();
    }
    println!("{} hits", hits.load(Ordering::Relaxed));
}
