//! Leaving a server that is the wrong one, or not ready (P17).
//!
//! The connection gets no further requests, those in flight are answered, and then it is closed:
//! what was sent before the refusal keeps its known outcome. The next one begins with the address,
//! because another server may stand behind it by now.

use std::time::{Duration, Instant};

use super::{Link, Replies, Server};
use crate::tiers::connection::{Asked, Protocol};
use crate::tiers::dial::{self, Addresses};
use crate::tiers::errors::{Fault, Kind};
use crate::tiers::health::Failure;
use crate::tiers::request::Answer;

/// At most one connection is left in this time: behind some addresses there is no better server.
const LEAVE_INTERVAL: Duration = Duration::from_secs(1);

impl<P: Protocol> Server<P> {
    /// The server has refused a request because of its own state.
    pub(super) fn refused(
        &mut self,
        mut asked: Asked,
        fault: Fault,
        (sent_at, epoch): (Instant, u64),
        replies: &mut Replies,
    ) {
        if fault.kind == Kind::NoWrites {
            self.health.complain(&fault.word, fault.advice.unwrap_or("it takes no writes"));
        }
        // A fill is not repeated: it could come after a delete of its key.
        let may_repeat = !asked.was_refused && asked.ticket.is_some();
        if fault.counts() && self.leave() && may_repeat {
            asked.was_refused = true;
            self.changes += usize::from(!asked.request.ask.is_read());
            return self.refused.push(asked);
        }
        self.health.figures.last_error = Some(fault.word.clone());
        let answer = Answer::NotSent(fault.text());
        replies.push_back(self.health.reply(&asked, answer, (sent_at, epoch)));
    }

    /// Lets the connection end once it is quiet. `false`: one was left a moment ago.
    fn leave(&mut self) -> bool {
        let Link::Up(connection, _) = &mut self.link else { return false };
        if connection.is_leaving {
            return true;
        }
        if self.left.is_some_and(|(at, _)| at.elapsed() < LEAVE_INTERVAL) {
            return false;
        }
        self.left = Some((Instant::now(), dial::peer(connection.fd())));
        connection.is_leaving = true;
        true
    }

    /// Closes a connection that is to be left, if nobody waits for a reply over it.
    pub(super) fn finish_leaving(&mut self, replies: &mut Replies) {
        let Link::Up(connection, _) = &self.link else { return };
        let is_quiet = connection.in_flight.iter().all(|exchange| exchange.is_abandoned);
        if connection.is_leaving && is_quiet {
            self.disconnect(&Failure::broken("the server was not ready"), replies);
        }
    }

    /// The addresses of a name, that of the server that was left lately behind the others.
    pub(super) fn in_order(&self, addresses: Addresses) -> Addresses {
        let mut addresses: Vec<_> = addresses.collect();
        if let Some((_, Some(left))) = self.left {
            addresses.sort_by_key(|address| *address == left);
        }
        addresses.into_iter()
    }
}
