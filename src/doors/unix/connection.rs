//! One connection, and what it waits for.

use super::super::Peer;
use super::super::figures::{ClientFigures, Figures};
use super::super::mailbox::Mailbox;
use super::input::Input;
use super::output::Output;
use nix::sys::epoll::EpollFlags;
use nix::sys::socket::{MsgFlags, send};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Instant;

/// A peer that has moved this much in a turn is not stalled in it.
const PROGRESS_BYTES: usize = 4 << 10;

/// Bytes moved in one turn of the event loop.
#[derive(Debug, Default)]
pub(in crate::doors) struct Progress {
    turn: u64,
    bytes: usize,
}

impl Progress {
    fn add(&mut self, turn: u64, bytes: usize) {
        let before = if self.turn == turn { self.bytes } else { 0 };
        *self = Progress { turn, bytes: before + bytes };
    }

    /// Whether so much moved in this turn that a deadline that has passed meanwhile says nothing.
    pub(in crate::doors) fn is_moving(&self, turn: u64) -> bool {
        self.turn == turn && self.bytes >= PROGRESS_BYTES
    }
}

/// The connection is over; the peer gets nothing more.
#[derive(Debug)]
pub(in crate::doors) struct Over;

/// What is under way for a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::doors) enum Asked {
    Nothing,
    /// To hand over the table.
    Attach,
    Other,
}

/// What the daemon is kept waiting for. Something else to wait for begins a new deadline; more of the
/// same does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::doors) enum Waiting {
    /// That it attaches.
    Attach,
    /// The rest of the frame after that many.
    Frame(u64),
    /// That it reads what is sent, after all was read that many times.
    Reader(u64),
    /// That it goes on in its mailbox, after it has done so that many times.
    Mailbox(u64),
}

#[derive(Debug)]
pub(in crate::doors) struct Connection {
    pub(in crate::doors) stream: UnixStream,
    pub(in crate::doors) peer: Peer,
    since: Instant,
    /// What its requests came to.
    pub(in crate::doors) counted: Figures,
    pub(in crate::doors) input: Input,
    pub(in crate::doors) output: Output,
    pub(in crate::doors) asked: Asked,
    pub(in crate::doors) is_attached: bool,
    /// It has asked for a mailbox.
    pub(in crate::doors) wants_mailbox: bool,
    /// With one, what comes over the socket only wakes the daemon.
    pub(in crate::doors) mailbox: Option<Box<Mailbox>>,
    /// Close as soon as everything is sent.
    pub(in crate::doors) is_closing: bool,
    /// The kernel says that there is something to receive, or the end.
    is_readable: bool,
    /// The peer sends nothing more.
    has_ended: bool,
    /// The peer neither sends nor receives any more.
    is_gone: bool,
    /// With a mailbox: the peer is gone, and what it has left in its ring is still to be served.
    pub(in crate::doors) is_leaving: bool,
    pub(in crate::doors) progress: Progress,
    /// Somebody has to look at it in this turn.
    pub(in crate::doors) is_touched: bool,
    /// What the daemon is kept waiting for, and until when.
    pub(in crate::doors) waiting: Option<(Waiting, Instant)>,
    /// What epoll was asked to watch.
    pub(in crate::doors) watched: EpollFlags,
    /// What of its buffers is counted in the memory of all.
    pub(in crate::doors) counted_bytes: usize,
}

impl Connection {
    pub(in crate::doors) fn new(stream: UnixStream, peer: Peer) -> Connection {
        Connection {
            stream,
            peer,
            since: Instant::now(),
            counted: Figures::default(),
            input: Input::default(),
            output: Output::default(),
            asked: Asked::Nothing,
            is_attached: false,
            wants_mailbox: false,
            mailbox: None,
            is_closing: false,
            is_readable: false,
            has_ended: false,
            is_gone: false,
            is_leaving: false,
            progress: Progress::default(),
            is_touched: false,
            waiting: None,
            watched: EpollFlags::EPOLLIN,
            counted_bytes: 0,
        }
    }

    /// Takes note of what epoll says.
    pub(in crate::doors) fn notice(&mut self, flags: EpollFlags) {
        let gone = EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR;
        self.is_gone |= flags.intersects(gone);
        self.is_readable |= flags.intersects(EpollFlags::EPOLLIN | gone);
    }

    /// Receives, if the next request may come and something is there.
    pub(in crate::doors) fn receive(
        &mut self,
        turn: u64,
        frame_bytes_max: usize,
        scratch: &mut [u8],
    ) -> Result<(), Over> {
        if !self.is_readable || !self.takes_requests() || self.has_ended {
            return Ok(());
        }
        self.is_readable = false;
        let (received, ended) =
            self.input.receive(&self.stream, frame_bytes_max, scratch).map_err(|_| Over)?;
        self.has_ended |= ended;
        self.progress.add(turn, received);
        Ok(())
    }

    /// With a mailbox: takes what rang, or the end.
    pub(in crate::doors) fn hear_rings(&mut self, scratch: &mut [u8]) -> Result<(), Over> {
        if self.is_gone {
            return Err(Over);
        }
        if !std::mem::take(&mut self.is_readable) {
            return Ok(());
        }
        match (&self.stream).read(scratch) {
            Ok(0) => Err(Over),
            Ok(_) => Ok(()),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(()),
                _ => Err(Over),
            },
        }
    }

    /// With a mailbox: makes the client's descriptor readable, if a reply came that is waited for
    /// there. Where the socket takes no more, it is readable already.
    pub(in crate::doors) fn ring(&mut self) {
        let rings = self.mailbox.as_mut().is_some_and(|mailbox| mailbox.take_ring());
        if rings && self.output.is_empty() {
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            let _ = send(self.stream.as_raw_fd(), &[1], flags);
        }
    }

    /// Sends what the socket takes.
    pub(in crate::doors) fn send(&mut self, turn: u64) -> Result<(), Over> {
        let sent = self.output.send(&self.stream).map_err(|_| Over)?;
        self.progress.add(turn, sent);
        self.counted.reply_bytes += sent as u64;
        Ok(())
    }

    /// Who it is, and what it did.
    pub(in crate::doors) fn figures(&self) -> ClientFigures {
        let mut client = ClientFigures::new(&self.peer, self.since.elapsed().as_secs());
        client.figures = self.counted;
        if let Some(mailbox) = &self.mailbox {
            client.has_mailbox = true;
            client.figures.add(&mailbox.figures());
        }
        client
    }

    /// Whether the next request may be handled.
    pub(in crate::doors) fn takes_requests(&self) -> bool {
        self.asked == Asked::Nothing && !self.is_closing && !self.output.is_full()
    }

    /// Whether nothing that is under way or to come concerns this peer. (The end of what it sends is
    /// seen only when all requests before it are answered.)
    pub(in crate::doors) fn is_over(&self) -> bool {
        let is_asking = self.asked != Asked::Nothing;
        let wants_nothing = self.is_closing || self.has_ended;
        (self.is_gone && is_asking) || (wants_nothing && self.output.is_empty())
    }

    /// What the daemon is kept waiting for.
    pub(in crate::doors) fn waits_for(&self, has_frame: bool) -> Option<Waiting> {
        if let Some(mailbox) = &self.mailbox
            && self.output.is_empty()
        {
            mailbox.waits_for_more().map(Waiting::Mailbox)
        } else if self.asked != Asked::Nothing {
            None
        } else if !self.is_attached {
            Some(Waiting::Attach)
        } else if !self.output.is_empty() {
            Some(Waiting::Reader(self.output.emptied()))
        } else if !has_frame && !self.input.is_empty() {
            Some(Waiting::Frame(self.input.frames()))
        } else {
            None
        }
    }

    /// What epoll is to watch: nothing that is not acted on at once, as it would be reported for ever.
    pub(in crate::doors) fn interest(&self, has_frame: bool) -> EpollFlags {
        let mut interest = EpollFlags::empty();
        if !self.output.is_empty() {
            interest |= EpollFlags::EPOLLOUT;
        } else if self.takes_requests() && !has_frame && !self.has_ended {
            interest |= EpollFlags::EPOLLIN;
        }
        interest
    }

    /// Memory held beyond what every connection may keep.
    pub(in crate::doors) fn excess_bytes(&self) -> usize {
        let mailbox = self.mailbox.as_ref().map_or(0, |mailbox| mailbox.excess_bytes());
        self.input.excess_bytes() + self.output.excess_bytes() + mailbox
    }
}
