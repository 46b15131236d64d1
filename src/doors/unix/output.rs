//! Responses, sent as bytes and descriptors.

use l1d_wire::protocol::{EncodeError, Response};
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use std::io::IoSlice;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

/// With this much unsent no further request is handled: a peer that asks faster than it reads
/// only delays itself.
const UNSENT_BYTES_MAX: usize = 16 << 10;
/// A buffer that has grown beyond this is shrunk when it is empty.
const BYTES_KEPT: usize = 64 << 10;

/// Bytes to be sent.
#[derive(Debug, Default)]
pub(in crate::doors) struct Output {
    bytes: Vec<u8>,
    /// Bytes that have been sent.
    sent: usize,
    /// Descriptors to pass with the byte at this offset.
    descriptors: Option<(usize, Vec<OwnedFd>)>,
    /// How often the last byte was sent.
    emptied: u64,
}

impl Output {
    /// Queues one response.
    ///
    /// # Errors
    /// When it is larger than a frame can be; nothing is queued.
    pub(in crate::doors) fn push(&mut self, response: &Response<'_>) -> Result<(), EncodeError> {
        response.encode(&mut self.bytes)
    }

    /// Queues one response, and passes `descriptors` with its first byte.
    ///
    /// # Errors
    /// The same as for [`push`](Self::push).
    pub(in crate::doors) fn push_with(
        &mut self,
        response: &Response<'_>,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), EncodeError> {
        let start = self.bytes.len();
        self.push(response)?;
        self.descriptors = Some((start, descriptors));
        Ok(())
    }

    /// Sends what the socket takes now. Returns the number of bytes.
    ///
    /// # Errors
    /// When the connection is broken.
    pub(in crate::doors) fn send(&mut self, stream: &UnixStream) -> Result<usize, Errno> {
        let before = self.sent;
        while !self.is_empty() {
            // The kernel passes descriptors with the first byte of a message, so the bytes before
            // that one go in a message of their own.
            let (end, rights) = match &self.descriptors {
                Some((at, descriptors)) if *at <= self.sent => {
                    let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
                    (self.bytes.len(), Some(raw))
                }
                Some((at, _)) => (*at, None),
                None => (self.bytes.len(), None),
            };
            let bytes = [IoSlice::new(self.bytes.get(self.sent..end).unwrap_or_default())];
            let control = rights.as_ref().map(|fds| ControlMessage::ScmRights(fds));
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            let sent = sendmsg::<()>(stream.as_raw_fd(), &bytes, control.as_slice(), flags, None);
            match sent {
                Ok(0) | Err(Errno::EAGAIN) => break,
                Ok(count) => {
                    self.sent += count;
                    if rights.is_some() {
                        self.descriptors = None;
                    }
                }
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        let sent = self.sent - before;
        if sent > 0 && self.is_empty() {
            self.bytes.clear();
            self.bytes.shrink_to(BYTES_KEPT);
            self.sent = 0;
            self.emptied += 1;
        }
        Ok(sent)
    }

    pub(in crate::doors) fn is_empty(&self) -> bool {
        self.sent == self.bytes.len()
    }

    /// Bytes that are not sent yet.
    pub(in crate::doors) fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// Returns whether the queue has to be sent before anything is added. It has room for one set
    /// of descriptors.
    pub(in crate::doors) fn is_full(&self) -> bool {
        self.len() >= UNSENT_BYTES_MAX || self.descriptors.is_some()
    }

    /// How often the last byte was sent.
    pub(in crate::doors) fn emptied(&self) -> u64 {
        self.emptied
    }

    /// Memory held beyond what every connection may keep.
    pub(in crate::doors) fn excess_bytes(&self) -> usize {
        self.bytes.capacity().saturating_sub(BYTES_KEPT)
    }
}
