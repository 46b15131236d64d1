//! What can go wrong, and what to do next.

use l1d_wire::protocol::ErrorCode;
use std::path::PathBuf;
use std::time::Duration;

/// Why a call did not do what it was asked. Each text says what happened, to what, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The daemon cannot be reached, or went away before it answered; nothing was changed. Keys in
    /// the table can still be read.
    #[error(
        "no l1d daemon answers at {}: {reason}; start it, or check the socket's path and permissions",
        socket.display()
    )]
    Unavailable {
        /// The daemon's socket.
        socket: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The daemon did not answer in time; nothing was changed by this call.
    #[error(
        "{what} took longer than its deadline of {after:?}; the daemon or a tier is overloaded or \
         stopped: try again, or give the client a longer deadline"
    )]
    Deadline {
        /// What was waited for.
        what: &'static str,
        /// The deadline.
        after: Duration,
    },
    /// The write was sent, and its answer never came: it may have happened or not. It is not sent
    /// again by itself; read the key, or write again if writing twice does no harm.
    #[error("whether the write happened is not known: {reason}; read the key or write it again")]
    UnknownOutcome {
        /// What happened.
        reason: String,
    },
    /// The key is empty or too long, or the value is larger than table or policy allow.
    #[error("{reason}")]
    TooLarge {
        /// Which of them, and what is allowed.
        reason: String,
    },
    /// The daemon refuses this request.
    #[error("the daemon refuses: {reason}")]
    Refused {
        /// What the daemon said.
        reason: String,
    },
    /// A tier below could not answer or take the write. The table is unchanged.
    #[error("a tier failed: {reason}")]
    TierFailed {
        /// What the daemon said.
        reason: String,
    },
    /// Too much is waiting already; nothing was changed.
    #[error("busy: {reason}; try again later")]
    Busy {
        /// What is busy.
        reason: String,
    },
    /// Client and daemon are of different versions.
    #[error("{reason}; use a client and a daemon of one version")]
    WrongProtocol {
        /// What differs.
        reason: String,
    },
    /// What the daemon handed over is no table that this process may trust.
    #[error("the table handed over at {} is not to be trusted: {reason}", socket.display())]
    Untrusted {
        /// The daemon's socket.
        socket: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The daemon is at fault, or what answered is no l1d daemon.
    #[error("the daemon answered what it should not: {reason}; look at its log")]
    Internal {
        /// What it said.
        reason: String,
    },
    /// The operating system refused this process something.
    #[error("{what} failed: {reason}; check the process's limits")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        reason: String,
    },
}

impl Error {
    /// The daemon's own words as an error.
    pub(crate) fn from_daemon(code: ErrorCode, message: &str) -> Error {
        let reason = message.to_owned();
        match code {
            ErrorCode::TooLarge => Error::TooLarge { reason },
            ErrorCode::Refused => Error::Refused { reason },
            ErrorCode::TierFailed => Error::TierFailed { reason },
            ErrorCode::UnknownOutcome => Error::UnknownOutcome { reason },
            ErrorCode::Busy => Error::Busy { reason },
            ErrorCode::WrongProtocol => Error::WrongProtocol { reason },
            ErrorCode::Malformed | ErrorCode::Internal => Error::Internal { reason },
        }
    }

    pub(crate) fn system(what: &'static str, reason: impl std::fmt::Display) -> Error {
        Error::System { what, reason: reason.to_string() }
    }
}
