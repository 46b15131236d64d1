//! The hazard: a shortage at either end is reported as something else, or kills the daemon. Who
//! reads "no daemon answers, start it" does not look for a limit.

use l1d_client::{Client, Error};
use nix::sys::signal::Signal;
use std::os::unix::net::UnixStream;
use std::process::{Command, Output, Stdio};
use std::time::Duration;
use test_support::daemon::Daemon;
use test_support::servers::{PATIENCE, until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_l1d");
const L1CTL: &str = env!("CARGO_BIN_EXE_l1ctl");
const SMALL: &str = "[table]\nvalue_bytes_max = \"64KiB\"\n";

fn connect(daemon: &Daemon) -> Result<Client, Error> {
    Client::builder().socket(daemon.socket()).deadline(PATIENCE).connect()
}

/// `command` with a limit of the shell's `ulimit`.
fn limited(limit: &str, command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("ulimit {limit} && exec \"$@\"")).arg("sh");
    shell.arg(command.get_program()).args(command.get_args());
    shell.stdin(Stdio::null());
    shell
}

fn l1ctl(daemon: &Daemon) -> Command {
    let mut command = Command::new(L1CTL);
    command.arg("--socket").arg(daemon.socket()).arg("stats");
    command
}

#[track_caller]
fn assert_said(output: &Output, code: i32, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{}: {said}", output.status);
    for word in words {
        assert!(said.contains(word), "{word:?} is missing in: {said}");
    }
    assert!(!said.contains("start it") && !said.contains("panicked"), "{said}");
}

/// A daemon that has ended, for its place and command.
fn ended() -> Daemon {
    let mut daemon = Daemon::start(PROGRAM, SMALL, "16MiB");
    daemon.terminate();
    std::fs::remove_file(daemon.table()).unwrap();
    daemon
}

#[test]
fn signals_that_are_not_for_stopping_do_not_stop_it() {
    let mut daemon = Daemon::start(PROGRAM, SMALL, "16MiB");
    for signal in [Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGXFSZ] {
        daemon.signal(signal);
    }
    until("the reload that SIGHUP asks for", || {
        daemon.log().contains("the configuration was reloaded").then_some(())
    });
    connect(&daemon).unwrap().set(b"key", b"value").unwrap();
    assert!(daemon.terminate().success());
}

#[test]
fn a_limit_that_the_table_does_not_fit_is_named() {
    let daemon = ended();
    let output = limited("-f 1000", &daemon.command()).output().unwrap();
    assert_said(&output, 4, &["cannot allocate", "limit on the size of files"]);
    // From what is too little for any thread to what is just too little for the table.
    let outputs = (16..64)
        .step_by(4)
        .map(|mib| limited(&format!("-v {}", mib << 10), &daemon.command()).output().unwrap());
    let mut said = String::new();
    for output in outputs.skip_while(|output| !matches!(output.status.code(), Some(4 | 101))) {
        said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_said(&output, 4, &["on address space"]);
        if said.contains("cannot map") {
            break;
        }
        assert!(said.contains("cannot start a thread"), "{said}");
    }
    assert!(said.contains("cannot map"), "{said}");
    let output = limited("-n 5", &daemon.command()).output().unwrap();
    assert_said(&output, 4, &["limit on open files"]);
    assert!(!daemon.socket().exists(), "it left its socket");
}

#[test]
fn a_client_without_address_space_blames_nobody_else() {
    let daemon = Daemon::start(PROGRAM, SMALL, "256MiB");
    let output = limited("-v 100000", &l1ctl(&daemon)).output().unwrap();
    assert_said(&output, 4, &["mapping the table failed", "process's limits"]);
    let output = limited("-n 4", &l1ctl(&daemon)).output().unwrap();
    assert_said(&output, 4, &["open files", "process's limits"]);
    let output = limited("-n 5", &l1ctl(&daemon)).output().unwrap();
    assert_said(&output, 4, &["open files", "process's limits"]);
}

/// The daemon closes without reading the request, often before that is sent.
#[test]
fn a_full_daemon_says_that_it_is_full() {
    let daemon = Daemon::start(PROGRAM, &format!("[daemon]\nclients_max = 8\n{SMALL}"), "16MiB");
    let open: Vec<_> = (0..8).map(|_| UnixStream::connect(daemon.socket()).unwrap()).collect();
    until("the daemon to be full", || connect(&daemon).is_err().then_some(()));
    for _ in 0..500 {
        let error = connect(&daemon).expect_err("it let one in");
        assert!(
            matches!(&error, Error::Busy { reason } if reason.contains("clients_max")),
            "{error}"
        );
    }
    let output = l1ctl(&daemon).output().unwrap();
    assert_said(&output, 4, &["clients_max"]);
    drop(open);
    until("a place", || connect(&daemon).ok());
}

#[test]
fn a_daemon_without_descriptors_says_so() {
    let daemon = ended();
    let child = limited("-n 24", &daemon.command()).stderr(Stdio::null()).spawn();
    let mut child = child.unwrap();
    until("the daemon to listen", || UnixStream::connect(daemon.socket()).ok());
    let _open: Vec<_> = (0..32).map(|_| UnixStream::connect(daemon.socket()).unwrap()).collect();
    let error = until("the shortage", || connect(&daemon).err());
    assert!(matches!(&error, Error::Busy { reason } if reason.contains("open files")), "{error}");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn each_reason_not_to_connect_has_its_own_advice() {
    let mut daemon = Daemon::start(PROGRAM, SMALL, "16MiB");
    let advice = |daemon: &Daemon| {
        let builder = Client::builder().socket(daemon.socket());
        builder.deadline(Duration::from_millis(300)).connect().unwrap_err().to_string()
    };
    daemon.stop();
    assert!(advice(&daemon).contains("stopped: try again"), "{}", advice(&daemon));
    daemon.resume();
    daemon.kill();
    assert!(advice(&daemon).contains("start it"), "{}", advice(&daemon));
    std::fs::remove_file(daemon.socket()).unwrap();
    assert!(advice(&daemon).contains("check the socket's path"), "{}", advice(&daemon));
}
