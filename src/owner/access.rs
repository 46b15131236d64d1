//! Rights and limits of the client that is being served.

use super::response::OwnedResponse;
use super::{Owner, admin};
use crate::access::{Access, Grant, Quota, Refusals, Right, identity_of};
use crate::doors::{Origin, Peer, Replies};
use l1d_wire::protocol::{ErrorCode, Identity, Request};
use std::os::fd::BorrowedFd;

/// Bytes of a key that a refusal shows where no rule of the policy tells its prefix.
const PREFIX_BYTES: usize = 32;

/// The rules in force, and who is being served.
#[derive(Debug)]
pub(super) struct Guard {
    pub(super) access: Access,
    refusals: Refusals,
    pub(super) peer: Peer,
}

impl Guard {
    pub(super) fn new() -> Guard {
        let peer = Peer { uid: 0, gid: 0, pid: 0, grant: Grant::NOBODY };
        Guard { access: Access::default(), refusals: Refusals::default(), peer }
    }

    pub(super) fn quota(&self) -> Quota {
        self.access.rights(self.peer.grant).quota
    }
}

impl Owner {
    /// Rules for the clients that connect from now on.
    pub fn set_access(&mut self, access: Access) {
        self.guard.access = access;
    }

    /// The rules have changed: they hold for the clients that are connected, too.
    pub(super) fn follow_access(&mut self, access: &Access, replies: &mut dyn Replies) {
        if self.guard.access == *access {
            return;
        }
        self.guard.access = access.clone();
        replies.readmit(&mut |peer, stream| self.admission(peer, stream).ok());
    }

    /// The rights and limits of a client that has connected.
    ///
    /// # Errors
    /// It may not connect; the text for it says why.
    pub(super) fn admission(
        &mut self,
        peer: &Peer,
        stream: BorrowedFd<'_>,
    ) -> Result<(Grant, Quota), String> {
        let access = &self.guard.access;
        let who = identity_of(stream, (peer.uid, peer.gid), access.asks_for_groups());
        let grant = access.grant(&who);
        let rights = access.rights(grant);
        if rights.attach {
            return Ok((grant, rights.quota));
        }
        let refusal = access.refusal((peer.uid, grant), Right::Attach, "");
        self.count_denial(peer, Right::Attach, "");
        Err(refusal)
    }

    /// Checks that the client that is being served has this right, for `key` if it is one for keys.
    ///
    /// # Errors
    /// The answer to a client that has not.
    #[inline]
    pub(super) fn permit(&mut self, right: Right, key: &[u8]) -> Result<(), OwnedResponse> {
        if self.guard.access.rights(self.guard.peer.grant).hold(right, key) {
            return Ok(());
        }
        Err(OwnedResponse::error(ErrorCode::Denied, self.deny(right, key)))
    }

    #[cold]
    fn deny(&mut self, right: Right, key: &[u8]) -> String {
        let keys = match right {
            Right::Attach | Right::Observe | Right::Admin => String::new(),
            Right::Flush if key.is_empty() => "all keys".to_owned(),
            _ => format!("keys like {:?}", self.shown_prefix(key)),
        };
        let peer = self.guard.peer;
        self.count_denial(&peer, right, &keys);
        self.guard.access.refusal((peer.uid, peer.grant), right, &keys)
    }

    fn count_denial(&mut self, peer: &Peer, right: Right, keys: &str) {
        self.counters.denied += 1;
        self.guard.refusals.denied((peer.uid, peer.gid, peer.pid), right, keys);
    }

    /// The user of `peer` has as much under way as it may.
    pub(super) fn count_over_quota(&mut self, peer: &Peer, limit: &'static str, most: usize) {
        self.counters.over_quota += 1;
        self.guard.refusals.over_quota((peer.uid, peer.gid, peer.pid), limit, most);
    }

    /// The answer to a client whose user has as many `what` under way as it may.
    pub(super) fn over_quota(
        &mut self,
        what: &str,
        limit: &'static str,
        most: usize,
    ) -> OwnedResponse {
        let peer = self.guard.peer;
        self.count_over_quota(&peer, limit, most);
        let message = format!(
            "user {} has {most} {what} under way, as many as it may: wait for some to end, or have \
             {limit} raised, in [limits] or in its [[access]] rule",
            peer.uid
        );
        OwnedResponse::error(ErrorCode::Busy, message)
    }

    /// The beginning of a key that a refusal shows: its rule's prefix, or what precedes the first
    /// colon. Not more, because a key may be a secret of its own.
    fn shown_prefix(&self, key: &[u8]) -> String {
        let rule = &self.policy.rule(key).prefix;
        let colon = key.iter().take(PREFIX_BYTES).position(|byte| *byte == b':');
        let own = colon.and_then(|at| key.get(..=at)).unwrap_or_default();
        let longer = if rule.len() >= own.len() { rule } else { own };
        String::from_utf8_lossy(longer).into_owned()
    }

    /// Answers an administrator's request whose right is missing. Returns whether it did.
    pub(super) fn refuse_admin(
        &mut self,
        request: &Request<'_>,
        origin: Origin,
        replies: &mut dyn Replies,
    ) -> bool {
        let has_tiers = self.below.is_some();
        let permitted = match request {
            Request::Flush { prefix } => self.permit(Right::Flush, prefix),
            Request::Clients | Request::Keys { .. } | Request::Check => {
                self.permit(Right::Observe, b"")
            }
            Request::Access { of: Some(_) } => self.permit(Right::Observe, b""),
            Request::Explain { key } => self.permit(Right::Observe, b"").and_then(|()| {
                // The tiers are asked for the key.
                if has_tiers { self.permit(Right::Fetch, key) } else { Ok(()) }
            }),
            Request::ReloadPolicy | Request::Resize { .. } => self.permit(Right::Admin, b""),
            _ => self.permit(Right::Attach, b""),
        };
        match permitted {
            Ok(()) => false,
            Err(answer) => {
                replies.reply(origin, &answer.response());
                true
            }
        }
    }

    /// Answers with the rights of a process; `None`: of the one that asks.
    pub(super) fn tell_access(
        &self,
        of: Option<&Identity>,
        origin: Origin,
        replies: &mut dyn Replies,
    ) {
        let (uid, grant) = match of {
            Some(of) => (of.uid, self.guard.access.grant(of)),
            None => (self.guard.peer.uid, self.guard.peer.grant),
        };
        let mut answer = self.guard.access.json(uid, grant);
        // Where there are tiers, an explanation needs `fetch` for its key.
        answer["explain_asks_tiers"] = self.below.is_some().into();
        admin::reply_json(origin, &answer, replies);
    }

    /// Ends an attach of a client that may no longer attach.
    pub(super) fn refuse_attach(&mut self, origin: Origin, replies: &mut dyn Replies) -> bool {
        let refusal = self.permit(Right::Attach, b"").err();
        if let Some(answer) = &refusal {
            replies.reply(origin, &answer.response());
        }
        refusal.is_some()
    }
}
