//! Requests to the wire, replies off it.

use std::time::Instant;

use super::{Link, Replies, Server, broken, changes};
use crate::reactor::{Interest, Token};
use crate::tiers::connection::{Asked, Content, Protocol, Received, State};
use crate::tiers::health::Failure;
use crate::tiers::request::Answer;

/// Requests in flight; more wait in the queue.
const IN_FLIGHT_MAX: usize = 1024;
/// Bytes waiting for the kernel to take them; encoding pauses above.
const UNSENT_BYTES_MAX: usize = 1 << 20;
/// Bytes of values expected in flight, going by their recent size: a request whose reply stands
/// behind too many others would miss its deadline.
const EXPECTED_BYTES_MAX: usize = 8 << 20;
/// Bytes received in one turn: a stream of large values must not hold up the rest of the loop.
const TURN_BYTES_MAX: usize = 256 << 10;

impl<P: Protocol> Server<P> {
    /// Turns what waits into exchanges.
    pub(super) fn encode(&mut self, now: Instant, replies: &mut Replies) {
        let Link::Up(connection, _) = &mut self.link else { return };
        let mut count = 0;
        let expected_max = (EXPECTED_BYTES_MAX / self.value_bytes.max(1)).max(1);
        self.queue.make_contiguous();
        while !self.queue.is_empty()
            && self.in_flight < IN_FLIGHT_MAX.min(expected_max)
            && connection.unsent_bytes() < UNSENT_BYTES_MAX
        {
            let before = connection.out().len();
            let (waiting, _) = self.queue.as_slices();
            match self.protocol.encode(waiting, self.value_bytes, connection.out()) {
                Ok((covered, shape)) => {
                    let mut asked: Vec<Asked> = self.queue.drain(..covered).collect();
                    if !self.formers.is_empty() {
                        for asked in &mut asked {
                            let key = &asked.request.key;
                            asked.is_in_doubt =
                                self.formers.iter().any(|former| former.may_change(key));
                        }
                    }
                    count += asked.len();
                    self.in_flight += asked.len();
                    let content = Content::Requests { asked, shape };
                    connection.push(content, before, now, self.health.epoch());
                }
                Err(why) => {
                    let Some(asked) = self.queue.pop_front() else { break };
                    self.changes -= changes(std::slice::from_ref(&asked));
                    let when = (now, self.health.epoch());
                    replies.push_back(self.health.reply(&asked, Answer::Refused(why), when));
                }
            }
        }
        if count > 0 {
            self.health.figures.count_batch(count);
        }
    }

    /// Sends what the socket takes, and watches for more room while there is a rest.
    pub(super) fn send(&mut self) -> Result<(), Failure> {
        let Link::Up(connection, _) = &mut self.link else { return Ok(()) };
        connection.send().map_err(|error| broken(&error))?;
        let wants = connection.unsent_bytes() > 0;
        if wants != connection.watches_writable {
            let interest = if wants { Interest::BOTH } else { Interest::READABLE };
            self.reactor
                .modify(connection.fd(), Token::tier(connection.token), interest)
                .map_err(|error| broken(&error))?;
            connection.watches_writable = wants;
        }
        Ok(())
    }

    /// Receives within the turn's budget and answers what is complete.
    pub(super) fn receive(
        &mut self,
        scratch: &mut [u8],
        replies: &mut Replies,
    ) -> Result<(), Failure> {
        let mut budget = TURN_BYTES_MAX;
        while budget > 0 {
            let Link::Up(connection, _) = &mut self.link else { return Ok(()) };
            match connection.receive(scratch).map_err(|error| broken(&error))? {
                Received::Nothing => return Ok(()),
                Received::End => return Err(Failure::broken("connection closed by the server")),
                Received::Bytes(bytes) => {
                    let is_all = bytes < scratch.len();
                    self.take(scratch.get(..bytes).unwrap_or_default(), replies)?;
                    if is_all {
                        return Ok(());
                    }
                    budget = budget.saturating_sub(bytes);
                }
            }
        }
        Ok(())
    }

    pub(super) fn take(&mut self, mut input: &[u8], replies: &mut Replies) -> Result<(), Failure> {
        let mut answers = Vec::new();
        let now = Instant::now();
        loop {
            let Link::Up(connection, _) = &mut self.link else { return Ok(()) };
            connection.heard(now);
            let message = self.protocol.decode(&mut connection.decoder, &mut input)?;
            let Some(message) = message else { return Ok(()) };
            let Some(exchange) = connection.in_flight.front_mut() else {
                return Err(Failure::broken("the server sent a reply to nothing"));
            };
            match &mut exchange.content {
                Content::Greeting => {
                    self.protocol.greeted(&mut connection.session, message)?;
                    connection.in_flight.pop_front();
                    if connection.in_flight.is_empty() && !self.end_formers(now) {
                        self.open(now, replies);
                    }
                }
                Content::End { former } => {
                    let token = *former;
                    connection.in_flight.pop_front();
                    let is_last = connection.in_flight.is_empty();
                    let is_ended = self.protocol.has_ended(&message);
                    self.ended(token, is_ended);
                    if is_last {
                        self.open(now, replies);
                    }
                }
                // Any answer is a sign of life.
                Content::Check => drop(connection.in_flight.pop_front()),
                Content::Probe => {
                    connection.in_flight.pop_front();
                    let outcome = self.check_probe(message);
                    self.probed(outcome.clone());
                    outcome?;
                }
                Content::Requests { asked, shape } => {
                    if self.protocol.answer(asked, shape, message, &mut answers)? {
                        self.complete(now, &mut answers, replies);
                    }
                }
            }
        }
    }

    /// All that comes before the first request has been answered.
    fn open(&mut self, now: Instant, replies: &mut Replies) {
        if let Link::Up(connection, since) = &mut self.link {
            connection.state = State::Open;
            *since = now;
        }
        self.opened(replies);
    }

    /// The exchange at the front is answered.
    pub(super) fn complete(
        &mut self,
        now: Instant,
        answers: &mut Vec<Answer>,
        replies: &mut Replies,
    ) {
        let Link::Up(connection, _) = &mut self.link else { return };
        let Some(exchange) = connection.in_flight.pop_front() else { return };
        let Content::Requests { asked, .. } = exchange.content else { return };
        self.in_flight -= asked.len();
        self.changes -= changes(&asked);
        for (asked, answer) in asked.iter().zip(answers.iter()) {
            if let Answer::TooLarge { bytes } = answer {
                self.oversized.note(&asked.request.key, *bytes);
            }
        }
        if exchange.is_abandoned {
            answers.clear();
            return self.finish_leaving(replies);
        }
        self.latency.note(now.saturating_duration_since(exchange.sent_at));
        let when = (exchange.sent_at, exchange.epoch);
        let mut failure = None;
        for (mut asked, answer) in asked.into_iter().zip(answers.drain(..)) {
            match answer {
                Answer::AskAgain(again) => {
                    asked.again = Some(again);
                    self.queue.push_front(asked);
                    continue;
                }
                Answer::Faulty(fault) => {
                    if fault.counts() {
                        failure = Some(Failure::of(&fault));
                    }
                    self.refused(asked, fault, when, replies);
                    continue;
                }
                Answer::Hit { ref value, .. } => {
                    self.value_bytes = (self.value_bytes * 7 + value.len()) / 8;
                }
                _ => {}
            }
            replies.push_back(self.health.reply(&asked, answer, when));
        }
        match failure {
            Some(failure) => self.failed(exchange.sent_at, &failure, replies),
            None => self.health.succeeded(),
        }
        self.finish_leaving(replies);
    }
}
