//! The signals that the daemon acts on, as a descriptor for the event loop. None of them ends the
//! process by itself.

use nix::sys::signal::{self, SigHandler, SigSet};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// A request by signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM or SIGINT: stop.
    Stop,
    /// SIGHUP: read the configuration again.
    Reload,
    /// A signal that would end the process and has no meaning for it.
    Ignored(&'static str),
}

/// A source of signals.
pub trait Signals {
    /// Readable while there is a signal to take.
    fn descriptor(&self) -> BorrowedFd<'_>;

    /// Takes the next signal that has arrived.
    fn next(&self) -> Option<Signal>;
}

/// The signals of this process.
#[derive(Debug)]
pub struct ProcessSignals {
    descriptor: SignalFd,
}

impl ProcessSignals {
    /// Blocks the signals for this thread and takes them from a descriptor instead. Call it before
    /// any other thread starts: threads inherit the mask, and a signal goes to any thread that does
    /// not block it.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn block() -> io::Result<ProcessSignals> {
        let mut signals = SigSet::empty();
        for number in
            [signal::SIGTERM, signal::SIGINT, signal::SIGHUP, signal::SIGUSR1, signal::SIGUSR2]
        {
            signals.add(number);
        }
        signals.thread_block()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let descriptor = SignalFd::with_flags(&signals, flags)?;
        // A file beyond RLIMIT_FSIZE is then an error of the call that would make it so large.
        // SAFETY: no handler is installed, so nothing runs in a signal's context.
        unsafe { signal::signal(signal::SIGXFSZ, SigHandler::SigIgn) }?;
        Ok(ProcessSignals { descriptor })
    }
}

impl Signals for ProcessSignals {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    fn next(&self) -> Option<Signal> {
        let number = self.descriptor.read_signal().ok()??.ssi_signo;
        match signal::Signal::try_from(i32::try_from(number).ok()?).ok()? {
            signal::SIGTERM | signal::SIGINT => Some(Signal::Stop),
            signal::SIGHUP => Some(Signal::Reload),
            other => Some(Signal::Ignored(other.as_str())),
        }
    }
}

/// Each number that is written stands for a stop.
#[cfg(test)]
impl Signals for nix::sys::eventfd::EventFd {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.as_fd()
    }

    fn next(&self) -> Option<Signal> {
        self.read().ok().map(|_| Signal::Stop)
    }
}
