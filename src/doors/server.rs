//! The event loop.

use super::peers::Peers;
use super::unix::{Acceptor, Asked, LISTENER, Over};
use super::{Limits, Origin, Replies, Service};
use l1d_client::protocol::{ErrorCode, Request, Response};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::time::Instant;

const STOP: u64 = 1;
const WAKE: u64 = 2;

/// Events taken from the kernel at a time.
const EVENTS: usize = 256;
/// Work done for one peer in one turn: frames, or the keys in them. One frame may exceed it.
const WORK_PER_TURN: usize = 64;
/// Bytes received at a time.
const SCRATCH_BYTES: usize = 64 << 10;

/// Why the event loop ended early.
#[derive(Debug, thiserror::Error)]
#[error("the control socket's event loop cannot {what}: {source}; restart the daemon")]
pub struct ControlError {
    what: &'static str,
    source: io::Error,
}

fn cannot<E: Into<io::Error>>(what: &'static str) -> impl Fn(E) -> ControlError {
    move |source| ControlError { what, source: source.into() }
}

/// Serves until `stop` becomes readable. `wake` is an eventfd by which other threads call for
/// [`Service::woken`].
///
/// # Errors
/// When the kernel refuses what every event loop needs.
pub fn run(
    listener: &UnixListener,
    stop: BorrowedFd<'_>,
    wake: BorrowedFd<'_>,
    service: &mut impl Service,
    limits: Limits,
) -> Result<(), ControlError> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(cannot("begin"))?;
    for (fd, data) in [(listener.as_fd(), LISTENER), (stop, STOP), (wake, WAKE)] {
        let event = EpollEvent::new(EpollFlags::EPOLLIN, data);
        epoll.add(fd, event).map_err(cannot("watch what it was given"))?;
    }
    let mut server = Server {
        epoll,
        limits,
        peers: Peers::new(),
        acceptor: Acceptor::new(listener).map_err(cannot("prepare to accept"))?,
        service,
        turn: 0,
        now: Instant::now(),
        reports_taken: Instant::now(),
        scratch: vec![0; SCRATCH_BYTES],
    };
    let mut events = vec![EpollEvent::empty(); EVENTS];
    loop {
        server.turn += 1;
        let due = server.service.turn(server.now, &mut server.peers);
        server.settle();
        let timeout = match server.serve_mailboxes() {
            true => EpollTimeout::ZERO,
            false => server.timeout(due),
        };
        server.service.turned(server.now.elapsed());
        let count = match server.epoll.wait(&mut events, timeout) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(error) => return Err(cannot("wait")(error)),
        };
        server.now = Instant::now();
        for event in events.iter().take(count) {
            match event.data() {
                STOP => {
                    server.finish();
                    return Ok(());
                }
                WAKE => {
                    let mut count = [0; 8];
                    // The read resets an eventfd, and fails only when it is at rest already.
                    let _ = nix::unistd::read(wake, &mut count);
                    server.service.woken(&mut server.peers);
                }
                LISTENER => server.accept(),
                origin => server.notice(Origin(origin), event.events()),
            }
        }
        server.settle();
        server.take_reports();
        server.drop_stalled();
        server.drop_hoarders();
        server.acceptor.resume(&server.epoll, server.now);
    }
}

pub(super) struct Server<'a, S> {
    epoll: Epoll,
    pub(super) limits: Limits,
    pub(super) peers: Peers,
    acceptor: Acceptor<'a>,
    pub(super) service: &'a mut S,
    /// Counts the turns of the loop.
    turn: u64,
    /// When hit reports were last taken from a mailbox that may have no requests.
    pub(super) reports_taken: Instant,
    /// When this turn's events arrived.
    pub(super) now: Instant,
    pub(super) scratch: Vec<u8>,
}

impl<S: Service> Server<'_, S> {
    /// How long nothing has to be done unless something happens.
    fn timeout(&self, due: Option<Instant>) -> EpollTimeout {
        if self.peers.has_touched() {
            return EpollTimeout::ZERO;
        }
        let wanted = [due, self.peers.next_deadline(), self.acceptor.next_wanted()];
        let Some(until) = wanted.into_iter().flatten().min() else {
            return EpollTimeout::NONE;
        };
        // Rounded up: a wait that ends a little early is a turn for nothing.
        let ms = until.saturating_duration_since(Instant::now()).as_nanos().div_ceil(1_000_000);
        EpollTimeout::try_from(i32::try_from(ms).unwrap_or(i32::MAX)).unwrap_or(EpollTimeout::MAX)
    }

    fn accept(&mut self) {
        self.acceptor.accept(&mut self.peers, &self.epoll, &self.limits, self.now);
    }

    fn notice(&mut self, origin: Origin, flags: EpollFlags) {
        if let Some(connection) = self.peers.get_mut(origin) {
            connection.notice(flags);
            self.peers.touch(origin);
        }
    }

    /// Does what there is to do for everyone whom something has happened to, within each one's budget.
    fn settle(&mut self) {
        for origin in self.peers.take_touched() {
            let served = self.serve(origin);
            let concluded = served
                .and_then(|()| self.peers.conclude(origin, &self.epoll, &self.limits, self.now));
            if concluded.is_err() {
                self.close(origin);
            }
        }
    }

    fn serve(&mut self, origin: Origin) -> Result<(), Over> {
        let Some(connection) = self.peers.get_mut(origin) else { return Ok(()) };
        connection.send(self.turn)?;
        if connection.mailbox.is_some() {
            // Who goes has said all that it had to say: a set that nobody waits for may be the last of it.
            if connection.hear_rings(&mut self.scratch).is_err() && !connection.is_leaving {
                connection.is_leaving = true;
                // Its end would be reported for ever.
                self.epoll.delete(&connection.stream).map_err(|_| Over)?;
            }
            self.peers.activate(origin);
            return Ok(());
        }
        // Who does not read its answers gets no more of them.
        if !connection.output.is_empty() {
            return Ok(());
        }
        connection.receive(self.turn, self.limits.frame_bytes_max, &mut self.scratch)?;
        self.handle_frames(origin);
        match self.peers.get_mut(origin) {
            Some(connection) => connection.send(self.turn),
            None => Ok(()),
        }
    }

    fn handle_frames(&mut self, origin: Origin) {
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
                    // From somebody who has never made sense that is no request at all.
                    let code = match connection.is_attached {
                        true => ErrorCode::TooLarge,
                        false => ErrorCode::Malformed,
                    };
                    return self.refuse(origin, code, &error.to_string());
                }
            };
            // Taken out for the time of the call, so that the request can borrow from it.
            let mut input = std::mem::take(&mut connection.input);
            work += self.handle(origin, input.payload(frame.clone()));
            input.advance(frame.end);
            if let Some(connection) = self.peers.get_mut(origin) {
                connection.input = input;
            }
        }
    }

    /// One frame. How much work it was.
    fn handle(&mut self, origin: Origin, payload: &[u8]) -> usize {
        let Some(connection) = self.peers.get_mut(origin) else { return 1 };
        let request = match Request::decode(payload) {
            Ok(request) => request,
            Err(error) => {
                let message = format!("the request makes no sense: {error}");
                self.refuse(origin, ErrorCode::Malformed, &message);
                return 1;
            }
        };
        connection.asked = match &request {
            Request::Attach { mailbox, .. } => {
                connection.wants_mailbox = *mailbox && !connection.is_attached;
                Asked::Attach
            }
            _ if !connection.is_attached => {
                let message = "the first request of a connection must be an attach; use a client \
                               of this daemon's release";
                self.refuse(origin, ErrorCode::Refused, message);
                return 1;
            }
            Request::Set(set) if !set.reply => Asked::Nothing,
            _ => Asked::Other,
        };
        let work = connection.counted.count(&request, payload.len());
        let peer = connection.peer;
        self.service.request(origin, &peer, request, &mut self.peers);
        work
    }

    /// Says why, and closes when that is sent.
    fn refuse(&mut self, origin: Origin, code: ErrorCode, message: &str) {
        if let Some(connection) = self.peers.get_mut(origin) {
            tracing::debug!(pid = connection.peer.pid, message, "a peer is refused");
            connection.asked = Asked::Other;
            connection.is_closing = true;
            self.peers.reply(origin, &Response::Error { code, message });
        }
    }

    fn drop_stalled(&mut self) {
        for origin in self.peers.stalled(self.now, self.turn, self.limits.stall) {
            self.drop_peer(origin, "it kept the daemon waiting too long");
        }
    }

    fn drop_hoarders(&mut self) {
        while let Some(origin) = self.peers.hoarder(self.limits.buffer_bytes_max) {
            self.drop_peer(origin, "the memory for unread answers and incomplete requests is full");
        }
    }

    pub(super) fn drop_peer(&mut self, origin: Origin, reason: &str) {
        if let Some(connection) = self.peers.get_mut(origin) {
            let (pid, uid) = (connection.peer.pid, connection.peer.uid);
            tracing::info!(pid, uid, reason, "a connection is dropped");
        }
        self.close(origin);
    }

    pub(super) fn close(&mut self, origin: Origin) {
        // Closing takes the socket out of epoll too, as nobody else has a descriptor of it.
        if let Some(connection) = self.peers.remove(origin) {
            self.service.gone(origin);
            for lane in connection.mailbox.iter().flat_map(|mailbox| mailbox.asked()) {
                self.service.gone(origin.with_lane(lane));
            }
        }
    }

    /// Sends what can be sent at once before the daemon goes.
    fn finish(&mut self) {
        for connection in self.peers.values_mut() {
            let _ = connection.send(self.turn);
        }
    }
}
