//! The hazard: a log in the journal in which a warning is not to be told from chatter, or a daemon
//! that waits for the journal.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::Duration;
use test_support::daemon::Daemon;
use test_support::servers::until;

const SMALL: &str = "[table]\nvalue_bytes_max = \"64KiB\"\n[l3]\nurl = \"redis://127.0.0.1:1\"\n";

/// A place for a daemon, its standard error, and a journal.
struct Place {
    daemon: Daemon,
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let mut daemon = Daemon::start(env!("CARGO_BIN_EXE_l1d"), SMALL, "16MiB");
        daemon.terminate();
        Place { daemon, directory: tempfile::tempdir().unwrap() }
    }

    fn journal(&self) -> PathBuf {
        self.directory.path().join("journal")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("stderr")).unwrap()
    }

    /// The command to start it with a standard error that is the journal's, or not.
    fn command(&self, is_journal: bool) -> Command {
        let stderr = File::create(self.directory.path().join("stderr")).unwrap();
        let found = stderr.metadata().unwrap();
        let inode = found.ino() + u64::from(!is_journal);
        let mut command = self.daemon.command();
        command.env("JOURNAL_STREAM", format!("{}:{inode}", found.dev()));
        command.env("L1D_JOURNAL_SOCKET", self.journal()).stderr(stderr);
        command
    }
}

fn stop(mut child: Child) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
    assert!(child.wait().unwrap().success());
}

/// The fields of an event.
fn fields(event: &[u8]) -> BTreeMap<String, String> {
    let lines = std::str::from_utf8(event).unwrap().lines();
    let pairs = lines.map(|line| line.split_once('=').unwrap_or_else(|| panic!("{line:?}")));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[test]
fn events_reach_the_journal_with_priorities_and_fields() {
    let place = Place::new();
    let journal = UnixDatagram::bind(place.journal()).unwrap();
    journal.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let child = place.command(true).spawn().unwrap();
    let mut events = vec![];
    let mut event = [0; 65536];
    until("the events of a start", || {
        while let Ok(bytes) = journal.recv(&mut event) {
            events.push(fields(&event[..bytes]));
        }
        let has = |word: &str| events.iter().any(|event| event["MESSAGE"].contains(word));
        (has("ready") && has("the tier")).then_some(())
    });
    stop(child);
    let find = |word: &str| events.iter().find(|event| event["MESSAGE"].contains(word)).unwrap();
    let ready = find("ready");
    assert_eq!((ready["PRIORITY"].as_str(), ready["SYSLOG_IDENTIFIER"].as_str()), ("6", "l1d"));
    assert_eq!(ready["L1D_SOCKET"], place.daemon.socket().display().to_string());
    assert!(ready["MESSAGE"].starts_with("ready socket=/"), "{ready:?}");
    let lost = find("the tier");
    assert_eq!(lost["PRIORITY"], "4", "{lost:?}");
    assert_eq!(place.log(), "");
}

#[test]
fn without_a_journal_lines_have_their_priority_in_front() {
    let place = Place::new();
    let child = place.command(true).spawn().unwrap();
    until("the start", || place.log().contains("ready").then_some(()));
    until("the tier", || place.log().contains("the tier").then_some(()));
    stop(child);
    let log = place.log();
    assert!(log.lines().all(|line| line.starts_with("<6>") || line.starts_with("<4>")), "{log}");
    assert!(log.lines().any(|line| line.starts_with("<4>") && line.contains("the tier")), "{log}");
}

/// Somebody has redirected standard error away from the journal.
#[test]
fn a_redirected_log_stays_where_it_was_sent() {
    let place = Place::new();
    let journal = UnixDatagram::bind(place.journal()).unwrap();
    journal.set_nonblocking(true).unwrap();
    let child = place.command(false).spawn().unwrap();
    until("the start", || place.log().contains("ready").then_some(()));
    stop(child);
    assert!(place.log().contains("INFO"), "{}", place.log());
    assert!(journal.recv(&mut [0; 100]).is_err());
}

/// Nobody reads the journal: its queue is full, and the daemon serves and ends all the same.
#[test]
fn a_journal_that_hangs_holds_nobody_up() {
    let place = Place::new();
    let _journal = UnixDatagram::bind(place.journal()).unwrap();
    let child = place.command(true).env("L1D_LOG", "trace").spawn().unwrap();
    let client = until("the daemon", || {
        l1d_client::Client::builder().socket(place.daemon.socket()).connect().ok()
    });
    for _ in 0..20 {
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGUSR1).unwrap();
        client.admin().reload_policy().unwrap();
    }
    client.admin().stats_json().unwrap();
    let probe = UnixDatagram::unbound().unwrap();
    probe.set_nonblocking(true).unwrap();
    let sent = probe.send_to(b"MESSAGE=probe", place.journal());
    assert_eq!(sent.map_err(|error| error.kind()), Err(ErrorKind::WouldBlock), "it does not hang");
    let begun = std::time::Instant::now();
    stop(child);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}
