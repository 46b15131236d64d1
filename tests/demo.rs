//! The hazards: a demo that does not show what it claims, and one that leaves processes or files
//! behind, however it ends.

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The daemon, and a monitoring process and two web processes for each of the three ways.
const CHILDREN: usize = 10;

const DEADLINE: Duration = Duration::from_secs(60);

fn demo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_l1d"));
    command.arg("demo").args(arguments).stdin(Stdio::null());
    command
}

/// Polls `ask` until it returns an answer, because there is no event to wait for.
fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "{what} did not happen within {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A running demo with all of its processes; killed when a test fails.
struct Running {
    child: Child,
    children: Vec<Pid>,
    directory: PathBuf,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl Running {
    fn start() -> Running {
        let child = demo(&["--seconds", "600"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut running = Running { child, children: Vec::new(), directory: PathBuf::new() };
        let id = running.child.id();
        let by_id = wait_for("starting all processes", || {
            if let Some(status) = running.child.try_wait().unwrap() {
                panic!("it ended at once ({status}): {}", running.said());
            }
            let children = children_of(id);
            (children.len() == CHILDREN).then_some(children)
        });
        let socket = by_id.values().find_map(|arguments| {
            let position = arguments.iter().position(|argument| argument == "--socket")?;
            arguments.get(position + 1)
        });
        running.directory = Path::new(socket.unwrap()).parent().unwrap().to_owned();
        assert!(running.directory.is_dir());
        running.children =
            by_id.into_keys().map(|id| Pid::from_raw(id.try_into().unwrap())).collect();
        running
    }

    /// Everything it printed on stderr.
    fn said(&mut self) -> String {
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        said
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    fn wait_until_children_are_gone(&self) {
        for &child in &self.children {
            wait_for("the end of every process", || is_gone(child).then_some(()));
        }
    }
}

/// A process has ended, reaped or not: the init of some containers does not reap.
fn is_gone(process: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let is_zombie = stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" Z"));
    is_zombie || kill(process, None) == Err(Errno::ESRCH)
}

/// The children of `parent` that have called exec: their arguments, by process id.
fn children_of(parent: u32) -> BTreeMap<u32, Vec<String>> {
    let listed = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
    let ids = listed.unwrap_or_default();
    ids.split_whitespace()
        .filter_map(|id| {
            let line = fs::read_to_string(format!("/proc/{id}/cmdline")).ok()?;
            let arguments: Vec<String> = line.split('\0').map(str::to_owned).collect();
            matches!(arguments.get(1)?.as_str(), "serve" | "demo-worker").then_some(())?;
            Some((id.parse().ok()?, arguments))
        })
        .collect()
}

fn way<'a>(document: &'a Value, name: &str) -> &'a Value {
    let ways = document["ways"].as_array().unwrap();
    ways.iter().find(|way| way["way"] == name).unwrap_or_else(|| panic!("no {name} in {document}"))
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn check(document: &Value) {
    for name in ["l1d", "l1-2s", "l1-30s"] {
        let way = way(document, name);
        let processes = way["processes"].as_array().unwrap();
        assert_eq!(processes.len(), 3);
        for process in processes {
            for nothing in ["missing", "damaged", "errors"] {
                assert_eq!(process[nothing], 0, "{nothing} of {name}: {process}");
            }
            assert!(number(&process["reads"]) > 0.0, "{name}: {process}");
        }
        assert!(number(&way["signals_published"]) > 0.0, "{name}");
    }
    let [l1d, two, thirty] = ["l1d", "l1-2s", "l1-30s"].map(|name| way(document, name));
    // A copy of 30 s does not expire during the play, so only its first value was seen.
    assert!(number(&thirty["signals_seen_ratio"]) < 0.2, "{thirty}");
    for private in [two, thirty] {
        assert!(
            number(&l1d["signals_seen_ratio"]) > number(&private["signals_seen_ratio"]),
            "{l1d} {private}"
        );
        assert!(number(&l1d["web"]["hit_ratio"]) > number(&private["web"]["hit_ratio"]));
        // The monitoring process holds all keys, the others only those that they read.
        assert!(number(&private["copies"]) > 1002.0, "{private}");
    }
    assert_eq!(l1d["copies"], 1002, "one copy of each key");
    assert_eq!(document["keys"], 1002);
}

#[test]
fn one_l1_for_all_shows_every_signal_and_an_l1_in_each_does_not() {
    let output = demo(&["--seconds", "5", "--json"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    check(&serde_json::from_slice(&output.stdout).unwrap());
}

#[test]
fn the_result_is_told_in_words_too() {
    let output = demo(&["--seconds", "1", "--web", "1"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    for words in ["signals seen", "own L1, 30 s", "copies in L1"] {
        assert!(text.contains(words), "no {words:?} in\n{text}");
    }
    assert!(!text.contains('\x1b'), "colours where there is no terminal:\n{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "too wide:\n{text}");
}

#[test]
fn a_signal_ends_it_and_leaves_nothing_behind() {
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143), (Signal::SIGHUP, 129)] {
        let mut running = Running::start();
        running.signal(signal);
        let status = wait_for("the end", || running.child.try_wait().unwrap());
        assert_eq!(status.code(), Some(code), "{signal}");
        running.wait_until_children_are_gone();
        assert!(!running.directory.exists(), "{} is left behind", running.directory.display());
    }
}

#[test]
fn killing_it_ends_all_of_its_processes_and_the_next_one_removes_its_directory() {
    let mut running = Running::start();
    running.signal(Signal::SIGKILL);
    running.child.wait().unwrap();
    running.wait_until_children_are_gone();
    assert!(demo(&["--seconds", "1", "--web", "1"]).output().unwrap().status.success());
    assert!(!running.directory.exists(), "{} is left behind", running.directory.display());
}

/// `l1d demo 2>&1 | true`
#[test]
fn it_ends_well_if_nobody_reads_its_output() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut demo = demo(&["--seconds", "6", "--web", "1"]);
    demo.stdout(writer.try_clone().unwrap()).stderr(writer);
    assert_eq!(demo.status().unwrap().code(), Some(0));
}

#[test]
fn without_its_daemon_it_ends_with_the_reason_and_leaves_nothing_behind() {
    let mut running = Running::start();
    let daemon = running.children.iter().find(|&&child| {
        let line = fs::read_to_string(format!("/proc/{child}/cmdline")).unwrap();
        line.contains("\0serve\0")
    });
    kill(*daemon.unwrap(), Signal::SIGKILL).unwrap();
    running.wait_until_children_are_gone();
    let status = running.child.wait().unwrap();
    let said = running.said();
    assert!(!status.success());
    assert!(said.contains("daemon ended"), "{said}");
    assert!(!running.directory.exists(), "{} is left behind", running.directory.display());
}

/// The page's figures, from the address that the demo printed.
fn figures(address: &str) -> Option<Value> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(stream, "GET /api/demo HTTP/1.1\r\nHost: {address}\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
}

#[test]
fn the_page_shows_every_way_and_a_shared_l1_has_every_signal() {
    let mut command = demo(&["--page", "--seconds", "6", "--web", "1"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let address = wait_for("the address", || {
        let line = lines.next().unwrap().unwrap();
        Some(line.split_once("http://")?.1.trim_end_matches('/').to_owned())
    });
    let all = wait_for("some seconds of play", || {
        let all = figures(&address)?;
        all["elapsed_ms"].as_u64().is_some_and(|ms| ms > 4000).then_some(all)
    });
    for (name, live) in [("l1d", 20.0..=20.0), ("l1-2s", 0.0..=20.0), ("l1-30s", 0.0..=10.0)] {
        let way = way(&all, name);
        assert_eq!(way["monitor_live"], 20, "{way}");
        assert_eq!(way["signals"].as_array().unwrap().len(), 20, "{way}");
        assert!(live.contains(&number(&way["web_live"])), "{way}");
        assert!(number(&way["reads_per_second"]) > 0.0, "{way}");
    }
    assert_eq!(way(&all, "l1d")["stale_ratio"], 0.0);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8(output.stdout).unwrap().contains("signals seen"));
}
