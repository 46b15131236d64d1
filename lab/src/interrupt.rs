//! Ctrl-C at any moment of an experiment: its processes end, and what it left in /dev/shm goes.

use anyhow::{Context, Result};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::{Pid, getpid, getppid};
use std::io::{IsTerminal, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// As a shell reports a program that SIGINT ended.
const EXIT_CODE: i32 = 130;

static HAPPENED: AtomicBool = AtomicBool::new(false);
static LEFTOVERS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Handles SIGINT, SIGTERM and SIGHUP from here on. To be called before any thread or process is
/// started: all of them inherit that these signals are blocked, so that this process alone decides
/// what a terminal's Ctrl-C, which goes to every process of its group, means.
///
/// # Errors
/// The system gives no thread.
pub fn watch() -> Result<()> {
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
    signals.thread_block().context("cannot block signals")?;
    let wait = move || {
        if signals.wait().is_ok() {
            end();
        }
    };
    std::thread::Builder::new().spawn(wait).context("cannot start a thread for signals")?;
    Ok(())
}

/// Does not return if the experiment has been interrupted: that ends the process soon, and whatever
/// fails meanwhile fails because of it.
pub fn hold_if_interrupted() {
    while HAPPENED.load(Ordering::SeqCst) {
        std::thread::park();
    }
}

/// Has a file or directory removed if the experiment is interrupted. Whoever made it removes it
/// otherwise.
pub fn remove_if_interrupted(path: &Path) {
    LEFTOVERS.lock().unwrap_or_else(PoisonError::into_inner).push(path.to_owned());
}

/// Has the command's process killed when this one ends, however it does. To be started by the
/// main thread: the signal comes when the thread ends that started it.
pub fn die_together(command: &mut Command) {
    let parent = getpid();
    let prepare = move || {
        set_pdeathsig(Signal::SIGKILL)?;
        // The parent may have died before it could be asked for.
        if getppid() != parent {
            return Err(std::io::ErrorKind::NotConnected.into());
        }
        Ok(())
    };
    // SAFETY: between fork and exec only async-signal-safe calls may be made. `prepare` makes the
    // system calls prctl and getppid and allocates nothing: its errors are an errno or a kind.
    unsafe { command.pre_exec(prepare) };
}

/// Ends the process. The main thread may be anywhere; nothing that it holds is waited for.
fn end() -> ! {
    HAPPENED.store(true, Ordering::SeqCst);
    // The latest first, so that none complains about a server that is gone.
    for child in children().into_iter().rev() {
        let _ = kill(child, Signal::SIGKILL);
    }
    for path in LEFTOVERS.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        // What is gone already was removed by its maker.
        let _ =
            if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    }
    // Nobody may be listening any more. The first characters wipe the line that shows progress.
    let wipe = if std::io::stderr().is_terminal() { "\r\x1b[K" } else { "" };
    let text = "l1d-lab: interrupted; its servers and processes are stopped";
    let _ = writeln!(std::io::stderr(), "{wipe}{text}");
    std::process::exit(EXIT_CODE)
}

/// Processes that this one has started and not waited for, by id; servers that other code has
/// started included.
fn children() -> Vec<Pid> {
    let own = getpid().to_string();
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let is_own = |pid: &i32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status
            .lines()
            .find_map(|line| line.strip_prefix("PPid:"))
            .is_some_and(|parent| parent.trim() == own)
    };
    let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let mut own: Vec<i32> = pids.filter(is_own).collect();
    own.sort_unstable();
    own.into_iter().map(Pid::from_raw).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_are_found_until_they_are_waited_for() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
        assert!(children().contains(&pid));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!children().contains(&pid));
    }
}
