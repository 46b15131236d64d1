//! Probing a lost tier until it answers.

use std::time::Instant;

use super::{Link, Replies, Server};
use crate::tiers::connection::{Content, Protocol, State};
use crate::tiers::health::Failure;

/// The state of probing while the breaker is open.
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
        self.protocol.probe(connection.out());
        connection.push(Content::Probe, before, now, self.health.epoch());
        if let Err(failure) = self.send() {
            self.lose(&failure, replies);
        }
    }

    pub(super) fn probed(&mut self, outcome: Result<(), Failure>) {
        self.probe = if self.health.probed(&outcome) {
            Probe::Idle
        } else {
            Probe::At(Instant::now() + self.health.probe_delay())
        };
    }
}
