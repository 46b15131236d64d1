//! The owner's side of a lane: the request in it, and the reply on its way.

use shm_layout::mailbox::ring::{Broken, Head, Kind};

/// One request at a time, and its reply. Both may come in pieces.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// Sequence number of the request that awaits its reply, or the rest of it.
    pending: Option<u32>,
    /// Sequence number and bytes of a request of which some pieces have come.
    part: Option<(u32, Vec<u8>)>,
    /// Sequence number of a request that came too slowly: its further pieces are ignored.
    dropped: Option<u32>,
    /// A reply that is sent in pieces, and how much of it was sent.
    reply: Vec<u8>,
    sent: usize,
    /// The client took its reply too slowly, and the rest was dropped. If it asks for the next
    /// piece all the same, it gets an empty one, which no whole reply ends with.
    is_cut: bool,
}

/// The effect of a record on its lane.
#[derive(Debug)]
pub(super) enum Received {
    /// A piece; the request is not complete.
    Piece,
    /// A whole request, whose payload is the record's.
    Request,
    /// The last piece of a request, with the payload of all.
    Assembled(Vec<u8>),
    /// The client has taken a piece of its reply, and the next one is due.
    NextPieceDue,
}

impl Lane {
    /// Takes a record for this lane.
    ///
    /// # Errors
    /// When the client may not send it now, or its request is longer than `request_bytes_max`.
    pub(super) fn receive(
        &mut self,
        head: Head,
        payload: &[u8],
        request_bytes_max: usize,
    ) -> Result<Received, Broken> {
        match head.kind {
            Kind::More => {
                let is_begun = !self.reply.is_empty() || self.is_cut;
                let is_due = self.pending == Some(head.sequence) && is_begun;
                return if is_due { Ok(Received::NextPieceDue) } else { Err(Broken) };
            }
            // The reply to the previous request is still to come, or to be taken.
            _ if self.pending.is_some() => return Err(Broken),
            Kind::Whole => {
                self.part = None;
                self.pending = Some(head.sequence);
                return Ok(Received::Request);
            }
            Kind::First => self.part = Some((head.sequence, Vec::new())),
            Kind::Next | Kind::Last => {}
        }
        if self.part.is_none() && self.dropped == Some(head.sequence) {
            return Ok(Received::Piece);
        }
        let Some((sequence, part)) = &mut self.part else { return Err(Broken) };
        if *sequence != head.sequence || part.len() + payload.len() > request_bytes_max {
            return Err(Broken);
        }
        part.extend_from_slice(payload);
        if head.kind != Kind::Last {
            return Ok(Received::Piece);
        }
        self.pending = Some(head.sequence);
        Ok(Received::Assembled(self.part.take().map(|(_, part)| part).unwrap_or_default()))
    }

    /// The pending request wants no reply.
    pub(super) fn cancel(&mut self) {
        self.pending = None;
    }

    /// Returns whether a request awaits its reply, or the rest of it.
    pub(super) fn is_pending(&self) -> bool {
        self.pending.is_some() && !self.is_cut
    }

    /// The sequence number that a reply would carry, if a request awaits one that was not begun.
    pub(super) fn awaits_reply(&self) -> Option<u32> {
        self.pending.filter(|_| self.reply.is_empty() && !self.is_cut)
    }

    /// Keeps a reply that is to be sent in pieces.
    pub(super) fn begin_reply(&mut self, reply: &[u8]) {
        self.reply = reply.to_vec();
        self.sent = 0;
    }

    /// The next piece of the reply, of at most `bytes_max`: its sequence number, its bytes, and
    /// whether more follow.
    pub(super) fn next_piece(&self, bytes_max: usize) -> Option<(u32, &[u8], bool)> {
        let rest = self.reply.get(self.sent..).unwrap_or_default();
        let piece = rest.get(..bytes_max).unwrap_or(rest);
        Some((self.pending?, piece, piece.len() < rest.len()))
    }

    /// A piece of `bytes` was sent.
    pub(super) fn sent_piece(&mut self, bytes: usize, more: bool) {
        self.sent += bytes;
        if !more {
            self.pending = None;
            self.reply = Vec::new();
            self.is_cut = false;
        }
    }

    /// Drops what is incomplete: the rest of a reply, and the first pieces of a request. The client
    /// that has given it up may use the lane again; one that has not loses this request only.
    pub(super) fn cut(&mut self) {
        if !self.reply.is_empty() {
            self.reply = Vec::new();
            self.sent = 0;
            self.is_cut = true;
        }
        if let Some((sequence, _)) = self.part.take() {
            self.dropped = Some(sequence);
        }
    }

    /// Returns whether a request or a reply is incomplete, so that the client has to go on.
    pub(super) fn is_partial(&self) -> bool {
        self.part.is_some() || !self.reply.is_empty()
    }

    /// Memory held.
    pub(super) fn held_bytes(&self) -> usize {
        self.reply.capacity() + self.part.as_ref().map_or(0, |(_, part)| part.capacity())
    }
}
