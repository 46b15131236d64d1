//! `l1ctl keys` and the age of the oldest entry, of a real daemon.

use l1d_client::{Client, SetOptions};
use l1d_wire::snapshot::{KeyOrder, Keys, Snapshot};
use std::process::Command;
use std::thread;
use std::time::Duration;
use test_support::daemon::{Daemon, connect};
use test_support::servers::until;

fn start(table: &str) -> Daemon {
    let config = "[table]\nvalue_bytes_max = \"64KiB\"\n[defaults]\nttl = \"1h\"\n";
    Daemon::start(env!("CARGO_BIN_EXE_l1d"), config, table)
}

fn keys(client: &Client, prefix: &str, by: KeyOrder) -> Keys {
    serde_json::from_str(&client.admin().keys_json(prefix, 5, by).unwrap()).unwrap()
}

fn names(keys: &Keys) -> Vec<&str> {
    keys.keys.iter().map(|key| key.key.as_str()).collect()
}

fn snapshot(client: &Client) -> Snapshot {
    serde_json::from_str(&client.admin().stats_json().unwrap()).unwrap()
}

#[test]
fn the_hottest_and_the_largest_keys_are_named() {
    let daemon = start("64MiB");
    let (reader, observer) = (connect(&daemon), connect(&daemon));
    let nothing = keys(&observer, "", KeyOrder::Hits);
    assert_eq!((nothing.keys.len(), nothing.sampled_hits), (0, 0));
    for n in 0..1000 {
        reader.set(format!("a:{n}"), vec![7; 100 + 8 * n]).unwrap();
        reader.set(format!("b:{n}"), vec![7; 100 + 16 * n]).unwrap();
    }
    reader.set(b"c:\xff", "no text").unwrap();
    // Fewer than a stripe holds: reports that the daemon does not take in time are overwritten.
    for round in 0..15 {
        for n in 0..15 {
            // "a:0" fifteen times, "a:1" fourteen times.
            if n <= 14 - round {
                assert!(reader.peek(format!("a:{n}")).is_some());
            }
        }
        assert!(reader.peek("b:7").is_some());
    }
    assert!((0..50).all(|_| reader.peek(b"c:\xff").is_some()));
    let all = until("the reports to be taken", || {
        let all = keys(&observer, "", KeyOrder::Hits);
        (all.sampled_hits == 15 * 16 / 2 + 65).then_some(all)
    });
    assert_eq!(names(&all)[0], "c:\u{fffd}");
    assert_eq!(all.keys[0].key_hex.as_deref(), Some("633aff"));
    assert_eq!((all.keys[0].hits, all.keys[0].hits_percent), (50, Some(50.0 * 100.0 / 185.0)));
    let hot = keys(&observer, "a:", KeyOrder::Hits);
    assert_eq!(names(&hot), ["a:0", "a:1", "a:2", "a:3", "a:4"]);
    assert_eq!(hot.keys[3].hits, 12);
    assert_eq!(hot.keys[3].value_bytes, 124);
    assert!(hot.keys[3].ttl_ms.is_some_and(|ms| ms > 3_500_000 && ms <= 3_600_000));
    assert_eq!(names(&keys(&observer, "b:", KeyOrder::Hits)), ["b:7"]);

    let large = keys(&observer, "", KeyOrder::Size);
    assert_eq!(names(&large), ["b:999", "b:998", "b:997", "b:996", "b:995"]);
    assert_eq!((large.entries_seen, large.entries), (2001, 2001));
    let large = keys(&observer, "a:", KeyOrder::Size);
    assert_eq!(large.keys[0].value_bytes, 8092);
    // Gone is gone.
    reader.delete("a:0").unwrap();
    assert_eq!(names(&keys(&observer, "a:", KeyOrder::Hits))[0], "a:1");

    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_l1ctl"));
        let output = command.arg("--socket").arg(daemon.socket()).args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let screen = run(&["keys", "--prefix", "b:", "--top", "2", "--by", "size"]);
    assert!(screen.lines().nth(1).unwrap().starts_with("b:999"), "{screen}");
    assert_eq!(screen.lines().filter(|line| line.starts_with("b:")).count(), 2, "{screen}");
    assert!(screen.contains("sizes: of 2.00k entries looked at"), "{screen}");
    let told: Keys = serde_json::from_str(&run(&["--json", "keys", "--by", "size"])).unwrap();
    assert_eq!(told.keys.len(), 20);
}

/// The hazard: a search looks at all of a large table.
#[test]
fn a_search_is_bounded() {
    let daemon = start("256MiB");
    let (writer, observer) = (connect(&daemon), connect(&daemon));
    let no_wait = SetOptions { no_wait: true, ..SetOptions::default() };
    for n in 0..600_000_u32 {
        while writer.set_with(n.to_le_bytes(), [7; 60], &no_wait).is_err() {
            thread::yield_now();
        }
    }
    assert!(writer.get(599_999_u32.to_le_bytes()).unwrap().is_some());
    for _ in 0..3 {
        let large = keys(&observer, "", KeyOrder::Size);
        println!("{} of {} seen", large.entries_seen, large.entries);
        assert!(large.entries_seen > 100_000 && large.entries_seen <= 8 * 65_536, "{large:?}");
        assert!(large.entries > large.entries_seen, "{large:?}");
    }
}

#[test]
fn the_age_of_the_oldest_entry_is_known() {
    let mut daemon = start("16MiB");
    let client = connect(&daemon);
    let age = || snapshot(&client).table.oldest_entry_seconds;
    assert_eq!(age(), None);
    client.set("first", "value").unwrap();
    assert!(age().is_some_and(|seconds| seconds <= 2));
    thread::sleep(Duration::from_millis(3200));
    client.set("second", "value").unwrap();
    assert!(age().is_some_and(|seconds| (3..=5).contains(&seconds)), "{:?}", age());
    client.delete("first").unwrap();
    client.delete("second").unwrap();
    assert_eq!(age(), None);
    client.set("third", "value").unwrap();
    // An earlier daemon's entries count from the start of this one.
    thread::sleep(Duration::from_millis(2200));
    daemon.kill();
    daemon.restart();
    let client = connect(&daemon);
    assert!(client.peek("third").is_some());
    let seconds = snapshot(&client).table.oldest_entry_seconds;
    assert!(seconds.is_some_and(|seconds| seconds <= 1), "{seconds:?}");
}
