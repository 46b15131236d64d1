//! The waiters for answers, and answers that outlive the turn in which they were made.

use crate::doors::{Origin, Replies};
use l1d_wire::protocol::frame::MANY_BYTES;
use l1d_wire::protocol::{ErrorCode, NotChanged, Response};
use rapidhash::RapidHashMap;
use std::sync::Arc;
use std::time::Duration;

/// Bytes of values that may wait for other answers of their requests, for each user. One more is not
/// kept: its request is answered up to there, and the client asks again for the rest.
pub(super) const HELD_OF_USER_MAX: usize = 32 << 20;

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
    /// Bytes of the values in the groups of each user.
    held: RapidHashMap<u32, usize>,
    next: u64,
}

#[derive(Debug)]
struct Group {
    origin: Origin,
    uid: u32,
    answers: Vec<Option<OwnedResponse>>,
    missing: usize,
    /// Bytes of the values so far.
    bytes: usize,
}

impl Group {
    /// How many of the first answers one response carries. Those that are missing may still change
    /// that, to fewer.
    fn fitting(&self) -> usize {
        let mut bytes = 0;
        let fitting = self.answers.iter().take_while(|answer| {
            let fits = bytes < MANY_BYTES;
            bytes += answer.as_ref().map_or(0, OwnedResponse::value_bytes);
            fits
        });
        fitting.count()
    }
}

impl Groups {
    /// A group of `count` answers for `origin`, of this user.
    pub(super) fn open(&mut self, origin: Origin, uid: u32, count: usize) -> u64 {
        self.next += 1;
        let group = Group { origin, uid, answers: vec![None; count], missing: count, bytes: 0 };
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

    /// The group wants no answers from this one on: they would not be sent.
    pub(super) fn ends_before(&self, id: u64, index: usize) -> bool {
        self.open.get(&id).is_none_or(|group| group.answers.len() <= index)
    }

    /// Ends the group after its first `count` answers.
    fn cut(&mut self, id: u64, count: usize, replies: &mut dyn Replies) {
        let Some(group) = self.open.get_mut(&id) else { return };
        let mut bytes = 0;
        for answer in group.answers.drain(count.min(group.answers.len())..) {
            match answer {
                Some(answer) => bytes += answer.value_bytes(),
                None => group.missing -= 1,
            }
        }
        group.bytes -= bytes;
        let (uid, missing) = (group.uid, group.missing);
        self.let_go(uid, bytes);
        if missing == 0 {
            self.send(id, replies);
        }
    }

    /// Forgets the groups of a client that has gone.
    pub(super) fn forget(&mut self, origin: Origin) {
        let gone = self.open.extract_if(|_, group| group.origin == origin);
        let gone: Vec<Group> = gone.map(|(_, group)| group).collect();
        gone.iter().for_each(|group| self.let_go(group.uid, group.bytes));
    }

    #[cfg(test)]
    pub(super) fn holds_nothing(&self) -> bool {
        self.open.is_empty() && self.held.is_empty()
    }

    fn let_go(&mut self, uid: u32, bytes: usize) {
        if let Some(held) = self.held.get_mut(&uid) {
            *held = held.saturating_sub(bytes);
            if *held == 0 {
                self.held.remove(&uid);
            }
        }
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
                let Some(place @ None) = group.answers.get_mut(index) else { return };
                let bytes = answer.value_bytes();
                let held = if bytes > 0 { self.held.entry(group.uid).or_default() } else { &mut 0 };
                // The first is always kept, so that each response brings the client further.
                if index > 0 && bytes > 0 && *held >= HELD_OF_USER_MAX {
                    return self.cut(id, index, replies);
                }
                *held += bytes;
                *place = Some(answer.clone());
                group.missing -= 1;
                group.bytes += bytes;
                if group.missing == 0 {
                    self.send(id, replies);
                } else if group.bytes >= MANY_BYTES {
                    let fitting = group.fitting();
                    self.cut(id, fitting, replies);
                }
            }
        }
    }

    fn send(&mut self, id: u64, replies: &mut dyn Replies) {
        let Some(group) = self.open.remove(&id) else { return };
        self.let_go(group.uid, group.bytes);
        // The client asks again for the rest.
        let fitting = group.answers.iter().flatten().take(group.fitting());
        let answers = fitting.map(OwnedResponse::response).collect();
        replies.reply(group.origin, &Response::Many(answers));
    }
}
