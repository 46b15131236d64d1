//! `l1d-lab costs`, `attach` and `idle` through the binary: the contestants, and what is counted.

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

fn report(arguments: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_l1d-lab"))
        .args(arguments)
        .arg("--json")
        .stdin(Stdio::null())
        .output()
        .expect("l1d-lab runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn rows(report: &Value) -> &[Value] {
    report["rows"].as_array().unwrap_or_else(|| panic!("rows in {report}"))
}

#[test]
fn each_step_of_a_hit_is_timed_and_counted() {
    let report = report(&[
        "costs",
        "--workload",
        "2k-zipf",
        "--rounds",
        "2",
        "--round-ms",
        "1",
        "--warm-up-ms",
        "1",
    ]);
    assert_eq!(rows(&report).len(), 10);
    for row in rows(&report) {
        for figures in ["dependent_ns", "independent_ns", "dependent_ratio", "independent_ratio"] {
            assert_eq!(row[figures].as_array().map(Vec::len), Some(2), "{figures} in {row}");
        }
    }
    if cfg!(target_arch = "x86_64") {
        assert_eq!(report["without_instructions"], Value::Null);
        let counts = rows(&report).iter().filter_map(|row| row["instructions"].as_f64());
        let counts: Vec<f64> = counts.collect();
        assert_eq!(counts.len(), 8, "{report}");
        let of = |step: &str| {
            let row = rows(&report).iter().find(|row| row["step"] == step);
            row.and_then(|row| row["instructions"].as_f64()).unwrap_or_else(|| panic!("{step}"))
        };
        let [with, without] =
            ["+ hit report, of every hit", "l1d peek_into, entries without expiry"].map(of);
        // A reported key is hashed once more, and every sixteenth report hands a batch over: a
        // tenth and a third.
        assert!(with > without * 1.25, "{with} with a report, {without} without");
        // The first five are steps, each of which does more than the one before.
        assert!(counts.windows(2).take(4).all(|pair| pair[0] < pair[1]), "{counts:?}");
    }
}

#[test]
fn attaching_processes_find_every_key_in_every_way() {
    let daemon = daemon();
    let report = report(&[
        "attach",
        "--entries",
        "2000",
        "--reads",
        "20",
        "--rounds",
        "2",
        "--l1d",
        daemon.to_str().unwrap(),
    ]);
    let names: Vec<&str> =
        rows(&report).iter().filter_map(|row| row["contestant"].as_str()).collect();
    assert_eq!(names.len(), 10, "{names:?}");
    for name in ["limit, large pages", "lmdb", "mmap-sync", "iceoryx2", "memcached", "redis"] {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
    for row in rows(&report) {
        assert!(row["total_us"]["min"].as_f64().unwrap() > 0.0, "{row}");
    }
}

#[test]
fn contestants_without_a_row_are_named_with_the_reason() {
    let daemon = daemon();
    let few = ["attach", "--entries", "11000", "--reads", "1", "--rounds", "1"];
    let more = ["--without-servers", "--l1d", daemon.to_str().unwrap()];
    let report = report(&[&few[..], &more].concat());
    let skipped = report["skipped"].as_array().unwrap();
    let names: Vec<&str> = skipped.iter().filter_map(|skip| skip["name"].as_str()).collect();
    assert_eq!(
        names,
        ["caches and maps of the process's own", "iceoryx2", "memcached", "redis"],
        "{report}"
    );
    assert!(skipped[1]["reason"].as_str().unwrap().contains("10,000"), "{report}");
    assert_eq!(rows(&report).len(), 7, "{report}");
}

#[test]
fn an_idle_daemons_threads_are_told_apart() {
    let daemon = daemon();
    let report =
        report(&["idle", "--clients", "2", "--seconds", "1", "--l1d", daemon.to_str().unwrap()]);
    for when in ["since the start", "after a load"] {
        let of_all = rows(&report).iter().filter(|row| row["when"] == when);
        let threads: Vec<&str> = of_all.filter_map(|row| row["thread"].as_str()).collect();
        assert_eq!(threads.last(), Some(&"all"), "{threads:?}");
        assert!(threads.contains(&"l1d"), "{threads:?}");
    }
}
