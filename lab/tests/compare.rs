//! `l1d-lab compare` through its binary, with real servers: what would make its figures lies.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn compare(options: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_l1d-lab"))
        .arg("compare")
        .args(options)
        .output()
        .expect("l1d-lab runs")
}

fn report(options: &[&str]) -> Value {
    let output = compare(&[options, &["--json", "--l1d", daemon().to_str().unwrap()]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// The daemon's program; this package's tests do not build it by themselves.
fn daemon() -> PathBuf {
    let lab = Path::new(env!("CARGO_BIN_EXE_l1d-lab"));
    let daemon = lab.with_file_name("l1d");
    assert!(daemon.exists(), "{} is missing: cargo build --workspace", daemon.display());
    daemon
}

fn contestant<'a>(report: &'a Value, name: &str) -> &'a Value {
    let all = report["contestants"].as_array().expect("contestants");
    all.iter().find(|one| one["contestant"] == name).expect("the contestant")
}

fn figure(value: &Value, pointer: &str) -> f64 {
    value.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("{pointer} in {value}"))
}

#[test]
fn own_copies_are_stale_and_the_shared_table_is_not() {
    let report = report(&["--seconds", "2", "--warm-up-seconds", "0"]);
    let own = contestant(&report, "own-30s");
    assert!(figure(own, "/stale_shared") > 0.0, "{own}");
    assert!(figure(own, "/hits/l1") > 0.9, "{own}");
    for name in ["no-l1", "l1d"] {
        let one = contestant(&report, name);
        assert_eq!(figure(one, "/stale_shared"), 0.0, "{one}");
    }
    let gets = |name| figure(contestant(&report, name), "/tier_requests_per_second/l2_gets");
    assert!(gets("no-l1") > 10.0 * gets("l1d"), "{report}");
    for one in report["contestants"].as_array().unwrap() {
        assert!(figure(one, "/reads") > 0.0 && figure(one, "/writes_per_second") > 0.0, "{one}");
        assert_eq!((figure(one, "/damaged"), figure(one, "/errors")), (0.0, 0.0), "{one}");
    }
}

#[test]
fn every_request_of_a_trace_is_replayed_once() {
    let directory = tempfile::tempdir().unwrap();
    let trace = directory.path().join("trace");
    let lines: String = (0..3000).map(|line| format!("page:{}\n", line * line % 97)).collect();
    std::fs::write(&trace, lines).unwrap();
    let trace = trace.to_str().unwrap();
    let contestants = ["--contestants", "own-2s,l1d", "--rate", "10", "--readers", "3"];
    let report = report(&[&["--workload", "trace", trace], &contestants[..]].concat());
    for one in report["contestants"].as_array().unwrap() {
        assert_eq!(figure(one, "/reads"), 3000.0, "{one}");
        assert_eq!(figure(one, "/errors"), 0.0, "{one}");
    }
}

#[test]
fn what_cannot_be_run_is_said_and_has_its_exit_code() {
    let directory = tempfile::tempdir().unwrap();
    let long = directory.path().join("long");
    std::fs::write(&long, format!("a\n{}\n", "k".repeat(300))).unwrap();
    let long = long.to_str().unwrap();
    for (options, said, code) in [
        (vec!["--workload", "trace"], "wants a FILE", 2),
        (vec!["--workload", "trace", "/nowhere/trace"], "/nowhere/trace", 2),
        (vec!["--workload", "trace", long], "line 2", 2),
        (vec!["--workload", "scan"], "scan", 2),
        (vec!["--rate", "0"], "--rate", 2),
        (vec!["--l1d", "/nowhere/l1d", "--contestants", "l1d"], "/nowhere/l1d", 3),
    ] {
        let output = compare(&options);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains(said), "{options:?}: {error}");
        assert_eq!(output.status.code(), Some(code), "{options:?}: {error}");
        assert!(output.stdout.is_empty(), "{options:?}");
    }
}
