//! The hazard: a table's clock, which counts 834 days of one boot, ends while the table is in use:
//! then nothing that expires can be read any more, and nothing that is stored. With the real daemon
//! and a table whose header says that it is old.

use l1d_client::{Client, Lifetime, SetOptions};
use shm_layout::header::{IDENTITY_COPIES, IDENTITY_WORDS, Identity};
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;
use test_support::daemon::{Daemon, connect};
use test_support::servers::until;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn start() -> Daemon {
    let config = "[table]\nvalue_bytes_max = \"64KiB\"\n";
    Daemon::start(env!("CARGO_BIN_EXE_l1d"), config, "16MiB")
}

/// Makes a table older, while no daemon runs.
fn age(path: &Path, by: Duration) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut words = [0; IDENTITY_WORDS];
    let at = |copy: usize, index: usize| u64::try_from((copy + index) * 8).unwrap();
    for (index, word) in words.iter_mut().enumerate() {
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, at(IDENTITY_COPIES[0], index)).unwrap();
        *word = u64::from_le_bytes(bytes);
    }
    let identity = Identity::unpack(&words).unwrap();
    let by = u64::try_from(by.as_nanos()).unwrap();
    let older = Identity { epoch_ns: identity.epoch_ns.wrapping_sub(by), ..identity };
    for copy in IDENTITY_COPIES {
        for (index, word) in older.pack().iter().enumerate() {
            file.write_all_at(&word.to_le_bytes(), at(copy, index)).unwrap();
        }
    }
}

fn set_for(client: &Client, key: &str, life: Duration) {
    let options = SetOptions { lifetime: Lifetime::For(life), ..SetOptions::default() };
    client.set_with(key, key, &options).unwrap();
}

fn table_id(daemon: &Daemon) -> u64 {
    let mut bytes = [0; 8];
    std::fs::File::open(daemon.table()).unwrap().read_exact_at(&mut bytes, 24).unwrap();
    u64::from_le_bytes(bytes)
}

#[test]
fn a_table_whose_clock_is_half_over_is_replaced_and_lives_hold() {
    let mut daemon = start();
    daemon.kill();
    age(&daemon.table(), 500 * DAY);
    let old = table_id(&daemon);
    daemon.restart();
    let client = connect(&daemon);
    set_for(&client, "short", Duration::from_millis(1500));
    set_for(&client, "long", DAY);
    until("the table to move", || (table_id(&daemon) != old).then_some(()));
    assert_eq!(client.peek("long").as_deref(), Some(&b"long"[..]));
    set_for(&client, "later", Duration::from_millis(300));
    assert_eq!(client.peek("later").as_deref(), Some(&b"later"[..]));
    for key in ["short", "later"] {
        until("a life to end", || client.peek(key).is_none().then_some(()));
    }
    let explained = client.admin().explain_json("long").unwrap();
    let explained: serde_json::Value = serde_json::from_str(&explained).unwrap();
    let ttl = Duration::from_millis(explained["in_table"]["ttl_ms"].as_u64().unwrap());
    assert!(ttl < DAY && ttl > DAY - Duration::from_secs(60), "{ttl:?}");
    assert!(daemon.log().contains("moves to a table with a new one"), "{}", daemon.log());
    // The next daemon takes the new one over.
    let new = table_id(&daemon);
    daemon.kill();
    daemon.restart();
    assert_eq!(connect(&daemon).get("long").unwrap().as_deref(), Some(&b"long"[..]));
    assert_eq!(table_id(&daemon), new);
}

#[test]
fn a_table_whose_clock_has_ended_is_not_taken_over() {
    let mut daemon = start();
    daemon.kill();
    age(&daemon.table(), 900 * DAY);
    let old = table_id(&daemon);
    daemon.restart();
    assert_ne!(table_id(&daemon), old);
    assert!(daemon.log().contains("its clock has ended"), "{}", daemon.log());
    let client = connect(&daemon);
    set_for(&client, "key", DAY);
    assert_eq!(client.peek("key").as_deref(), Some(&b"key"[..]));
}
