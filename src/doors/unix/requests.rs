//! Requests that come over the control socket.

use super::super::figures;
use super::super::{Doors, Origin, Service};
use super::{Closed, Phase};
use crate::reactor::Reactor;
use l1d_wire::protocol::{ErrorCode, Request};

/// Work done for one connection in a turn: keys, and what other requests are worth. One frame may
/// exceed it.
const WORK_PER_TURN: usize = 64;

impl Doors<'_> {
    /// Sends, receives and handles requests for one connection, within its budget. With a mailbox,
    /// only has it polled.
    pub(in crate::doors) fn serve(
        &mut self,
        origin: Origin,
        reactor: &Reactor,
        service: &mut impl Service,
    ) -> Result<(), Closed> {
        let Some(connection) = self.peers.get_mut(origin) else { return Ok(()) };
        connection.send(self.turn)?;
        match connection.phase {
            Phase::Mailbox(_) => {
                if connection.drain_wakeups(&mut self.scratch).is_err() {
                    // The peer may have left requests in its ring, also such as want no reply.
                    connection.phase.leave();
                    // Its hangup would be reported by every wait.
                    reactor.deregister(&connection.stream).map_err(|_| Closed)?;
                }
                self.peers.activate(origin);
                return Ok(());
            }
            Phase::Leaving(_) => {
                self.peers.activate(origin);
                return Ok(());
            }
            _ => {}
        }
        // A peer that does not read its replies gets no more of them.
        if !connection.output.is_empty() {
            return Ok(());
        }
        connection.receive(self.turn, self.limits.frame_bytes_max, &mut self.scratch)?;
        self.handle_frames(origin, service);
        match self.peers.get_mut(origin) {
            Some(connection) => connection.send(self.turn),
            None => Ok(()),
        }
    }

    fn handle_frames(&mut self, origin: Origin, service: &mut impl Service) {
        let mut work = 0;
        while work < WORK_PER_TURN {
            let Some(connection) = self.peers.get_mut(origin) else { return };
            if !connection.takes_requests() {
                return;
            }
            let frame = match connection.input.next_frame(self.limits.frame_bytes_max) {
                Ok(Some(frame)) => frame,
                Ok(None) => return,
                Err(error) => {
                    // Bytes of a stranger are no request at all.
                    let code = match connection.phase {
                        Phase::Greeting => ErrorCode::Malformed,
                        _ => ErrorCode::TooLarge,
                    };
                    return self.refuse(origin, code, &error.to_string());
                }
            };
            // Taken out for the duration of the call, so that the request can borrow from it.
            let mut input = std::mem::take(&mut connection.input);
            let done = self.handle(origin, input.payload(frame.clone()), service);
            work += done;
            input.advance(frame.end);
            let Some(connection) = self.peers.get_mut(origin) else { return };
            let uid = connection.peer.uid;
            // Bytes that follow an attach with a mailbox are wakeups.
            if connection.phase.mailbox().is_none() {
                connection.input = input;
            }
            self.peers.users.at_sockets.spend(uid, done);
            if self.peers.users.at_sockets.is_spent(uid) {
                return;
            }
        }
    }

    /// Handles one frame. Returns how much work it was.
    fn handle(&mut self, origin: Origin, payload: &[u8], service: &mut impl Service) -> usize {
        let Some(connection) = self.peers.get_mut(origin) else { return 1 };
        let request = match Request::decode(payload) {
            Ok(request) => request,
            Err(error) => {
                let message = format!("the request makes no sense: {error}");
                self.refuse(origin, ErrorCode::Malformed, &message);
                return 1;
            }
        };
        connection.phase = match (&connection.phase, &request) {
            (Phase::Greeting, Request::Attach { mailbox, .. }) => {
                Phase::Attaching { wants_mailbox: *mailbox }
            }
            (Phase::Greeting, _) => {
                let message = "the first request of a connection must be an attach; use l1d's \
                               client, or its protocol";
                self.refuse(origin, ErrorCode::Refused, message);
                return 1;
            }
            (_, Request::Attach { .. }) => Phase::Attaching { wants_mailbox: false },
            (_, Request::Set(set)) if !set.reply => Phase::Idle,
            _ => Phase::Asking,
        };
        let work = figures::count(&mut connection.counted, &request, payload.len());
        let peer = connection.peer;
        service.request(origin, &peer, request, &mut self.peers);
        work
    }

    /// Replies with an error, and closes when that is sent.
    fn refuse(&mut self, origin: Origin, code: ErrorCode, message: &str) {
        if let Some(connection) = self.peers.get_mut(origin) {
            tracing::debug!(pid = connection.peer.pid, message, "a peer is refused");
            connection.refuse(code, message);
            self.peers.touch(origin);
        }
    }
}
