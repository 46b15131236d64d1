//! What a peer gets: responses in, bytes and descriptors out.

use l1d_client::protocol::{EncodeError, Response};
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use std::io::IoSlice;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

/// With this much to send no further request is handled: a peer that asks faster than it reads
/// waits for itself.
const BYTES_ENOUGH: usize = 16 << 10;
/// A buffer that has grown beyond this is given back when it is empty.
const BYTES_KEPT: usize = 64 << 10;

/// Bytes to be sent.
#[derive(Debug, Default)]
pub(in crate::doors) struct Output {
    bytes: Vec<u8>,
    /// Bytes that have been sent.
    sent: usize,
    /// They travel with the byte at this place.
    descriptors: Option<(usize, Vec<OwnedFd>)>,
    /// How often all was sent.
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

    /// Queues one response whose first byte brings `descriptors` along.
    ///
    /// # Errors
    /// As for [`push`](Self::push).
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

    /// Sends what the socket takes now. Returns how much that was.
    ///
    /// # Errors
    /// When the connection is broken.
    pub(in crate::doors) fn send(&mut self, stream: &UnixStream) -> Result<usize, Errno> {
        let before = self.sent;
        while !self.is_empty() {
            // The kernel passes a descriptor with the first byte of a message: what lies before it
            // goes in a message of its own.
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

    /// Whether what is queued has to be sent before anything is added. (There is one place for a
    /// descriptors.)
    pub(in crate::doors) fn is_full(&self) -> bool {
        self.bytes.len() - self.sent >= BYTES_ENOUGH || self.descriptors.is_some()
    }

    /// How often all was sent.
    pub(in crate::doors) fn emptied(&self) -> u64 {
        self.emptied
    }

    /// Memory held beyond what every connection may keep.
    pub(in crate::doors) fn excess_bytes(&self) -> usize {
        self.bytes.capacity().saturating_sub(BYTES_KEPT)
    }
}
