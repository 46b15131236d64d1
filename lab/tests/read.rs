//! `l1d-lab read` and `hot-key` through the binary, with a real daemon, real servers and reader
//! processes: the contestants, and what is counted. The lab itself checks the values it reads.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const QUICK: [&str; 6] = ["--rounds", "2", "--round-ms", "1", "--warm-up-ms", "1"];

/// Runs to the end, and checks that nothing is left behind.
fn lab(arguments: &[&str], path: Option<&str>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_l1d-lab"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if let Some(path) = path {
        command.env("PATH", path);
    }
    let child = command.spawn().expect("l1d-lab runs");
    let begin = format!("l1d-lab.{}.", child.id());
    let output = child.wait_with_output().expect("an end");
    let names = std::fs::read_dir("/dev/shm").unwrap();
    let names = names.filter_map(|entry| entry.unwrap().file_name().into_string().ok());
    let left: Vec<String> = names.filter(|name| name.starts_with(&begin)).collect();
    assert_eq!(left, [""; 0], "left in /dev/shm: {output:?}");
    output
}

/// The daemon's program, which this package's tests do not build themselves.
fn daemon() -> PathBuf {
    let lab = Path::new(env!("CARGO_BIN_EXE_l1d-lab"));
    let daemon = lab.with_file_name("l1d");
    assert!(daemon.exists(), "{} is missing: cargo build --bins", daemon.display());
    daemon
}

fn report(arguments: &[&str]) -> Value {
    let daemon = daemon();
    let more = ["--json", "--l1d", daemon.to_str().unwrap()];
    let output = lab(&[arguments, &QUICK, &more].concat(), None);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(report["command"].as_str().unwrap().starts_with("l1d-lab "), "{report}");
    report
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("{name} in {value}"))
}

fn all<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().unwrap_or_else(|| panic!("{name} in {value}"))
}

/// The figures of two rounds, none of them zero.
fn figures(value: &Value, name: &str) -> Vec<f64> {
    let figures: Vec<f64> = all(value, name).iter().map(|ns| ns.as_f64().unwrap()).collect();
    assert!(figures.len() == 2 && figures.iter().all(|figure| *figure > 0.0), "{name} in {value}");
    figures
}

/// Asserts that a row's ratios are those of its figures to its yardstick's.
fn ratios_hold<'a>(row: &'a Value, mut yardstick: impl FnMut(&Value) -> Option<&'a Value>) {
    let base = yardstick(row).unwrap_or_else(|| panic!("no yardstick of {row}"));
    let quotients = figures(row, "ns").into_iter().zip(figures(base, "ns")).map(|(a, b)| a / b);
    for (ratio, quotient) in figures(row, "ratio").into_iter().zip(quotients) {
        assert!((ratio / quotient - 1.0).abs() < 1e-9, "{row}");
    }
}

/// `l1d-lab limit | head -1` and `l1d-lab frobnicate 2>&1 | true`.
#[test]
fn a_closed_pipe_is_no_failure_and_a_full_disk_is_one() {
    let run = |arguments: &[&str], out: Stdio| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_l1d-lab"));
        command.args(arguments).args(QUICK).stdin(Stdio::null()).stdout(out);
        command
    };
    let closed = || std::io::pipe().unwrap().1;
    let limit = ["limit", "--workload", "200-uniform"];
    for arguments in [&limit[..], &[&limit[..], &["--json"]].concat()] {
        let output = run(arguments, closed().into()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{arguments:?}: {said}");
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let output = run(arguments, full.into()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains("standard output"), "{said}");
        assert!(!said.contains("panicked"), "{said}");
    }
    let missing = ["read", "--workload", "200-uniform", "--l1d", "/nonexistent/l1d"];
    let status = run(&missing, Stdio::null()).stderr(closed()).status().unwrap();
    let heard = run(&missing, Stdio::null()).output().unwrap().status;
    assert!(!status.success());
    assert_eq!(status, heard, "the exit code depends on who reads the message");
}

#[test]
fn every_rival_reads_every_value_that_it_was_given() {
    let report = report(&["read", "--workload", "500-zipf"]);
    let [run] = all(&report, "runs") else { panic!("{report}") };
    let names: Vec<&str> = all(run, "entrants").iter().map(|one| text(one, "name")).collect();
    let shared = ["lmdb", "iceoryx2", "mmap-sync", "memcached", "redis"];
    let own = ["quick_cache", "moka", "papaya", "dashmap", "rwlock-hashmap"];
    assert_eq!(names, [&["limit", "l1d peek_into"], &own[..], &shared[..]].concat());
    for one in all(run, "entrants") {
        figures(one, "dependent_ns");
        figures(one, "independent_ns");
        assert!(!text(one, "hands_out").is_empty(), "{one}");
    }
    assert!(all(&report, "skipped").is_empty(), "{report}");
}

#[test]
fn a_rival_that_cannot_hold_the_keys_is_left_out_with_its_reason() {
    let report = report(&["read", "--workload", "11k-uniform", "--rivals", "iceoryx2"]);
    let [skip] = all(&report, "skipped") else { panic!("{report}") };
    assert_eq!((text(skip, "contestant"), text(skip, "case")), ("iceoryx2", "hit"));
    assert!(text(skip, "reason").contains("10,000"), "{skip}");
    assert_eq!(all(&all(&report, "runs")[0], "entrants").len(), 2, "{report}");
}

#[test]
fn each_case_has_its_yardsticks() {
    let cases = ["--case", "miss,batch,copy,in-place,decoded", "--workload", "200-uniform"];
    let rivals = ["--rivals", "quick_cache,iceoryx2"];
    let report = report(&[&["read"], &cases[..], &rivals[..]].concat());
    assert!(all(&report, "runs").is_empty());
    let rows = all(&report, "rows");
    let of = |row: &Value, name: &str| {
        let keys = ["case", "workload", "chain"];
        rows.iter().find(|other| {
            text(other, "contestant") == name && keys.iter().all(|key| other[key] == row[key])
        })
    };
    for row in rows {
        ratios_hold(row, |row| of(row, text(row, "yardstick")));
    }
    for (case, contestant, yardstick, kinds) in [
        ("miss", "l1d peek_into", "limit", 1),
        ("miss", "l1d peek_into", "quick_cache", 1),
        ("batch", "l1d get_many", "limit", 1),
        ("batch", "l1d get_many", "limit, allocating", 1),
        ("copy 1 KiB", "l1d peek_into", "memcpy", 2),
        ("copy 16 KiB", "l1d peek_into", "memcpy", 2),
        ("copy 16 KiB", "l1d peek_into", "limit", 2),
        ("in-place", "l1d read_with", "quick_cache", 2),
        ("decoded", "l1d decoded", "quick_cache", 2),
    ] {
        let is_it = |row: &&Value| {
            (text(row, "case"), text(row, "contestant"), text(row, "yardstick"))
                == (case, contestant, yardstick)
        };
        assert_eq!(rows.iter().filter(is_it).count(), kinds, "{case}, {contestant}, {yardstick}");
    }
    let [skip] = all(&report, "skipped") else { panic!("{report}") };
    assert_eq!((text(skip, "contestant"), text(skip, "case")), ("iceoryx2", "miss"));
}

#[test]
fn only_the_limit_returns_a_torn_value_of_a_hot_key() {
    let few = ["hot-key", "--readers", "1", "--keys", "2", "--sets", "50000"];
    let report = report(&few);
    let rows = all(&report, "rows");
    let names: Vec<&str> = rows.iter().step_by(3).map(|row| text(row, "contestant")).collect();
    let l1d = ["limit", "l1d peek_into", "l1d table, owner alone"];
    let rivals = ["quick_cache", "moka", "papaya", "dashmap", "rwlock-hashmap", "lmdb", "iceoryx2"];
    assert_eq!(names, [&l1d[..], &rivals[..]].concat());
    for row in rows {
        let [case, contestant, yardstick] =
            ["case", "contestant", "yardstick"].map(|name| text(row, name));
        ratios_hold(row, |_| {
            let (of, when) = match yardstick {
                "quiet" => (contestant, "quiet"),
                other => (other, case),
            };
            rows.iter().find(|row| (text(row, "contestant"), text(row, "case")) == (of, when))
        });
        let is_written = case == "written";
        assert_eq!(all(row, "sets_per_second").is_empty(), !is_written, "{row}");
        assert_eq!(
            text(row, "readers_are") == "threads",
            rivals[..5].contains(&contestant),
            "{row}"
        );
        if is_written {
            figures(row, "sets_per_second");
        }
        if contestant != "limit" {
            assert_eq!(row["torn"], 0, "{row}");
        }
    }
    let skipped: Vec<&str> =
        all(&report, "skipped").iter().map(|skip| text(skip, "name")).collect();
    assert_eq!(skipped, ["mmap-sync", "memcached", "redis"]);
}

#[test]
fn two_readers_of_one_key_stand_beside_each_alone_and_beside_the_limits() {
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        return eprintln!("not run: two cores are needed");
    }
    let report = report(&["hot-key", "--readers", "1,2", "--rivals", "iceoryx2"]);
    let rows = all(&report, "scaling");
    let names: Vec<&str> = rows.iter().map(|row| text(row, "contestant")).collect();
    assert_eq!(names, ["limit", "l1d peek_into", "l1d table, owner alone", "iceoryx2"]);
    let limits = figures(&rows[0], "scaling");
    for row in rows {
        assert_eq!(row["readers"], 2, "{row}");
        let pairs = figures(row, "alone_ns").into_iter().zip(figures(row, "together_ns"));
        let scaling: Vec<f64> = pairs.map(|(alone, together)| alone / together).collect();
        let to_limit = scaling.iter().zip(&limits).map(|(own, limit)| own / limit);
        let of_row = figures(row, "scaling").into_iter().chain(figures(row, "to_limit"));
        for (found, expected) in of_row.zip(scaling.iter().copied().chain(to_limit)) {
            assert!((found / expected - 1.0).abs() < 1e-9, "{row}");
        }
    }
}

#[test]
fn a_run_that_is_impossible_says_why_and_has_its_exit_code() {
    let daemon = daemon();
    let daemon = daemon.to_str().unwrap();
    for (arguments, path, said, code) in [
        (vec!["read", "--rivals", "leveldb"], None, "quick_cache, moka", 2),
        (vec!["read", "--case", "hits"], None, "decoded", 2),
        (vec!["read", "--workload", "100M-uniform", "--l1d", daemon], None, "--rivals", 4),
        (
            vec!["read", "--workload", "500-zipf", "--rivals", "redis", "--l1d", daemon],
            Some("/nowhere"),
            "apt-get install redis-server",
            5,
        ),
        (vec!["hot-key", "--readers", "200", "--l1d", daemon], None, "200 readers", 4),
        (vec!["hot-key", "--rivals", "none", "--l1d", "/nowhere/l1d"], None, "/nowhere/l1d", 2),
    ] {
        let output = lab(&arguments, path);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains(said), "{arguments:?}: {error}");
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}
