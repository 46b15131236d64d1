//! A real daemon as a user of its own, in directories that others can look into, as the system's
//! are.

use crate::child::Orders;
use crate::owner;
use crate::users::{ATTACKER, DAEMON, MEMBERS};
use anyhow::{Context, Result};
use std::fs::{self, File, Permissions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use tempfile::TempDir;
use test_support::daemon::{serve, start_ready};

const CONFIG: &str = "[table]\nvalue_bytes_max = \"64KiB\"\n[defaults]\nttl = \"1h\"\n";
const TABLE_SIZE: &str = "32MiB";

/// The daemon; killed, and its files removed, when dropped.
pub struct Stage {
    program: PathBuf,
    uid: u32,
    gid: u32,
    tables: TempDir,
    run: TempDir,
    child: Option<Child>,
    /// Its socket is one that a service manager would pass.
    is_inherited: bool,
}

/// A directory of this user that everybody can look into.
pub fn directory(parent: &Path, uid: u32, gid: u32) -> Result<TempDir> {
    let directory = tempfile::Builder::new().prefix("l1d-attacks-").tempdir_in(parent)?;
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755))?;
    chown(directory.path(), Some(uid), Some(gid))?;
    Ok(directory)
}

impl Stage {
    /// Starts the daemon of the attacks.
    pub fn start(program: &Path) -> Result<Stage> {
        Stage::start_as(program, DAEMON, MEMBERS, false)
    }

    /// Starts a daemon of this user and group.
    pub fn start_as(program: &Path, uid: u32, gid: u32, is_inherited: bool) -> Result<Stage> {
        let shm = Path::new("/dev/shm");
        let memory = if shm.is_dir() { shm.to_owned() } else { std::env::temp_dir() };
        let tables = directory(&memory, uid, gid)?;
        let run = directory(&std::env::temp_dir(), uid, gid)?;
        let program = program.to_owned();
        let mut stage = Stage { program, uid, gid, tables, run, child: None, is_inherited };
        fs::write(stage.run.path().join("l1d.toml"), CONFIG)?;
        stage.restart()?;
        Ok(stage)
    }

    /// Starts it again, and returns when clients can attach.
    pub fn restart(&mut self) -> Result<()> {
        self.child = Some(start_ready(&mut self.command()?, self.run.path())?);
        Ok(())
    }

    /// The command that starts it, as its user, whose way to the program's file may be barred: the
    /// file is opened by root.
    fn command(&self) -> Result<Command> {
        // Not at the place of a descriptor that a service manager passes.
        let file = rustix::io::fcntl_dupfd_cloexec(File::open(&self.program)?, 10)?;
        let at = format!("/proc/self/fd/{}", file.as_raw_fd());
        let mut command = Command::new("/bin/sh");
        // Only the shell knows the daemon's process id, which is its own, beforehand.
        let passes = if self.is_inherited { "export LISTEN_PID=$$ LISTEN_FDS=1; " } else { "" };
        command.arg("-c").arg(format!("{passes}exec \"$0\" \"$@\""));
        command.arg(at);
        serve(&mut command, self.run.path(), &self.tables(), TABLE_SIZE);
        command.env_remove("LISTEN_FDS").env_remove("LISTEN_PID").current_dir(self.run.path());
        command.uid(self.uid).gid(self.gid);
        let passed = self.is_inherited.then(|| self.listener()).transpose()?;
        // SAFETY: only async-signal-safe calls between fork and exec.
        unsafe {
            command.pre_exec(move || {
                // Shared with the parent until the exec; this copy stays open for the program.
                rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty())?;
                match &passed {
                    Some(listener) if listener.as_raw_fd() != 3 => {
                        let result = nix::libc::dup2(listener.as_raw_fd(), 3);
                        if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
                    }
                    Some(listener) => {
                        Ok(rustix::io::fcntl_setfd(listener, rustix::io::FdFlags::empty())?)
                    }
                    None => Ok(()),
                }
            });
        }
        Ok(command)
    }

    fn listener(&self) -> Result<std::os::unix::net::UnixListener> {
        let _ = fs::remove_file(self.socket());
        let listener = std::os::unix::net::UnixListener::bind(self.socket())?;
        chown(self.socket(), Some(self.uid), Some(self.gid))?;
        fs::set_permissions(self.socket(), Permissions::from_mode(0o660))?;
        Ok(listener)
    }

    pub fn socket(&self) -> PathBuf {
        self.run.path().join("l1d.sock")
    }

    /// The directory of the table.
    pub fn tables(&self) -> PathBuf {
        self.tables.path().join("tables")
    }

    pub fn directory(&self) -> &Path {
        self.run.path()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.run.path().join("log")).unwrap_or_default()
    }

    pub fn pid(&self) -> i32 {
        self.child.as_ref().and_then(|child| child.id().try_into().ok()).unwrap_or(0)
    }

    /// What an attacker does once: `name`, with one thread.
    pub fn orders(&self, name: &str) -> Orders {
        Orders {
            name: name.into(),
            uid: ATTACKER,
            gid: MEMBERS,
            socket: self.socket(),
            tables: self.tables(),
            pid: self.pid(),
            ms: 0,
        }
    }

    /// Ends it with a signal, and waits for that.
    pub fn end(&mut self, signal: nix::sys::signal::Signal) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id())?);
            nix::sys::signal::kill(pid, signal).context("the daemon has ended before")?;
            child.wait()?;
        }
        Ok(())
    }

    /// What speaks against its being well, after an attack.
    pub fn faults(&mut self) -> Result<Vec<String>> {
        let mut faults = Vec::new();
        if let Some(child) = &mut self.child
            && let Some(status) = child.try_wait()?
        {
            faults.push(format!("the daemon ended ({status}): {}", self.log()));
            return Ok(faults);
        }
        if self.log().contains("panicked") {
            faults.push(format!("the daemon panicked: {}", self.log()));
        }
        faults.extend(owner::violations(&self.socket())?);
        Ok(faults)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
