//! Received bytes, cut into frames.

use super::rights;
use l1d_wire::protocol::frame::{self, FrameTooLong};
use std::io;
use std::ops::Range;
use std::os::unix::net::UnixStream;

/// Bytes received from a peer in one turn, so that none starves the others.
const RECEIVE_BYTES_PER_TURN: usize = 256 << 10;
/// A buffer that has grown beyond this is shrunk when it is no longer needed.
const BYTES_KEPT: usize = 64 << 10;

/// Bytes received and not yet handled.
#[derive(Debug, Default)]
pub(in crate::doors) struct Input {
    bytes: Vec<u8>,
    /// Bytes that have been handled.
    handled: usize,
    /// Frames that have been handled.
    frames: u64,
}

impl Input {
    /// Receives what the peer has sent, up to the first whole frame and within the turn's budget.
    /// The buffer grows with the bytes that arrive, not with the length that a header announces.
    /// Returns the number of bytes, and whether the stream has ended.
    ///
    /// # Errors
    /// When the connection is broken.
    pub(in crate::doors) fn receive(
        &mut self,
        stream: &UnixStream,
        frame_bytes_max: usize,
        scratch: &mut [u8],
    ) -> io::Result<(usize, bool)> {
        let mut received = 0;
        while received < RECEIVE_BYTES_PER_TURN && !self.has_frame(frame_bytes_max) {
            match rights::receive(stream, scratch) {
                Ok(0) => return Ok((received, true)),
                Ok(count) => {
                    self.bytes.extend_from_slice(scratch.get(..count).unwrap_or_default());
                    received += count;
                    if count < scratch.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok((received, false))
    }

    /// The range of the next whole frame's payload, for [`payload`](Self::payload).
    ///
    /// # Errors
    /// When the peer announces more than `bytes_max`.
    pub(in crate::doors) fn next_frame(
        &self,
        bytes_max: usize,
    ) -> Result<Option<Range<usize>>, FrameTooLong> {
        let waiting = self.bytes.get(self.handled..).unwrap_or_default();
        let payload = frame::split(waiting, bytes_max)?;
        Ok(payload.map(|range| self.handled + range.start..self.handled + range.end))
    }

    /// Returns whether a frame can be handled: it is whole, or too long and to be refused.
    pub(in crate::doors) fn has_frame(&self, bytes_max: usize) -> bool {
        !matches!(self.next_frame(bytes_max), Ok(None))
    }

    pub(in crate::doors) fn payload(&self, frame: Range<usize>) -> &[u8] {
        self.bytes.get(frame).unwrap_or_default()
    }

    /// The frame that ends at `end` has been handled.
    pub(in crate::doors) fn advance(&mut self, end: usize) {
        self.handled = end.min(self.bytes.len());
        self.frames += 1;
    }

    /// Frees the room of handled frames.
    pub(in crate::doors) fn shrink(&mut self) {
        if self.is_empty() {
            self.bytes.clear();
            self.handled = 0;
        } else if self.handled > BYTES_KEPT {
            self.bytes.drain(..self.handled);
            self.handled = 0;
        }
        if self.bytes.capacity() > BYTES_KEPT && self.bytes.len() < self.bytes.capacity() / 4 {
            self.bytes.shrink_to(BYTES_KEPT);
        }
    }

    /// Returns whether all bytes have been handled.
    pub(in crate::doors) fn is_empty(&self) -> bool {
        self.handled == self.bytes.len()
    }

    /// Frames that have been handled.
    pub(in crate::doors) fn frames(&self) -> u64 {
        self.frames
    }

    /// Memory held beyond what every connection may keep.
    pub(in crate::doors) fn excess_bytes(&self) -> usize {
        self.bytes.capacity().saturating_sub(BYTES_KEPT)
    }
}
