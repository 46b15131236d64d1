//! The hazard that this project exists to prevent: one process writes, and another still sees
//! nothing or an old value. Through the built binaries, with real memcached and redis-server below.

use l1d_client::{Error, Lifetime, Lookup, SetOptions};
use std::time::{Duration, Instant};
use test_support::daemon::{Daemon, connect};
use test_support::servers::{Proxy, Server, until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_l1d");
const SMALL: &str = "[table]\nvalue_bytes_max = \"64KiB\"\n";

fn start(config: &str) -> Daemon {
    Daemon::start(PROGRAM, config, "16MiB")
}

fn with_tiers(l2: Option<&str>, l3: Option<&str>) -> String {
    let l2 = l2.map(|address| format!("[l2]\naddress = \"{address}\"\ndeadline = \"2s\"\n"));
    let l3 = l3.map(|address| format!("[l3]\nurl = \"redis://{address}\"\ndeadline = \"2s\"\n"));
    format!("{SMALL}{}{}", l2.unwrap_or_default(), l3.unwrap_or_default())
}

#[test]
fn one_process_reads_at_once_what_another_writes_with_any_tiers() {
    let (memcached, redis) = (Server::memcached(), Server::redis());
    let (l2, l3) = (memcached.address(), redis.address());
    for (l2, l3) in [(None, None), (Some(&l2), None), (None, Some(&l3)), (Some(&l2), Some(&l3))] {
        let daemon = start(&with_tiers(l2.map(String::as_str), l3.map(String::as_str)));
        let (a, b) = (connect(&daemon), connect(&daemon));
        for n in 0..200 {
            let value = format!("signal {n}");
            a.set(b"analysis:signals", value.as_bytes()).unwrap();
            let seen = b.peek(b"analysis:signals").expect("visible when acknowledged");
            assert_eq!(&*seen, value.as_bytes(), "with {l2:?} and {l3:?}");
        }
        assert!(a.delete(b"analysis:signals").unwrap().existed);
        assert!(b.peek(b"analysis:signals").is_none());
        assert!(!a.delete(b"analysis:signals").unwrap().existed);
    }
}

#[test]
fn a_miss_goes_down_once_and_fills_what_is_above() {
    let (memcached, redis) = (Server::memcached(), Server::redis());
    let daemon = start(&with_tiers(Some(&memcached.address()), Some(&redis.address())));
    let client = connect(&daemon);
    redis.client().resp(&[b"SET", b"only:l3", b"from redis", b"EX", b"100"]);
    memcached.client().ascii_set("only:l2", 7, 100, b"from memcached");
    let head = |key: &[u8]| client.read_with(key, |value| (value.len(), value.array::<4>(0)));
    let seen = Some((10, Some(*b"from")));
    assert_eq!(head(b"only:l3").unwrap(), seen, "by way of the daemon");
    assert_eq!(head(b"only:l3").unwrap(), seen, "in the table");
    assert_eq!(&*client.get(b"only:l3").unwrap().unwrap(), b"from redis");
    let value = client.get(b"only:l2").unwrap().unwrap();
    assert_eq!((&*value, value.meta().flags), (&b"from memcached"[..], 7));
    assert!(client.peek(b"only:l3").is_some() && client.peek(b"only:l2").is_some());
    until("L2 to be filled", || memcached.client().ascii_get("only:l3"));
    assert!(memcached.client().ascii_ttl("only:l3") <= 100);
    assert_eq!(head(b"nowhere").unwrap(), None);
    assert!(matches!(client.lookup(b"nowhere").unwrap(), Lookup::Absent));
    assert!(matches!(client.peek_lookup(b"nowhere"), Lookup::Absent), "the absence is remembered");
}

#[test]
fn other_clients_of_the_tiers_read_what_was_written() {
    let (memcached, redis) = (Server::memcached(), Server::redis());
    let config = with_tiers(Some(&memcached.address()), Some(&redis.address()));
    let daemon =
        start(&format!("{config}\n[[policy]]\nprefix = \"shared\"\nclient_flags = \"ignore\"\n"));
    let client = connect(&daemon);
    let options = SetOptions { flags: 0xdead_beef, ..SetOptions::default() };
    client.set_with(b"shared", b"\x00bytes\r\n", &options).unwrap();
    assert_eq!(redis.client().resp(&[b"GET", b"shared"]), b"\x00bytes\r\n");
    let in_l2 = memcached.client().ascii_get("shared").unwrap();
    assert_eq!(in_l2, (0xdead_beef, b"\x00bytes\r\n".to_vec()));
    client.set(b"empty", b"").unwrap();
    let found = client.peek_lookup(b"empty");
    assert!(matches!(found, Lookup::Found(value) if value.is_empty()));
    assert_eq!(memcached.client().ascii_get("empty").unwrap().1, b"");
}

/// A reply in flight when the key changed must not bring the old value back.
#[test]
fn a_reply_held_back_past_a_set_or_delete_never_brings_the_old_value() {
    for with_l2 in [false, true] {
        let server = if with_l2 { Server::memcached() } else { Server::redis() };
        let proxy = Proxy::before(&server);
        let address = proxy.address();
        let config = if with_l2 {
            with_tiers(Some(&address), None)
        } else {
            with_tiers(None, Some(&address))
        };
        let daemon = start(&config);
        let (client, other) = (connect(&daemon), connect(&daemon));
        for change in ["set", "delete"] {
            let key = format!("key:{change}");
            if with_l2 {
                server.client().ascii_set(&key, 0, 0, b"old");
            } else {
                server.client().resp(&[b"SET", key.as_bytes(), b"old"]);
            }
            proxy.hold();
            std::thread::scope(|scope| {
                let asked = scope.spawn(|| other.get(key.as_bytes()));
                proxy.wait_until_held();
                // The fetch has read the old value. Now the key changes, immediately in L1.
                let l1_only = SetOptions {
                    write: Some(l1d_client::WriteMode::L1Only),
                    ..SetOptions::default()
                };
                if change == "set" {
                    client.set_with(key.as_bytes(), b"new", &l1_only).unwrap();
                    proxy.release();
                } else {
                    let deleted = scope.spawn(|| client.delete(key.as_bytes()));
                    until("the delete to be under way", || {
                        let explained =
                            connect(&daemon).admin().explain_json(key.as_bytes()).unwrap();
                        explained.contains("\"write_under_way\":true").then_some(())
                    });
                    proxy.release();
                    deleted.join().unwrap().unwrap();
                }
                // Requests made before the change may return the old value.
                asked.join().unwrap().unwrap();
            });
            let now = client.get(key.as_bytes()).unwrap().map(l1d_client::Value::into_vec);
            let expected = (change == "set").then(|| b"new".to_vec());
            assert_eq!(now, expected, "{change}, L2: {with_l2}");
            assert_eq!(other.peek(key.as_bytes()).map(l1d_client::Value::into_vec), expected);
        }
    }
}

#[test]
fn a_dead_tier_refuses_writes_and_leaves_reads_alone() {
    let mut redis = Server::redis();
    let daemon = start(&with_tiers(None, Some(&redis.address())));
    let client = connect(&daemon);
    client.set(b"key", b"before").unwrap();
    redis.kill();
    let refused = client.set(b"key", b"after");
    assert!(
        matches!(refused, Err(Error::TierFailed { .. } | Error::UnknownOutcome { .. })),
        "{refused:?}"
    );
    let held = client.peek(b"key").map(l1d_client::Value::into_vec);
    assert!(held.is_none() || held.as_deref() == Some(b"before"), "{held:?}");
    redis.restart();
    until("Redis to be used again", || client.set(b"key", b"again").ok());
    assert_eq!(&*client.peek(b"key").unwrap(), b"again");
}

#[test]
fn a_dead_tier_is_passed_over_where_policy_says_publish() {
    let mut redis = Server::redis();
    let config = with_tiers(None, Some(&redis.address()));
    let daemon = start(&format!("{config}[defaults]\non_write_error = \"publish\"\n"));
    let client = connect(&daemon);
    redis.kill();
    let stored = client.set(b"key", b"value").unwrap();
    assert!(stored.degraded);
    assert_eq!(&*client.peek(b"key").unwrap(), b"value");
}

#[test]
fn nothing_outlives_its_ttl() {
    let daemon = start(SMALL);
    let client = connect(&daemon);
    let ttl = Duration::from_millis(400);
    let before = Instant::now();
    let options = SetOptions { lifetime: Lifetime::For(ttl), ..SetOptions::default() };
    client.set_with(b"short", b"x", &options).unwrap();
    let gone = until("the entry to expire", || client.peek(b"short").is_none().then(Instant::now));
    assert!(gone - before >= ttl / 2, "it was never there");
    // A stopped daemon does not delay expiry.
    client.set_with(b"short", b"x", &options).unwrap();
    daemon.signal(nix::sys::signal::Signal::SIGSTOP);
    until("the entry to expire", || client.peek(b"short").is_none().then_some(()));
    daemon.signal(nix::sys::signal::Signal::SIGCONT);
}

#[test]
fn sizes_at_the_limits() {
    let daemon = start(SMALL);
    let (a, b) = (connect(&daemon), connect(&daemon));
    let largest = vec![7; 64 << 10];
    a.set(b"largest", &largest).unwrap();
    assert_eq!(*b.peek(b"largest").unwrap(), largest);
    let refused = a.set(b"largest", vec![7; (64 << 10) + 1]);
    assert!(matches!(refused, Err(Error::TooLarge { .. })), "{refused:?}");
    assert_eq!(*b.peek(b"largest").unwrap(), largest, "L1 is unchanged");
    for bytes in [1, 2, 7, 8, 9, 63, 250, 251, 4096, 64_999, 65_000] {
        let key = vec![0xfe; bytes];
        a.set(&key, bytes.to_le_bytes()).unwrap();
        assert_eq!(*b.peek(&key).unwrap(), bytes.to_le_bytes());
    }
    assert!(matches!(a.set([1; 65_001], b""), Err(Error::TooLarge { .. })));
    assert!(matches!(a.set(b"", b""), Err(Error::TooLarge { .. })));
}

#[test]
fn ten_tables_written_evict_and_never_fail() {
    let daemon = start(SMALL);
    let (a, b) = (connect(&daemon), connect(&daemon));
    let value = vec![3; 60 << 10];
    let count = 10 * 16 * 1024 / 60;
    for n in 0..count {
        let key = format!("key:{n}");
        a.set(key.as_bytes(), &value).unwrap();
        assert!(b.peek(key.as_bytes()).is_some(), "{key}");
    }
    let held = (0..count).filter(|n| b.peek(format!("key:{n}").as_bytes()).is_some()).count();
    // 16 MiB hold 273 at the most.
    assert!((150..=273).contains(&held), "{held} of {count}");
    let report = a.admin().check_json().unwrap();
    assert!(report.contains("\"violation_count\":0"), "{report}");
}

#[test]
fn a_killed_daemon_leaves_readers_their_table_and_comes_back_to_it() {
    let mut daemon = start(SMALL);
    let client = connect(&daemon);
    for n in 0..1000u32 {
        client.set(n.to_le_bytes(), n.to_be_bytes()).unwrap();
    }
    daemon.kill();
    for n in 0..1000u32 {
        assert_eq!(*client.peek(n.to_le_bytes()).unwrap(), n.to_be_bytes());
    }
    assert!(matches!(client.get(b"missing"), Err(Error::Unavailable { .. })));
    daemon.restart();
    assert!(daemon.log().contains("taken_over=true"), "{}", daemon.log());
    for n in 0..1000u32 {
        assert_eq!(*client.peek(n.to_le_bytes()).unwrap(), n.to_be_bytes());
    }
    client.set(b"after", b"restart").unwrap();
    assert_eq!(*client.peek(b"after").unwrap(), *b"restart");
    // Another size means another table, to which all entries move; readers follow by themselves.
    assert!(daemon.terminate().success());
    daemon.resize("24MiB");
    daemon.restart();
    until("the client to follow", || {
        assert_eq!(*client.peek(b"after").unwrap(), *b"restart");
        let stats: serde_json::Value =
            serde_json::from_str(&client.admin().stats_json().unwrap()).unwrap();
        (stats["table"]["table_bytes"] == 24_u32 << 20).then_some(())
    });
    client.set(b"after", b"moved").unwrap();
    assert_eq!(*client.peek(b"after").unwrap(), *b"moved");
}

#[test]
fn many_values_are_stored_at_once_and_each_has_its_answer() {
    let (memcached, redis) = (Server::memcached(), Server::redis());
    let daemon = start(&with_tiers(Some(&memcached.address()), Some(&redis.address())));
    let (writer, reader) = (connect(&daemon), connect(&daemon));
    let values: Vec<(String, Vec<u8>)> = (0..3000)
        .map(|number| (format!("many:{number}"), vec![b'v'; number % 700]))
        .chain([("many:large".into(), vec![b'l'; 60_000]), (String::new(), b"no key".to_vec())])
        .collect();
    let stored = writer.set_many(&values).unwrap();
    assert_eq!(stored.len(), values.len());
    for ((key, value), stored) in values.iter().zip(&stored) {
        if key.is_empty() {
            assert!(matches!(stored, Err(Error::TooLarge { .. })), "{stored:?}");
            continue;
        }
        assert!(stored.as_ref().is_ok_and(|stored| stored.version > 0), "{key}: {stored:?}");
        assert_eq!(reader.peek(key.as_bytes()).as_deref(), Some(&value[..]), "{key}");
    }
    let below = memcached.client().ascii_get("many:7");
    assert_eq!(below, Some((0, vec![b'v'; 7])), "through the tiers");
    assert!(writer.set_many::<&str, &str>(&[]).unwrap().is_empty());
}
