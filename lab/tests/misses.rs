//! `l1d-lab misses` through the binary: every contestant does every operation, and the daemon's
//! system calls stay within their bounds.

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
    let daemon = daemon();
    let output = Command::new(env!("CARGO_BIN_EXE_l1d-lab"))
        .arg("misses")
        .args(arguments)
        .args(["--json", "--l1d", daemon.to_str().unwrap()])
        .stdin(Stdio::null())
        .output()
        .expect("l1d-lab runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn rows<'a>(report: &'a Value, name: &str) -> &'a [Value] {
    report[name].as_array().unwrap_or_else(|| panic!("{name} in {report}"))
}

fn median(row: &Value, figure: &str) -> f64 {
    row[figure]["median"].as_f64().unwrap_or_else(|| panic!("{figure} in {row}"))
}

#[test]
fn every_contestant_does_every_operation_without_a_failure() {
    let report = report(&["--processes", "2", "--rounds", "2", "--seconds", "0.1"]);
    let all = rows(&report, "rows");
    assert_eq!(all.len(), 7 * 3, "{report}");
    for row in all {
        assert_eq!(row["errors"], 0, "{row}");
        for figures in ["per_second", "p50_us", "p99_us", "cpu_us"] {
            let figures = row[figures].as_array().unwrap();
            assert_eq!(figures.len(), 2, "{row}");
            assert!(figures.iter().all(|figure| figure.as_f64().unwrap() > 0.0), "{row}");
        }
    }
    let ratios = rows(&report, "ratios");
    assert_eq!(ratios.len(), 7 * 3, "{report}");
    for ratio in ratios {
        assert!(["per_second", "p50", "p99", "cpu"].iter().all(|name| median(ratio, name) > 0.0));
    }
}

#[test]
fn tiers_that_are_away_answer_no_sooner_than_the_distance_allows() {
    let few = ["--operations", "absent,in-l2,set", "--processes", "2", "--rounds", "1"];
    let report = report(&[&few[..], &["--seconds", "0.2", "--distance", "5ms"]].concat());
    for row in rows(&report, "rows") {
        assert_eq!(row["errors"], 0, "{row}");
        // One round trip if memcached has the key, two if both tiers are asked one after the other;
        // l1d asks both at once for keys that memcached hardly ever has.
        let is_one = row["operation"] == "in-l2"
            || (row["operation"] == "absent" && row["contestant"] == "l1d");
        let trips = if is_one { 1.0 } else { 2.0 };
        let p50 = row["p50_us"][0].as_f64().unwrap();
        assert!(p50 >= trips * 5000.0, "{row}");
        let carried = row["proxy"][0]["per_second"].as_f64().unwrap();
        assert!(carried > 0.0 && row["proxy"][0]["capacity_per_second"].as_f64() > Some(carried));
    }
}

/// Bounds on the daemon's system calls per operation, without empty polls.
const CALLS_MAX: [(&str, u64, f64); 4] =
    [("absent", 1, 9.0), ("in-l2", 1, 6.0), ("absent", 8, 4.0), ("in-l2", 8, 3.0)];

/// The hazard: one more wakeup, read or write per miss, which no test of behaviour would notice.
#[test]
fn the_daemons_system_calls_for_a_miss_stay_within_their_bounds() {
    if Command::new("strace").arg("-V").output().is_err() {
        return eprintln!("not run: strace is needed");
    }
    let report = report(&["--syscalls", "--operations", "absent,in-l2", "--steps", "100"]);
    let rows = rows(&report, "syscalls");
    for (operation, processes, most) in CALLS_MAX {
        let row = rows
            .iter()
            .find(|row| row["operation"] == operation && row["processes"] == processes)
            .unwrap_or_else(|| panic!("{operation}, {processes} processes, in {report}"));
        let total = row["total"].as_f64().unwrap();
        assert!(total > 0.0 && total <= most, "at most {most} calls: {row}");
    }
}
