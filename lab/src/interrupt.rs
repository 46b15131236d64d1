//! Ctrl-C at any moment of an experiment: ends its processes and removes its files in /dev/shm.

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

/// The exit code that a shell reports for a program ended by SIGINT.
const EXIT_CODE: i32 = 130;

static HAPPENED: AtomicBool = AtomicBool::new(false);
static LEFTOVERS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Handles SIGINT, SIGTERM and SIGHUP from now on. Must be called before any thread or process is
/// started: they inherit the blocked signals, so that this process alone handles a Ctrl-C, which
/// the terminal sends to the whole process group.
///
/// # Errors
/// The system cannot start a thread. The system gives no thread.
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

/// Does not return if the experiment has been interrupted: the process is about to end, and
/// failures meanwhile are a consequence of that.
pub fn hold_if_interrupted() {
    while HAPPENED.load(Ordering::SeqCst) {
        std::thread::park();
    }
}

/// Registers a file or directory to be removed if the experiment is interrupted. Otherwise its
/// creator removes it.
pub fn remove_if_interrupted(path: &Path) {
    LEFTOVERS.lock().unwrap_or_else(PoisonError::into_inner).push(path.to_owned());
}

/// Makes the kernel kill the command's process when this one ends in any way. Must be started by
/// the main thread: the signal comes when the thread that started it ends.
pub fn die_together(command: &mut Command) {
    let parent = getpid();
    let prepare = move || {
        set_pdeathsig(Signal::SIGKILL)?;
        // The parent may have died before prctl was called.
        if getppid() != parent {
            return Err(std::io::ErrorKind::NotConnected.into());
        }
        Ok(())
    };
    // SAFETY: between fork and exec only async-signal-safe calls are allowed. `prepare` makes the
    // system calls prctl and getppid and allocates nothing: its errors are an errno or a kind.
    unsafe { command.pre_exec(prepare) };
}

/// Ends the process. The main thread may be anywhere; locks that it holds are not waited for.
fn end() -> ! {
    HAPPENED.store(true, Ordering::SeqCst);
    // Latest first, so that none complains about a server that is gone.
    for child in children().into_iter().rev() {
        let _ = kill(child, Signal::SIGKILL);
    }
    for path in LEFTOVERS.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        // A file that is gone was removed by its creator.
        let _ =
            if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    }
    // The terminal may be gone. The first characters erase the progress line.
    let wipe = if std::io::stderr().is_terminal() { "\r\x1b[K" } else { "" };
    let text = "l1d-lab: interrupted; its servers and processes are stopped";
    let _ = writeln!(std::io::stderr(), "{wipe}{text}");
    std::process::exit(EXIT_CODE)
}

/// Ids of the unreaped child processes of this one, including servers started by other crates.
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
