//! Children of every kind of a process whose client is in use.
//!
//! A child that shares its parent's memory (`vfork`, `posix_spawn`) must do nothing but `exec`, so
//! what matters is what the program that it becomes inherits: nothing of the client.

use super::daemon;
use super::peer::Peer;
use l1d_client::Client;
use nix::libc;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// The hazard: a pre-fork server's worker answers with another worker's value, waits for a lock that
/// its parent held, or keeps its parent's connection open.
#[test]
fn children_of_every_kind_are_clients_of_their_own() {
    let mut daemon = daemon();
    daemon.restart();
    let mut parent = Peer::start(&[], &daemon.socket());
    assert_eq!(parent.ask("set key value 3600000"), "stored");
    for kind in ["fork", "clone", "clone3", "fork in a thread", "fork in a child", "spawn"] {
        let kind = kind.replace(' ', "-");
        assert_eq!(parent.ask(&format!("children {kind}")), "all right", "{kind}");
        assert_eq!(parent.ask("get key"), "value", "the parent after {kind}");
    }
    // The children's mailboxes have gone with them.
    let client = test_support::daemon::connect(&daemon);
    test_support::servers::until("the children's connections to end", || {
        let clients: serde_json::Value =
            serde_json::from_str(&client.admin().clients_json().unwrap()).unwrap();
        let pids = clients["clients"].as_array().unwrap().iter().map(|client| &client["pid"]);
        let mut others = pids.filter(|pid| **pid != parent.id() && **pid != std::process::id());
        others.next().is_none().then_some(())
    });
}

/// In the peer: has some children of this kind use the client, at the same time as itself.
pub fn children(client: &Client, kind: &str) -> String {
    if kind == "spawn" {
        return spawned();
    }
    let begin = || match kind {
        "clone" => clone(client),
        "clone3" => clone3(client),
        "fork-in-a-thread" => {
            std::thread::scope(|scope| scope.spawn(|| fork(|| work(client))).join().unwrap())
        }
        "fork-in-a-child" => fork(|| outcome(fork(|| work(client))) | work(client)),
        _ => fork(|| work(client)),
    };
    let children: Vec<Pid> = (0..4).map(|_| begin()).collect();
    let own = work(client);
    let outcomes: Vec<i32> = children.into_iter().map(outcome).collect();
    match own | outcomes.iter().fold(0, |all, one| all | one) {
        0 => "all right".to_owned(),
        _ => format!("{own} in the parent, {outcomes:?} in its children"),
    }
}

/// What every process does; 0 if all is well.
fn work(client: &Client) -> i32 {
    let own = format!("of {}", std::process::id());
    for _ in 0..50 {
        if client.peek("key").as_deref() != Some(b"value") {
            return 1;
        }
        if client.set(&own, &own).is_err() {
            return 2;
        }
        if !matches!(client.get(&own), Ok(Some(value)) if *value == *own.as_bytes()) {
            return 4;
        }
        if !matches!(client.get("missing"), Ok(None)) {
            return 8;
        }
    }
    0
}

fn fork(work: impl FnOnce() -> i32) -> Pid {
    // SAFETY: the child runs `work`, with memory that the C library keeps usable, and ends at once.
    match unsafe { libc::fork() } {
        0 => end(work),
        child => Pid::from_raw(child),
    }
}

/// A child that the C library does not know of, as container runtimes make them.
fn clone(client: &Client) -> Pid {
    // SAFETY: without a stack and without CLONE_VM this is a fork. No other thread of this process
    // holds a lock of the allocator: the harness's main thread waits for this one.
    match unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) } {
        0 => end(|| work(client)),
        child => Pid::from_raw(i32::try_from(child).unwrap()),
    }
}

fn clone3(client: &Client) -> Pid {
    // flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls
    let arguments = [0, 0, 0, 0, u64::from(libc::SIGCHLD.unsigned_abs()), 0, 0, 0];
    // SAFETY: as in `clone`; the kernel reads the arguments, whose size it is told.
    let child =
        unsafe { libc::syscall(libc::SYS_clone3, arguments.as_ptr(), size_of_val(&arguments)) };
    match child {
        0 => end(|| work(client)),
        child => Pid::from_raw(i32::try_from(child).unwrap()),
    }
}

/// Ends a child without unwinding into its parent's threads.
fn end(work: impl FnOnce() -> i32) -> ! {
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    // SAFETY: ends the child at once, without the parent's exit handlers.
    unsafe { libc::_exit(outcome.unwrap_or(101)) }
}

fn outcome(child: Pid) -> i32 {
    match waitpid(child, None) {
        Ok(WaitStatus::Exited(_, outcome)) => outcome,
        _ => 64,
    }
}

/// A program that a client starts has no descriptor of it: neither its socket nor the table or the
/// mailbox.
fn spawned() -> String {
    let list = || {
        let mut command = Command::new("ls");
        command.args(["-l", "/proc/self/fd"]);
        command
    };
    // The standard library uses posix_spawn, which is vfork and exec. With something to do in
    // between, it uses fork and exec.
    let mut forked = list();
    // SAFETY: nothing is done in the child.
    unsafe { forked.pre_exec(|| Ok(())) };
    for mut command in [list(), forked] {
        let output = match command.output() {
            Ok(output) if output.status.success() => output,
            other => return format!("{other:?}"),
        };
        let listed = String::from_utf8_lossy(&output.stdout).replace('\n', "; ");
        if ["socket:", "l1d-mailbox", "/table"].iter().any(|part| listed.contains(part)) {
            return listed;
        }
    }
    "all right".to_owned()
}
