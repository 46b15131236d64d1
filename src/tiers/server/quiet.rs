//! Connections that have died silently are found before a request is lost on one.
//!
//! A connection over which nothing has come for a while, or whose last exchange was not answered at
//! all, is asked for a sign of life before it is used again. Requests wait for that in the queue.
//! Without one they travel over another connection.

use std::time::{Duration, Instant};

use super::{Link, Replies, Server};
use crate::tiers::connection::{Content, Protocol};
use crate::tiers::health::Failure;

/// After this time without a byte a connection is checked before it is used.
const QUIET_MAX: Duration = Duration::from_secs(2);
/// Longest wait for the sign of life. Half the deadline, if that is less: the other half is for
/// another connection.
const CHECK_MAX: Duration = Duration::from_secs(1);

impl<P: Protocol> Server<P> {
    /// Whether requests may be sent now; otherwise the connection is being checked.
    pub(super) fn is_trusted(&mut self, now: Instant) -> bool {
        let Link::Up(connection, _) = &mut self.link else { return false };
        if connection.checked_since.is_some() {
            return false;
        }
        let is_quiet = now.saturating_duration_since(connection.heard_at) >= QUIET_MAX
            && connection.in_flight.iter().all(|exchange| exchange.is_abandoned);
        if !is_quiet && !connection.is_suspect {
            return true;
        }
        connection.checked_since = Some(now);
        let before = connection.out().len();
        self.protocol.probe(connection.out());
        connection.push(Content::Check, before, now, self.health.epoch());
        false
    }

    /// Until when the sign of life must have come.
    pub(super) fn check_deadline(&self) -> Option<Instant> {
        let Link::Up(connection, _) = &self.link else { return None };
        Some(connection.checked_since? + CHECK_MAX.min(self.deadline / 2))
    }

    /// Gives up a connection without a sign of life.
    pub(super) fn expire_check(&mut self, now: Instant, replies: &mut Replies) {
        if self.check_deadline().is_some_and(|until| until <= now) {
            self.disconnect(&Failure::timeout("checking a quiet connection"), replies);
        }
    }
}
