//! Access control through real daemons and real users: who may do what through which door, before
//! and after a reload; quotas; passwords; values that must not be seen.

mod matrix;
mod passwords;
mod quotas;
mod secrets;
mod users;

use l1d_client::Client;
use serde_json::Value;
use std::process::{Command, Output};
use test_support::daemon::Daemon;

const PROGRAM: &str = env!("CARGO_BIN_EXE_l1d");
const SMALL: &str = "[table]\nvalue_bytes_max = \"64KiB\"\n";

fn l1ctl(daemon: &Daemon, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_l1ctl"));
    command.arg("--socket").arg(daemon.socket()).args(arguments).output().unwrap()
}

fn stats(client: &Client) -> Value {
    serde_json::from_str(&client.admin().stats_json().unwrap()).unwrap()
}

fn figure(client: &Client, path: &str) -> u64 {
    let stats = stats(client);
    stats.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {path}: {stats:#}"))
}
