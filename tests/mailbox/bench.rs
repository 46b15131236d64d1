//! A daemon, its clients, and its figures about them.

use l1d_client::{Client, ClientBuilder, Lifetime, SetOptions};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use serde_json::Value;
use std::sync::{Mutex, MutexGuard, PoisonError};
use test_support::daemon::Daemon;
use test_support::servers::PATIENCE;

pub const NO_WAIT: SetOptions =
    SetOptions { lifetime: Lifetime::Rule, flags: 0, write: None, no_wait: true };

/// Starts a daemon; `rest` follows the configuration of the table.
pub fn start(rest: &str) -> Daemon {
    let config = format!("[table]\nvalue_bytes_max = \"64KiB\"\n{rest}");
    Daemon::start(env!("CARGO_BIN_EXE_l1d"), &config, "16MiB")
}

pub fn builder(daemon: &Daemon) -> ClientBuilder {
    Client::builder().socket(daemon.socket()).deadline(PATIENCE).attach_deadline(PATIENCE)
}

pub fn connect(daemon: &Daemon) -> Client {
    builder(daemon).connect().unwrap()
}

/// A client for the figures. It has no mailbox, because that would have figures too.
pub fn observer(daemon: &Daemon) -> Client {
    builder(daemon).mailbox(false).connect().unwrap()
}

/// The figures of all clients with a mailbox.
pub fn clients(observer: &Client) -> Vec<Value> {
    let told: Value = serde_json::from_str(&observer.admin().clients_json().unwrap()).unwrap();
    let clients = told["clients"].as_array().unwrap().iter();
    clients.filter(|client| client["has_mailbox"] == true).cloned().collect()
}

/// The count at this path in a client's figures.
pub fn figure(client: &Value, at: &str) -> u64 {
    client.pointer(at).and_then(Value::as_u64).expect("a figure")
}

/// How often a thread of this process has gone to sleep voluntarily.
pub fn sleeps(thread: Pid) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/self/task/{thread}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.expect("the line").trim().parse().unwrap()
}

/// Two processors that this thread may run on.
pub fn two_processors() -> Option<[usize; 2]> {
    let all = sched_getaffinity(Pid::from_raw(0)).unwrap();
    let mut found = (0..CpuSet::count()).filter(|cpu| all.is_set(*cpu).unwrap());
    let two = found.next().zip(found.next());
    if two.is_none() {
        eprintln!("skipped: there is one processor only");
    }
    two.map(|(one, other)| [one, other])
}

/// A lock for tests that want the same two processors.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Pins this thread to a processor, and with it everything that it starts from now on.
pub fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu).unwrap();
    sched_setaffinity(Pid::from_raw(0), &set).unwrap();
}
