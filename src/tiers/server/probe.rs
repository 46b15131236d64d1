//! Probing a lost tier until it answers, and trying each tier at start.

use std::time::Instant;

use super::{Link, Replies, Server};
use crate::tiers::connection::{Content, Introduction, Protocol, State};
use crate::tiers::health::Failure;

/// The state of probing: while the breaker is open, and at start.
#[derive(Debug, Clone, Copy)]
pub(super) enum Probe {
    Idle,
    /// The next probe is due then.
    At(Instant),
    /// One is under way, begun then.
    Running(Instant),
}

impl<P: Protocol> Server<P> {
    pub(super) fn begin_probe(&mut self, now: Instant, replies: &mut Replies) {
        let Probe::At(at) = self.probe else { return };
        if at > now {
            return;
        }
        self.probe = Probe::Running(now);
        match &self.link {
            Link::Up(connection, _) if connection.state == State::Open => {
                self.send_probe(now, replies);
            }
            Link::Down => self.dial(now, replies),
            _ => {}
        }
    }

    pub(super) fn send_probe(&mut self, now: Instant, replies: &mut Replies) {
        let Link::Up(connection, _) = &mut self.link else { return };
        let before = connection.out().len();
        if self.is_untried {
            self.protocol.introduce(connection.out());
        } else {
            self.protocol.probe(connection.out());
        }
        connection.push(Content::Probe, before, now, self.health.epoch());
        if let Err(failure) = self.send() {
            self.lose(&failure, replies);
        }
    }

    /// Checks the answer to a probe. The first one's goes to the log.
    pub(super) fn check_probe(&mut self, message: P::Message) -> Result<(), Failure> {
        if !self.is_untried {
            return self.protocol.check_probe(message);
        }
        let Introduction { version, problem } = self.protocol.introduced(message)?;
        let (tier, server) = (self.tier(), &self.endpoint);
        let version = version.as_deref();
        match problem {
            None => tracing::info!(%tier, %server, version, "the tier answers"),
            Some(why) => {
                tracing::warn!(%tier, %server, version, why, "the tier answers, but is not usable");
            }
        }
        self.is_untried = false;
        Ok(())
    }

    pub(super) fn probed(&mut self, outcome: Result<(), Failure>) {
        if let Err(failure) = &outcome
            && std::mem::take(&mut self.is_untried)
        {
            tracing::warn!(
                tier = %self.tier(),
                server = %self.endpoint,
                why = failure.why,
                "the tier cannot be used; the daemon starts without it and tries it when it is \
                 needed: check that the server runs, that it is memcached 1.6 or Redis 6 or later, \
                 and its address, password and database in the configuration"
            );
        }
        self.probe = if self.health.probed(&outcome) {
            Probe::Idle
        } else {
            Probe::At(Instant::now() + self.health.probe_delay())
        };
    }
}
