//! `l1d-lab write` and `visibility` through the binary, with a real daemon, real servers and the
//! processes on the other side: the contestants, those left out and the reason, and the yardsticks.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The daemon's program, which this package's tests do not build themselves.
fn daemon() -> PathBuf {
    let lab = Path::new(env!("CARGO_BIN_EXE_l1d-lab"));
    let daemon = lab.with_file_name("l1d");
    assert!(daemon.exists(), "{} is missing: cargo build --bins", daemon.display());
    daemon
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Runs to the end, and checks that nothing is left behind.
fn report(arguments: &[&str]) -> Value {
    let daemon = daemon();
    let child = Command::new(env!("CARGO_BIN_EXE_l1d-lab"))
        .args(arguments)
        .args(["--json", "--l1d", daemon.to_str().unwrap()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("l1d-lab runs");
    let begin = format!("l1d-lab.{}.", child.id());
    let output = child.wait_with_output().expect("an end");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let names = std::fs::read_dir("/dev/shm").unwrap();
    let names = names.filter_map(|entry| entry.unwrap().file_name().into_string().ok());
    let left: Vec<String> = names.filter(|name| name.starts_with(&begin)).collect();
    assert_eq!(left, [""; 0], "left in /dev/shm");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn lines(report: &Value) -> &[Value] {
    report["lines"].as_array().unwrap_or_else(|| panic!("lines in {report}"))
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("{name} in {value}"))
}

fn figures(report: &Value) -> Vec<&str> {
    lines(report).iter().map(|line| text(line, "figure")).collect()
}

fn skipped(report: &Value) -> Vec<&str> {
    let skipped = report["skipped"].as_array().unwrap_or_else(|| panic!("skipped in {report}"));
    assert!(skipped.iter().all(|skip| !text(skip, "reason").is_empty()), "{report}");
    skipped.iter().map(|skip| text(skip, "name")).collect()
}

#[test]
fn every_store_that_another_process_sees_shows_every_value() {
    if cores() < 2 {
        return eprintln!("not run: two cores are needed");
    }
    let report = report(&["visibility", "--rounds", "2", "--requests", "200", "--keys", "7"]);
    let mut expected = vec![
        "spin_round_trip",
        "owner_set",
        "visibility",
        "set_acknowledged",
        "limit: words stored",
        "l1d table, owner alone",
    ];
    let mut without = vec!["quick_cache", "moka", "papaya", "dashmap", "rwlock-hashmap"];
    match cores() {
        2 => without.push("l1d set not waited for, another process"),
        _ => expected.push("l1d set not waited for"),
    }
    expected.extend(["lmdb", "iceoryx2", "mmap-sync", "memcached", "redis"]);
    assert_eq!(figures(&report), expected);
    assert_eq!(skipped(&report), without);
    for line in lines(&report) {
        assert!(line["ns"]["min"].as_f64().unwrap() > 0.0, "{line}");
    }
    // The bound: with these weights its ratio to itself is 1, even for a median between two rounds.
    let times = |place: usize| lines(&report)[place]["times_limit"]["median"].as_f64().unwrap();
    let bound = times(0) + 2.0 * times(1);
    assert!((bound - 1.0).abs() < 1e-9, "{bound} in {report}");
}

#[test]
fn a_set_stands_beside_those_of_all_other_stores() {
    if cores() < 2 {
        return eprintln!("not run: two cores are needed");
    }
    // Without iceoryx2 and mmap-sync, which take many seconds for ten thousand keys.
    let rivals = [
        "quick_cache",
        "moka",
        "papaya",
        "dashmap",
        "rwlock-hashmap",
        "lmdb",
        "memcached",
        "redis",
    ];
    let few = ["--rounds", "1", "--requests", "1000", "--rivals"];
    let report = report(&[&["write"], &few[..], &[&rivals.join(",")]].concat());
    let own = [
        "spin_round_trip",
        "futex_round_trip",
        "set_awake",
        "set_asleep",
        "set_over_socket",
        "get_miss_awake",
        "set_no_wait",
        "set_many",
        "owner_set",
    ];
    let both = |name: &&str| [format!("{name}: set"), format!("{name}: set, sustained")];
    let expected: Vec<String> =
        own.iter().map(|&name| name.to_owned()).chain(rivals.iter().flat_map(both)).collect();
    assert_eq!(figures(&report), expected);
    let ns = |name: &str| {
        let line = lines(&report).iter().find(|line| text(line, "figure") == name).unwrap();
        (line["ns"]["median"].as_f64().unwrap(), line["times_limit"]["median"].as_f64())
    };
    for (figure, limit) in [
        ("set_asleep", "futex_round_trip"),
        ("set_awake", "spin_round_trip"),
        ("set_no_wait", "owner_set"),
        ("redis: set", "spin_round_trip"),
        ("redis: set, sustained", "owner_set"),
    ] {
        let quotient = ns(figure).0 / ns(limit).0;
        assert!((ns(figure).1.unwrap() / quotient - 1.0).abs() < 1e-9, "{figure} in {report}");
    }
}

#[test]
fn on_one_core_neither_side_spins_for_the_other() {
    let one = ["--placement", "one-core", "--rounds", "1", "--requests", "1000", "--rivals"];
    let report = report(&[&["write"], &one[..], &["none"]].concat());
    assert!(!figures(&report).contains(&"spin_round_trip"), "{report}");
    assert!(figures(&report).contains(&"futex_round_trip"), "{report}");
}
