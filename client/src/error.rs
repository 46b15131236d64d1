//! Errors, and what to do next.

use l1d_wire::protocol::ErrorCode;
use l1d_wire::words;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Bytes of a key that an error shows.
const KEY_BYTES_SHOWN: usize = 100;

/// Why a call did not do what it was asked. Each text says what happened, to what, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The daemon cannot be reached, or went away before it answered; nothing was changed. Keys in
    /// the table can still be read.
    #[error("no l1d daemon answers at {}: {reason}", socket.display())]
    Unavailable {
        /// The daemon's socket.
        socket: PathBuf,
        /// What happened, and what to do next.
        reason: String,
        /// The error beneath, if there is one.
        source: Option<Cause>,
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
        /// The error beneath, if there is one.
        source: Option<Cause>,
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
    /// The daemon's access rules do not let this process do this. Nothing was changed.
    #[error("not permitted: {reason}")]
    Denied {
        /// What is not permitted, by which rule, and what to do.
        reason: String,
    },
    /// The key's rule never evicts (`evict = "never"`), and its entries have taken its share, so a
    /// new key or a larger value is refused. Nothing was changed.
    #[error("{reason}")]
    Full {
        /// Which rule, and what to do.
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
    /// A signal came while the call waited, and the program's
    /// [`on_interrupt`](crate::ClientBuilder::on_interrupt) ended it; nothing was changed.
    #[error(
        "a signal interrupted the wait for the daemon, and the program ended the call; nothing was \
         changed: make the call again if it is still wanted"
    )]
    Interrupted,
    /// Another process was computing the value of the key, and could not.
    #[error("another process could not load the key: {reason}; try again")]
    LoadFailed {
        /// That process's own words.
        reason: String,
    },
    /// Client and daemon have no version of the protocol in common.
    #[error("{reason}")]
    WrongProtocol {
        /// Their versions, and which of them to upgrade.
        reason: String,
    },
    /// The daemon handed over a table that this process may not trust.
    #[error(
        "the table handed over at {} cannot be trusted: {reason}; check who listens there",
        socket.display()
    )]
    Untrusted {
        /// The daemon's socket.
        socket: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The daemon is at fault, or what answered is no l1d daemon.
    #[error(
        "daemon and client do not understand each other: {reason}; look at the daemon's log, and \
         use releases that fit"
    )]
    Internal {
        /// What it said.
        reason: String,
        /// The error beneath, if there is one.
        source: Option<Cause>,
    },
    /// The daemon is newer than this client and reports a failure of a kind that the client does
    /// not know. A write may have been carried out.
    #[error(
        "the daemon reports a failure that this client has no name for: {reason}; if this was a \
         write, it may have been carried out; upgrade the client"
    )]
    Other {
        /// What the daemon said.
        reason: String,
    },
    /// The destination of a read has no room for the value.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// The operating system refused this process something.
    #[error("{what} failed: {reason}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said, and what to do next.
        reason: String,
        /// The error beneath, if there is one.
        source: Option<Cause>,
    },
}

/// A value was found, and the destination has no room for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the destination has no room for a value of {bytes} bytes; read into a larger one")]
#[non_exhaustive]
pub struct NoRoom {
    /// Bytes of the value.
    pub bytes: usize,
}

/// The error beneath an [`Error`], which `source()` gives.
#[derive(Debug, Clone, thiserror::Error)]
#[error(transparent)]
pub struct Cause(Arc<dyn std::error::Error + Send + Sync>);

impl Cause {
    pub(crate) fn of(error: impl std::error::Error + Send + Sync + 'static) -> Cause {
        Cause(Arc::new(error))
    }

    /// The error itself, to be downcast: a [`std::io::Error`] where the system refused something.
    ///
    /// ```no_run
    /// use l1d_client::Error;
    ///
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// if let Err(Error::Unavailable { source: Some(cause), .. }) = cache.get("market:BTC") {
    ///     let refused = cause.get_ref().downcast_ref::<std::io::Error>();
    ///     println!("{:?}", refused.map(std::io::Error::kind));
    /// }
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    #[must_use]
    pub fn get_ref(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
        &*self.0
    }
}

/// Causes with the same text are equal.
impl PartialEq for Cause {
    fn eq(&self, other: &Cause) -> bool {
        self.to_string() == other.to_string()
    }
}

impl Eq for Cause {}

impl Error {
    /// Whether the same call may succeed later, and repeating it can do no harm: the daemon or a
    /// tier was unreachable, late or busy, and nothing was changed. `false` for
    /// [`UnknownOutcome`](Error::UnknownOutcome) and [`Other`](Error::Other), because only the
    /// caller knows if writing twice does harm, and for [`Interrupted`](Error::Interrupted), whose
    /// caller wanted to stop.
    ///
    /// ```
    /// use l1d_client::Error;
    ///
    /// let busy = Error::Busy { reason: "too many requests are under way".to_owned() };
    /// assert!(busy.is_retryable());
    /// let unknown = Error::UnknownOutcome { reason: "the daemon ended".to_owned(), source: None };
    /// assert!(!unknown.is_retryable());
    /// ```
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::Unavailable { .. }
            | Error::Deadline { .. }
            | Error::TierFailed { .. }
            | Error::LoadFailed { .. }
            | Error::Busy { .. } => true,
            Error::UnknownOutcome { .. }
            | Error::Other { .. }
            | Error::Interrupted
            | Error::TooLarge { .. }
            | Error::Full { .. }
            | Error::Refused { .. }
            | Error::Denied { .. }
            | Error::WrongProtocol { .. }
            | Error::Untrusted { .. }
            | Error::Internal { .. }
            | Error::NoRoom(_)
            | Error::System { .. } => false,
        }
    }

    /// The error of a call for many keys that ends because of this one.
    pub(crate) fn of_key(mut self, key: Option<&[u8]>) -> Error {
        let Some(key) = key else { return self };
        if let Error::TooLarge { reason }
        | Error::Refused { reason }
        | Error::Denied { reason }
        | Error::Full { reason }
        | Error::TierFailed { reason }
        | Error::Busy { reason }
        | Error::Internal { reason, .. }
        | Error::Other { reason } = &mut self
        {
            let shown = String::from_utf8_lossy(key.get(..KEY_BYTES_SHOWN).unwrap_or(key));
            let cut = if key.len() > KEY_BYTES_SHOWN { "..." } else { "" };
            *reason = format!(
                "for the key {shown:?}{cut}: {reason} (lookup_many answers the other keys all the \
                 same)"
            );
        }
        self
    }

    /// The daemon's own words as an error.
    pub(crate) fn from_daemon(code: ErrorCode, message: &str) -> Error {
        let reason = message.to_owned();
        match code {
            ErrorCode::TooLarge => Error::TooLarge { reason },
            ErrorCode::Refused => Error::Refused { reason },
            ErrorCode::Denied => Error::Denied { reason },
            ErrorCode::TierFailed => Error::TierFailed { reason },
            ErrorCode::UnknownOutcome => Error::UnknownOutcome { reason, source: None },
            ErrorCode::Busy => Error::Busy { reason },
            ErrorCode::Full => Error::Full { reason },
            ErrorCode::LoadFailed => Error::LoadFailed { reason },
            ErrorCode::WrongProtocol => Error::WrongProtocol { reason },
            ErrorCode::Other => Error::Other { reason },
            ErrorCode::Malformed | ErrorCode::Internal => Error::Internal { reason, source: None },
        }
    }

    /// A daemon that does not do what it should.
    pub(crate) fn internal(reason: impl Into<String>) -> Error {
        Error::Internal { reason: reason.into(), source: None }
    }

    /// A write that may have happened.
    pub(crate) fn unknown_outcome(reason: impl Into<String>) -> Error {
        Error::UnknownOutcome { reason: reason.into(), source: None }
    }

    /// The system refused `what`.
    pub(crate) fn system(what: &'static str, error: impl Into<io::Error>) -> Error {
        let error = error.into();
        let why = words::of(&error);
        let reason = format!("{why}; check this process's limits on memory and open files");
        Error::System { what, reason, source: Some(Cause::of(error)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;

    #[test]
    fn the_errno_beneath_can_be_found() {
        let error = Error::system("mapping", nix::errno::Errno::ENOMEM);
        let cause = error.source().and_then(|source| source.downcast_ref::<Cause>()).unwrap();
        let beneath = cause.get_ref().downcast_ref::<io::Error>().unwrap();
        assert_eq!(beneath.kind(), io::ErrorKind::OutOfMemory);
        assert!(!error.is_retryable());
    }

    #[test]
    fn only_what_changed_nothing_and_may_pass_is_retryable() {
        let of = |code| Error::from_daemon(code, "").is_retryable();
        assert!(of(ErrorCode::Busy) && of(ErrorCode::TierFailed));
        assert!(!of(ErrorCode::UnknownOutcome) && !of(ErrorCode::TooLarge));
        assert!(!of(ErrorCode::Full) && !of(ErrorCode::Refused) && !of(ErrorCode::Denied));
        assert!(!of(ErrorCode::Internal) && !of(ErrorCode::Other));
    }
}
