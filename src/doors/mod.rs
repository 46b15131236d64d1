//! The doors: the ways by which clients reach the owner. A client connects to the control socket,
//! and from its attach on sends its requests through a mailbox in shared memory.
//!
//! Nothing here blocks. Whatever a client sends is bounded and decoded before it is trusted. A
//! client that is slow, silent or broken costs a bounded amount of memory and time, and then loses
//! its connection.
//!
//! | part | place |
//! |---|---|
//! | the control socket: acceptor, connections, bytes in and out | `unix` |
//! | mailboxes, and how long each is polled | `mailbox` |
//! | all connections, their deadlines and memory | `peers` |
//! | what the clients of one user have together | `users` |
//! | and what is done for them in a turn | `shares` |
//! | replies, to a socket or a lane | `replies` |
//! | the interface to the owner | `service` |
//! | counts for each client | `figures` |

mod figures;
mod limits;
mod mailbox;
mod origin;
mod peers;
mod replies;
mod service;
mod shares;
#[cfg(test)]
mod tests;
mod unix;
mod users;

pub use limits::Limits;
#[cfg(any(test, fuzzing))]
pub use mailbox::fuzzing::owner as mailbox_owner;
#[cfg(test)]
pub use mailbox::fuzzing::seeds as mailbox_seeds;
pub use origin::Origin;
pub use service::{Admission, Peer, Replies, Service};

use crate::reactor::{Reactor, Readiness};
use peers::Peers;
use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};
use unix::{Acceptor, LISTENER};

/// Bytes received at a time.
const SCRATCH_BYTES: usize = 64 << 10;
/// A user's share of what is done at the sockets is for this long. When it is used up, the daemon
/// does not hurry on to the next one, but sleeps if nobody else wants anything: a process that never
/// sleeps loses its processor to others for milliseconds, and everybody waits with it.
const SHARES_TIME: Duration = Duration::from_millis(1);

/// The control socket and all connections. The event loop calls it in the order of a turn.
#[derive(Debug)]
pub struct Doors<'a> {
    limits: Limits,
    peers: Peers,
    acceptor: Acceptor<'a>,
    /// Counts the turns of the loop.
    turn: u64,
    /// When the last wait ended.
    now: Instant,
    /// When users have their share of what is done at the sockets again.
    shares_end: Instant,
    /// When hit reports were last drained from mailboxes that may have no requests.
    reports_drained: Instant,
    /// A mailbox's next request is expected within the spin.
    expects_requests: bool,
    scratch: Vec<u8>,
}

impl<'a> Doors<'a> {
    /// Serves clients that connect to `listener`.
    ///
    /// # Errors
    /// When the listener cannot be watched, or no descriptor is left.
    pub fn open(
        listener: &'a UnixListener,
        reactor: &'a Reactor,
        limits: Limits,
    ) -> io::Result<Doors<'a>> {
        let now = Instant::now();
        Ok(Doors {
            limits,
            peers: Peers::new(&limits),
            acceptor: Acceptor::new(listener, reactor)?,
            turn: 0,
            now,
            shares_end: now,
            reports_drained: now,
            expects_requests: false,
            scratch: vec![0; SCRATCH_BYTES],
        })
    }

    /// Another turn of the loop begins. A client that makes progress in a turn is not held to a
    /// deadline that passed in it.
    pub fn begin_turn(&mut self) {
        self.turn += 1;
    }

    /// When the last wait ended.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// A wait has ended.
    pub fn set_now(&mut self, now: Instant) {
        self.now = now;
        // A share for each millisecond that has passed; after these many nobody owes anything.
        for _ in 0..shares::OWED_MAX {
            if now < self.shares_end {
                return;
            }
            self.shares_end += SHARES_TIME;
            self.peers.users.at_sockets.begin_turn();
        }
        if now >= self.shares_end {
            self.shares_end = now + SHARES_TIME;
        }
    }

    /// Where the service's replies go.
    pub fn replies(&mut self) -> &mut dyn Replies {
        &mut self.peers
    }

    /// A descriptor that is registered as [`Token::door`](crate::reactor::Token::door) is ready.
    pub fn ready(
        &mut self,
        door: u64,
        readiness: Readiness,
        reactor: &Reactor,
        service: &mut impl Service,
    ) {
        if door == LISTENER {
            self.acceptor.accept(&mut self.peers, (reactor, service), &self.limits, self.now);
        } else if let Some(connection) = self.peers.get_mut(Origin(door)) {
            connection.incoming.notice(readiness);
            self.peers.touch(Origin(door));
        }
    }

    /// Serves each connection that had an event or got a reply, within its budget and its user's.
    pub fn serve_connections(&mut self, reactor: &Reactor, service: &mut impl Service) {
        let touched = self.peers.take_touched();
        while let Some(origin) = self.peers.next_left() {
            if self.peers.watch_again(origin, reactor).is_err() {
                self.close(origin, service);
            } else {
                self.serve_share(origin, reactor, service);
            }
        }
        for origin in touched {
            let is_left = self.peers.users.at_sockets.any_is_spent()
                && self.peers.leave(origin, reactor, self.now);
            if !is_left {
                self.serve_share(origin, reactor, service);
            }
        }
    }

    /// Serves a connection, at its user's expense.
    fn serve_share(&mut self, origin: Origin, reactor: &Reactor, service: &mut impl Service) {
        let moved = |peers: &mut Peers, turn| {
            let connection = peers.get_mut(origin)?;
            Some((connection.peer.uid, connection.progress.bytes(turn)))
        };
        let before = moved(&mut self.peers, self.turn).map_or(0, |(_, bytes)| bytes);
        let served = self.serve(origin, reactor, service);
        if let Some((uid, bytes)) = moved(&mut self.peers, self.turn) {
            self.peers.users.at_sockets.spend_bytes(uid, bytes - before);
        }
        let settled =
            served.and_then(|()| self.peers.settle(origin, reactor, &self.limits, self.now));
        if settled.is_err() {
            self.close(origin, service);
        }
    }

    /// Wakes the clients whose replies have come.
    pub fn wake_sleepers(&mut self) {
        self.peers.wake_sleepers();
    }

    /// Returns whether a connection waits to be served, so that the loop must not sleep.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.peers.has_touched() || self.peers.may_serve_left()
    }

    /// When the doors want the loop to wake at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let share = self.peers.has_left().then_some(self.shares_end);
        let deadlines = [self.peers.next_deadline(), self.acceptor.resumes_at(), share];
        deadlines.into_iter().flatten().min()
    }

    /// Ends the connections of clients that may not connect any more, and what clients have stalled
    /// for too long, or that holds too much memory: in a mailbox the requests and replies that are
    /// incomplete, since other threads of the process have nothing to do with them; otherwise the
    /// connection.
    pub fn enforce_limits(&mut self, service: &mut impl Service) {
        for origin in self.peers.take_expelled() {
            let reason = "the access rules have changed, and it may not connect";
            self.drop_peer(origin, reason, service);
        }
        for (peer, limit, most) in self.peers.take_reached_quotas() {
            service.reached_quota(&peer, limit, most);
        }
        for origin in self.peers.stalled(self.now, self.turn, self.limits.stall) {
            self.relieve(origin, "it kept the daemon waiting too long", service);
        }
        while let Some(origin) = self.peers.hoarder(self.limits.buffer_bytes_max) {
            let reason = "the memory for unread replies and incomplete requests is full";
            self.relieve(origin, reason, service);
        }
        while let Some(origin) = self.peers.hoarder_of_user() {
            let reason = "its user has more unread replies and incomplete requests than it may";
            self.relieve(origin, reason, service);
        }
    }

    fn relieve(&mut self, origin: Origin, reason: &str, service: &mut impl Service) {
        if !self.peers.cut(origin) {
            self.drop_peer(origin, reason, service);
        }
    }

    /// Accepts connections again, if accepting was paused and the pause is over.
    pub fn resume_accepting(&mut self, reactor: &Reactor) {
        self.acceptor.resume(reactor, self.now);
    }

    /// The daemon stops: accepts no more connections, and lets no client send. Those that wait at
    /// the listener stay there for the next daemon, if a service manager holds it. Replies still
    /// reach their clients.
    pub fn hang_up(&mut self, reactor: &Reactor) {
        self.acceptor.stop(reactor);
        // No reply withdraws a request to be rung from now on (S13).
        self.peers.spin = Duration::ZERO;
        for connection in self.peers.values_mut() {
            // A wakeup fails from here on, which tells its sender that nobody reads its request.
            let _ = connection.stream.shutdown(Shutdown::Read);
        }
        // Nothing is received any more, and their hangups would be reported by every wait.
        self.peers.watch_none(reactor);
    }

    /// Sends what the sockets take at once. Returns whether that was everything.
    pub fn finish(&mut self) -> bool {
        let mut all_sent = true;
        for connection in self.peers.values_mut() {
            // A peer that has gone gets nothing more.
            let failed = connection.send(self.turn).is_err();
            all_sent &= failed || connection.output.is_empty();
        }
        all_sent
    }

    /// Closes a connection for a reason that the log is to have.
    fn drop_peer(&mut self, origin: Origin, reason: &str, service: &mut impl Service) {
        if let Some(connection) = self.peers.get_mut(origin) {
            let (pid, uid) = (connection.peer.pid, connection.peer.uid);
            tracing::info!(pid, uid, reason, "a connection is dropped");
        }
        self.close(origin, service);
    }

    fn close(&mut self, origin: Origin, service: &mut impl Service) {
        if let Some(connection) = self.peers.remove(origin) {
            service.gone(origin);
            if connection.phase.mailbox().is_some() {
                let uid = connection.peer.uid;
                self.peers.users.at_sockets.spend(uid, shares::WORK_OF_A_MAILBOX);
            }
            for lane in connection.phase.mailbox().into_iter().flat_map(|m| m.pending_lanes()) {
                service.gone(origin.with_lane(lane));
            }
            self.acceptor.close(connection.stream, connection.peer.uid);
        }
    }
}

impl Drop for Doors<'_> {
    /// Closes what is still open as always: descriptors that wait in it must not hold up the end.
    fn drop(&mut self) {
        for (_, connection) in std::mem::take(&mut self.peers.connections) {
            self.acceptor.close(connection.stream, connection.peer.uid);
        }
    }
}
