//! What one tier is asked about one key, and what it answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::errors::Fault;
use super::{Operate, Operated};

/// A request about a key.
#[derive(Debug, Clone)]
pub struct Request {
    pub key: Arc<[u8]>,
    pub ask: Ask,
}

/// The question.
#[derive(Debug, Clone)]
pub enum Ask {
    /// The value, its flags, and how long it still lives.
    Get,
    /// Store the value; `None`: without expiry.
    Set { value: Arc<[u8]>, flags: u32, ttl: Option<Duration> },
    /// Store the value if there is none.
    Add { value: Arc<[u8]>, flags: u32, ttl: Duration },
    /// Delete the key.
    Delete,
    /// Carry out an operation in one step. memcached can do so where the operation does not depend
    /// on the bytes of the value.
    Operate(Arc<Operate>),
    /// memcached: the value, its flags, its remaining life, and what identifies it.
    GetUnique,
    /// memcached: carry out an operation if the value is still the one with this number, or there is
    /// still none.
    Condition { unique: Option<u64>, operate: Arc<Operate> },
}

impl Ask {
    pub fn is_read(&self) -> bool {
        matches!(self, Ask::Get | Ask::GetUnique)
    }
}

/// The answer.
#[derive(Debug, Clone)]
pub enum Answer {
    /// The value.
    Hit { value: Arc<[u8]>, flags: u32, remaining: Option<Duration> },
    /// The value, and memcached's number for it.
    Unique { value: Arc<[u8]>, remaining: Option<Duration>, flags: u32, unique: u64 },
    /// The answer to an operation.
    Operated(Operated),
    /// No value. `absent`: the tier has nothing at all under this key.
    Miss { absent: bool },
    /// The value has this many bytes, more than are wanted, and was not kept.
    TooLarge { bytes: u64 },
    /// To be asked again. Ends in the [`Server`](super::server::Server), which does so.
    AskAgain(Again),
    /// Stored, or there was a value already where the request was to add one.
    Stored,
    /// The key is gone.
    Deleted { existed: bool },
    /// The tier refused this very request, and has changed nothing; the text is its own.
    Refused(String),
    /// The tier is not in a state to serve the request, and has changed nothing. Ends in the
    /// [`Server`](super::server::Server), which draws the consequences.
    Faulty(Fault),
    /// The tier has certainly not carried the request out. The text says what to do next.
    NotSent(String),
    /// The tier may have carried the request out.
    Unanswered(String),
}

/// How a request is asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// There is a value: together with its remaining life.
    WithLife,
    /// In an exchange of its own, because one with others failed as a whole, or is large.
    Alone,
    /// For the size of a value that was too large lately.
    Size,
}

/// An answer, and when and over which connection it was asked for.
#[derive(Debug)]
pub struct Reply {
    /// The job that asked; `None` for a fill, which nobody waits for.
    pub ticket: Option<usize>,
    pub answer: Answer,
    /// When the request was sent.
    pub sent_at: Instant,
    /// The tier's epoch when the request was sent.
    pub epoch: u64,
    /// When the request was sent, the server could still carry out an earlier change of the key.
    pub is_in_doubt: bool,
}
