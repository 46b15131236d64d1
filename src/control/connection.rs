//! One connection: bytes in, frames out, in bounded buffers.

use super::Peer;
use l1d_client::protocol::frame;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use std::io::{self, IoSlice, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Instant;

/// Bytes taken from a peer in one turn, so that none starves the others.
const READ_BYTES_PER_TURN: usize = 256 << 10;
/// A buffer that has grown beyond this is given back when it is empty.
const BUFFER_BYTES_KEPT: usize = 64 << 10;

/// Why a connection is over.
#[derive(Debug)]
pub(super) enum End {
    /// The peer has closed it, or it broke.
    Closed,
    /// The peer announced a frame that is too long.
    FrameTooLong(frame::FrameTooLong),
}

#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    pub(super) peer: Peer,
    /// Received and not yet handled.
    input: Vec<u8>,
    /// Bytes of `input` that have been handled.
    handled: usize,
    /// To be sent, from `sent` on.
    output: Vec<u8>,
    sent: usize,
    /// Travels with the byte at this place of `output`.
    descriptor: Option<(usize, OwnedFd)>,
    pub(super) is_attached: bool,
    /// A request is under way: the next one waits.
    pub(super) is_asking: bool,
    /// Close as soon as everything is sent.
    pub(super) is_closing: bool,
    /// Since when a frame has been incomplete, or output has not moved.
    pub(super) stalled_since: Option<Instant>,
    /// What epoll was asked to watch.
    pub(super) watched: (bool, bool),
}

impl Connection {
    pub(super) fn new(stream: UnixStream, peer: Peer, now: Instant) -> Connection {
        Connection {
            stream,
            peer,
            input: Vec::new(),
            handled: 0,
            output: Vec::new(),
            sent: 0,
            descriptor: None,
            is_attached: false,
            is_asking: false,
            is_closing: false,
            // Until the first request is complete the peer is on probation.
            stalled_since: Some(now),
            watched: (true, false),
        }
    }

    pub(super) fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Takes what the peer has sent, within the turn's budget.
    pub(super) fn receive(&mut self) -> Result<(), End> {
        let mut chunk = [0; 16 << 10];
        let mut left = READ_BYTES_PER_TURN;
        while left > 0 {
            match (&self.stream).read(&mut chunk) {
                Ok(0) => return Err(End::Closed),
                Ok(count) => {
                    self.input.extend_from_slice(chunk.get(..count).unwrap_or_default());
                    left = left.saturating_sub(count);
                    if count < chunk.len() {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(End::Closed),
            }
        }
        Ok(())
    }

    /// Takes the next whole frame's payload out, if there is one.
    pub(super) fn next_frame(&mut self, bytes_max: usize) -> Result<Option<Vec<u8>>, End> {
        let waiting = self.input.get(self.handled..).unwrap_or_default();
        let Some(range) = frame::split(waiting, bytes_max).map_err(End::FrameTooLong)? else {
            return Ok(None);
        };
        let end = self.handled + range.end;
        let payload = waiting.get(range).unwrap_or_default().to_vec();
        self.handled = end;
        if self.handled == self.input.len() {
            self.input.clear();
            self.handled = 0;
            if self.input.capacity() > BUFFER_BYTES_KEPT {
                self.input = Vec::new();
            }
        } else if self.handled > BUFFER_BYTES_KEPT {
            self.input.drain(..self.handled);
            self.handled = 0;
        }
        Ok(Some(payload))
    }

    /// Whether bytes wait that have not been handled.
    pub(super) fn has_input(&self) -> bool {
        self.handled < self.input.len()
    }

    /// Whether there is something to send.
    pub(super) fn has_output(&self) -> bool {
        self.sent < self.output.len()
    }

    /// Bytes not yet sent.
    pub(super) fn output_bytes(&self) -> usize {
        self.output.len() - self.sent
    }

    /// Where the next response is encoded to.
    pub(super) fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// Lets a descriptor travel with the next byte that is encoded.
    pub(super) fn attach(&mut self, descriptor: OwnedFd) {
        self.descriptor = Some((self.output.len(), descriptor));
    }

    /// Sends what the socket takes. Returns whether anything moved.
    pub(super) fn send(&mut self) -> Result<bool, End> {
        let mut moved = false;
        while self.has_output() {
            let (end, with) = match &self.descriptor {
                Some((at, descriptor)) if *at == self.sent => {
                    (self.output.len(), Some(descriptor.as_raw_fd()))
                }
                Some((at, _)) => (*at, None),
                None => (self.output.len(), None),
            };
            let bytes = [IoSlice::new(self.output.get(self.sent..end).unwrap_or_default())];
            let descriptors: Vec<_> = with.into_iter().collect();
            let rights = [ControlMessage::ScmRights(&descriptors)];
            let control = if descriptors.is_empty() { &rights[..0] } else { &rights[..] };
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            match sendmsg::<()>(self.stream.as_raw_fd(), &bytes, control, flags, None) {
                Ok(0) | Err(Errno::EAGAIN) => break,
                Ok(count) => {
                    moved = true;
                    self.sent += count;
                    if with.is_some() {
                        self.descriptor = None;
                    }
                }
                Err(Errno::EINTR) => {}
                Err(_) => return Err(End::Closed),
            }
        }
        if !self.has_output() {
            self.output.clear();
            self.sent = 0;
            if self.output.capacity() > BUFFER_BYTES_KEPT {
                self.output = Vec::new();
            }
        }
        Ok(moved)
    }
}
