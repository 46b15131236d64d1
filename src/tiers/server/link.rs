//! The connection of a tier: dialed, opened, lost, drained.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Instant;

use l1d_wire::words;

use super::{Probe, Replies, Server, changes};
use crate::reactor::{Interest, Token};
use crate::tiers::connection::{Connection, Content, Protocol, State};
use crate::tiers::dial::{self, Addresses, Endpoint};
use crate::tiers::health::Failure;
use crate::tiers::request::Answer;

/// The way to the server.
#[derive(Debug)]
pub(super) enum Link<P: Protocol> {
    Down,
    /// The name is being resolved, since then.
    Resolving(Instant),
    /// Connecting, since then; other addresses to try.
    Dialing(Connection<P>, Instant, Addresses),
    /// Greeting, since then, or open.
    Up(Connection<P>, Instant),
}

impl<P: Protocol> Server<P> {
    pub(super) fn dial(&mut self, now: Instant, replies: &mut Replies) {
        match &self.endpoint {
            Endpoint::Unix(path) => match dial::begin_unix(path) {
                Ok(socket) => self.watch(socket, now, Vec::new().into_iter(), replies),
                Err(error) => self.cannot_connect(now, error, replies),
            },
            Endpoint::Tcp { host, port } => match self.resolver.resolve(host, *port) {
                Ok(Some(addresses)) => {
                    self.dial_first(self.in_order(addresses), now, None, replies);
                }
                Ok(None) => self.link = Link::Resolving(now),
                Err(error) => self.cannot_connect(now, error, replies),
            },
        }
    }

    /// Dials the first address that can be dialed.
    pub(super) fn dial_first(
        &mut self,
        mut addresses: Addresses,
        began: Instant,
        error: Option<io::Error>,
        replies: &mut Replies,
    ) {
        let mut error = error.unwrap_or_else(|| io::Error::other("the name has no address"));
        while let Some(address) = addresses.next() {
            match dial::begin_tcp(address) {
                Ok(socket) => return self.watch(socket, began, addresses, replies),
                Err(refused) => error = refused,
            }
        }
        self.cannot_connect(began, error, replies);
    }

    pub(super) fn watch(
        &mut self,
        socket: OwnedFd,
        began: Instant,
        addresses: Addresses,
        replies: &mut Replies,
    ) {
        self.tokens.1 += 1;
        let token = self.tokens.0 + self.tokens.1;
        let mut connection = Connection::new(socket, token);
        connection.watches_writable = true;
        if let Err(error) =
            self.reactor.register(connection.fd(), Token::tier(token), Interest::BOTH)
        {
            return self.cannot_connect(began, error, replies);
        }
        self.link = Link::Dialing(connection, began, addresses);
    }

    pub(super) fn cannot_connect(
        &mut self,
        began: Instant,
        error: io::Error,
        replies: &mut Replies,
    ) {
        self.link = Link::Down;
        let why = words::of(&error);
        let failure = Failure::broken(format!("cannot connect to {}: {why}", self.endpoint));
        self.failed_to_connect(began, &failure, replies);
    }

    pub(super) fn resolved(&mut self, replies: &mut Replies) {
        let Some(result) = self.resolver.take() else { return };
        // Whoever wanted it has given up meanwhile; the next one resolves the name again.
        let Link::Resolving(since) = self.link else { return };
        match result {
            Ok(addresses) => self.dial_first(self.in_order(addresses), since, None, replies),
            Err(error) => self.cannot_connect(since, error, replies),
        }
    }

    /// Connecting has ended, one way or the other.
    pub(super) fn connected(&mut self, replies: &mut Replies) {
        let Link::Dialing(mut connection, began, addresses) =
            std::mem::replace(&mut self.link, Link::Down)
        else {
            return;
        };
        if let Err(error) = dial::outcome(connection.fd()) {
            return self.dial_first(addresses, began, Some(error), replies);
        }
        let before = connection.out().len();
        let messages = self.protocol.greet(connection.out());
        connection.state = if messages == 0 { State::Open } else { State::Greeting };
        let mut end = before;
        for _ in 0..messages {
            connection.push(Content::Greeting, end, began, self.health.epoch());
            end = connection.out().len();
        }
        self.link = Link::Up(connection, began);
        self.opened(replies);
        if let Err(failure) = self.send() {
            self.lose(&failure, replies);
        }
    }

    /// If the session is open and it was opened for a probe, sends that.
    pub(super) fn opened(&mut self, replies: &mut Replies) {
        if let (Link::Up(connection, _), Probe::Running(_)) = (&self.link, self.probe)
            && connection.state == State::Open
        {
            self.send_probe(Instant::now(), replies);
        }
    }

    /// A failure of requests sent at `began`: counts it, and lets go of a tier that is lost by it.
    pub(super) fn failed(&mut self, began: Instant, failure: &Failure, replies: &mut Replies) {
        if self.health.failed(began, failure) {
            self.disconnect(failure, replies);
            // They would wait for their deadlines.
            let why = self.health.refusal();
            for asked in std::mem::take(&mut self.queue) {
                self.not_sent(asked, &why, replies);
            }
            self.probe = Probe::At(Instant::now() + self.health.probe_delay());
        }
    }

    pub(super) fn failed_to_connect(
        &mut self,
        began: Instant,
        failure: &Failure,
        replies: &mut Replies,
    ) {
        if let Probe::Running(_) = self.probe {
            return self.probed(Err(failure.clone()));
        }
        for asked in std::mem::take(&mut self.queue) {
            self.not_sent(asked, &failure.text(), replies);
        }
        self.failed(began, failure, replies);
    }

    /// The connection is of no use any more, or the server has closed it.
    pub(super) fn lose(&mut self, failure: &Failure, replies: &mut Replies) {
        let began = match &self.link {
            Link::Up(connection, _) => connection
                .in_flight
                .iter()
                .find(|exchange| matches!(exchange.content, Content::Requests { .. }))
                .map(|exchange| exchange.sent_at),
            _ => None,
        };
        if let Link::Up(connection, since) = &self.link
            && connection.state == State::Greeting
        {
            let since = *since;
            self.disconnect(failure, replies);
            return self.failed_to_connect(since, failure, replies);
        }
        match began {
            Some(began) => self.lose_since(failure, began, replies),
            // Nothing was asked: the next request dials.
            None => self.disconnect(failure, replies),
        }
    }

    pub(super) fn lose_since(&mut self, failure: &Failure, began: Instant, replies: &mut Replies) {
        self.disconnect(failure, replies);
        self.failed(began, failure, replies);
    }

    /// Gives the connection up: what is in flight on it is answered with `failure`.
    pub(super) fn disconnect(&mut self, failure: &Failure, replies: &mut Replies) {
        let link = std::mem::replace(&mut self.link, Link::Down);
        let Link::Up(connection, _) = link else { return };
        self.health.connection_lost(&failure.why);
        for exchange in &connection.in_flight {
            let Content::Requests { asked, .. } = &exchange.content else { continue };
            self.in_flight -= asked.len();
            self.changes -= changes(asked);
            if exchange.is_abandoned {
                continue;
            }
            let is_sent = connection.is_sent(exchange);
            for asked in asked {
                let answer = if is_sent {
                    Answer::Unanswered(failure.why.clone())
                } else {
                    Answer::NotSent(failure.text())
                };
                let when = (exchange.sent_at, exchange.epoch);
                replies.push_back(self.health.reply(asked, answer, when));
            }
        }
        for asked in self.refused.drain(..).rev() {
            self.queue.push_front(asked);
        }
        if let Probe::Running(_) = self.probe {
            self.probed(Err(failure.clone()));
        }
        self.retire(connection);
    }
}
