//! A moment by which a call returns, whatever happens.

use crate::error::Error;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// A point in time, and the error when it has passed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    end: Option<Instant>,
    after: Duration,
}

impl Deadline {
    /// `after` from now; a duration that no clock can hold never ends.
    pub(crate) fn after(after: Duration) -> Deadline {
        Deadline { end: Instant::now().checked_add(after), after }
    }

    /// The earlier of this one and `after` from now.
    pub(crate) fn at_most(self, after: Duration) -> Deadline {
        let other = Deadline::after(after);
        match (self.end, other.end) {
            (Some(ours), Some(theirs)) if ours <= theirs => self,
            (_, Some(_)) => other,
            (_, None) => self,
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

    /// Waits until `events` are there, `false` when the deadline passed before.
    pub(crate) fn wait(&self, fd: BorrowedFd<'_>, events: PollFlags) -> Result<bool, Errno> {
        loop {
            let remaining = self.remaining();
            if remaining.is_zero() {
                return Ok(false);
            }
            // Rounded up: a timeout of 0 ms would spin through the last millisecond.
            let ms = remaining.as_millis().saturating_add(1);
            let timeout = PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(fd, events)], timeout) {
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => return Ok(true),
                Err(errno) => return Err(errno),
            }
        }
    }
}
