//! The ways in which a request to the daemon fails, and their meaning for the caller.

use crate::deadline::Deadline;
use crate::error::{Cause, Error};
use l1d_wire::protocol::EncodeError;
use nix::errno::Errno;
use std::fmt;
use std::io;
use std::path::Path;

/// Reads and writes: decides whether a request may be sent twice, and what its failure means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Intent {
    Read,
    Write,
}

/// Why an exchange failed, and how far it had come.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The request is larger than any frame.
    TooLarge(EncodeError),
    /// The daemon is too old to know this kind of request, which was not sent.
    OldDaemon,
    /// The peer did not receive the whole request, so it has done nothing.
    NotSent(Reason),
    /// The request was sent; no byte of a reply came.
    NoReply(Reason),
    /// The reply was cut off, or makes no sense.
    BadReply(String),
}

/// Why a transfer stopped.
#[derive(Debug)]
pub(crate) enum Reason {
    Deadline,
    System(Errno),
    Closed,
    /// A signal came, and the program ended the call.
    Interrupted,
    /// The call is the parent's of this process, which was forked meanwhile.
    Forked,
    /// The daemon dropped the rest of a reply, because this process took it too slowly.
    Dropped,
}

const OLD_DAEMON: &str = "it is older than this client and does not know this request; nothing was \
                          sent: upgrade the daemon";

impl Failure {
    /// The request may be sent once more, to another daemon or over another connection.
    pub(crate) fn allows_retry(&self, intent: Intent) -> bool {
        match self {
            Failure::NotSent(reason) => !reason.ends_call(),
            Failure::NoReply(reason) => intent == Intent::Read && !reason.ends_call(),
            Failure::TooLarge(_) | Failure::OldDaemon | Failure::BadReply(_) => false,
        }
    }

    /// The error that a call returns, which ended by `deadline` and asked the daemon at `socket`.
    pub(crate) fn into_error(self, intent: Intent, deadline: &Deadline, socket: &Path) -> Error {
        match (self, intent) {
            (Failure::TooLarge(error), _) => Error::TooLarge { reason: error.to_string() },
            (Failure::OldDaemon, _) => Error::Refused { reason: OLD_DAEMON.to_owned() },
            (Failure::NotSent(Reason::Deadline), _) => deadline.error("sending to the daemon"),
            (Failure::NotSent(reason), _) => reason.into_error(socket),
            (Failure::NoReply(Reason::Deadline), Intent::Read) => {
                deadline.error("the daemon's answer")
            }
            (Failure::NoReply(reason), Intent::Read) => reason.into_error(socket),
            (Failure::NoReply(reason), Intent::Write) => {
                Error::UnknownOutcome { reason: reason.to_string(), source: reason.cause() }
            }
            (Failure::BadReply(reason), Intent::Read) => Error::internal(reason),
            (Failure::BadReply(reason), Intent::Write) => Error::unknown_outcome(reason),
        }
    }
}

impl Reason {
    /// There is no time for another attempt, or no wish.
    fn ends_call(&self) -> bool {
        matches!(self, Reason::Deadline | Reason::Interrupted | Reason::Forked)
    }

    /// The error of a daemon at `socket` that cannot be reached.
    pub(crate) fn into_error(self, socket: &Path) -> Error {
        match self {
            Reason::System(
                errno @ (Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::ENOBUFS),
            ) => Error::system("connecting to the daemon", errno),
            Reason::Interrupted => Error::Interrupted,
            reason @ Reason::Forked => Error::System {
                what: "waiting in a forked child",
                reason: format!("{reason}: {}", reason.advice()),
                source: None,
            },
            reason => Error::Unavailable {
                socket: socket.to_owned(),
                reason: format!("{reason}; {}", reason.advice()),
                source: reason.cause(),
            },
        }
    }

    /// What to do about a daemon that cannot be reached for this reason.
    fn advice(&self) -> &'static str {
        match self {
            Reason::Deadline => {
                "it is starting, overloaded or stopped: try again, or give the client a longer \
                 deadline"
            }
            Reason::Closed | Reason::System(Errno::EPIPE | Errno::ECONNRESET) => {
                "it has ended, or has dropped this client: try again, and look at its log"
            }
            Reason::Dropped => "take answers sooner, or ask for less at once",
            Reason::Interrupted => "make the call again if the answer is still wanted",
            Reason::Forked => "ask again",
            Reason::System(Errno::ENOENT | Errno::ENOTDIR | Errno::ECONNREFUSED) => {
                "start it, or check the socket's path (L1D_SOCKET)"
            }
            Reason::System(Errno::EACCES | Errno::EPERM) => {
                "this user may not connect: join the socket's group, or set socket_mode in the \
                 daemon's configuration"
            }
            Reason::System(_) => "check the socket's path and the daemon's log",
        }
    }
}

impl Reason {
    fn cause(&self) -> Option<Cause> {
        match self {
            Reason::System(errno) => Some(Cause::of(io::Error::from(*errno))),
            Reason::Deadline
            | Reason::Closed
            | Reason::Interrupted
            | Reason::Forked
            | Reason::Dropped => None,
        }
    }
}

impl From<Errno> for Reason {
    fn from(errno: Errno) -> Reason {
        Reason::System(errno)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Deadline => f.write_str("no answer within the deadline"),
            Reason::System(errno) => f.write_str(errno.desc()),
            Reason::Closed => f.write_str("the daemon closed the connection"),
            Reason::Interrupted => f.write_str("a signal interrupted the wait for the answer"),
            Reason::Forked => {
                f.write_str("only the parent process, which made the request, gets its answer")
            }
            Reason::Dropped => {
                f.write_str("the daemon dropped an answer that was not taken in time")
            }
        }
    }
}
