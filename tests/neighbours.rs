//! The hazard: the client of one build and the daemon of another do not work together, where each
//! works with its own kind. `./dev neighbours` builds the previous build's programs and runs this.

#[path = "neighbours/client.rs"]
mod client;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use test_support::daemon::Daemon;
use test_support::servers::Server;

const L1D: &str = env!("CARGO_BIN_EXE_l1d");
const L1CTL: &str = env!("CARGO_BIN_EXE_l1ctl");

/// A program of the previous build.
fn previous(name: &str) -> PathBuf {
    let directory = std::env::var_os("L1D_NEIGHBOURS").expect("run this by ./dev neighbours");
    Path::new(&directory).join(name)
}

/// A daemon with memcached below it, in which is "from-l2".
fn start(program: &Path) -> (Daemon, Server) {
    let memcached = Server::memcached();
    memcached.client().ascii_set("from-l2", 0, 1000, b"below");
    let config = format!(
        "[table]\nvalue_bytes_max = \"400KiB\"\n\n[l2]\naddress = \"{}\"\ndeadline = \"2s\"\n\n\
         [[policy]]\nprefix = \"process:\"\nscope = \"process\"\n",
        memcached.address()
    );
    (Daemon::start(program.to_str().unwrap(), &config, "32MiB"), memcached)
}

/// What happens to the daemon in the client's pauses: `l1ctl` resizes its table, then `next` takes
/// its place.
fn events<'a>(daemon: &'a mut Daemon, l1ctl: &'a Path, next: &'a Path) -> impl FnMut() + use<'a> {
    let mut is_resized = false;
    move || {
        if is_resized {
            assert!(daemon.terminate().success(), "{}", daemon.log());
            daemon.set_program(next.to_str().unwrap());
            daemon.restart();
            return;
        }
        is_resized = true;
        let mut resize = Command::new(l1ctl);
        resize.arg("--socket").arg(daemon.socket()).args(["resize", "64MiB"]);
        let output = resize.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        // The next daemon keeps this size.
        daemon.resize("64MiB");
    }
}

/// Runs the previous build's client, and `event` in its pauses.
fn run_previous_client(socket: &Path, mut event: impl FnMut()) {
    let mut program = Command::new(previous("examples/neighbour"))
        .arg(socket)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = program.stdin.take().unwrap();
    let mut said = Vec::new();
    for line in BufReader::new(program.stdout.take().unwrap()).lines() {
        said.push(line.unwrap());
        if said.last().is_some_and(|line| line == "pause") {
            event();
            input.write_all(b"\n").unwrap();
        }
    }
    assert!(program.wait().unwrap().success());
    assert_eq!(said, ["pause", "pause", "done"]);
}

#[test]
#[ignore = "needs the previous build: ./dev neighbours"]
fn the_previous_client_works_with_this_daemon_and_its_predecessor() {
    let (mut daemon, _memcached) = start(Path::new(L1D));
    let socket = daemon.socket();
    let (l1ctl, next) = (previous("l1ctl"), previous("l1d"));
    run_previous_client(&socket, events(&mut daemon, &l1ctl, &next));
}

#[test]
#[ignore = "needs the previous build: ./dev neighbours"]
fn this_client_works_with_the_previous_daemon_and_its_successor() {
    let (mut daemon, _memcached) = start(&previous("l1d"));
    let socket = daemon.socket();
    client::run(&socket, "this", events(&mut daemon, Path::new(L1CTL), Path::new(L1D)));
}

#[test]
#[ignore = "needs the previous build: ./dev neighbours"]
fn clients_of_both_builds_share_one_table_through_an_upgrade() {
    let (mut daemon, _memcached) = start(&previous("l1d"));
    let socket = daemon.socket();
    let beside = l1d_client::Client::connect(&socket).unwrap();
    let next = PathBuf::from(L1D);
    let l1ctl = previous("l1ctl");
    let mut event = events(&mut daemon, &l1ctl, &next);
    run_previous_client(&socket, || {
        beside.set(b"shared", b"kept").unwrap();
        event();
    });
    // What each has written, the other reads in the table.
    for key in [&b"shared"[..], b"previous:kept"] {
        assert!(beside.get(key).unwrap().is_some());
        assert!(beside.peek(key).is_some());
    }
}
