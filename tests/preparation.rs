//! The hazards of a table that is opened before all of its memory is allocated (W1): clients that
//! wait for gigabytes to be cleared, entries in memory that is not there, a restart that trusts it,
//! and a shortage that ends a process instead of the table's growth.

use l1d_client::{Client, Populate};
use nix::errno::Errno;
use nix::fcntl::FallocateFlags;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Whence, lseek};
use serde_json::Value;
use shm_layout::Geometry;
use shm_layout::header::{IDENTITY_WORDS, Identity, USABLE_SEGMENTS};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use test_support::daemon::Daemon;
use test_support::servers::{PATIENCE, until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_l1d");
const CONFIG: &str = "[table]\nvalue_bytes_max = \"64KiB\"\nttl_max = \"24h\"\n\
                      [defaults]\nttl = \"1h\"\n";
/// More than is allocated at once.
const LARGE: &str = "320MiB";
const ALL: &str = "the whole table is allocated";

fn connect(daemon: &Daemon) -> Client {
    let builder = Client::builder().socket(daemon.socket()).populate(Populate::All);
    builder.deadline(PATIENCE).attach_deadline(PATIENCE).connect().unwrap()
}

fn table_stats(client: &Client) -> Value {
    let stats: Value = serde_json::from_str(&client.admin().stats_json().unwrap()).unwrap();
    stats["table"].clone()
}

fn assert_sound(client: &Client) {
    let check: Value = serde_json::from_str(&client.admin().check_json().unwrap()).unwrap();
    assert_eq!(check["violation_count"], 0, "{check:#}");
}

fn is_whole(client: &Client) -> bool {
    let stats = table_stats(client);
    stats["usable_bytes"] == stats["table_bytes"]
}

/// The segments in use and all segments, from the file of a daemon that is stopped or dead. What
/// the header vouches for must have memory.
fn usable(table: &Path) -> (u32, u32) {
    let file = File::open(table).unwrap();
    let word = |number: usize| {
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, 8 * number as u64).unwrap();
        u64::from_le_bytes(bytes)
    };
    let identity: [u64; IDENTITY_WORDS] = std::array::from_fn(word);
    let geometry = Geometry::check(Identity::unpack(&identity).unwrap()).unwrap();
    let segments = geometry.usable(word(USABLE_SEGMENTS));
    let vouched = i64::try_from(geometry.bytes_up_to(segments)).unwrap();
    let hole = lseek(&file, 0, Whence::SeekHole).unwrap();
    assert!(hole >= vouched, "a hole at {hole}, and {segments} segments in use: {vouched} bytes");
    (segments, geometry.segment_count())
}

fn key(n: u32) -> [u8; 4] {
    n.to_le_bytes()
}

fn value(n: u32) -> Vec<u8> {
    format!("{n},").repeat(200).into_bytes()
}

/// A daemon that was killed with some of its table allocated, and `keys` keys in it.
fn killed_half_way(memory: &Path, keys: u32) -> Daemon {
    for _ in 0..10 {
        let mut daemon = Daemon::start_in(memory, PROGRAM, CONFIG, LARGE);
        let client = connect(&daemon);
        let first = table_stats(&client)["usable_bytes"].clone();
        for n in 0..keys {
            client.set(key(n), value(n)).unwrap();
        }
        until("some more memory", || (table_stats(&client)["usable_bytes"] != first).then_some(()));
        daemon.kill();
        let (usable, all) = usable(&daemon.table());
        if usable < all {
            return daemon;
        }
    }
    panic!("this host clears memory faster than this test can look");
}

#[test]
fn a_large_table_is_served_before_it_is_allocated_and_loses_nothing_meanwhile() {
    let daemon = Daemon::start(PROGRAM, CONFIG, LARGE);
    let client = connect(&daemon);
    let mut keys = 0;
    let mut steps = vec![];
    while !is_whole(&client) {
        // Under sets that never end, it would take longer.
        for _ in 0..if steps.len() < 20 { 100 } else { 0 } {
            client.set(key(keys), value(keys)).unwrap();
            keys += 1;
        }
        daemon.stop();
        steps.push(usable(&daemon.table()));
        daemon.resume();
    }
    assert!(steps.len() > 2 && steps.is_sorted(), "{steps:?}");
    let log = until("the log", || Some(daemon.log()).filter(|log| log.contains(ALL)));
    let place = |what: &str| log.find(what).unwrap_or_else(|| panic!("{what:?}: {log}"));
    assert!(place("ready socket") < place(ALL), "{log}");
    let segments = table_stats(&client);
    assert_eq!(segments["segments_usable"], segments["segments"]);
    assert_eq!(segments["evicted"], 0);
    for n in 0..keys {
        assert_eq!(client.peek(key(n)).as_deref(), Some(&value(n)[..]), "{n} of {keys}");
    }
    assert_sound(&client);
    daemon.stop();
    let (usable, all) = usable(&daemon.table());
    assert_eq!(usable, all);
}

#[test]
fn a_small_table_is_allocated_before_it_is_served() {
    let daemon = Daemon::start(PROGRAM, CONFIG, "64MiB");
    assert!(is_whole(&connect(&daemon)));
    assert!(!daemon.log().contains(ALL), "{}", daemon.log());
}

#[test]
fn a_restart_half_way_keeps_the_entries_and_allocates_the_rest() {
    let keys = 3000;
    let mut daemon = killed_half_way(Path::new("/dev/shm"), keys);
    for restart in 0..2 {
        daemon.restart();
        let client = connect(&daemon);
        for n in 0..keys {
            assert_eq!(client.peek(key(n)).as_deref(), Some(&value(n)[..]), "{n}, {restart}");
        }
        assert_sound(&client);
        client.set(b"key", b"value").unwrap();
        daemon.stop();
        usable(&daemon.table());
        daemon.resume();
        if restart == 0 {
            daemon.kill();
        }
    }
    let client = connect(&daemon);
    until("the whole table", || is_whole(&client).then_some(()));
    assert_eq!(client.peek(b"key").as_deref(), Some(&b"value"[..]));
    assert_sound(&client);
}

/// A tmpfs of this size, for this thread and its children alone.
fn tmpfs(size: &str) -> Option<tempfile::TempDir> {
    let place = tempfile::tempdir().unwrap();
    let own = unshare(CloneFlags::CLONE_NEWNS).and_then(|()| {
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
    });
    let options = format!("size={size}");
    let done = own.and_then(|()| {
        mount(Some("l1d"), place.path(), Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))
    });
    match done {
        Ok(()) => Some(place),
        Err(error) => {
            println!("skipped: cannot mount a tmpfs: {error}");
            None
        }
    }
}

/// Takes the memory of this file system but for less than `left` bytes.
fn fill(place: &Path, left: i64) -> File {
    let file = File::create(place.join("filler")).unwrap();
    let (mut end, mut step) = (0, 64 << 20);
    while step >= left {
        match nix::fcntl::fallocate(&file, FallocateFlags::empty(), end, step) {
            Ok(()) => end += step,
            Err(Errno::ENOSPC) => step /= 2,
            Err(error) => panic!("{error}"),
        }
    }
    file
}

#[test]
fn a_shortage_found_later_leaves_a_smaller_table_and_is_tried_again() {
    let Some(place) = tmpfs("350m") else { return };
    let keys = 1000;
    let mut daemon = killed_half_way(place.path(), keys);
    let filler = fill(place.path(), 1 << 20);
    daemon.restart();
    let client = connect(&daemon);
    let log = until("a warning", || Some(daemon.log()).filter(|log| log.contains("WARN")));
    assert!(log.contains("the table is smaller than configured"), "{log}");
    let stats = table_stats(&client);
    let bytes = |name: &str| stats[name].as_u64().unwrap();
    assert!(bytes("usable_bytes") < bytes("table_bytes"), "{stats:#}");
    for n in 0..keys {
        assert_eq!(client.peek(key(n)).as_deref(), Some(&value(n)[..]), "{n}");
    }
    // More than there is room for: it evicts, and nobody gets a SIGBUS.
    let large = vec![7; 60 << 10];
    let many = |bytes: u64| u32::try_from(bytes / large.len() as u64).unwrap();
    let (count, more) = (
        many(bytes("usable_bytes") / 4 * 5),
        many((bytes("table_bytes") - bytes("usable_bytes")) / 2),
    );
    for n in 0..count {
        client.set(key(n), &large).unwrap();
    }
    let stats = table_stats(&client);
    assert!(stats["evicted"].as_u64() > Some(0), "{stats:#}");
    assert!(client.peek(key(count - 1)).is_some());
    assert_sound(&client);
    daemon.stop();
    usable(&daemon.table());
    daemon.resume();

    filler.set_len(0).unwrap();
    until("the whole table", || is_whole(&client).then_some(()));
    let evicted = table_stats(&client)["evicted"].clone();
    for n in 0..more {
        client.set(key(n + count), &large).unwrap();
    }
    assert_eq!(table_stats(&client)["evicted"], evicted, "it has room again");
    assert!(client.peek(key(count - 1)).is_some());
    assert_sound(&client);
    assert_eq!(daemon.log().matches("smaller than configured").count(), 1, "said once");
}
