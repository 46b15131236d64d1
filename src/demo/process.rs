//! Child processes that never outlive the demo.

use anyhow::{Context, Result};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::unistd::{Pid, getpid, getppid};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

/// A child that is killed when this is dropped, and dies with this process however that dies.
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts a child. Must be called by the thread that lives as long as the demo: a parent-death
    /// signal is sent at the end of the thread that forked.
    pub fn start(command: &mut Command) -> Result<Process> {
        let parent = getpid();
        let prepare = move || {
            // The demo handles these itself and has them blocked, which children inherit. A daemon
            // is stopped by one of them.
            sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
            set_pdeathsig(Signal::SIGKILL)?;
            // The parent may have died before it could be asked for.
            if getppid() != parent {
                return Err(std::io::ErrorKind::NotConnected.into());
            }
            Ok(())
        };
        // SAFETY: between fork and exec only async-signal-safe calls may be made. `prepare` makes
        // the system calls rt_sigprocmask, prctl and getppid, and allocates nothing: its errors are
        // made of an errno or a kind.
        unsafe { command.pre_exec(prepare) };
        // A terminal's Ctrl-C goes to every process of its group; what it means is decided here.
        command.process_group(0);
        let child = command
            .spawn()
            .with_context(|| format!("starting {}", command.get_program().display()))?;
        Ok(Process { child })
    }

    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Asks it to stop, and kills it when it does not within `patience`.
    pub fn stop(&mut self, patience: Duration) {
        let Ok(id) = i32::try_from(self.child.id()) else { return };
        // Not yet waited for, so the id is still this child's.
        if self.ended().is_none() && kill(Pid::from_raw(id), Signal::SIGTERM).is_ok() {
            let end = Instant::now() + patience;
            while self.ended().is_none() && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both do nothing to a child that has ended and been waited for.
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
        // `exec`: what is ignored stays so, and no child of the shell outlives the test.
        let script = "trap '' TERM; exec sleep 1000";
        let mut process = Process::start(Command::new("sh").args(["-c", script])).unwrap();
        process.stop(Duration::from_millis(50));
        drop(process);
    }
}
