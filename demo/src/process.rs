//! Child processes that never outlive the demo.

use anyhow::{Context, Result};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::unistd::{Pid, getpid, getppid};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

/// A child that is killed when this is dropped, and when this process dies for any reason.
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts a child. Call it from a thread that lives as long as the demo: the kernel sends the
    /// parent-death signal when the thread that forked ends.
    pub fn start(command: &mut Command) -> Result<Process> {
        let parent = getpid();
        let prepare = move || {
            // The demo blocks the signals that it waits for, and children inherit that. The daemon
            // must receive SIGTERM.
            sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
            set_pdeathsig(Signal::SIGKILL)?;
            // The parent may have died before prctl, in which case no signal comes.
            if getppid() != parent {
                return Err(std::io::ErrorKind::NotConnected.into());
            }
            Ok(())
        };
        // SAFETY: between fork and exec only async-signal-safe calls may be made. `prepare` makes
        // the system calls rt_sigprocmask, prctl and getppid, and allocates nothing: its errors are
        // made of an errno or a kind.
        unsafe { command.pre_exec(prepare) };
        // A terminal sends Ctrl-C to the whole foreground process group; only the demo is to react.
        command.process_group(0);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        Ok(Process { child })
    }

    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Its exit status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Asks it to end, and waits at most `patience` for that. Dropping it kills it in any case.
    pub fn stop(&mut self, patience: Duration) {
        let Ok(id) = i32::try_from(self.child.id()) else { return };
        // The child has not been reaped, so the id is still its own.
        if self.ended().is_none() && kill(Pid::from_raw(id), Signal::SIGTERM).is_ok() {
            let end = Instant::now() + patience;
            while self.ended().is_none() && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }
}

/// A command that runs `program`, without the environment that a service manager gave this process.
pub fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    for given in ["NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_USEC"] {
        command.env_remove(given);
    }
    command
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both do nothing if the child has been reaped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_child_is_gone() {
        let process = Process::start(Command::new("sleep").arg("1000")).unwrap();
        let id = Pid::from_raw(i32::try_from(process.child.id()).unwrap());
        assert_eq!(kill(id, None), Ok(()));
        drop(process);
        assert_eq!(kill(id, None), Err(nix::errno::Errno::ESRCH));
    }

    #[test]
    fn a_child_that_does_not_stop_is_killed() {
        // `exec` keeps SIGTERM ignored and leaves no child of the shell that could outlive the
        // test.
        let script = "trap '' TERM; exec sleep 1000";
        let mut process = Process::start(Command::new("sh").args(["-c", script])).unwrap();
        process.stop(Duration::from_millis(50));
        drop(process);
    }
}
