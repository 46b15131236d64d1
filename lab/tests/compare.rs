//! `l1d-lab compare` through its binary, with real servers: the hazards that would falsify its
//! figures.

use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use test_support::servers::until;

/// The exit code of an interrupted run.
const INTERRUPTED: i32 = 130;

/// A run of `l1d-lab compare`.
struct Run {
    child: Option<Child>,
}

impl Run {
    fn start(options: &[&str], path: Option<&str>) -> Run {
        // Processes that a run leaves behind become children of this process.
        set_child_subreaper(true).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_l1d-lab"));
        command.arg("compare").args(options);
        if let Some(path) = path {
            command.env("PATH", path);
        }
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        Run { child: Some(child.expect("l1d-lab runs")) }
    }

    fn id(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    fn interrupt(&self) {
        kill(Pid::from_raw(self.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    }

    /// Waits for its end and checks that it leaves nothing behind.
    fn end(mut self) -> Output {
        let id = self.id();
        let output = self.child.take().unwrap().wait_with_output().expect("an end");
        assert_eq!(files(id), [""; 0], "left in /dev/shm: {output:?}");
        // A process that was just killed may not be gone yet.
        until("no process to be left", || orphans().is_empty().then_some(()));
        output
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.interrupt();
        }
    }
}

/// Command lines of the live processes whose parent is `parent`.
fn children(parent: u32) -> Vec<String> {
    let of = |pid: u32, file: &str| {
        std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default()
    };
    let is_child = |pid: &u32| {
        let status = of(*pid, "status");
        let field = |name| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        field("PPid:") == Some(&parent.to_string()) && !field("State:").unwrap().starts_with('Z')
    };
    let pids = std::fs::read_dir("/proc").unwrap();
    pids.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
        .filter(is_child)
        .map(|pid| of(pid, "cmdline").replace('\0', " "))
        .collect()
}

/// Processes left by any run: the runs themselves are the only other children of this process.
fn orphans() -> Vec<String> {
    let mut children = children(std::process::id());
    children.retain(|command| {
        let mut words = command.split(' ');
        !words.next().unwrap().ends_with("l1d-lab") || words.next() == Some("worker")
    });
    // Between fork and exec a run still has this program's name.
    children.retain(|command| !command.contains("/deps/"));
    children
}

/// Files of the lab's process `id` in /dev/shm.
fn files(id: u32) -> Vec<String> {
    let begin = format!("l1d-lab.{id}.");
    let names = std::fs::read_dir("/dev/shm").unwrap();
    names
        .filter_map(|entry| entry.unwrap().file_name().into_string().ok())
        .filter(|name| name.starts_with(&begin))
        .collect()
}

fn compare(options: &[&str]) -> Output {
    Run::start(options, None).end()
}

fn report(options: &[&str]) -> Value {
    let output = compare(&[options, &["--json", "--l1d", daemon().to_str().unwrap()]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report = serde_json::from_slice(&output.stdout).expect("JSON");
    plausible(&report);
    report
}

/// Asserts the properties that every contestant has in every workload.
fn plausible(report: &Value) {
    for one in report["contestants"].as_array().expect("contestants") {
        assert_eq!((figure(one, "/damaged"), figure(one, "/errors")), (0.0, 0.0), "{one}");
        for figures in ["/reads_per_second", "/writes_per_second", "/seconds", "/memory/bytes"] {
            assert!(figure(one, figures) > 0.0, "{figures}: {one}");
        }
        let times =
            ["p50", "p99", "p999", "max"].map(|name| figure(one, &format!("/read_ns/{name}")));
        assert!(times.is_sorted() && times[3] > 0.0, "{one}");
        let levels = ["l1", "l2", "l3", "joined", "missing"];
        let hits = levels.map(|level| figure(one, &format!("/hits/{level}")));
        assert!(hits.iter().all(|hit| (0.0..=1.0).contains(hit)), "{one}");
        assert!((hits.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{one}");
    }
    let l1d = contestant(report, "l1d");
    assert_eq!(figure(l1d, "/stale_shared"), 0.0, "{l1d}");
    assert!(figure(l1d, "/memory/bytes") > figure(l1d, "/memory/table/bytes"), "{l1d}");
}

fn l2_gets(report: &Value, name: &str) -> f64 {
    figure(contestant(report, name), "/tier_requests_per_second/l2_gets")
}

/// The daemon's program, which this package's tests do not build themselves.
fn daemon() -> PathBuf {
    let lab = Path::new(env!("CARGO_BIN_EXE_l1d-lab"));
    let daemon = lab.with_file_name("l1d");
    assert!(daemon.exists(), "{} is missing: cargo build --bins", daemon.display());
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
    assert!(figure(own, "/stale_shared_ms/max") > 100.0, "a quote lives for 100 ms: {own}");
    assert!(figure(own, "/hits/l1") > 0.9, "{own}");
    let none = contestant(&report, "no-l1");
    assert_eq!((figure(none, "/stale"), figure(none, "/hits/l1")), (0.0, 0.0), "{none}");
    for name in ["own-30s", "own-2s", "l1d"] {
        assert!(l2_gets(&report, "no-l1") > l2_gets(&report, name), "{name}: {report}");
    }
}

#[test]
fn single_keys_are_counted_by_readers_and_servers_alike() {
    let workload = ["--workload", "zipf", "--keys", "500", "--rate", "300"];
    let report = report(&[&workload[..], &["--seconds", "1", "--warm-up-seconds", "1"]].concat());
    for name in ["own-30s", "own-2s", "l1d"] {
        assert!(l2_gets(&report, "no-l1") > l2_gets(&report, name), "{name}: {report}");
        let copies = figure(contestant(&report, name), "/memory/copies");
        // One table, or the L1s of two readers and the writer.
        let most = if name == "l1d" { 500.0 } else { 1500.0 };
        assert!(copies > 0.0 && copies <= most, "{name}: {copies} copies");
    }
    // Without an L1 each read asks memcached once, although the two are counted at different times.
    let none = contestant(&report, "no-l1");
    let ratio =
        figure(none, "/tier_requests_per_second/l2_gets") / figure(none, "/reads_per_second");
    assert!((0.5..2.0).contains(&ratio), "{ratio}: {none}");
}

#[test]
fn every_request_of_a_trace_is_replayed_once_in_each_round() {
    let directory = tempfile::tempdir().unwrap();
    let trace = directory.path().join("trace");
    let lines: String = (0..3000).map(|line| format!("page:{}\n", line * line % 97)).collect();
    std::fs::write(&trace, lines).unwrap();
    let trace = trace.to_str().unwrap();
    let more = ["--contestants", "own-2s,l1d", "--rate", "100", "--readers", "3", "--rounds", "2"];
    let report = report(&[&["--workload", "trace", trace], &more[..]].concat());
    for one in report["contestants"].as_array().unwrap() {
        assert_eq!(figure(one, "/reads"), 6000.0, "{one}");
        assert_eq!(one["reads_per_second_by_round"].as_array().unwrap().len(), 2, "{one}");
        assert!(figure(one, "/loads") >= 49.0, "squares modulo 97 have 49 values: {one}");
    }
}

#[test]
fn an_interrupted_run_leaves_nothing_behind() {
    let daemon = daemon();
    for contestant in ["l1d", "own-30s"] {
        let options = ["--contestants", contestant, "--seconds", "600", "--l1d"];
        let mut run = Run::start(&[&options[..], &[daemon.to_str().unwrap()]].concat(), None);
        let id = run.id();
        // Two servers, two readers, the writer and, for l1d, the daemon with its directory.
        let (all, left) = if contestant == "l1d" { (6, 2) } else { (5, 1) };
        until("the whole run", || {
            (children(id).len() == all && files(id).len() == left).then_some(())
        });
        let is_heard = contestant == "l1d";
        if !is_heard {
            // As if the reader of its output had been interrupted, too.
            run.child.as_mut().unwrap().stderr.take();
        }
        run.interrupt();
        let output = run.end();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(INTERRUPTED), "{error}");
        assert_eq!(error.lines().count(), usize::from(is_heard), "nothing else is said: {error}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn missing_servers_are_named_with_their_packages() {
    let output = Run::start(&[], Some("/nowhere")).end();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("apt-get install memcached redis-server"), "{error}");
    assert_eq!(output.status.code(), Some(5), "{error}");
}

#[test]
fn a_run_that_is_impossible_says_why_and_has_its_exit_code() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let file = directory.path().join(name);
        std::fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let long = file("long", &format!("a\n{}\n", "k".repeat(300)));
    let columns = file("columns", "a\nb\n1679 c 12\n");
    let empty = file("empty", "");
    let other = file("other", "not a program");
    for (options, said, code) in [
        (vec!["--workload", "trace"], "wants a FILE", 2),
        (vec!["--workload", "trace", "/nowhere/trace"], "/nowhere/trace", 2),
        (vec!["--workload", "trace", &long], "line 2", 2),
        (vec!["--workload", "trace", &columns], "line 3", 2),
        (vec!["--workload", "trace", &empty], "no request", 2),
        (vec!["--workload", "scan"], "scan", 2),
        (vec!["--rate", "0"], "--rate", 2),
        (vec!["--l1d", "/nowhere/l1d"], "/nowhere/l1d", 2),
        (vec!["--l1d", &other, "--contestants", "l1d"], "cannot start", 3),
        (vec!["--l1d", "/bin/true", "--contestants", "l1d"], "the daemon ended", 3),
    ] {
        let output = compare(&options);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains(said), "{options:?}: {error}");
        assert_eq!(output.status.code(), Some(code), "{options:?}: {error}");
        assert!(output.stdout.is_empty(), "{options:?}");
    }
}
