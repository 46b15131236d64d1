//! One connection to the daemon: whole frames out, whole frames in, each within a deadline.

use crate::deadline::Deadline;
use crate::failure::{Failure, Reason};
use crate::socket::Socket;
use l1d_wire::protocol::Request;
use l1d_wire::protocol::frame::{self, HEADER_BYTES};
use l1d_wire::protocol::version::PROTOCOL_OLDEST;
use nix::cmsg_space;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, connect,
    getsockopt, recv, recvmsg, send, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
#[cfg(feature = "tokio")]
use std::io;
use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

/// The kernel passes at most this many descriptors in one message (SCM_MAX_FD). Room for all of
/// them means that none is cut off unseen.
const DESCRIPTORS_MAX: usize = 253;

/// Bounds on the size of a receive: memory is allocated only as bytes arrive, not for the length
/// that a peer announces.
const PIECE_BYTES_MIN: usize = 4 << 10;
const PIECE_BYTES_MAX: usize = 1 << 20;

/// Buffers over this size are given back after use.
const BUFFER_BYTES_KEPT: usize = 256 << 10;

/// One socket to the daemon, with a buffer for each direction.
pub(crate) struct Connection {
    socket: Socket,
    /// The request being sent.
    request: Vec<u8>,
    /// The reply; `filled` bytes of it have come, the rest is room.
    reply: Vec<u8>,
    filled: usize,
    /// The version that was agreed on.
    protocol: u32,
}

impl Connection {
    /// Connects to the daemon at `path`.
    pub(crate) fn open(path: &Path, deadline: &Deadline) -> Result<Connection, Reason> {
        let address = UnixAddr::new(path)?;
        let socket = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        loop {
            let slice = deadline.slice();
            if slice.is_zero() {
                return Err(Reason::Deadline);
            }
            // A unix connect waits only if the daemon's backlog is full, and then as long as the
            // send timeout says. (A nonblocking one would fail with EAGAIN and have nothing to poll
            // for.) The timeout must not be 0, which means forever.
            let us = i64::try_from(slice.as_micros()).unwrap_or(i64::MAX / 2_000_000);
            setsockopt(
                &socket,
                sockopt::SendTimeout,
                &TimeVal::microseconds(us.clamp(1, 1 << 40)),
            )?;
            match connect(socket.as_raw_fd(), &address) {
                Ok(()) => break,
                Err(Errno::EINTR | Errno::EAGAIN) => deadline.go_on()?,
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(Connection::of(socket)?)
    }

    /// Connects to the daemon at `path` without waiting; `None` if the daemon's backlog is full.
    pub(crate) fn try_open(path: &Path) -> Result<Option<Connection>, Reason> {
        let address = UnixAddr::new(path)?;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
        match connect(socket.as_raw_fd(), &address) {
            Ok(()) => Ok(Some(Connection::of(socket)?)),
            Err(Errno::EINTR | Errno::EAGAIN) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// A connection over a socket that is connected.
    pub(crate) fn of(socket: OwnedFd) -> Result<Connection, Errno> {
        let socket = Socket::new(socket)?;
        Ok(Connection {
            socket,
            request: Vec::new(),
            reply: Vec::new(),
            filled: 0,
            protocol: PROTOCOL_OLDEST,
        })
    }

    /// The daemon has agreed on this version.
    pub(crate) fn agree(&mut self, protocol: u32) {
        self.protocol = protocol;
    }

    /// Whether the daemon knows this kind of request.
    pub(crate) fn check_known(&self, request: &Request<'_>) -> Result<(), Failure> {
        if request.since() <= self.protocol { Ok(()) } else { Err(Failure::OldDaemon) }
    }

    /// User id of the process that listens at the other end.
    pub(crate) fn peer_uid(&self) -> Result<u32, Errno> {
        getsockopt(&self.socket, sockopt::PeerCredentials).map(|peer| peer.uid())
    }

    /// An idle connection can take another request: nothing to read, not closed.
    pub(crate) fn is_quiet(&self) -> bool {
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        let peeked = self.socket.own().and_then(|socket| recv(socket, &mut [0], flags));
        matches!(peeked, Err(Errno::EAGAIN | Errno::EINTR))
    }

    /// Sends one byte that wakes the daemon. If the socket is full, enough wakeups are on their
    /// way.
    pub(crate) fn send_wakeup(&self) -> Result<(), Reason> {
        loop {
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            match self.socket.own().and_then(|socket| send(socket, &[1], flags)) {
                Ok(_) | Err(Errno::EAGAIN) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(Errno::EPIPE | Errno::ECONNRESET | Errno::EBADF) => return Err(Reason::Closed),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// The daemon has closed its end, whatever it sent before, or the socket is no longer this
    /// process's.
    pub(crate) fn is_closed(&self) -> bool {
        !self.socket.is_own() || self.is_hung_up()
    }

    /// The daemon has closed its end, if the socket is still this process's.
    pub(crate) fn is_hung_up(&self) -> bool {
        let mut ends = [PollFd::new(self.socket.as_fd(), PollFlags::empty())];
        let polled = poll(&mut ends, PollTimeout::ZERO);
        let [end] = ends;
        let gone = PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL;
        polled.is_ok() && end.revents().is_some_and(|events| events.intersects(gone))
    }

    /// Drains the bytes that made the descriptor readable. Returns whether there were any.
    pub(crate) fn drain_wakeups(&self) -> bool {
        let mut bytes = [0; 64];
        let mut drained = false;
        while let Ok(count @ 1..) =
            self.socket.own().and_then(|socket| recv(socket, &mut bytes, MsgFlags::MSG_DONTWAIT))
        {
            drained = true;
            if count < bytes.len() {
                break;
            }
        }
        drained
    }

    /// The socket, to wait for.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Another descriptor of the socket, to wait for.
    #[cfg(feature = "tokio")]
    pub(crate) fn other_descriptor(&self) -> io::Result<Socket> {
        self.socket.try_clone()
    }

    /// Sends one request.
    pub(crate) fn send(
        &mut self,
        request: &Request<'_>,
        deadline: &Deadline,
    ) -> Result<(), Failure> {
        self.check_known(request)?;
        self.request.clear();
        request.encode(&mut self.request).map_err(Failure::TooLarge)?;
        let mut sent = 0;
        while let Some(rest) = self.request.get(sent..).filter(|rest| !rest.is_empty()) {
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            match self.socket.own().and_then(|socket| send(socket, rest, flags)) {
                Ok(bytes) => sent += bytes,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    self.wait(PollFlags::POLLOUT, deadline).map_err(Failure::NotSent)?
                }
                // A daemon that turns a client away says why and closes, before it has read
                // anything: its answer is there to be received.
                Err(Errno::EPIPE | Errno::ECONNRESET) if self.has_bytes() => break,
                Err(Errno::EBADF) => return Err(Failure::NotSent(Reason::Closed)),
                Err(errno) => return Err(Failure::NotSent(errno.into())),
            }
        }
        if self.request.capacity() > BUFFER_BYTES_KEPT {
            self.request = Vec::new();
        }
        Ok(())
    }

    /// Bytes have arrived that are not received yet.
    fn has_bytes(&self) -> bool {
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        matches!(recv(self.socket.as_raw_fd(), &mut [0], flags), Ok(1..))
    }

    /// Receives one reply's payload. Descriptors that come along are closed by the kernel.
    pub(crate) fn receive(
        &mut self,
        payload_bytes_max: usize,
        deadline: &Deadline,
    ) -> Result<&[u8], Failure> {
        self.begin_reply();
        let receive = |socket, room: &mut [u8]| recv(socket, room, MsgFlags::MSG_DONTWAIT);
        while !self.fill_by(payload_bytes_max, receive)? {
            self.wait_readable(deadline).map_err(|reason| self.cut_off(reason))?;
        }
        Ok(self.reply(payload_bytes_max))
    }

    /// Discards the last reply: what comes next is another.
    pub(crate) fn begin_reply(&mut self) {
        if self.reply.len() > BUFFER_BYTES_KEPT {
            self.reply = Vec::new();
        }
        self.filled = 0;
    }

    /// Receives what has come of a reply, and of descriptors, without waiting. Returns whether the
    /// reply is whole.
    pub(crate) fn fill(
        &mut self,
        payload_bytes_max: usize,
        descriptors: &mut Vec<OwnedFd>,
    ) -> Result<bool, Failure> {
        self.fill_by(payload_bytes_max, |socket, room| receive_message(socket, room, descriptors))
    }

    /// The payload of a whole reply.
    pub(crate) fn reply(&self, payload_bytes_max: usize) -> &[u8] {
        let received = self.reply.get(..self.filled).unwrap_or_default();
        let payload = frame::split(received, payload_bytes_max).ok().flatten();
        payload.and_then(|payload| received.get(payload)).unwrap_or_default()
    }

    /// Waits until there is something to receive.
    pub(crate) fn wait_readable(&self, deadline: &Deadline) -> Result<(), Reason> {
        self.wait(PollFlags::POLLIN, deadline)
    }

    fn fill_by(
        &mut self,
        payload_bytes_max: usize,
        mut receive: impl FnMut(RawFd, &mut [u8]) -> Result<usize, Errno>,
    ) -> Result<bool, Failure> {
        loop {
            let received = self.reply.get(..self.filled).unwrap_or_default();
            let payload = frame::split(received, payload_bytes_max)
                .map_err(|error| Failure::BadReply(error.to_string()))?;
            if let Some(payload) = payload {
                if payload.end != self.filled {
                    let reason = "bytes follow the reply";
                    return Err(Failure::BadReply(reason.to_owned()));
                }
                return Ok(true);
            }
            self.make_room();
            let room = self.reply.get_mut(self.filled..).unwrap_or_default();
            match self.socket.own().and_then(|socket| receive(socket, room)) {
                Ok(0) => return Err(self.cut_off(Reason::Closed)),
                Ok(bytes) => self.filled += bytes,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(false),
                Err(Errno::EBADF) => return Err(self.cut_off(Reason::Closed)),
                Err(errno) => return Err(self.cut_off(errno.into())),
            }
        }
    }

    /// The failure of a reply of which no more comes.
    fn cut_off(&self, reason: Reason) -> Failure {
        match (self.filled, reason) {
            (0, reason)
            | (_, reason @ (Reason::Deadline | Reason::Interrupted | Reason::Forked)) => {
                Failure::NoReply(reason)
            }
            (_, reason) => Failure::BadReply(format!("a reply was cut off: {reason}")),
        }
    }

    /// Makes room for the next piece of the reply.
    fn make_room(&mut self) {
        let announced = match self.reply.first_chunk::<HEADER_BYTES>() {
            Some(header) if self.filled >= HEADER_BYTES => {
                HEADER_BYTES.saturating_add(u32::from_le_bytes(*header) as usize)
            }
            _ => 0,
        };
        let missing = announced.saturating_sub(self.filled);
        let room = missing.clamp(PIECE_BYTES_MIN, PIECE_BYTES_MAX);
        let wanted = self.filled.saturating_add(room);
        if self.reply.len() < wanted {
            self.reply.resize(wanted, 0);
        }
    }

    fn wait(&self, events: PollFlags, deadline: &Deadline) -> Result<(), Reason> {
        deadline.wait(self.socket.as_fd(), events)
    }
}

/// One `recvmsg`, whose descriptors are owned before anything else can fail.
fn receive_message(
    socket: RawFd,
    room: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
) -> Result<usize, Errno> {
    let mut pieces = [IoSliceMut::new(room)];
    let mut control = cmsg_space!([RawFd; DESCRIPTORS_MAX]);
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket, &mut pieces, Some(&mut control), flags)?;
    // Refused where control data was cut off: the room is enough for all that can come, so that
    // happens only where this process may open no more files, and then the error says so.
    for control in message.cmsgs().map_err(|_| Errno::EMFILE)? {
        if let ControlMessageOwned::ScmRights(received) = control {
            // SAFETY: the kernel has just created these for us; nothing else owns them.
            descriptors.extend(received.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    Ok(message.bytes)
}
