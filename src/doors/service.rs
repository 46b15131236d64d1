//! The interface between the doors and the owner.

use super::Origin;
use crate::access::{Grant, Quota};
use crate::manager::Reloads;
use crate::reactor::Readiness;
use l1d_wire::protocol::{Request, Response};
use l1d_wire::snapshot::{ClientFigures, Totals};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// The process at the other end of a connection, by SO_PEERCRED when it was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Process; 0 if it is in another pid namespace. For logs only: it may be reused.
    pub pid: i32,
    /// Its rights, by the access rules in force.
    pub grant: Grant,
}

/// A client's rights, and its user's limits; `None`: it may not connect.
pub type Admission = Option<(Grant, Quota)>;

/// Takes replies, in the turn of the request or in any later one. Each request gets one, except for
/// sets that want none. A reply to an origin that is gone, or that has no request pending, is
/// dropped.
pub trait Replies {
    /// Replies to `origin`.
    fn reply(&mut self, origin: Origin, response: &Response<'_>);

    /// Replies to an attach, and passes the table's read-only descriptor along. Only this attaches
    /// a client: an attach that gets a reply without a table ends the connection.
    fn reply_with_table(&mut self, origin: Origin, response: &Response<'_>, table: BorrowedFd<'_>);

    /// The access rules have changed: asks `admit` again about each client. Those that may not
    /// connect any more lose their connections.
    fn readmit(&mut self, admit: &mut dyn FnMut(&Peer, BorrowedFd<'_>) -> Admission) {
        let _ = admit;
    }

    /// Figures of each attached client.
    fn clients(&self) -> Vec<ClientFigures> {
        Vec::new()
    }

    /// Figures of all clients, including those that have disconnected.
    fn totals(&self) -> Totals {
        Totals::default()
    }
}

/// The owner, as the doors and the event loop see it.
pub trait Service {
    /// A client has connected over `stream`.
    ///
    /// # Errors
    /// It may not; the text is for the client.
    fn admit(&mut self, peer: &Peer, stream: BorrowedFd<'_>) -> Result<(Grant, Quota), String> {
        let _ = (peer, stream);
        Ok((Grant::ROOT, Quota::default()))
    }

    /// The user of `peer` has reached its limit of this name, which is `most`.
    fn reached_quota(&mut self, peer: &Peer, limit: &'static str, most: usize) {
        let _ = (peer, limit, most);
    }

    /// Handles one request. `origin` has no other request pending, except for sets that want no
    /// reply.
    fn request(
        &mut self,
        origin: Origin,
        peer: &Peer,
        request: Request<'_>,
        replies: &mut dyn Replies,
    );

    /// Prefetches the index lines that `request` will need; it is one of the next few.
    fn prefetch_index(&mut self, request: &Request<'_>) {
        let _ = request;
    }

    /// Prefetches the entry that `request` will need, by its index lines. Called for each request
    /// of a batch after all had their index lines prefetched.
    fn prefetch_entry(&mut self, request: &Request<'_>) {
        let _ = request;
    }

    /// A batch of requests follows, up to [`end`](Self::end): whatever holds for all of them, such
    /// as the time, can be looked up once.
    fn begin(&mut self) {}

    /// The batch is over.
    fn end(&mut self) {}

    /// The requester `origin` has gone. Its requests may still be carried out.
    fn gone(&mut self, origin: Origin);

    /// A client reports `times` hits of the key with this hash. Neither can be trusted.
    fn hit(&mut self, hash: u64, times: u32) {
        let _ = (hash, times);
    }

    /// Returns whether requests are taken out of mailboxes. While they are not, they stay in the
    /// ring, and a client whose ring is full waits or gets "busy".
    fn takes_more(&self) -> bool {
        true
    }

    /// The same for a client's mailbox: its user may have as much under way as it may, and the
    /// others have not.
    fn takes_more_of(&self, peer: &Peer) -> bool {
        let _ = peer;
        self.takes_more()
    }

    /// The daemon was told to read its configuration again.
    fn reload(&mut self, replies: &mut dyn Replies) {
        let _ = replies;
    }

    /// Reloads of the configuration.
    fn reloads(&self) -> Reloads {
        Reloads::default()
    }

    /// The descriptor that the service has registered as
    /// [`Token::CONFIG`](crate::reactor::Token::CONFIG) is ready.
    fn config_ready(&mut self, replies: &mut dyn Replies) {
        let _ = replies;
    }

    /// The descriptor that the service has registered as
    /// [`Token::tier(number)`](crate::reactor::Token::tier) is ready.
    fn tier_ready(&mut self, number: u64, readiness: Readiness, replies: &mut dyn Replies) {
        let _ = (number, readiness, replies);
    }

    /// Sends what this turn's requests have queued for the tiers: the last call of a turn before
    /// the loop waits. Returns the tiers' next deadline.
    fn advance_tiers(&mut self, now: Instant, replies: &mut dyn Replies) -> Option<Instant> {
        let _ = (now, replies);
        None
    }

    /// Whether a tier's reply is expected so soon that polling for it beats sleeping.
    fn should_poll(&self, now: Instant) -> bool {
        let _ = now;
        false
    }

    /// Whether no job is under way at the tiers.
    fn is_idle(&self) -> bool {
        true
    }

    /// Does a bounded amount of background work, at the beginning of a turn. Returns when it wants
    /// to be called again at the latest.
    fn turn(&mut self, now: Instant, replies: &mut dyn Replies) -> Option<Instant>;

    /// A turn of the event loop took `took`, without its wait.
    fn turned(&mut self, took: Duration) {
        let _ = took;
    }
}
