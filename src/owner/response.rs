//! The waiters for answers, and answers that outlive the turn in which they were made.

use crate::doors::{Origin, Replies};
use l1d_wire::protocol::frame::MANY_BYTES;
use l1d_wire::protocol::{ErrorCode, NotChanged, Response};
use rapidhash::RapidHashMap;
use std::sync::Arc;
use std::time::Duration;

/// The receiver of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waiter {
    /// The whole answer goes to this origin.
    Origin(Origin),
    /// The answer is one of many that a group collects.
    Member { group: u64, index: usize },
    /// The answer is dropped.
    Nobody,
}

/// An answer that owns its bytes.
#[derive(Debug, Clone)]
pub(super) enum OwnedResponse {
    Found { value: Arc<[u8]>, flags: u32, version: u64, ttl: Duration },
    Absent { ttl: Duration },
    Unknown,
    Stored { version: u64, degraded: bool, life: Option<Duration> },
    Deleted { existed: bool, degraded: bool },
    Changed { version: u64, number: Option<i64>, degraded: bool, life: Option<Duration> },
    NotChanged { reason: NotChanged },
    Reserved { token: u64 },
    Loading { token: u64 },
    Done,
    Error { code: ErrorCode, message: String },
}

impl OwnedResponse {
    pub(super) fn error(code: ErrorCode, message: impl Into<String>) -> OwnedResponse {
        OwnedResponse::Error { code, message: message.into() }
    }

    /// Whether it answers an operation or another change that was carried out.
    pub(super) fn is_change(&self) -> bool {
        matches!(
            self,
            OwnedResponse::Stored { .. }
                | OwnedResponse::Deleted { .. }
                | OwnedResponse::Changed { .. }
                | OwnedResponse::Found { .. }
        )
    }

    fn value_bytes(&self) -> usize {
        if let OwnedResponse::Found { value, .. } = self { value.len() } else { 0 }
    }

    pub(super) fn response(&self) -> Response<'_> {
        match self {
            OwnedResponse::Found { value, flags, version, ttl } => {
                Response::Found { value, flags: *flags, version: *version, ttl: *ttl }
            }
            OwnedResponse::Absent { ttl } => Response::Absent { ttl: *ttl },
            OwnedResponse::Unknown => Response::Unknown,
            OwnedResponse::Stored { version, degraded, life } => {
                Response::Stored { version: *version, degraded: *degraded, life: *life }
            }
            OwnedResponse::Deleted { existed, degraded } => {
                Response::Deleted { existed: *existed, degraded: *degraded }
            }
            OwnedResponse::Changed { version, number, degraded, life } => {
                let (version, number, degraded) = (*version, *number, *degraded);
                Response::Changed { version, number, degraded, life: *life }
            }
            OwnedResponse::NotChanged { reason } => Response::NotChanged { reason: *reason },
            OwnedResponse::Reserved { token } => Response::Reserved { token: *token },
            OwnedResponse::Loading { token } => Response::Loading { token: *token },
            OwnedResponse::Done => Response::Done,
            OwnedResponse::Error { code, message } => Response::Error { code: *code, message },
        }
    }
}

/// Requests for many keys whose answers are not complete.
#[derive(Debug, Default)]
pub(super) struct Groups {
    open: RapidHashMap<u64, Group>,
    next: u64,
}

#[derive(Debug)]
struct Group {
    origin: Origin,
    answers: Vec<Option<OwnedResponse>>,
    missing: usize,
    /// Bytes of the values so far.
    bytes: usize,
}

impl Groups {
    /// A group of `count` answers for `origin`.
    pub(super) fn open(&mut self, origin: Origin, count: usize) -> u64 {
        self.next += 1;
        let group = Group { origin, answers: vec![None; count], missing: count, bytes: 0 };
        self.open.insert(self.next, group);
        self.next
    }

    /// The connection that waits for an answer, if it has not gone.
    pub(super) fn connection(&self, waiter: Waiter) -> Option<Origin> {
        match waiter {
            Waiter::Origin(origin) => Some(origin.connection()),
            Waiter::Member { group, .. } => {
                self.open.get(&group).map(|group| group.origin.connection())
            }
            Waiter::Nobody => None,
        }
    }

    /// A group has as many bytes as one response carries: further answers would not be sent.
    pub(super) fn is_full(&self, id: u64) -> bool {
        self.open.get(&id).is_some_and(|group| group.bytes >= MANY_BYTES)
    }

    /// Ends the group after its first `count` answers.
    pub(super) fn cut(&mut self, id: u64, count: usize, replies: &mut dyn Replies) {
        let Some(group) = self.open.get_mut(&id) else { return };
        let behind = group.answers.drain(count.min(group.answers.len())..);
        group.missing -= behind.filter(Option::is_none).count();
        if group.missing == 0 {
            self.send(id, replies);
        }
    }

    /// Forgets the groups of a client that has gone.
    pub(super) fn forget(&mut self, origin: Origin) {
        self.open.retain(|_, group| group.origin != origin);
    }

    /// Gives `answer` to `waiter`; a group that is complete is sent as one response.
    pub(super) fn give(
        &mut self,
        waiter: Waiter,
        answer: &OwnedResponse,
        replies: &mut dyn Replies,
    ) {
        match waiter {
            Waiter::Nobody => {}
            Waiter::Origin(origin) => replies.reply(origin, &answer.response()),
            Waiter::Member { group: id, index } => {
                let Some(group) = self.open.get_mut(&id) else { return };
                if let Some(place @ None) = group.answers.get_mut(index) {
                    *place = Some(answer.clone());
                    group.missing -= 1;
                    group.bytes += answer.value_bytes();
                }
                if group.missing == 0 {
                    self.send(id, replies);
                }
            }
        }
    }

    fn send(&mut self, id: u64, replies: &mut dyn Replies) {
        let Some(group) = self.open.remove(&id) else { return };
        // The first answers that fit; the client asks again for the rest.
        let mut bytes = 0;
        let fitting = group.answers.iter().flatten().take_while(|answer| {
            let fits = bytes < MANY_BYTES;
            bytes += answer.value_bytes();
            fits
        });
        let answers = fitting.map(OwnedResponse::response).collect();
        replies.reply(group.origin, &Response::Many(answers));
    }
}
