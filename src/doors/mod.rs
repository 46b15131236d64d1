//! The control socket: the owner thread's event loop, and the connections of clients.
//!
//! Nothing here blocks but the one `epoll_wait`. What a peer sends is believed only after it was
//! bounded and decoded; a peer that is slow, silent or broken costs a bounded amount of memory and
//! time, and then its connection.
//!
//! | part | place |
//! |---|---|
//! | the control socket: acceptor, connections, bytes in and out | `unix` |
//! | mailboxes, and how long each is polled | `mailbox` |
//! | all connections, their deadlines and memory; where answers go | `peers` |
//! | what is counted of each client | `figures` |
//! | the event loop | `server` |

mod figures;
mod limits;
mod mailbox;
mod peers;
mod server;
#[cfg(test)]
mod tests;
mod unix;

pub use figures::{ClientFigures, Figures, Told, Totals};
pub use limits::Limits;
pub use server::{ControlError, run};

use l1d_client::protocol::{Request, Response};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// Who asked: a connection, or a lane of its mailbox. Unique as long as the daemon lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin(pub u64);

/// Origins count connections in the bits below, lanes from 1 above.
const LANE_SHIFT: u32 = 56;

impl Origin {
    /// A lane of this connection's mailbox.
    fn with_lane(self, lane: u8) -> Origin {
        Origin(self.0 | (u64::from(lane) + 1) << LANE_SHIFT)
    }

    /// The connection, and the lane.
    fn split(self) -> (Origin, Option<u8>) {
        let lane = (self.0 >> LANE_SHIFT).checked_sub(1);
        (Origin(self.0 & ((1 << LANE_SHIFT) - 1)), lane.and_then(|lane| u8::try_from(lane).ok()))
    }
}

/// Who is at the other end of a connection, by SO_PEERCRED when it was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Process; 0 when it is of another pid namespace. For logs only: it may be reused.
    pub pid: i32,
}

/// Takes answers, in the turn in which they were asked for or in any later one. Each request gets
/// one, but for sets that want none; an answer for an origin that is gone or has asked nothing goes
/// nowhere.
pub trait Replies {
    /// Answers `origin`.
    fn reply(&mut self, origin: Origin, response: &Response<'_>);

    /// The same, with the table's read-only descriptor beside it. This, and nothing else, attaches:
    /// a connection whose attach is answered without a table is closed.
    fn reply_with_table(&mut self, origin: Origin, response: &Response<'_>, table: BorrowedFd<'_>);

    /// Figures of each client that has attached.
    fn clients(&self) -> Vec<ClientFigures> {
        Vec::new()
    }

    /// Figures of all of them, and of those that were there before.
    fn totals(&self) -> Totals {
        Totals::default()
    }
}

/// What requests mean.
pub trait Service {
    /// One request. `origin` has no other under way, except sets that want no reply.
    fn request(
        &mut self,
        origin: Origin,
        peer: &Peer,
        request: Request<'_>,
        replies: &mut dyn Replies,
    );

    /// This request will come next but for a few: what it needs of the memory may be asked for.
    fn expect(&mut self, request: &Request<'_>) {
        let _ = request;
    }

    /// The second step, for each of several requests of which the first was taken: what was asked for has
    /// come, and says what else will be needed.
    fn approach(&mut self, request: &Request<'_>) {
        let _ = request;
    }

    /// Several requests follow at once, up to [`end`](Self::end): what holds for all of them, as the
    /// time, need be looked up only once.
    fn begin(&mut self) {}

    /// The last of them was handed over.
    fn end(&mut self) {}

    /// Nobody waits for answers to `origin` any more. What it has asked may still be done.
    fn gone(&mut self, origin: Origin);

    /// A client reports a hit in the table, as the key's hash, which stands for so many. Not to be
    /// believed.
    fn hit(&mut self, hash: u64, times: u32) {
        let _ = (hash, times);
    }

    /// Whether requests from mailboxes are taken. If not, they stay there, and whoever has no room for
    /// more waits or is told so.
    fn takes_more(&self) -> bool {
        true
    }

    /// Another thread has rung.
    fn woken(&mut self, replies: &mut dyn Replies);

    /// Bounded background work. Returns when to be called again at the latest.
    fn turn(&mut self, now: Instant, replies: &mut dyn Replies) -> Option<Instant>;

    /// A turn of the event loop is over, and took so long, waiting left out.
    fn turned(&mut self, took: Duration) {
        let _ = took;
    }
}
