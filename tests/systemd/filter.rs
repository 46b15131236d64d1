//! The hazard: a system call that the unit's filter does not have, found only where it is in force.
//! The daemon's whole life is run under strace, and each call it made is looked up in the filter.

use super::{L1CTL, L1D, notice, read, tool};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use test_support::daemon::connect_to;
use test_support::servers::{PATIENCE, Server, until};

/// Calls before the filter is in force, or that the kernel makes itself.
const BEFORE_THE_FILTER: [&str; 1] = ["execve"];
/// Calls that the daemon makes where they are allowed, and does without elsewhere: lower priority.
const DONE_WITHOUT: [&str; 1] = ["setpriority"];

/// The sets of system calls that systemd knows, by name, with their members.
fn sets() -> Option<BTreeMap<String, Vec<String>>> {
    let (success, printed) =
        tool(Command::new("systemd-analyze").args(["--no-pager", "syscall-filter"]))?;
    assert!(success, "{printed}");
    let mut sets = BTreeMap::new();
    let mut members: &mut Vec<String> = &mut Vec::new();
    for line in printed.lines() {
        let name = line.trim();
        if line.starts_with('@') {
            members = sets.entry(name.to_owned()).or_default();
        } else if line.starts_with(' ') && !name.starts_with('#') {
            members.push(name.to_owned());
        }
    }
    Some(sets)
}

/// The members of a set and of those in it; or the one call.
fn expand(name: &str, sets: &BTreeMap<String, Vec<String>>) -> BTreeSet<String> {
    match sets.get(name) {
        Some(members) => members.iter().flat_map(|member| expand(member, sets)).collect(),
        None => BTreeSet::from([name.to_owned()]),
    }
}

/// The calls that the unit allows.
fn allowed(unit: &str, sets: &BTreeMap<String, Vec<String>>) -> BTreeSet<String> {
    // Always allowed in a list of what is.
    let mut allowed = expand("@default", sets);
    for line in unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
        let (names, adds) = match line.strip_prefix('~') {
            Some(names) => (names, false),
            None => (line, true),
        };
        for call in names.split(' ').flat_map(|name| expand(name, sets)) {
            if adds {
                allowed.insert(call);
            } else {
                allowed.remove(&call);
            }
        }
    }
    allowed
}

/// A daemon under strace, and where it has everything.
struct Traced {
    child: Child,
    place: PathBuf,
}

impl Traced {
    fn start(place: &Path, config: &str) -> Option<Traced> {
        fs::write(place.join("l1d.toml"), config).unwrap();
        let notify = place.join("notify");
        let _ = fs::remove_file(&notify);
        let ready = UnixDatagram::bind(&notify).unwrap();
        ready.set_read_timeout(Some(PATIENCE)).unwrap();
        let child = Command::new("strace")
            .args(["--follow-forks", "--output"])
            .arg(place.join("trace"))
            .arg("--output-append-mode")
            .args([L1D, "serve", "--config"])
            .arg(place.join("l1d.toml"))
            .arg("--socket")
            .arg(place.join("l1d.sock"))
            .arg("--table-directory")
            .arg(place.join("table"))
            .env("NOTIFY_SOCKET", &notify)
            .env("WATCHDOG_USEC", "1000000")
            .stderr(fs::File::create(place.join("log")).unwrap())
            .spawn();
        let child = match child {
            Ok(child) => child,
            Err(error) => {
                notice(&format!("no strace: {error}"));
                return None;
            }
        };
        let mut message = [0; 64];
        let bytes = ready.recv(&mut message).unwrap_or_else(|error| {
            let log = fs::read_to_string(place.join("log")).unwrap();
            panic!("the traced daemon is not ready ({error}): {log}")
        });
        assert!(message[..bytes].starts_with(b"READY=1"));
        Some(Traced { child, place: place.to_owned() })
    }

    /// The daemon, which is strace's child.
    fn signal(&self, signal: Signal) {
        let id = self.child.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
        let daemon = children.split_whitespace().next().unwrap().parse().unwrap();
        kill(Pid::from_raw(daemon), signal).unwrap();
    }

    fn ctl(&self, arguments: &[&str]) {
        let mut command = Command::new(L1CTL);
        command.arg("--socket").arg(self.place.join("l1d.sock")).args(arguments);
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }

    fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        assert!(self.child.wait().unwrap().success());
    }
}

#[test]
fn the_daemon_makes_no_call_that_the_unit_refuses() {
    let Some(sets) = sets() else { return };
    let allowed = allowed(&read("l1d.service"), &sets);
    assert!(allowed.contains("epoll_wait") && !allowed.contains("chown"));

    let memory =
        if Path::new("/dev/shm").is_dir() { "/dev/shm".into() } else { std::env::temp_dir() };
    let place = tempfile::tempdir_in(memory).unwrap();
    let place = place.path();
    let (memcached, mut redis) = (Server::memcached(), Server::redis());
    let group = nix::unistd::getegid();
    let config = format!(
        "[table]\nsize = \"16MiB\"\ngroup = \"{group}\"\n[l2]\naddress = \"{}\"\n\
         [l3]\nurl = \"redis://localhost:{}/0\"\n",
        memcached.address(),
        redis.port
    );
    let Some(daemon) = Traced::start(place, &config) else { return };
    live(&daemon, &config, &mut redis);
    daemon.stop();
    // Warm, and with the log as JSON.
    let config = format!("[daemon]\nlog_format = \"json\"\n{config}");
    Traced::start(place, &config).unwrap().stop();

    let trace = fs::read_to_string(place.join("trace")).unwrap();
    let made: BTreeSet<&str> = trace.lines().filter_map(call).collect();
    assert!(made.contains("epoll_wait") || made.contains("epoll_pwait"), "{made:?}");
    let refused: Vec<_> = made
        .into_iter()
        .filter(|call| !allowed.contains(*call))
        .filter(|call| !BEFORE_THE_FILTER.contains(call) && !DONE_WITHOUT.contains(call))
        .collect();
    assert_eq!(refused, [""; 0], "the unit refuses them");
}

/// The name of the call in a line of strace: `1234 name(arguments) = result`.
fn call(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once(' ')?;
    let (name, _) = rest.trim_start().split_once('(')?;
    let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    (is_name && !name.is_empty()).then_some(name)
}

/// What happens to a daemon between start and stop.
fn live(daemon: &Traced, config: &str, redis: &mut Server) {
    let client = connect_to(&daemon.place.join("l1d.sock"));
    let large = vec![b'x'; 100_000];
    for key in 0..50 {
        client.set(format!("key:{key}"), &large).unwrap();
    }
    client.delete("key:1").unwrap();
    assert!(client.get("key:nobody").unwrap().is_none());
    daemon.ctl(&["incr", "counter", "1", "--initial", "1"]);
    for looks in [["stats"], ["clients"], ["tiers"], ["check"], ["advise"], ["policies"], ["keys"]]
    {
        daemon.ctl(&looks);
    }
    daemon.ctl(&["explain", "key:2"]);
    daemon.ctl(&["resize", "24MiB"]);
    daemon.ctl(&["resize", "--fit-index"]);
    let mut status = UnixStream::connect(daemon.place.join("l1d-status.sock")).unwrap();
    status.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
    status.read_to_end(&mut Vec::new()).unwrap();

    // A reload that succeeds, one that fails, and one by signal.
    let file = daemon.place.join("l1d.toml");
    fs::write(&file, format!("{config}[defaults]\nttl = \"1m\"\n")).unwrap();
    daemon.ctl(&["policy", "reload"]);
    fs::write(&file, "nonsense").unwrap();
    daemon.signal(Signal::SIGHUP);
    until("the refused reload", || {
        fs::read_to_string(daemon.place.join("log")).unwrap().contains("not reloaded").then_some(())
    });
    // A tier that goes and comes back, by name.
    redis.kill();
    assert!(client.get("key:not:cached").is_err());
    redis.restart();
    until("Redis", || client.set("key:after", "value").ok());
}
