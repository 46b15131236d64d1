//! One tier: requests wait in its queue, travel together over one connection, and are answered one
//! by one.
//!
//! Batching needs no timer. Requests that arrive in one turn of the loop leave with one system
//! call; a quiet tier answers at once, a busy one in large batches. One connection keeps the order:
//! a request cannot overtake an earlier one for the same key.

mod deadlines;
mod former;
mod leave;
mod link;
mod probe;
mod quiet;
mod transfer;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use l1d_wire::snapshot::TierStats;
use l1d_wire::words;

use former::{FORMERS_MAX, Former};
use link::Link;
use probe::Probe;

use super::Tier;
use super::connection::{Asked, Connection, Protocol, State};
use super::dial::{Endpoint, Resolver};
use super::health::{Failure, Health};
use super::latency::Latency;
use super::oversized::{Oversized, Size};
use super::request::{Again, Answer, Ask, Reply, Request};
use crate::reactor::{Interest, Reactor, Readiness, Token};

/// Tokens of one tier. The resolver has the first.
const RESOLVED: u64 = 0;
/// While a reply is arriving, its deadline is extended up to this many times.
pub const PROGRESS_MAX: u32 = 4;

/// One tier.
#[derive(Debug)]
pub struct Server<P: Protocol> {
    pub health: Health,
    protocol: P,
    endpoint: Endpoint,
    deadline: Duration,
    reactor: Rc<Reactor>,
    /// The first of this tier's tokens, and the number of tokens used.
    tokens: (u64, u64),
    resolver: Resolver,
    queue: VecDeque<Asked>,
    link: Link<P>,
    formers: Vec<Former<P>>,
    /// Keys of changes that were lost with a connection, since they were last taken.
    doubtful: Vec<Arc<[u8]>>,
    /// A former connection was broken off since that was last asked for: its changes may be carried
    /// out at any time.
    has_lost_sight: bool,
    /// Changes in the queue and in flight.
    changes: usize,
    probe: Probe,
    /// The server is being tried at start.
    is_untried: bool,
    latency: Latency,
    /// Mean bytes of the values read lately.
    value_bytes: usize,
    /// Requests in flight.
    in_flight: usize,
    /// Requests that a server that was not ready has refused, for the next connection.
    refused: Vec<Asked>,
    /// When the last server was left, and its address.
    left: Option<(Instant, Option<SocketAddr>)>,
    oversized: Oversized,
}

/// Replies for [`Upstream`](super::Upstream), in wire order.
pub type Replies = VecDeque<(Tier, Reply)>;

impl<P: Protocol> Server<P> {
    /// A tier that is taken to be up; it connects when it is first asked or tried.
    ///
    /// # Errors
    /// When the system has no descriptor for it.
    pub fn new(
        tier: Tier,
        protocol: P,
        endpoint: Endpoint,
        deadline: Duration,
        (reactor, first_token): (Rc<Reactor>, u64),
    ) -> io::Result<Server<P>> {
        let resolver = Resolver::new()?;
        reactor.register(resolver.fd(), Token::tier(first_token + RESOLVED), Interest::READABLE)?;
        Ok(Server {
            health: Health::new(tier),
            protocol,
            endpoint,
            deadline,
            reactor,
            tokens: (first_token, RESOLVED),
            resolver,
            queue: VecDeque::new(),
            link: Link::Down,
            formers: Vec::new(),
            doubtful: Vec::new(),
            has_lost_sight: false,
            changes: 0,
            probe: Probe::Idle,
            is_untried: false,
            latency: Latency::new(),
            value_bytes: 1024,
            in_flight: 0,
            refused: Vec::new(),
            left: None,
            oversized: Oversized::default(),
        })
    }

    fn tier(&self) -> Tier {
        self.health.tier()
    }

    /// The figures, to show.
    pub fn stats(&self) -> TierStats {
        self.health.stats(self.latency.shown())
    }

    /// Queues a request for the next [`advance`](Server::advance), or answers at once if the tier
    /// is lost.
    pub fn ask(&mut self, ticket: Option<usize>, request: Request, replies: &mut Replies) {
        self.health.figures.requests += 1;
        let is_change = !request.ask.is_read();
        self.changes += usize::from(is_change);
        let mut asked = Asked::new(ticket, request);
        if !self.health.allows() {
            let why = self.health.refusal();
            return self.not_sent(asked, &why, replies);
        }
        if is_change && self.formers.len() >= FORMERS_MAX {
            let failure =
                Failure::broken("too many connections have changes that were not answered");
            return self.not_sent(asked, &failure.text(), replies);
        }
        if asked.request.ask.is_read() {
            match self.oversized.look(&asked.request.key) {
                Size::Unknown => {}
                Size::WasTooLarge => asked.again = Some(Again::Size),
                Size::TooLarge(bytes) => {
                    let when = (Instant::now(), self.health.epoch());
                    let answer = Answer::TooLarge { bytes };
                    return replies.push_back(self.health.reply(&asked, answer, when));
                }
            }
        } else if !matches!(asked.request.ask, Ask::Add { .. }) {
            self.oversized.forget(&asked.request.key);
        }
        self.queue.push_back(asked);
    }

    /// Whether a change may be carried out that is not answered yet, or never will be.
    pub fn has_open_changes(&self) -> bool {
        self.changes > 0 || self.has_formers()
    }

    /// Keys of changes that were lost with a connection, since the last call, and whether it is
    /// unknown when the server will have carried out the last of all such changes.
    pub fn take_doubtful(&mut self) -> (Vec<Arc<[u8]>>, bool) {
        (std::mem::take(&mut self.doubtful), std::mem::take(&mut self.has_lost_sight))
    }

    /// Has the next [`advance`](Server::advance) ask the server about itself. The answer, or why
    /// there is none, goes to the log.
    pub fn try_once(&mut self) {
        if let Probe::Idle = self.probe {
            self.probe = Probe::At(Instant::now());
            self.is_untried = true;
        }
    }

    /// Requests in the queue.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Whether a reply is expected so soon that polling for it beats sleeping.
    pub fn should_poll(&self, now: Instant) -> bool {
        let Link::Up(connection, _) = &self.link else { return false };
        let waiting = connection.in_flight.iter().find(|exchange| !exchange.is_abandoned);
        waiting.is_some_and(|exchange| self.latency.should_poll(exchange.sent_at, now))
    }

    /// A descriptor of this tier is ready.
    pub fn ready(
        &mut self,
        token: u64,
        readiness: Readiness,
        scratch: &mut [u8],
        replies: &mut Replies,
    ) {
        if token == self.tokens.0 + RESOLVED {
            return self.resolved(replies);
        }
        if let Some(index) = self.formers.iter().position(|former| former.token == token) {
            return self.drain(index, scratch);
        }
        match &mut self.link {
            Link::Dialing(connection, ..) if connection.token == token => self.connected(replies),
            Link::Up(connection, _) if connection.token == token => {
                let received = if readiness.readable || readiness.hung_up {
                    self.receive(scratch, replies)
                } else {
                    Ok(())
                };
                let sent = received.and_then(|()| self.send());
                if let Err(failure) = sent {
                    self.lose(&failure, replies);
                }
            }
            // Of a connection that was closed in this very turn.
            _ => {}
        }
    }

    /// Ends what is past its deadline, connects, probes and sends as needed. Returns the next
    /// moment at which that may be due again.
    pub fn advance(&mut self, now: Instant, replies: &mut Replies) -> Option<Instant> {
        for asked in self.queue.iter_mut().rev().take_while(|asked| asked.since.is_none()) {
            asked.since = Some(now);
        }
        self.expire_queue(now, replies);
        self.expire_link(now, replies);
        self.expire_check(now, replies);
        let formers_end = self.expire_formers(now);
        self.begin_probe(now, replies);
        if !self.queue.is_empty() && matches!(self.link, Link::Down) {
            self.dial(now, replies);
        }
        if let Link::Up(connection, _) = &self.link
            && connection.state == State::Open
            && !connection.is_leaving
            && !self.queue.is_empty()
        {
            if self.is_trusted(now) {
                self.encode(now, replies);
            }
            if let Err(failure) = self.send() {
                self.lose(&failure, replies);
            }
        }
        [self.next_deadline(), formers_end].into_iter().flatten().min()
    }

    fn not_sent(&mut self, asked: Asked, why: &str, replies: &mut Replies) {
        self.changes -= usize::from(!asked.request.ask.is_read());
        let answer = Answer::NotSent(why.to_owned());
        let when = (Instant::now(), self.health.epoch());
        replies.push_back(self.health.reply(&asked, answer, when));
    }
}

fn broken(error: &io::Error) -> Failure {
    Failure::broken(format!("connection failed: {}", words::of(error)))
}

/// The number of changes among `asked`.
fn changes(asked: &[Asked]) -> usize {
    asked.iter().filter(|asked| !asked.request.ask.is_read()).count()
}
