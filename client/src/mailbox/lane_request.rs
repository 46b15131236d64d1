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
    /// Bytes of the request's payload that are in the ring.
    sent: usize,
    /// The caller waits for the reply at the descriptor, and for room in the ring by polling.
    pub(super) is_polled: bool,
}

impl<P: Deref<Target = ClientEnd>> LaneRequest<P> {
    pub(super) fn on(mailbox: P, lane: Lane) -> LaneRequest<P> {
        LaneRequest { mailbox, lane, is_answered: true, position: 0, sent: 0, is_polled: false }
    }

    /// The payload of the reply, once it has arrived.
    pub(crate) fn reply(&self) -> &[u8] {
        &self.lane.reply
    }

    /// The request, encoded.
    pub(crate) fn request(&self) -> &[u8] {
        &self.lane.request
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
        self.mailbox.socket.check_known(request)?;
        self.lane.sequence = self.lane.sequence.wrapping_add(1);
        self.open_lane();
        self.lane.request.clear();
        self.lane.reply.clear();
        self.sent = 0;
        request.encode(&mut self.lane.request).map_err(Failure::TooLarge)?;
        self.send_rest(deadline)
    }

    /// Not all pieces of the request are in the ring, or the next piece of the reply was not asked
    /// for: the ring had no room.
    pub(crate) fn is_unsent(&self) -> bool {
        self.sent < self.payload().len() || self.lane.owes_more
    }

    fn payload(&self) -> &[u8] {
        self.lane.request.get(HEADER_BYTES..).unwrap_or_default()
    }

    /// Pushes the pieces of the request that are not in the ring. Waits for room until the
    /// deadline, or, if the caller polls, pushes what there is room for.
    fn send_rest(&mut self, deadline: &Deadline) -> Result<(), Failure> {
        let piece_bytes = self.mailbox.words.shape().piece_bytes();
        loop {
            let payload = self.payload();
            let rest = payload.get(self.sent..).unwrap_or_default();
            let piece = rest.get(..piece_bytes).unwrap_or(rest);
            let kind = match (self.sent, piece.len() == rest.len()) {
                (0, true) => Kind::Whole,
                (0, false) => Kind::First,
                (_, false) => Kind::Next,
                (_, true) => Kind::Last,
            };
            let pushed = match self.is_polled {
                true => self.mailbox.try_push(&self.lane, kind, piece, false)?,
                false => Some(self.mailbox.push(&self.lane, kind, piece, deadline)?),
            };
            let bytes = piece.len();
            let Some(position) = pushed else { return Ok(()) };
            self.position = position;
            self.sent += bytes;
            if matches!(kind, Kind::Whole | Kind::Last) {
                self.is_answered = false;
                return Ok(());
            }
        }
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
        if self.sent < self.payload().len() {
            self.send_rest(deadline)?;
            if self.sent < self.payload().len() {
                if deadline.has_passed() {
                    return Err(Failure::NotSent(Reason::Deadline));
                }
                // The daemon has not read what is not there yet, and so has done nothing.
                return self.mailbox.check(self.position + 1).map(|()| false);
            }
        }
        loop {
            if self.lane.owes_more && !self.ask_for_more(deadline)? {
                if deadline.has_passed() {
                    return Err(Failure::NoReply(Reason::Deadline));
                }
                return self.mailbox.check(self.position).map(|()| false);
            }
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
        // If the ring has no room, the next poll asks.
        self.ask_for_more(deadline)?;
        Ok(false)
    }

    /// Asks for the next piece of the reply. `false` if the caller polls and the ring has no room.
    fn ask_for_more(&mut self, deadline: &Deadline) -> Result<bool, Failure> {
        let pushed = match self.is_polled {
            true => self.mailbox.try_push(&self.lane, Kind::More, &[], false),
            false => self.mailbox.push(&self.lane, Kind::More, &[], deadline).map(Some),
        };
        let pushed = pushed.map_err(|failure| match failure {
            // Only the request for the next piece was not sent; the request itself was.
            Failure::NotSent(reason) => Failure::NoReply(reason),
            failure => failure,
        })?;
        if let Some(position) = pushed {
            self.position = position;
            self.lane.owes_more = false;
        }
        Ok(pushed.is_some())
    }
}

impl<P: Deref<Target = ClientEnd>> Drop for LaneRequest<P> {
    fn drop(&mut self) {
        if !self.mailbox.is_own() {
            return;
        }
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
