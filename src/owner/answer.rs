//! Who waits for an answer, and answers that outlive the turn in which they came to be.

use crate::control::{Origin, Replies};
use l1d_client::protocol::frame::MANY_BYTES;
use l1d_client::protocol::{ErrorCode, Response};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Somebody who waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waiter {
    /// The whole answer goes to this origin.
    Origin(Origin),
    /// The answer is one of many that a group collects.
    Member { group: u64, index: usize },
    /// Nobody.
    Nobody,
}

/// An answer that owns its bytes.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    Found { value: Arc<[u8]>, flags: u32, version: u64, ttl: Duration },
    Absent { ttl: Duration },
    Unknown,
    Stored { version: u64, degraded: bool },
    Deleted { existed: bool, degraded: bool },
    Error { code: ErrorCode, message: String },
}

impl Answer {
    pub(super) fn error(code: ErrorCode, message: impl Into<String>) -> Answer {
        Answer::Error { code, message: message.into() }
    }

    fn value_bytes(&self) -> usize {
        if let Answer::Found { value, .. } = self { value.len() } else { 0 }
    }

    fn response(&self) -> Response<'_> {
        match self {
            Answer::Found { value, flags, version, ttl } => {
                Response::Found { value, flags: *flags, version: *version, ttl: *ttl }
            }
            Answer::Absent { ttl } => Response::Absent { ttl: *ttl },
            Answer::Unknown => Response::Unknown,
            Answer::Stored { version, degraded } => {
                Response::Stored { version: *version, degraded: *degraded }
            }
            Answer::Deleted { existed, degraded } => {
                Response::Deleted { existed: *existed, degraded: *degraded }
            }
            Answer::Error { code, message } => Response::Error { code: *code, message },
        }
    }
}

/// Requests for many keys whose answers are not complete.
#[derive(Debug, Default)]
pub(super) struct Groups {
    open: HashMap<u64, Group>,
    next: u64,
}

#[derive(Debug)]
struct Group {
    origin: Origin,
    answers: Vec<Option<Answer>>,
    missing: usize,
}

impl Groups {
    /// A group of `count` answers for `origin`.
    pub(super) fn open(&mut self, origin: Origin, count: usize) -> u64 {
        self.next += 1;
        self.open.insert(self.next, Group { origin, answers: vec![None; count], missing: count });
        self.next
    }

    /// Whoever asked is gone.
    pub(super) fn forget(&mut self, origin: Origin) {
        self.open.retain(|_, group| group.origin != origin);
    }

    /// Gives `answer` to `waiter`; a group that is complete goes out as one response.
    pub(super) fn give(&mut self, waiter: Waiter, answer: &Answer, replies: &mut dyn Replies) {
        match waiter {
            Waiter::Nobody => {}
            Waiter::Origin(origin) => replies.reply(origin, &answer.response()),
            Waiter::Member { group: id, index } => {
                let Some(group) = self.open.get_mut(&id) else { return };
                if let Some(place @ None) = group.answers.get_mut(index) {
                    *place = Some(answer.clone());
                    group.missing -= 1;
                }
                if group.missing == 0
                    && let Some(group) = self.open.remove(&id)
                {
                    // As many of the first as fit; the client asks again for the rest.
                    let mut bytes = 0;
                    let fitting = group.answers.iter().flatten().take_while(|answer| {
                        let fits = bytes < MANY_BYTES;
                        bytes += answer.value_bytes();
                        fits
                    });
                    let answers = fitting.map(Answer::response).collect();
                    replies.reply(group.origin, &Response::Many(answers));
                }
            }
        }
    }
}
