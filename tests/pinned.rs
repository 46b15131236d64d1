//! Rules with `evict = "never"`, through the built binaries. The hazards: a lock or a counter that
//! is gone although nobody deleted it, and a full rule that takes a key and drops another.

use l1d_client::{Client, CounterOptions, Error, Lifetime, Lookup, OperationOptions, SetOptions};
use serde_json::Value;
use std::process::{Command, Output};
use std::time::Duration;
use test_support::daemon::{Daemon, connect};
use test_support::servers::Server;

const PROGRAM: &str = env!("CARGO_BIN_EXE_l1d");
const MIB: u64 = 1 << 20;

fn config(rules: &[(&str, &str)]) -> String {
    let rule = |(prefix, settings): &(&str, &str)| {
        format!("[[policy]]\nprefix = \"{prefix}\"\nwrite = \"l1-only\"\n{settings}\n")
    };
    let rules: String = rules.iter().map(rule).collect();
    format!("[table]\nvalue_bytes_max = \"16KiB\"\n[defaults]\nttl = \"1h\"\n{rules}")
}

fn never(percent: &str) -> String {
    format!("evict = \"never\"\nshare_max = \"{percent}\"\n")
}

fn l1ctl(daemon: &Daemon, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_l1ctl"));
    command.arg("--socket").arg(daemon.socket()).args(arguments).output().unwrap()
}

fn stats(client: &Client) -> Value {
    serde_json::from_str(&client.admin().stats_json().unwrap()).unwrap()
}

fn rule(client: &Client, prefix: &str) -> Value {
    let stats = stats(client);
    let rules = stats["policies"].as_array().unwrap();
    rules.iter().find(|rule| rule["prefix"] == prefix).unwrap().clone()
}

fn assert_sound(client: &Client) {
    let check: Value = serde_json::from_str(&client.admin().check_json().unwrap()).unwrap();
    assert_eq!(check["violation_count"], 0, "{check:#}");
}

/// Stores so many bytes under other keys.
fn flood(client: &Client, name: &str, bytes: u64) {
    let options = SetOptions { no_wait: true, ..SetOptions::default() };
    for n in 0..bytes / 8000 {
        let key = format!("flood:{name}:{n}");
        while client.set_with(&key, [7; 7900], &options).is_err() {
            std::thread::yield_now();
        }
    }
    client.set("flood:last", "").unwrap();
}

/// Takes locks until that is refused, and returns their number.
fn lock_all(client: &Client, prefix: &str) -> (u64, Error) {
    for n in 0.. {
        match client.add(format!("{prefix}{n}"), "owner", &OperationOptions::default()) {
            Ok(added) => assert!(added.done().is_some(), "{prefix}{n}"),
            Err(error) => return (n, error),
        }
    }
    unreachable!()
}

fn assert_kept(client: &Client, prefix: &str, count: u64) {
    let lost: Vec<u64> =
        (0..count).filter(|n| client.peek(format!("{prefix}{n}")).is_none()).collect();
    assert!(lost.is_empty(), "{} of {count} are gone, first {:?}", lost.len(), lost.first());
}

#[test]
fn ten_tables_of_other_keys_take_no_lock_and_no_counter() {
    let rules = [("lock:", &*never("10%")), ("count:", &*never("5%"))];
    let daemon = Daemon::start(PROGRAM, &config(&rules), "8MiB");
    let client = connect(&daemon);
    let from = CounterOptions { initial: Some(1), ..CounterOptions::default() };
    for n in 0..1000 {
        let added = client.add(format!("lock:{n}"), "owner", &OperationOptions::default());
        assert!(added.unwrap().done().is_some());
        assert!(client.increment(format!("count:{n}"), 1, &from).unwrap().done().is_some());
    }
    for round in 0..10 {
        flood(&client, &round.to_string(), 8 * MIB);
        for n in 0..1000 {
            assert!(client.increment(format!("count:{n}"), 1, &from).unwrap().done().is_some());
            if n % 10 == 0 {
                let again = client.add(format!("lock:{n}"), "x", &OperationOptions::default());
                assert!(again.unwrap().done().is_none(), "lock:{n} was taken twice");
            }
        }
    }
    assert_kept(&client, "lock:", 1000);
    for n in 0..1000 {
        let count = client.get(format!("count:{n}")).unwrap().unwrap();
        assert_eq!(&*count, b"11", "count:{n}");
    }
    assert!(stats(&client)["table"]["evicted"].as_u64().unwrap() > 5000);
    assert_sound(&client);
}

#[test]
fn a_full_rule_says_so_keeps_what_it_has_and_has_room_again() {
    let rules = [("lock:", &*never("1%")), ("other:", &*never("2%"))];
    let daemon = Daemon::start(PROGRAM, &config(&rules), "8MiB");
    let client = connect(&daemon);
    let (count, error) = lock_all(&client, "lock:");
    assert!(matches!(error, Error::Full { .. }) && !error.is_retryable(), "{error:?}");
    let said = "rule \"lock:\" is full (share_max = 1 %; its entries are never evicted): delete \
                keys of it or raise share_max";
    assert_eq!(error.to_string(), said);
    assert!(count > 500, "{count}");
    // A larger value is refused, and the one before stays; one of the same size is taken.
    let larger = client.set("lock:0", [1; 500]).unwrap_err();
    assert!(matches!(larger, Error::Full { .. }), "{larger:?}");
    let appended = client.append("lock:0", [1; 500]).unwrap_err();
    assert!(matches!(appended, Error::Full { .. }), "{appended:?}");
    assert_eq!(&*client.get("lock:0").unwrap().unwrap(), b"owner");
    client.set("lock:0", "other").unwrap();
    // The other rule has its own share, and other keys are not concerned.
    client.set("other:1", "v").unwrap();
    client.set("flood:1", "v").unwrap();
    flood(&client, "a", 16 * MIB);
    assert_kept(&client, "lock:", count);
    let refused = l1ctl(&daemon, &["set", "lock:new", "v"]);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains(said), "{refused:?}");
    let figures = rule(&client, "lock:");
    assert_eq!(figures["refused_as_full"], 4, "{figures}");
    assert!(rule(&client, "")["refused_as_full"].is_null());
    let shown = l1ctl(&daemon, &["policy", "show", "lock:1"]);
    assert!(String::from_utf8_lossy(&shown.stdout).contains("never"), "{shown:?}");
    let explained = l1ctl(&daemon, &["explain", "lock:1"]);
    assert!(String::from_utf8_lossy(&explained.stdout).contains("never evicted"), "{explained:?}");
    let listed = l1ctl(&daemon, &["policies"]);
    assert!(String::from_utf8_lossy(&listed.stdout).contains("1.0 %*"), "{listed:?}");

    client.delete("lock:7").unwrap();
    client.set("lock:new", "owner").unwrap();
    assert!(client.set("lock:newer", "owner").is_err());
    client.admin().flush("lock:").unwrap();
    let options = OperationOptions {
        lifetime: Lifetime::For(Duration::from_millis(500)),
        ..OperationOptions::default()
    };
    let mut mortal = 0;
    while client.add(format!("lock:m{mortal}"), "owner", &options).is_ok() {
        mortal += 1;
    }
    assert!(mortal > count * 8 / 10, "{mortal} of {count}");
    std::thread::sleep(Duration::from_millis(600));
    let (again, _) = lock_all(&client, "lock:");
    assert!(again > count * 8 / 10, "{again} of {count}");
}

#[test]
fn a_kill_and_a_restart_keep_all_and_count_them_before_anything_new_is_taken() {
    let rules = [("lock:", &*never("5%"))];
    let mut daemon = Daemon::start(PROGRAM, &config(&rules), "8MiB");
    let (count, _) = lock_all(&connect(&daemon), "lock:");
    for round in 0..3 {
        let client = connect(&daemon);
        flood(&client, &round.to_string(), 12 * MIB);
        if round == 1 {
            assert!(daemon.terminate().success());
        } else {
            daemon.kill();
        }
        daemon.restart();
        let client = connect(&daemon);
        let refused = client.set("lock:new", "owner").unwrap_err();
        assert!(matches!(refused, Error::Full { .. }), "{refused:?}");
        assert_kept(&client, "lock:", count);
        flood(&client, &round.to_string(), 12 * MIB);
        assert_kept(&client, "lock:", count);
    }
    assert_sound(&connect(&daemon));
}

#[test]
fn a_move_carries_all_or_is_refused_before_it_begins() {
    let rules = [("lock:", &*never("30%"))];
    let daemon = Daemon::start(PROGRAM, &config(&rules), "16MiB");
    let client = connect(&daemon);
    for n in 0..1500 {
        client.set(format!("lock:{n}"), [b'x'; 2000]).unwrap();
    }
    flood(&client, "a", 20 * MIB);
    let error = client.admin().resize(Some(6 * MIB), None).unwrap_err().to_string();
    assert!(error.contains("1500 entries that are never evicted"), "{error}");
    assert!(error.contains("choose a larger one"), "{error}");
    for size in [12, 32, 10, 16] {
        client.admin().resize(Some(size * MIB), None).unwrap();
        assert_kept(&client, "lock:", 1500);
        flood(&client, &size.to_string(), 40 * MIB);
        assert_kept(&client, "lock:", 1500);
    }
    assert_sound(&client);
}

#[test]
fn a_reload_begins_and_ends_it() {
    let daemon = Daemon::start(PROGRAM, &config(&[("lock:", "share_max = \"5%\"")]), "8MiB");
    let client = connect(&daemon);
    let reload = |rules: &[(&str, &str)]| {
        daemon.configure(&config(rules));
        let output = l1ctl(&daemon, &["--json", "policy", "reload"]);
        let (out, error) = (output.stdout, String::from_utf8_lossy(&output.stderr).into_owned());
        let out = String::from_utf8_lossy(&out).into_owned();
        if output.status.success() { Ok(out) } else { Err(error) }
    };
    for n in 0..1000 {
        client.set(format!("lock:{n}"), "owner").unwrap();
    }
    let report = reload(&[("lock:", &never("5%"))]).unwrap();
    assert!(report.contains("evict \\\"as-needed\\\" -> \\\"never\\\""), "{report}");
    assert_kept(&client, "lock:", 1000);
    flood(&client, "a", 40 * MIB);
    assert_kept(&client, "lock:", 1000);
    // Less than what is held: all stay, and new keys are refused.
    reload(&[("lock:", &never("0.1%"))]).unwrap();
    flood(&client, "b", 20 * MIB);
    assert_kept(&client, "lock:", 1000);
    assert!(matches!(client.set("lock:new", "owner"), Err(Error::Full { .. })));
    client.set("lock:1", "other").unwrap();
    // A mistake changes nothing.
    let error = reload(&[("lock:", "evict = \"never\"")]).unwrap_err();
    assert!(error.contains("needs a bound"), "{error}");
    let error = reload(&[("lock:", &never("30%")), ("a:", &never("11%"))]).unwrap_err();
    assert!(error.contains("40% is the most"), "{error}");
    assert!(client.set("lock:new", "owner").is_err());
    reload(&[("lock:", "share_max = \"1%\"")]).unwrap();
    for n in 1000..5000 {
        client.set(format!("lock:{n}"), "owner").unwrap();
    }
    let kept = (0..5000).filter(|n| client.peek(format!("lock:{n}")).is_some()).count();
    assert!(kept < 2500, "{kept} are kept that may be evicted again");
    assert_sound(&client);
}

/// With tiers, L1 holds copies: what it has no room for is where the record is.
#[test]
fn what_a_full_rule_cannot_keep_is_still_read_from_the_tiers() {
    let redis = Server::redis();
    let config = format!(
        "[table]\nvalue_bytes_max = \"16KiB\"\n[l3]\nurl = \"redis://{}/0\"\n\
         [[policy]]\nprefix = \"hot:\"\nttl = \"1h\"\n{}",
        redis.address(),
        never("1%")
    );
    let daemon = Daemon::start(PROGRAM, &config, "8MiB");
    let client = connect(&daemon);
    let key = |n: u64| format!("hot:{n}");
    for n in 0..200 {
        let stored = client.set(key(n), [b'x'; 1000]).unwrap();
        assert!(!stored.degraded);
    }
    let kept = (0..200).filter(|n| client.peek(key(*n)).is_some()).count();
    assert!((50..90).contains(&kept), "{kept}");
    for n in 0..200 {
        assert_eq!(client.get(key(n)).unwrap().unwrap().len(), 1000, "{n}");
    }
    // One that grows is not kept, and nobody reads the old one.
    client.set(key(0), [b'y'; 5000]).unwrap();
    assert_eq!(client.get(key(0)).unwrap().unwrap().len(), 5000);
    assert!(matches!(client.lookup(key(0)).unwrap(), Lookup::Found(_)));
    flood(&client, "a", 16 * MIB);
    let still = (1..200).filter(|n| client.peek(key(*n)).is_some()).count();
    assert!(still + 1 >= kept, "{still} of {kept}");
}

#[test]
fn the_smallest_table_goes_on_with_all_that_may_be_kept() {
    let config = config(&[("lock:", &never("40%"))]).replace("value_bytes_max = \"16KiB\"\n", "");
    let daemon = Daemon::start(PROGRAM, &config, "4MiB");
    let client = connect(&daemon);
    let mut count = 0;
    while client.set(format!("lock:{count}"), [b'x'; 400]).is_ok() {
        count += 1;
    }
    assert!(count > 2000, "{count}");
    flood(&client, "a", 40 * MIB);
    assert_kept(&client, "lock:", count);
    assert!(client.peek("flood:last").is_some());
    assert_sound(&client);
}
