//! A moment by which a call returns, whatever happens.

use crate::error::Error;
use crate::failure::Reason;
use crate::interrupt::{Interrupt, SLICE};
use crate::sentinel::ProcessMark;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// A point in time, the error when it has passed, and what may end the call before.
#[derive(Debug, Clone)]
pub(crate) struct Deadline {
    end: Option<Instant>,
    after: Duration,
    interrupt: Interrupt,
    /// Whose call this is: what asks the program, or handles the signal, may fork.
    process: ProcessMark,
}

impl Deadline {
    /// `after` from now; a duration that no clock can hold never ends.
    pub(crate) fn after(after: Duration) -> Deadline {
        let interrupt = Interrupt::default();
        let (end, process) = (Instant::now().checked_add(after), ProcessMark::own());
        Deadline { end, after, interrupt, process }
    }

    /// The same, for a call that this may end.
    pub(crate) fn with_interrupt(self, interrupt: &Interrupt) -> Deadline {
        Deadline { interrupt: interrupt.clone(), ..self }
    }

    /// The earlier of this one and `after` from now.
    pub(crate) fn at_most(&self, after: Duration) -> Deadline {
        let other = Deadline { process: self.process, ..Deadline::after(after) };
        match (self.end, other.end) {
            (Some(ours), Some(theirs)) if ours <= theirs => self.clone(),
            (_, Some(_)) => other.with_interrupt(&self.interrupt),
            (_, None) => self.clone(),
        }
    }

    /// For a wait under a lock, where the program cannot be asked: if it wants to be, this wait is
    /// no longer than `time`.
    pub(crate) fn under_lock(&self, time: Duration) -> Deadline {
        match self.may_be_interrupted() {
            true => self.at_most(time).with_interrupt(&Interrupt::default()),
            false => self.clone(),
        }
    }

    /// Whether the program wants to be asked.
    pub(crate) fn may_be_interrupted(&self) -> bool {
        self.interrupt.is_set()
    }

    /// How long to wait at once.
    pub(crate) fn slice(&self) -> Duration {
        let remaining = self.remaining();
        if self.may_be_interrupted() { remaining.min(SLICE) } else { remaining }
    }

    /// After a signal, and after each slice of a wait: fails if the program ends the call, and in a
    /// child that it has forked meanwhile. Call it without holding a lock.
    pub(crate) fn go_on(&self) -> Result<(), Reason> {
        match self.interrupt.ends_call() {
            _ if !self.process.is_own() => Err(Reason::Forked),
            true => Err(Reason::Interrupted),
            false => Ok(()),
        }
    }

    /// The time left; zero when it has passed.
    pub(crate) fn remaining(&self) -> Duration {
        match self.end {
            Some(end) => end.saturating_duration_since(Instant::now()),
            None => Duration::MAX,
        }
    }

    pub(crate) fn has_passed(&self) -> bool {
        self.remaining().is_zero()
    }

    pub(crate) fn error(&self, what: &'static str) -> Error {
        Error::Deadline { what, after: self.after }
    }

    /// Waits until `events` are there.
    pub(crate) fn wait(&self, fd: BorrowedFd<'_>, events: PollFlags) -> Result<(), Reason> {
        loop {
            let slice = self.slice();
            if slice.is_zero() {
                return Err(Reason::Deadline);
            }
            // Rounded up: a timeout of 0 ms would spin through the last millisecond.
            let ms = slice.as_millis().saturating_add(1);
            let timeout = PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(fd, events)], timeout) {
                Ok(0) | Err(Errno::EINTR) => self.go_on()?,
                Ok(_) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}
