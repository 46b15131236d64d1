//! One connection: its buffers, and the deadline it is held to.

use super::super::Peer;
use super::super::figures;
use super::super::mailbox::OwnerEnd;
use super::incoming::Incoming;
use super::input::Input;
use super::output::Output;
use super::phase::Phase;
use super::rights;
use crate::access::Quota;
use crate::reactor::Interest;
use l1d_wire::protocol::version::PROTOCOL_OLDEST;
use l1d_wire::protocol::{Attached, EncodeError, ErrorCode, Response};
use l1d_wire::snapshot::{ClientFigures, Figures, percent};
use l1d_wire::words;
use nix::sys::socket::{MsgFlags, send};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Instant;

/// A peer that has moved this much in a turn has not stalled in it.
const PROGRESS_BYTES: usize = 4 << 10;

/// Wakeups whose bytes may stay unread. A client sends one for each time that the daemon has asked
/// for it, and a socket buffer holds some 200 one-byte messages.
const UNREAD_WAKEUPS_MAX: u32 = 32;

/// Bytes moved in one turn of the event loop.
#[derive(Debug, Default)]
pub(in crate::doors) struct Progress {
    turn: u64,
    bytes: usize,
}

impl Progress {
    fn add(&mut self, turn: u64, bytes: usize) {
        *self = Progress { turn, bytes: self.bytes(turn) + bytes };
    }

    /// Bytes that have moved in this turn.
    pub(in crate::doors) fn bytes(&self, turn: u64) -> usize {
        if self.turn == turn { self.bytes } else { 0 }
    }

    /// Returns whether enough moved in this turn to excuse a deadline that passed in it.
    pub(in crate::doors) fn is_moving(&self, turn: u64) -> bool {
        self.bytes(turn) >= PROGRESS_BYTES
    }
}

/// The connection has ended and is to be closed; the peer gets nothing more.
#[derive(Debug)]
pub(in crate::doors) struct Closed;

/// A cause to wait for a peer. Each value has a deadline of its own, so the numbers
/// change with real progress only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::doors) enum Stall {
    /// An attach.
    Attach,
    /// The rest of a frame, after this many whole ones.
    Frame(u64),
    /// Reading of replies, after the output was emptied this many times.
    Reader(u64),
    /// The next piece of a request or reply in the mailbox, after this many.
    Mailbox(u64),
}

#[derive(Debug)]
pub(in crate::doors) struct Connection {
    pub(in crate::doors) stream: UnixStream,
    pub(in crate::doors) peer: Peer,
    /// How much its user may have under way.
    pub(in crate::doors) quota: Quota,
    since: Instant,
    /// Counts of its requests.
    pub(in crate::doors) counted: Figures,
    pub(in crate::doors) phase: Phase,
    /// The version of the protocol that was agreed on when it attached.
    pub(in crate::doors) protocol: u32,
    pub(in crate::doors) incoming: Incoming,
    pub(in crate::doors) input: Input,
    pub(in crate::doors) output: Output,
    pub(in crate::doors) progress: Progress,
    /// Wakeups since their bytes were last discarded.
    unread_wakeups: u32,
    /// It is in the list of connections to be served in this turn, or among those left for later.
    pub(in crate::doors) is_touched: bool,
    /// The cause to wait for this peer, and the deadline.
    pub(in crate::doors) stall: Option<(Stall, Instant)>,
    /// The interest registered with the reactor, unless it is left for later.
    pub(in crate::doors) watched: Interest,
    pub(in crate::doors) is_watched: bool,
    /// How much of its buffers is counted in the memory of all connections.
    pub(in crate::doors) counted_bytes: usize,
}

impl Connection {
    pub(in crate::doors) fn new(stream: UnixStream, peer: Peer, quota: Quota) -> Connection {
        Connection {
            stream,
            peer,
            quota,
            since: Instant::now(),
            counted: Figures::default(),
            phase: Phase::Greeting,
            protocol: PROTOCOL_OLDEST,
            incoming: Incoming::Drained,
            input: Input::default(),
            output: Output::default(),
            progress: Progress::default(),
            unread_wakeups: 0,
            is_touched: false,
            stall: None,
            watched: Interest::READABLE,
            is_watched: true,
            counted_bytes: 0,
        }
    }

    /// Receives, if the next request may come and something is there.
    pub(super) fn receive(
        &mut self,
        turn: u64,
        frame_bytes_max: usize,
        scratch: &mut [u8],
    ) -> Result<(), Closed> {
        if !self.incoming.is_readable() || !self.takes_requests() {
            return Ok(());
        }
        let (received, ended) =
            self.input.receive(&self.stream, frame_bytes_max, scratch).map_err(|_| Closed)?;
        self.incoming.received(ended);
        self.progress.add(turn, received);
        Ok(())
    }

    /// With a mailbox: now and then discards the bytes of wakeups, or finds that the peer has hung
    /// up. A client of which the daemon's side of the socket is full could send no more wakeups.
    pub(super) fn drain_wakeups(&mut self, scratch: &mut [u8]) -> Result<(), Closed> {
        match self.incoming {
            Incoming::Drained => return Ok(()),
            Incoming::HungUp | Incoming::Ended => return Err(Closed),
            Incoming::Readable => self.incoming.received(false),
        }
        self.unread_wakeups += 1;
        if self.unread_wakeups < UNREAD_WAKEUPS_MAX {
            return Ok(());
        }
        self.unread_wakeups = 0;
        match rights::receive(&self.stream, scratch) {
            Ok(0) => Err(Closed),
            Ok(_) => Ok(()),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(()),
                _ => Err(Closed),
            },
        }
    }

    /// With a mailbox: makes the client's descriptor readable, if a reply came that the client
    /// polls for there. A socket that takes no more is readable already.
    pub(in crate::doors) fn notify(&mut self) {
        let notifies = self.phase.mailbox_mut().is_some_and(OwnerEnd::take_notification);
        if notifies && self.output.is_empty() {
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            let _ = send(self.stream.as_raw_fd(), &[1], flags);
        }
    }

    /// Sends what the socket takes.
    pub(in crate::doors) fn send(&mut self, turn: u64) -> Result<(), Closed> {
        let sent = self.output.send(&self.stream).map_err(|_| Closed)?;
        self.progress.add(turn, sent);
        self.counted.reply_bytes += sent as u64;
        Ok(())
    }

    /// Queues the service's reply to an attach: `table`, and a mailbox if one is wanted, this
    /// client may have one, and one can be made.
    ///
    /// # Errors
    /// When the response is larger than a frame can be; nothing is queued, and the phase stays.
    pub(in crate::doors) fn attach(
        &mut self,
        response: &Response<'_>,
        table: OwnedFd,
        may_have_mailbox: bool,
    ) -> Result<(), EncodeError> {
        if let Response::Attached(attached) = response {
            self.protocol = attached.protocol;
        }
        if let (Phase::Attaching { wants_mailbox: true }, Response::Attached(attached)) =
            (&self.phase, response)
            && may_have_mailbox
        {
            match OwnerEnd::create(Instant::now()) {
                Ok((mailbox, file)) => {
                    let attached = Attached { mailbox_bytes: mailbox.bytes(), ..attached.clone() };
                    let response = Response::Attached(attached);
                    self.output.push_with(&response, vec![table, file])?;
                    self.phase = Phase::Mailbox(Box::new(mailbox));
                    return Ok(());
                }
                Err(error) => {
                    let error = words::of(&error);
                    tracing::warn!(
                        error,
                        "cannot make a mailbox for a client, which uses the slower socket instead: \
                         raise the daemon's limits on open files and memory"
                    );
                }
            }
        }
        self.output.push_with(response, vec![table])?;
        self.phase = Phase::Idle;
        Ok(())
    }

    /// Queues an error as the last reply.
    pub(in crate::doors) fn refuse(&mut self, code: ErrorCode, message: &str) {
        // A message too long for a frame is not sent; the connection closes all the same.
        let _ = self.output.push(&Response::Error { code, message });
        self.phase = Phase::Closing;
    }

    /// Figures of the client.
    pub(in crate::doors) fn figures(&self) -> ClientFigures {
        let mut client = figures::of(&self.peer, self.since.elapsed().as_secs());
        client.figures = self.counted;
        if let Some(mailbox) = self.phase.mailbox() {
            client.has_mailbox = true;
            figures::add(&mut client.figures, &mailbox.figures());
        }
        let (hits, reads) = (client.figures.client_reported.hits, client.figures.reads);
        client.hit_percent = percent(hits, hits.saturating_add(reads));
        client
    }

    /// Returns whether the next request from the socket may be handled.
    pub(in crate::doors) fn takes_requests(&self) -> bool {
        matches!(self.phase, Phase::Greeting | Phase::Idle) && !self.output.is_full()
    }

    /// Returns whether the connection can be closed: nothing is left to do for this peer. The end
    /// of its stream is received only after all requests before it were answered.
    pub(in crate::doors) fn is_over(&self) -> bool {
        match self.phase {
            Phase::Greeting | Phase::Idle => {
                self.incoming == Incoming::Ended && self.output.is_empty()
            }
            Phase::Attaching { .. } | Phase::Asking => self.incoming == Incoming::HungUp,
            Phase::Mailbox(_) | Phase::Leaving(_) => false,
            Phase::Closing => self.output.is_empty(),
        }
    }

    /// The cause to wait for this peer, if there is one.
    pub(in crate::doors) fn stalls_on(&self, has_frame: bool) -> Option<Stall> {
        match &self.phase {
            Phase::Attaching { .. } | Phase::Asking => None,
            Phase::Greeting => Some(Stall::Attach),
            _ if !self.output.is_empty() => Some(Stall::Reader(self.output.emptied())),
            Phase::Mailbox(mailbox) | Phase::Leaving(mailbox) => {
                mailbox.pieces_pending().map(Stall::Mailbox)
            }
            Phase::Idle | Phase::Closing => {
                let has_part = !has_frame && !self.input.is_empty();
                has_part.then(|| Stall::Frame(self.input.frames()))
            }
        }
    }

    /// The interest to register: only what is acted on at once, because readiness is
    /// level-triggered; or wakeups, whose bytes may stay unread.
    pub(in crate::doors) fn interest(&self, has_frame: bool) -> Interest {
        if !self.output.is_empty() {
            return Interest::WRITABLE;
        }
        if let Phase::Mailbox(_) = self.phase {
            return Interest::WAKEUPS;
        }
        let reads = self.takes_requests() && !has_frame && self.incoming != Incoming::Ended;
        if reads { Interest::READABLE } else { Interest::NONE }
    }

    /// Memory held beyond what every connection may keep.
    pub(in crate::doors) fn excess_bytes(&self) -> usize {
        let mailbox = self.phase.mailbox().map_or(0, OwnerEnd::excess_bytes);
        self.input.excess_bytes() + self.output.excess_bytes() + mailbox
    }
}
