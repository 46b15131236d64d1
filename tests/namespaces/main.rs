//! The hazard: in another namespace, after a jump of a clock or another boot, a client reads what
//! has expired, takes a stranger's table for its own, or is turned away without a word why.
//!
//! With real daemons and clients under `unshare`. What this kernel or user may not do is left out
//! with a line that says so.

mod boot;
mod clocks;
mod forks;
mod peer;
mod places;
mod time;

use std::process::{Command, Stdio};
use test_support::daemon::Daemon;

const PROGRAM: &str = env!("CARGO_BIN_EXE_l1d");
const L1CTL: &str = env!("CARGO_BIN_EXE_l1ctl");

/// A daemon without tiers, not yet started.
fn daemon() -> Daemon {
    Daemon::prepare(PROGRAM, "[table]\nvalue_bytes_max = \"64KiB\"\n", "16MiB")
}

/// Whether this command can be run here; if not, says that `test` is left out.
fn can_run(test: &str, command: &[&str]) -> bool {
    let mut probe = Command::new(command[0]);
    let ran = probe.args(&command[1..]).stdin(Stdio::null()).output();
    let why = match &ran {
        Ok(output) if output.status.success() => return true,
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    // Bypasses the test harness's capture, which swallows what a passing test prints.
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "NOT TESTED: {test}: {}: {why}", command.join(" "));
    false
}
