//! The hazard (R9): a process forks while its threads wait for a tier. A child takes an answer of
//! its parent's, waits for a lock that the parent's threads held at the fork, or ends their
//! connection.

use super::{PROGRAM, ROLE};
use l1d_client::{Client, ClientBuilder, Error, SetOptions, WriteMode};
use l1d_wire::snapshot::Snapshot;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, pipe};
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use test_support::daemon::{Daemon, connect};
use test_support::servers::{PATIENCE, Proxy, Server, until};

/// A daemon before a Redis whose replies are held back while the proxy holds them.
struct Slow {
    redis: Server,
    proxy: Arc<Proxy>,
    daemon: Daemon,
    witness: Client,
}

impl Slow {
    fn start() -> Slow {
        let redis = Server::redis();
        let proxy = Proxy::before(&redis);
        let config = format!("[l3]\nurl = \"redis://{}\"\ndeadline = \"30s\"\n", proxy.address());
        let daemon = Daemon::start(PROGRAM, &config, "16MiB");
        let witness = connect(&daemon);
        witness.set_with("in the table", "value", &l1_only()).unwrap();
        Slow { redis, proxy, daemon, witness }
    }

    fn builder(&self, mailbox: bool) -> ClientBuilder {
        let builder = Client::builder().socket(self.daemon.socket()).mailbox(mailbox);
        builder.deadline(PATIENCE).attach_deadline(PATIENCE)
    }

    fn store(&self, key: &str) {
        self.redis.client().resp(&[b"SET", key.as_bytes(), value_of(key).as_bytes()]);
    }

    /// Returns when so many keys have been asked for below.
    fn await_fetches(&self, count: u64) {
        until("all to wait for the tier", || {
            let told = self.witness.admin().stats_json().unwrap();
            let told: Snapshot = serde_json::from_str(&told).unwrap();
            (told.flights.begun >= count).then_some(())
        });
    }

    /// The processes that are clients, and whether they have a mailbox.
    fn clients(&self) -> HashMap<i32, bool> {
        let told = self.witness.admin().clients_json().unwrap();
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        let figures = told["clients"].as_array().unwrap().iter();
        let number = |client: &serde_json::Value| client["pid"].as_i64().unwrap();
        let clients = figures.map(|client| (number(client), client["has_mailbox"] == true));
        clients.map(|(pid, has)| (i32::try_from(pid).unwrap(), has)).collect()
    }
}

fn l1_only() -> SetOptions {
    SetOptions { write: Some(WriteMode::L1Only), ..SetOptions::default() }
}

fn value_of(key: &str) -> String {
    format!("the value of {key}")
}

/// Runs `work` in a child, which ends with its outcome, or by an alarm if it hangs.
fn child(work: impl FnOnce() -> i32) -> Pid {
    // SAFETY: the child runs `work`, with memory that malloc keeps usable after fork, and ends by
    // `_exit`.
    match unsafe { fork() }.unwrap() {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            // SAFETY: a system call without pointers.
            unsafe { libc::alarm(25) };
            let outcome = catch_unwind(AssertUnwindSafe(work));
            // SAFETY: ends the child at once, without the parent's exit handlers.
            unsafe { libc::_exit(outcome.unwrap_or(101)) }
        }
    }
}

fn assert_ended_well(child: Pid) {
    assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0)));
}

/// Gets and sets where no tier is asked; 0 if all is well.
fn use_l1(client: &Client) -> i32 {
    let own = format!("l1 of {}", std::process::id());
    match client.get("in the table") {
        Ok(Some(value)) if *value == *b"value" => {}
        _ => return 1,
    }
    if client.set_with(&own, &own, &l1_only()).is_err() {
        return 2;
    }
    match client.get(&own) {
        Ok(Some(value)) if *value == *own.as_bytes() => 0,
        _ => 3,
    }
}

/// Asks the tier for a key; 0 if that has its own value.
fn ask_tier(client: &Client, key: &str) -> i32 {
    match client.get(key) {
        Ok(Some(value)) if *value == *value_of(key).as_bytes() => 0,
        Ok(_) => 4,
        Err(_) => 5,
    }
}

/// A child that uses L1, tells that it has, and then asks the tier for `key`.
struct Asking {
    pid: Pid,
    told: File,
}

impl Asking {
    fn begin(client: &Client, key: &str) -> Asking {
        let (told, tell) = pipe().unwrap();
        let mut tell = File::from(tell);
        let pid = child(|| {
            let outcome = use_l1(client);
            tell.write_all(b"x").unwrap();
            outcome | ask_tier(client, key)
        });
        Asking { pid, told: File::from(told) }
    }

    fn await_use(&mut self) {
        let mut ends = [PollFd::new(self.told.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut ends, PollTimeout::from(20_000_u16)), Ok(1), "a child hangs");
        assert_eq!(self.told.read(&mut [0]).unwrap(), 1, "a child has ended early");
    }
}

#[test]
fn a_fork_while_requests_wait_leaves_parent_and_children_their_own_answers() {
    for mailbox in [true, false] {
        let slow = Slow::start();
        let client = slow.builder(mailbox).connect().unwrap();
        for key in ["one", "two", "of a child", "of a thread's child"] {
            slow.store(key);
        }
        slow.proxy.hold();
        std::thread::scope(|scope| {
            let waiting = ["one", "two"].map(|key| {
                let client = &client;
                scope.spawn(move || ask_tier(client, key))
            });
            slow.await_fetches(2);
            // Uses nothing, and ends.
            assert_ended_well(child(|| 0));
            let from_a_thread =
                scope.spawn(|| Asking::begin(&client, "of a thread's child")).join().unwrap();
            let mut children = [Asking::begin(&client, "of a child"), from_a_thread];
            children.iter_mut().for_each(Asking::await_use);
            let clients = slow.clients();
            for pid in children.iter().map(|child| child.pid) {
                assert_eq!(clients.get(&pid.as_raw()), Some(&mailbox), "{clients:?}");
            }
            slow.await_fetches(4);
            // A program of its own, by vfork and exec, which fetches what nobody held back.
            slow.witness.set_with("wanted", "value", &l1_only()).unwrap();
            let mut program = Command::new(std::env::current_exe().unwrap());
            program.args(["--exact", "asking_process", "--test-threads=1"]);
            program.env(ROLE, slow.daemon.socket()).stdout(Stdio::null());
            assert!(program.status().unwrap().success());
            assert_eq!(use_l1(&client), 0, "the parent goes on");
            assert!(waiting.iter().all(|thread| !thread.is_finished()), "nobody has answered yet");
            slow.proxy.release();
            let told = waiting.map(|thread| thread.join().unwrap());
            assert_eq!(told, [0, 0], "mailbox: {mailbox}");
            children.iter().for_each(|child| assert_ended_well(child.pid));
        });
    }
}

/// At any time, threads hold the locks of the mailbox, of its lanes and of the pool.
#[test]
fn children_of_a_process_whose_threads_ask_the_tier_all_the_time_do_not_hang() {
    for mailbox in [true, false] {
        let slow = Slow::start();
        let client = slow.builder(mailbox).connections_max(2).connect().unwrap();
        slow.store("again");
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for thread in 0..3 {
                let (client, stop) = (&client, &stop);
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        // What is remembered is deleted, so each asks the tier.
                        let own = format!("nowhere {thread}");
                        assert_eq!(client.get(&own), Ok(None));
                        client.delete(&own).unwrap();
                    }
                });
            }
            let work = || use_l1(&client) | ask_tier(&client, "again");
            let children: Vec<Pid> = (0..20).map(|_| child(work)).collect();
            let outcomes: Vec<_> = children.into_iter().map(|pid| waitpid(pid, None)).collect();
            stop.store(true, Ordering::Relaxed);
            for outcome in outcomes {
                assert!(matches!(outcome, Ok(WaitStatus::Exited(_, 0))), "{outcome:?}");
            }
        });
    }
}

/// A signal's handler that runs while a call waits may fork as well, as the program's function that
/// is asked whether the call goes on: in the child the call has failed, and everything else works.
#[test]
fn a_child_forked_in_the_middle_of_a_call_has_no_part_in_it() {
    for mailbox in [true, false] {
        let slow = Slow::start();
        let (told, tell) = pipe().unwrap();
        let (mut told, tell) = (File::from(told), File::from(tell));
        let is_child = Arc::new(AtomicBool::new(false));
        let has_forked = AtomicBool::new(false);
        let fork_once = {
            let is_child = is_child.clone();
            move || {
                if has_forked.swap(true, Ordering::Relaxed) {
                    return false;
                }
                // SAFETY: the child uses memory that malloc keeps usable after fork, and ends by
                // `_exit`, below.
                match unsafe { fork() }.unwrap() {
                    ForkResult::Parent { child } => {
                        (&tell).write_all(&child.as_raw().to_le_bytes()).unwrap();
                    }
                    ForkResult::Child => {
                        is_child.store(true, Ordering::Relaxed);
                        // SAFETY: a system call without pointers.
                        unsafe { libc::alarm(25) };
                    }
                }
                false
            }
        };
        let client = slow.builder(mailbox).on_interrupt(fork_once).connect().unwrap();
        slow.store("waited for");
        slow.proxy.hold();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let call = || client.get("waited for");
                let answer = catch_unwind(AssertUnwindSafe(call));
                if is_child.load(Ordering::Relaxed) {
                    let is_left = matches!(answer, Ok(Err(Error::System { .. })));
                    let outcome = if is_left { use_l1(&client) } else { 6 };
                    // SAFETY: ends the child at once, without the parent's exit handlers.
                    unsafe { libc::_exit(outcome) }
                }
                answer.unwrap()
            });
            let mut pid = [0; 4];
            told.read_exact(&mut pid).unwrap();
            assert_ended_well(Pid::from_raw(i32::from_le_bytes(pid)));
            assert!(!waiting.is_finished(), "nobody has answered yet");
            slow.proxy.release();
            let answer = waiting.join().unwrap();
            assert_eq!(answer.unwrap().as_deref(), Some(value_of("waited for").as_bytes()));
        });
    }
}
