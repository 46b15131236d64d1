//! The event loop.

use super::connection::{Connection, End};
use super::{Origin, Peer, Replies, Service};
use l1d_client::protocol::{ErrorCode, Request, Response};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use std::collections::{BTreeSet, HashMap};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

const LISTENER: u64 = 0;
const STOP: u64 = 1;
const WAKE: u64 = 2;
const FIRST_ORIGIN: u64 = 16;

/// Events taken from the kernel at a time.
const EVENTS: usize = 256;
/// Connections accepted in one turn.
const ACCEPTS_PER_TURN: usize = 64;
/// Frames handled for one peer in one turn.
const FRAMES_PER_TURN: usize = 64;
/// How long new connections wait after the process has run out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What peers may cost.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Longest payload of a request.
    pub frame_bytes_max: usize,
    /// Connections at a time; one more is told so and closed.
    pub connections_max: usize,
    /// Unsent bytes of one peer; one that lets more gather is dropped.
    pub output_bytes_max: usize,
    /// How long a frame may stay incomplete, or output unread.
    pub stall: Duration,
}

/// Why the event loop ended early.
#[derive(Debug, thiserror::Error)]
#[error("the control socket's event loop failed to {what}: {source}")]
pub struct ControlError {
    what: &'static str,
    source: Errno,
}

fn failed(what: &'static str) -> impl Fn(Errno) -> ControlError {
    move |source| ControlError { what, source }
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
    listener
        .set_nonblocking(true)
        .map_err(|error| failed("prepare the listener")(io_errno(&error)))?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(failed("begin"))?;
    for (fd, data) in [(listener.as_fd(), LISTENER), (stop, STOP), (wake, WAKE)] {
        epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, data)).map_err(failed("watch"))?;
    }
    let mut server = Server {
        epoll,
        limits,
        peers: Peers { connections: HashMap::new(), touched: BTreeSet::new() },
        next_origin: FIRST_ORIGIN,
        accept_again: None,
    };
    let mut events = vec![EpollEvent::empty(); EVENTS];
    loop {
        let now = Instant::now();
        let due = service.turn(now, &mut server.peers);
        server.settle(service, Instant::now());
        let timeout = server.timeout(due);
        let count = match server.epoll.wait(&mut events, timeout) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(error) => return Err(failed("wait")(error)),
        };
        for event in events.iter().take(count) {
            match event.data() {
                STOP => {
                    server.flush();
                    return Ok(());
                }
                WAKE => {
                    let mut count = [0; 8];
                    // An eventfd: the read resets it, and fails only when it is at rest already.
                    let _ = nix::unistd::read(wake, &mut count);
                    service.woken(&mut server.peers);
                }
                LISTENER => server.accept(listener),
                origin => {
                    let flags = event.events();
                    server.ready(Origin(origin), flags, service);
                }
            }
        }
        server.settle(service, Instant::now());
        server.drop_stalled(service, Instant::now());
        if server.accept_again.is_some_and(|at| at <= Instant::now()) {
            server.accept_again = None;
            server.watch_listener(listener, true);
        }
    }
}

struct Server {
    epoll: Epoll,
    limits: Limits,
    peers: Peers,
    next_origin: u64,
    accept_again: Option<Instant>,
}

/// The connections, as far as answers need them.
struct Peers {
    connections: HashMap<Origin, Connection>,
    /// Who got an answer, or has frames left, since the last settling.
    touched: BTreeSet<Origin>,
}

impl Replies for Peers {
    fn reply(&mut self, origin: Origin, response: &Response<'_>) {
        let Some(connection) = self.connections.get_mut(&origin) else { return };
        connection.is_asking = false;
        let start = connection.output().len();
        if let Err(error) = response.encode(connection.output()) {
            connection.output().truncate(start);
            let message = error.to_string();
            let response = Response::Error { code: ErrorCode::Internal, message: &message };
            if response.encode(connection.output()).is_err() {
                connection.output().truncate(start);
                connection.is_closing = true;
            }
        }
        self.touched.insert(origin);
    }

    fn reply_with_table(&mut self, origin: Origin, response: &Response<'_>, table: BorrowedFd<'_>) {
        let Some(connection) = self.connections.get_mut(&origin) else { return };
        match table.try_clone_to_owned() {
            Ok(descriptor) => {
                connection.is_attached = true;
                connection.attach(descriptor);
                self.reply(origin, response);
            }
            Err(error) => {
                let message = format!("the daemon cannot hand over the table: {error}");
                self.reply(
                    origin,
                    &Response::Error { code: ErrorCode::Internal, message: &message },
                );
            }
        }
    }
}

impl Server {
    fn timeout(&self, due: Option<Instant>) -> EpollTimeout {
        if !self.peers.touched.is_empty() {
            return EpollTimeout::ZERO;
        }
        let stalls = self.peers.connections.values().filter_map(|c| c.stalled_since);
        let stall = stalls.min().map(|since| since + self.limits.stall);
        let Some(until) = [due, stall, self.accept_again].into_iter().flatten().min() else {
            return EpollTimeout::NONE;
        };
        let wait = until.saturating_duration_since(Instant::now());
        // Rounded up: a wait that ends a little early is a turn for nothing.
        let ms = wait.as_millis() + u128::from(!wait.is_zero());
        EpollTimeout::try_from(i32::try_from(ms).unwrap_or(i32::MAX)).unwrap_or(EpollTimeout::MAX)
    }

    fn watch_listener(&self, listener: &UnixListener, on: bool) {
        let flags = if on { EpollFlags::EPOLLIN } else { EpollFlags::empty() };
        let _ = self.epoll.modify(listener, &mut EpollEvent::new(flags, LISTENER));
    }

    fn accept(&mut self, listener: &UnixListener) {
        for _ in 0..ACCEPTS_PER_TURN {
            match listener.accept() {
                Ok((stream, _)) => self.welcome(stream),
                Err(error) => match io_errno(&error) {
                    Errno::EAGAIN => return,
                    Errno::EINTR | Errno::ECONNABORTED => {}
                    _ => {
                        // Out of descriptors or memory: the backlog keeps them for a moment, and
                        // the loop must not spin on a listener that stays readable.
                        tracing::warn!(%error, "cannot accept connections; trying again soon");
                        self.watch_listener(listener, false);
                        self.accept_again = Some(Instant::now() + ACCEPT_PAUSE);
                        return;
                    }
                },
            }
        }
    }

    fn welcome(&mut self, stream: UnixStream) {
        if stream.set_nonblocking(true).is_err() {
            return;
        }
        let Ok(credentials) = getsockopt(&stream, PeerCredentials) else { return };
        let peer = Peer { uid: credentials.uid(), gid: credentials.gid(), pid: credentials.pid() };
        let origin = Origin(self.next_origin);
        self.next_origin += 1;
        let mut connection = Connection::new(stream, peer, Instant::now());
        if self.peers.connections.len() >= self.limits.connections_max {
            let message = format!(
                "{} connections are open, the most this daemon allows; close some or raise clients_max",
                self.peers.connections.len()
            );
            let response = Response::Error { code: ErrorCode::Busy, message: &message };
            if response.encode(connection.output()).is_ok() {
                let _ = connection.send();
            }
            return;
        }
        let event = EpollEvent::new(EpollFlags::EPOLLIN, origin.0);
        if self.epoll.add(connection.stream(), event).is_ok() {
            self.peers.connections.insert(origin, connection);
        }
    }

    fn ready(&mut self, origin: Origin, flags: EpollFlags, service: &mut impl Service) {
        let Some(connection) = self.peers.connections.get_mut(&origin) else { return };
        if flags.intersects(EpollFlags::EPOLLOUT) {
            self.peers.touched.insert(origin);
        }
        if flags.intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP)
            && !flags.intersects(EpollFlags::EPOLLIN)
        {
            return self.close(origin, service);
        }
        if flags.intersects(EpollFlags::EPOLLIN) {
            match connection.receive() {
                Ok(()) => {
                    self.peers.touched.insert(origin);
                }
                Err(_) => self.close(origin, service),
            }
        }
    }

    /// Handles the frames and sends the answers of everyone that something has happened to.
    fn settle(&mut self, service: &mut impl Service, now: Instant) {
        for origin in std::mem::take(&mut self.peers.touched) {
            let handled = self.handle_frames(origin, service);
            let sent = self.send(origin, now);
            if handled.is_err() || sent.is_err() {
                self.close(origin, service);
            }
        }
    }

    fn handle_frames(&mut self, origin: Origin, service: &mut impl Service) -> Result<(), End> {
        for _ in 0..FRAMES_PER_TURN {
            let Some(connection) = self.peers.connections.get_mut(&origin) else { return Ok(()) };
            if connection.is_asking || connection.is_closing {
                return Ok(());
            }
            let frame = match connection.next_frame(self.limits.frame_bytes_max) {
                Ok(Some(frame)) => frame,
                Ok(None) => return Ok(()),
                Err(End::FrameTooLong(error)) => {
                    return self.refuse(origin, ErrorCode::TooLarge, &error.to_string());
                }
                Err(End::Closed) => return Err(End::Closed),
            };
            let request = match Request::decode(&frame) {
                Ok(request) => request,
                Err(error) => {
                    let message = format!("the request makes no sense: {error}");
                    return self.refuse(origin, ErrorCode::Malformed, &message);
                }
            };
            let is_attach = matches!(request, Request::Attach { .. });
            if !is_attach && !connection.is_attached {
                let message = "the first request of a connection must be an attach";
                return self.refuse(origin, ErrorCode::Refused, message);
            }
            connection.stalled_since = None;
            connection.is_asking = !matches!(&request, Request::Set(set) if !set.reply);
            let peer = connection.peer;
            service.request(origin, &peer, request, &mut self.peers);
        }
        // More may wait: go on in the next turn.
        self.peers.touched.insert(origin);
        Ok(())
    }

    /// Says why, and closes when that is sent.
    fn refuse(&mut self, origin: Origin, code: ErrorCode, message: &str) -> Result<(), End> {
        self.peers.reply(origin, &Response::Error { code, message });
        if let Some(connection) = self.peers.connections.get_mut(&origin) {
            connection.is_closing = true;
        }
        Ok(())
    }

    fn send(&mut self, origin: Origin, now: Instant) -> Result<(), End> {
        let output_bytes_max = self.limits.output_bytes_max;
        let Some(connection) = self.peers.connections.get_mut(&origin) else { return Ok(()) };
        let moved = connection.send()?;
        if connection.output_bytes() > output_bytes_max {
            return Err(End::Closed);
        }
        let waits = connection.has_output() || (connection.has_input() && !connection.is_asking);
        if connection.is_closing && !connection.has_output() {
            return Err(End::Closed);
        }
        match (waits, moved, connection.stalled_since) {
            (false, _, _) if connection.is_attached => connection.stalled_since = None,
            (true, true, _) | (true, _, None) => connection.stalled_since = Some(now),
            _ => {}
        }
        // A peer that asks while its answer is under way waits in its socket's buffer.
        let wanted = (!connection.is_asking, connection.has_output());
        if wanted != connection.watched {
            let mut flags = EpollFlags::empty();
            flags.set(EpollFlags::EPOLLIN, wanted.0);
            flags.set(EpollFlags::EPOLLOUT, wanted.1);
            connection.watched = wanted;
            let mut event = EpollEvent::new(flags, origin.0);
            if self.epoll.modify(connection.stream(), &mut event).is_err() {
                return Err(End::Closed);
            }
        }
        Ok(())
    }

    fn drop_stalled(&mut self, service: &mut impl Service, now: Instant) {
        let stall = self.limits.stall;
        let over = |c: &Connection| c.stalled_since.is_some_and(|since| since + stall <= now);
        let stalled: Vec<Origin> = self
            .peers
            .connections
            .iter()
            .filter_map(|(origin, connection)| over(connection).then_some(*origin))
            .collect();
        for origin in stalled {
            if let Some(connection) = self.peers.connections.get(&origin) {
                tracing::debug!(
                    pid = connection.peer.pid,
                    "a peer stalled; its connection is closed"
                );
            }
            self.close(origin, service);
        }
    }

    fn close(&mut self, origin: Origin, service: &mut impl Service) {
        if let Some(connection) = self.peers.connections.remove(&origin) {
            let _ = self.epoll.delete(connection.stream());
            debug_assert!(connection.stream().as_raw_fd() >= 0);
            service.gone(origin);
        }
    }

    /// Sends what can be sent at once before the daemon goes.
    fn flush(&mut self) {
        for connection in self.peers.connections.values_mut() {
            let _ = connection.send();
        }
    }
}

fn io_errno(error: &std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(0))
}
