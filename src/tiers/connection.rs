//! One nonblocking connection to a server, and the requests in flight on it.
//!
//! ```text
//!              connected        greeted
//! Connecting ------------> Greeting ------> Open ----+ given up with changes unanswered
//!      |                      |              |       v
//!      +----------------------+--------------+--> Draining --> closed
//!                    failed, or nothing that was sent can still be carried out
//! ```
//!
//! A request is *unsent* until the kernel has taken its last byte, then *sent*, then *answered*.
//! Servers answer in order, so the exchanges in flight are a queue.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, Shutdown, recv, send, shutdown};

use super::health::Failure;
use super::request::{Again, Answer, Request};

/// Buffers larger than this are given back once they are empty.
const BUFFER_BYTES_KEPT: usize = 256 << 10;

/// How one kind of server is spoken to: requests to bytes, bytes to answers. No I/O.
pub trait Protocol: fmt::Debug {
    /// One complete message off the wire.
    type Message;
    /// State for reading the answer to one exchange.
    type Shape: fmt::Debug;
    /// The beginning of a message whose rest has not come.
    type Decoder: Default;
    /// What identifies a connection at the server.
    type Session: Default + fmt::Debug;

    /// Appends the commands that open a session. Returns how many messages answer them.
    fn greet(&self, out: &mut Vec<u8>) -> usize;

    /// Appends a command that every healthy server answers with one message.
    fn probe(&self, out: &mut Vec<u8>);

    /// Takes one message that answers a greeting.
    fn greeted(&self, session: &mut Self::Session, message: Self::Message) -> Result<(), Failure>;

    /// Appends a command that has the server end the session of a former connection, or tells why
    /// not. `own` is the session over which the command will be sent.
    fn end_session(&self, own: &Self::Session, former: &Self::Session, out: &mut Vec<u8>)
    -> Ending;

    /// Whether this answer to [`end_session`](Protocol::end_session) means that nothing more of the
    /// former session will be carried out.
    fn has_ended(&self, message: &Self::Message) -> bool;

    /// Checks one message that answers a probe.
    fn check_probe(&self, message: Self::Message) -> Result<(), Failure>;

    /// Appends the command that a server is tried with at start. One message answers it.
    fn introduce(&self, out: &mut Vec<u8>) {
        self.probe(out);
    }

    /// Checks that message.
    fn introduced(&self, message: Self::Message) -> Result<Introduction, Failure> {
        self.check_probe(message).map(|()| Introduction::default())
    }

    /// Appends one exchange for the first of `asked`, which is not empty. Values had `value_bytes`
    /// bytes lately, on average. Returns how many of the requests it covers. On an error nothing
    /// was appended, and the first request cannot be sent at all.
    fn encode(
        &mut self,
        asked: &[Asked],
        value_bytes: usize,
        out: &mut Vec<u8>,
    ) -> Result<(usize, Self::Shape), String>;

    /// Takes the next message out of `input`. `None`: all of `input` is consumed.
    fn decode(
        &self,
        decoder: &mut Self::Decoder,
        input: &mut &[u8],
    ) -> Result<Option<Self::Message>, Failure>;

    /// Takes one message of the answer to an exchange. `true`: it was the last one, and `answers`
    /// has one for each request.
    fn answer(
        &mut self,
        asked: &[Asked],
        shape: &mut Self::Shape,
        message: Self::Message,
        answers: &mut Vec<Answer>,
    ) -> Result<bool, Failure>;
}

/// Whether the server can end the session of a former connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The command is appended.
    Asked,
    /// The former connection led to another server: nobody who reads from this one sees what the
    /// other one does with it.
    OtherServer,
    /// It cannot, or it is not known which session that was.
    Impossible,
}

/// The server's words about itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Introduction {
    /// Its version.
    pub version: Option<String>,
    /// The reason why it will not serve all requests, although it answers.
    pub problem: Option<String>,
}

/// A request and the job that asked.
#[derive(Debug)]
pub struct Asked {
    /// `None` for a fill, which nobody waits for.
    pub ticket: Option<usize>,
    pub request: Request,
    /// When the first turn began that found it in the queue. Reading the clock for each request
    /// would be a good part of its cost.
    pub since: Option<Instant>,
    /// How it is asked again, if it is.
    pub again: Option<Again>,
    /// A server that was not ready has refused it once.
    pub was_refused: bool,
    /// When it was sent, the server could still carry out a change of the key that was sent over a
    /// former connection.
    pub is_in_doubt: bool,
}

impl Asked {
    /// A request that has not been sent.
    pub fn new(ticket: Option<usize>, request: Request) -> Asked {
        let (since, again) = (None, None);
        Asked { ticket, request, since, again, was_refused: false, is_in_doubt: false }
    }
}

/// Commands that are answered together.
#[derive(Debug)]
pub struct Exchange<S> {
    pub content: Content<S>,
    /// Where its last byte stands in the stream of everything that was ever queued.
    end: u64,
    pub sent_at: Instant,
    /// The tier's epoch when it was queued.
    pub epoch: u64,
    /// Its requests were answered with a failure when its deadline passed; a late answer is
    /// dropped.
    pub is_abandoned: bool,
}

#[derive(Debug)]
pub enum Content<S> {
    Greeting,
    /// Ends the session of the former connection with this token.
    End {
        former: u64,
    },
    Probe,
    /// The server is asked for a sign of life.
    Check,
    Requests {
        asked: Vec<Asked>,
        shape: S,
    },
}

/// Stage of a connection's life; see the picture at the top.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Connecting,
    Greeting,
    Open,
    Draining,
}

/// Result of a read.
pub enum Received {
    Bytes(usize),
    Nothing,
    End,
}

pub struct Connection<P: Protocol> {
    pub state: State,
    socket: OwnedFd,
    pub token: u64,
    pub decoder: P::Decoder,
    pub session: P::Session,
    /// The network broke it off: what the server still does with it will not be seen.
    pub is_broken_off: bool,
    out: Vec<u8>,
    /// Bytes at the front of `out` that the kernel has taken.
    out_start: usize,
    /// Bytes ever queued.
    queued: u64,
    pub in_flight: VecDeque<Exchange<P::Shape>>,
    /// The reactor watches for room to write.
    pub watches_writable: bool,
    /// When it was opened, or when the last bytes came.
    pub heard_at: Instant,
    /// Since when the server has been asked for a sign of life.
    pub checked_since: Option<Instant>,
    /// The last exchange to pass its deadline got no answer at all.
    pub is_suspect: bool,
    /// Gets no further requests, and is closed when nobody waits for a reply.
    pub is_leaving: bool,
}

impl<P: Protocol> Connection<P> {
    /// Wraps a socket that is connected or connecting.
    pub fn new(socket: OwnedFd, token: u64) -> Connection<P> {
        Connection {
            state: State::Connecting,
            socket,
            token,
            decoder: P::Decoder::default(),
            session: P::Session::default(),
            is_broken_off: false,
            out: Vec::new(),
            out_start: 0,
            queued: 0,
            in_flight: VecDeque::new(),
            watches_writable: false,
            heard_at: Instant::now(),
            checked_since: None,
            is_suspect: false,
            is_leaving: false,
        }
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Bytes that the kernel has not taken.
    pub fn unsent_bytes(&self) -> usize {
        self.out.len() - self.out_start
    }

    /// Where encoders append.
    pub fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Queues an exchange whose commands were appended to [`out`](Connection::out) since the last
    /// call; `before` is the length of `out` before that.
    pub fn push(&mut self, content: Content<P::Shape>, before: usize, now: Instant, epoch: u64) {
        self.queued += (self.out.len() - before) as u64;
        let end = self.queued;
        let exchange = Exchange { content, end, sent_at: now, epoch, is_abandoned: false };
        self.in_flight.push_back(exchange);
    }

    /// Whether the kernel has taken the exchange's last byte.
    pub fn is_sent(&self, exchange: &Exchange<P::Shape>) -> bool {
        exchange.end + self.unsent_bytes() as u64 <= self.queued
    }

    /// Bytes have come at `now`: it is alive.
    pub fn heard(&mut self, now: Instant) {
        self.heard_at = now;
        self.checked_since = None;
        self.is_suspect = false;
    }

    /// Sends what the socket takes.
    pub fn send(&mut self) -> io::Result<()> {
        while self.out_start < self.out.len() {
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            let rest = self.out.get(self.out_start..).unwrap_or_default();
            match send(self.socket.as_raw_fd(), rest, flags) {
                Ok(sent) => self.out_start += sent,
                Err(Errno::EAGAIN) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
        self.out_start = 0;
        self.out.clear();
        self.out.shrink_to(BUFFER_BYTES_KEPT);
        Ok(())
    }

    /// Receives once.
    pub fn receive(&mut self, scratch: &mut [u8]) -> io::Result<Received> {
        loop {
            return match recv(self.socket.as_raw_fd(), scratch, MsgFlags::MSG_DONTWAIT) {
                Ok(0) => Ok(Received::End),
                Ok(bytes) => Ok(Received::Bytes(bytes)),
                Err(Errno::EAGAIN) => Ok(Received::Nothing),
                Err(Errno::EINTR) => continue,
                Err(error) => Err(self.failed(error)),
            };
        }
    }

    fn failed(&mut self, error: Errno) -> io::Error {
        // These two say that the server's end is closed.
        self.is_broken_off |= !matches!(error, Errno::ECONNRESET | Errno::EPIPE);
        error.into()
    }

    /// Keys of the changes that the server may still carry out, since it has not answered them. It
    /// may even if the connection is closed: that recalls nothing that the server's kernel has
    /// received (P12).
    pub fn unanswered_changes(&self) -> impl Iterator<Item = &Arc<[u8]>> {
        let sent = self.in_flight.iter().filter(|exchange| self.is_sent(exchange));
        let asked = sent.flat_map(|exchange| match &exchange.content {
            Content::Requests { asked, .. } => asked.as_slice(),
            Content::Greeting | Content::End { .. } | Content::Probe | Content::Check => &[],
        });
        let changes = asked.filter(|asked| !asked.request.ask.is_read());
        changes.map(|asked| &asked.request.key)
    }

    /// Sends nothing more and tells the server so; it closes when it has worked off what it has.
    pub fn drain(&mut self) -> io::Result<()> {
        self.state = State::Draining;
        self.out = Vec::new();
        self.out_start = 0;
        self.in_flight.clear();
        Ok(shutdown(self.socket.as_raw_fd(), Shutdown::Write)?)
    }
}

impl<P: Protocol> fmt::Debug for Connection<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let in_flight = self.in_flight.len();
        f.debug_struct("Connection")
            .field("state", &self.state)
            .field("in_flight", &in_flight)
            .finish_non_exhaustive()
    }
}

/// What the protocols' tests share.
#[cfg(test)]
pub mod testing {
    use super::{Failure, Protocol};

    /// Decodes bytes that arrive in these pieces.
    pub fn decode<P: Protocol>(protocol: &P, pieces: &[&[u8]]) -> Result<Vec<P::Message>, Failure> {
        let mut decoder = P::Decoder::default();
        let mut messages = Vec::new();
        for mut piece in pieces.iter().copied() {
            while let Some(message) = protocol.decode(&mut decoder, &mut piece)? {
                messages.push(message);
            }
            assert!(piece.is_empty(), "bytes are left");
        }
        Ok(messages)
    }

    /// `stream`, cut at these places.
    pub fn cut(stream: &[u8], mut cuts: Vec<usize>) -> Vec<&[u8]> {
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        cuts.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect()
    }
}
