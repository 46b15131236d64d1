//! The users of a round. They need no entry in any list of users; nobody else should have these
//! ids.

use anyhow::{Context, Result};
use nix::unistd::{Gid, Uid, geteuid, setgid, setgroups, setuid};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// The daemon's user, and its group, whose members may attach.
pub const DAEMON: u32 = 60_421;
pub const MEMBERS: u32 = 60_421;
/// The client that follows the rules.
pub const VICTIM: u32 = 60_422;
/// The attacker, and its own group.
pub const ATTACKER: u32 = 60_423;
pub const NOBODY_ELSE: u32 = 60_423;
/// The daemon of another trust domain, and its group.
pub const OTHER: u32 = 60_424;

/// Whether this process can start others as these users, and look at them; otherwise the reason.
pub fn can_be_used() -> Result<(), String> {
    if !geteuid().is_root() {
        return Err("only root can do that".into());
    }
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "read wait"]).stdin(Stdio::piped()).uid(DAEMON).gid(MEMBERS);
    let mut child = command.spawn().map_err(|error| format!("a process of one: {error}"))?;
    let looked = std::fs::read_dir(format!("/proc/{}/fd", child.id()));
    drop(child.stdin.take());
    let _ = child.wait();
    looked.map(drop).map_err(|error| format!("a look at a process of one: {error}"))
}

/// Makes this process one of a user with one group, for good.
///
/// # Errors
/// Only root can.
pub fn become_user(uid: u32, gid: u32) -> Result<()> {
    setgroups(&[Gid::from_raw(gid)]).context("cannot leave root's groups")?;
    setgid(Gid::from_raw(gid)).context("cannot change the group")?;
    setuid(Uid::from_raw(uid)).context("cannot change the user")
}
