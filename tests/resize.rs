//! Moving the table to another size under load. The hazards: a reader that stays in the old table,
//! a write that reaches only one of the two, an entry that reappears after it was deleted.

use l1d_client::{Client, Error};
use serde_json::Value;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use test_support::daemon::{Daemon, connect};
use test_support::servers::until;

const PROGRAM: &str = env!("CARGO_BIN_EXE_l1d");
const CTL: &str = env!("CARGO_BIN_EXE_l1ctl");
const CONFIG: &str = "[table]\nvalue_bytes_max = \"16KiB\"\naverage_entry_bytes = 128\n\
                      [defaults]\nttl = \"1h\"\n";
const MIB: u64 = 1 << 20;

fn stats(client: &Client) -> Value {
    serde_json::from_str(&client.admin().stats_json().unwrap()).unwrap()
}

fn assert_sound(client: &Client) {
    let check: Value = serde_json::from_str(&client.admin().check_json().unwrap()).unwrap();
    assert_eq!(check["violation_count"], 0, "{check:#}");
}

fn key(n: u64) -> Vec<u8> {
    format!("key:{n}").into_bytes()
}

/// A counter as a value, long enough to tear.
fn value(count: u64) -> Vec<u8> {
    count.to_le_bytes().repeat(12)
}

fn count(value: &[u8]) -> u64 {
    let first = &value[..8];
    assert!(value.chunks(8).all(|word| word == first), "a torn value");
    u64::from_le_bytes(first.try_into().unwrap())
}

/// Ends the other threads, also in a panic.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn readers_and_writers_go_on_while_the_table_moves_and_nothing_is_lost_or_old() {
    const KEYS: u64 = 20_000;
    const HOT: u64 = 50;
    let daemon = Daemon::start(PROGRAM, CONFIG, "8MiB");
    let writer = connect(&daemon);
    for n in 0..KEYS {
        writer.set(key(n), value(0)).unwrap();
    }
    assert!(writer.delete(key(0)).unwrap().existed);
    let deleted = key(0);
    let acknowledged: Vec<AtomicU64> = (0..HOT).map(|_| AtomicU64::new(0)).collect();
    let (is_over, reads) = (AtomicBool::new(false), AtomicU64::new(0));
    let sizes = [16, 12, 24, 10];
    let (socket, old_file) = (daemon.socket(), std::fs::metadata(daemon.table()).unwrap().ino());
    std::thread::scope(|scope| {
        for reader in 0..2_u64 {
            let (acknowledged, is_over, reads, deleted) =
                (&acknowledged, &is_over, &reads, &deleted);
            let client = connect(&daemon);
            scope.spawn(move || {
                let _over = Over(is_over);
                let mut n = reader + 1;
                let mut read = Vec::new();
                while !is_over.load(Ordering::Relaxed) {
                    // Hot keys and unwritten keys, in turn; none of them may be missing.
                    n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1) >> 1;
                    let number =
                        if n.is_multiple_of(2) { 1 + n / 2 % HOT } else { 1 + n / 2 % (KEYS - 1) };
                    let index = usize::try_from(number).unwrap();
                    let least =
                        acknowledged.get(index).map_or(0, |count| count.load(Ordering::SeqCst));
                    let hit = client.peek_into(key(number), &mut read);
                    assert!(hit.is_some(), "key {number} was not found");
                    let found = count(&read);
                    assert!(found >= least, "key {number}: {found} after {least} was acknowledged");
                    assert!(client.peek(deleted).is_none(), "a deleted key came back");
                    reads.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let (acknowledged, is_over, writer) = (&acknowledged, &is_over, &writer);
        scope.spawn(move || {
            for round in 1.. {
                for number in 1..HOT {
                    if is_over.load(Ordering::Relaxed) {
                        return;
                    }
                    writer.set(key(number), value(round)).unwrap();
                    let index = usize::try_from(number).unwrap();
                    acknowledged[index].store(round, Ordering::SeqCst);
                }
            }
        });
        let _over = Over(is_over);
        let administrator = Client::builder().socket(&socket).connect().unwrap();
        for (index, size) in sizes.into_iter().enumerate() {
            let before = reads.load(Ordering::Relaxed);
            let answer = administrator.admin().resize(Some(size * MIB), None).unwrap();
            let answer: Value = serde_json::from_str(&answer).unwrap();
            assert_eq!(answer["table_bytes"], size * MIB);
            assert_eq!(answer["entries"], KEYS - 1, "{answer:#}");
            let after = stats(&administrator);
            assert_eq!(after["table"]["table_bytes"], size * MIB);
            assert_eq!(after["moves"]["moves"], index + 1);
            // Readers have followed, or will with their next read.
            until("reads of the new table", || {
                (reads.load(Ordering::Relaxed) > before + 1000).then_some(())
            });
            assert_sound(&administrator);
        }
    });
    println!("{} reads", reads.load(Ordering::Relaxed));
    assert_ne!(std::fs::metadata(daemon.table()).unwrap().ino(), old_file);
    // The writer has not read since then: only it keeps old tables alive, until it reads.
    let behind = stats(&writer);
    assert_eq!(behind["moves"]["processes_in_former_tables"], 0, "{behind:#}");
    let maps = || std::fs::read_to_string("/proc/self/maps").unwrap();
    writer.peek(key(1)).expect("the key");
    let table = daemon.table();
    let (name, former) = (table.to_str().unwrap(), format!("{} (deleted)", table.display()));
    let mine = || {
        let maps = maps();
        let of_former = maps.lines().any(|line| line.ends_with(&former));
        (maps.lines().any(|line| line.ends_with(name)), of_former)
    };
    until("the former tables to be gone", || (mine() == (true, false)).then_some(()));
}

#[test]
fn entries_beyond_the_new_size_are_evicted_and_the_rest_stays() {
    let daemon = Daemon::start(PROGRAM, CONFIG, "16MiB");
    let client = connect(&daemon);
    for n in 0..8000 {
        client.set(key(n), [7; 1000]).unwrap();
    }
    let answer: Value =
        serde_json::from_str(&client.admin().resize(Some(6 * MIB), None).unwrap()).unwrap();
    let entries = answer["entries"].as_u64().unwrap();
    assert!((3500..5900).contains(&entries), "{answer:#}");
    let found = (0..8000).filter(|n| client.peek(key(*n)).is_some()).count() as u64;
    assert_eq!(found, entries);
    assert_sound(&client);
}

#[test]
fn an_impossible_resize_is_refused_and_changes_nothing() {
    let daemon = Daemon::start(PROGRAM, CONFIG, "8MiB");
    let client = connect(&daemon);
    client.set(b"key", b"value").unwrap();
    let before = std::fs::metadata(daemon.table()).unwrap().ino();
    let refused = |bytes: Option<u64>| match client.admin().resize(bytes, None) {
        Err(Error::Refused { reason }) => reason,
        other => panic!("{other:?}"),
    };
    assert!(refused(Some(0)).contains("too small"), "{}", refused(Some(0)));
    assert!(refused(Some(MIB)).contains("smallest"), "{}", refused(Some(MIB)));
    let huge = refused(Some(1 << 40));
    assert!(huge.contains("does not fit") && huge.contains("free"), "{huge}");
    assert!(refused(Some(u64::MAX)).contains("large"), "{}", refused(Some(u64::MAX)));
    let same = refused(Some(8 * MIB));
    assert!(same.contains("this shape already"), "{same}");
    assert_eq!(std::fs::metadata(daemon.table()).unwrap().ino(), before);
    assert!(!daemon.table().with_extension("new").exists());
    assert_eq!(client.peek(b"key").as_deref(), Some(&b"value"[..]));

    // A second resize, while the first is in progress.
    std::thread::scope(|scope| {
        let first = scope.spawn(|| client.admin().resize(Some(2048 * MIB), None));
        let second = connect(&daemon);
        until("the first to begin", || {
            (first.is_finished() || !stats(&second)["moves"]["under_way"].is_null()).then_some(())
        });
        match second.admin().resize(Some(16 * MIB), None) {
            Err(Error::Refused { reason }) => assert!(reason.contains("already"), "{reason}"),
            other => assert!(first.is_finished(), "{other:?}"),
        }
        let _ = first.join().unwrap();
    });
    let ctl = |arguments: &[&str]| {
        let output = Command::new(CTL)
            .arg("--socket")
            .arg(daemon.socket())
            .args(arguments)
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = ctl(&["resize", "0"]);
    assert_eq!(code, Some(2), "{said}");
    let (code, said) = ctl(&["resize", "1KiB"]);
    assert!(code == Some(4) && said.contains("smallest"), "{said}");
    let (code, said) = ctl(&["resize"]);
    assert_eq!(code, Some(2), "{said}");
    let (code, said) = ctl(&["resize", "9MiB"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(client.get(b"key").unwrap().as_deref(), Some(&b"value"[..]));
}

#[test]
fn a_start_with_another_size_or_index_keeps_the_entries() {
    let mut daemon = Daemon::start(PROGRAM, CONFIG, "8MiB");
    let reader = connect(&daemon);
    for n in 0..5000 {
        reader.set(key(n), value(n)).unwrap();
    }
    daemon.terminate();
    daemon.resize("12MiB");
    daemon.configure(&CONFIG.replace("128", "200"));
    daemon.restart();
    until("the move to end", || (stats(&reader)["moves"]["moves"] == 1).then_some(()));
    let after = stats(&reader);
    assert_eq!(after["table"]["table_bytes"], 12 * MIB);
    assert_eq!(after["table"]["entries"], 5000, "{after:#}");
    for n in 0..5000 {
        assert_eq!(reader.peek(key(n)).as_deref(), Some(&value(n)[..]));
    }
    // Now it has the configured size.
    daemon.kill();
    daemon.restart();
    let after = stats(&reader);
    assert!(after["moves"]["under_way"].is_null() && after["moves"]["moves"] == 0, "{after:#}");
    assert_eq!(after["table"]["entries"], 5000);
}

#[test]
fn an_index_for_entries_of_another_size_is_rebuilt_by_itself() {
    let config =
        CONFIG.replace("average_entry_bytes = 128", "average_entry_bytes = 4096\nfit_index = true");
    let mut daemon = Daemon::start(PROGRAM, &config, "8MiB");
    let client = connect(&daemon);
    let set_all = || {
        for n in 0..40_000 {
            client.set(key(n), value(n)).unwrap();
        }
    };
    set_all();
    until("the index to be rebuilt", || (stats(&client)["moves"]["moves"] == 1).then_some(()));
    set_all();
    let after = stats(&client);
    assert!(after["table"]["entries"].as_u64().unwrap() > 30_000, "{after:#}");
    // A restart keeps it.
    daemon.kill();
    daemon.restart();
    let after = stats(&client);
    assert!(after["moves"]["under_way"].is_null(), "{after:#}");
    assert!(after["table"]["entries"].as_u64().unwrap() > 30_000, "{after:#}");
}

#[test]
fn a_kill_in_the_middle_of_a_move_loses_no_acknowledged_write() {
    let seed = std::env::var("L1D_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1_u64);
    println!("seed {seed} (L1D_SEED)");
    let mut random = seed;
    let mut daemon = Daemon::start(PROGRAM, CONFIG, "8MiB");
    let reader = connect(&daemon);
    for n in 0..5000 {
        reader.set(key(n), value(0)).unwrap();
    }
    let mut acknowledged = vec![0_u64; 100];
    let mut last = 0;
    for round in 0..12 {
        let client = connect(&daemon);
        let size = [10, 12][round % 2] * MIB;
        let (started, socket) = (AtomicBool::new(false), daemon.socket());
        std::thread::scope(|scope| {
            let mover = scope.spawn(|| {
                let client = Client::builder().socket(&socket).connect().unwrap();
                started.store(true, Ordering::Relaxed);
                // Returns when the daemon ends, or earlier.
                let _ = client.admin().resize(Some(size), None);
            });
            until("the move to be asked for", || started.load(Ordering::Relaxed).then_some(()));
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            // The move takes a few milliseconds: a number of writes decides when it is interrupted.
            for write in 0..random >> 53 {
                let number = usize::try_from(write % 100).unwrap();
                last += 1;
                client.set(key(write % 100), value(last)).unwrap();
                acknowledged[number] = last;
            }
            daemon.kill();
            mover.join().unwrap();
        });
        daemon.restart();
        for (number, least) in acknowledged.iter().enumerate() {
            let read = reader.get(key(number as u64)).unwrap();
            let read = read.unwrap_or_else(|| panic!("key {number} is lost (seed {seed})"));
            assert_eq!(count(&read), *least, "key {number}, round {round}, seed {seed}");
        }
        let kept = (0..5000).filter(|n| reader.peek(key(*n)).is_some()).count();
        assert_eq!(kept, 5000, "round {round}, seed {seed}");
        assert_sound(&reader);
    }
}
