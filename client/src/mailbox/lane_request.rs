//! A request that waits for its reply on its own lane.

use super::{BUFFER_BYTES_KEPT, ClientEnd, Lane};
use crate::deadline::Deadline;
use crate::failure::{Failure, Reason};
use l1d_wire::protocol::Request;
use l1d_wire::protocol::frame::HEADER_BYTES;
use shm_layout::mailbox::lane::Piece;
use shm_layout::mailbox::ring::Kind;
use std::ops::Deref;

/// No honest daemon's reply is larger.
const REPLY_BYTES_MAX: usize = 1 << 30;

/// A request on its lane, until its reply is complete.
pub(crate) struct LaneRequest<P: Deref<Target = ClientEnd>> {
    mailbox: P,
    lane: Lane,
    /// No further reply will come to the lane.
    is_answered: bool,
    /// The end of the request in the ring.
    position: u64,
    /// The caller waits for the reply at the descriptor.
    pub(super) is_polled: bool,
}

impl<P: Deref<Target = ClientEnd>> LaneRequest<P> {
    pub(super) fn on(mailbox: P, lane: Lane) -> LaneRequest<P> {
        LaneRequest { mailbox, lane, is_answered: true, position: 0, is_polled: false }
    }

    /// The payload of the reply, once it has arrived.
    pub(crate) fn reply(&self) -> &[u8] {
        &self.lane.reply
    }

    /// The mailbox of the request.
    pub(crate) fn mailbox(&self) -> &P {
        &self.mailbox
    }

    /// The request has no reply.
    pub(super) fn expect_nothing(&mut self) {
        self.is_answered = true;
    }

    pub(super) fn send(
        &mut self,
        request: &Request<'_>,
        deadline: &Deadline,
    ) -> Result<(), Failure> {
        self.lane.sequence = self.lane.sequence.wrapping_add(1);
        self.open_lane();
        let LaneRequest { mailbox, lane, .. } = self;
        lane.request.clear();
        lane.reply.clear();
        request.encode(&mut lane.request).map_err(Failure::TooLarge)?;
        let payload = lane.request.get(HEADER_BYTES..).unwrap_or_default();
        let piece_bytes = mailbox.words.shape().piece_bytes();
        if payload.len() <= piece_bytes {
            self.position = mailbox.push(lane, Kind::Whole, payload, deadline)?;
        } else {
            let pieces = payload.len().div_ceil(piece_bytes);
            for (index, piece) in payload.chunks(piece_bytes).enumerate() {
                let kind = match index {
                    0 => Kind::First,
                    index if index + 1 == pieces => Kind::Last,
                    _ => Kind::Next,
                };
                self.position = mailbox.push(lane, kind, piece, deadline)?;
            }
        }
        self.is_answered = false;
        Ok(())
    }

    /// Waits for the whole reply.
    pub(super) fn wait(&mut self, is_write: usize, deadline: &Deadline) -> Result<(), Failure> {
        loop {
            let piece =
                self.mailbox.wait_for_reply(&self.lane, self.position, is_write, deadline)?;
            if self.take(piece, deadline)? {
                return Ok(());
            }
        }
    }

    /// Takes the pieces that have arrived. Returns whether the reply is complete.
    pub(crate) fn poll(&mut self, deadline: &Deadline) -> Result<bool, Failure> {
        loop {
            if let Some(piece) =
                self.mailbox.words.reply(self.lane.number.into(), self.lane.sequence)
            {
                if self.take(piece, deadline)? {
                    return Ok(true);
                }
                continue;
            }
            if deadline.has_passed() {
                return Err(Failure::NoReply(Reason::Deadline));
            }
            return self.mailbox.check(self.position).map(|()| false);
        }
    }

    fn open_lane(&self) {
        let (number, sequence) = (self.lane.number.into(), self.lane.sequence);
        match self.is_polled {
            true => self.mailbox.words.open_polled_lane(number, sequence),
            false => self.mailbox.words.open_lane(number, sequence),
        }
    }

    /// Takes a piece of the reply, and asks for the next if there is one. Returns whether it was
    /// the last.
    fn take(&mut self, piece: Piece, deadline: &Deadline) -> Result<bool, Failure> {
        let LaneRequest { mailbox, lane, .. } = self;
        let before = lane.reply.len();
        if before.saturating_add(piece.bytes) > REPLY_BYTES_MAX {
            mailbox.give_up();
            return Err(Failure::BadReply("a reply without end".to_owned()));
        }
        lane.reply.resize(before + piece.bytes, 0);
        mailbox.words.take(lane.number.into(), lane.reply.get_mut(before..).unwrap_or_default());
        if !piece.more {
            self.is_answered = true;
            return match piece.bytes {
                // No whole reply ends with an empty piece.
                0 if before > 0 => Err(Failure::NoReply(Reason::Dropped)),
                _ => Ok(true),
            };
        }
        lane.owes_more = true;
        self.open_lane();
        let pushed = self.mailbox.push(&self.lane, Kind::More, &[], deadline);
        self.position = pushed.map_err(|failure| match failure {
            // Only the request for the next piece was not sent; the request itself was.
            Failure::NotSent(reason) => Failure::NoReply(reason),
            failure => failure,
        })?;
        self.lane.owes_more = false;
        Ok(false)
    }
}

impl<P: Deref<Target = ClientEnd>> Drop for LaneRequest<P> {
    fn drop(&mut self) {
        let mut lane = std::mem::take(&mut self.lane);
        for buffer in [&mut lane.request, &mut lane.reply] {
            if buffer.capacity() > BUFFER_BYTES_KEPT {
                *buffer = Vec::new();
            }
        }
        let mut sender = self.mailbox.lock();
        if self.is_answered {
            sender.free.push(lane);
        } else {
            sender.abandoned.push(lane);
        }
        let is_wanted = sender.free.len() == 1;
        drop(sender);
        #[cfg(feature = "tokio")]
        if is_wanted {
            self.mailbox.waiters.wake();
        }
        if is_wanted {
            self.mailbox.freed.notify_one();
        }
    }
}
