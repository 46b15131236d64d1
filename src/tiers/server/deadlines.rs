//! Deadlines of a tier: in the queue, while connecting, for replies, for probes.

use std::time::{Duration, Instant};

use super::{Link, PROGRESS_MAX, Probe, Replies, Server};
use crate::tiers::connection::{Content, Protocol, State};
use crate::tiers::health::Failure;
use crate::tiers::request::Answer;

impl<P: Protocol> Server<P> {
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let queued = self.queue.front().and_then(|asked| Some(asked.since? + self.deadline));
        let link = match &self.link {
            Link::Down => None,
            Link::Resolving(since) | Link::Dialing(_, since, _) => Some(*since + self.deadline),
            Link::Up(connection, since) if connection.state == State::Greeting => {
                Some(*since + self.deadline)
            }
            Link::Up(connection, _) => {
                let waiting = connection.in_flight.iter().find(|exchange| !exchange.is_abandoned);
                waiting.map(|exchange| {
                    exchange_deadline(exchange.sent_at, connection.heard_at, self.deadline)
                })
            }
        };
        let probe = match self.probe {
            Probe::Idle => None,
            Probe::At(at) => Some(at),
            Probe::Running(began) => Some(began + self.deadline),
        };
        [queued, link, probe, self.check_deadline()].into_iter().flatten().min()
    }

    pub(super) fn expire_queue(&mut self, now: Instant, replies: &mut Replies) {
        while let Some(asked) = self.queue.front()
            && asked.since.is_some_and(|since| since + self.deadline <= now)
            && let Some(asked) = self.queue.pop_front()
        {
            let failure = Failure::timeout("waiting to be sent");
            self.not_sent(asked, &failure.text(), replies);
        }
    }

    pub(super) fn expire_link(&mut self, now: Instant, replies: &mut Replies) {
        let deadline = self.deadline;
        match &mut self.link {
            Link::Resolving(since) | Link::Dialing(_, since, _) if *since + deadline <= now => {
                let since = *since;
                self.link = Link::Down;
                self.failed_to_connect(since, &Failure::timeout("connecting"), replies);
            }
            Link::Up(connection, since)
                if connection.state == State::Greeting && *since + deadline <= now =>
            {
                let failure = Failure::timeout("opening a session");
                self.lose(&failure, replies);
            }
            Link::Up(..) => self.expire_exchanges(now, replies),
            _ => {}
        }
        if let Probe::Running(began) = self.probe
            && began + deadline <= now
        {
            // The next probe starts from a new connection.
            let failure = Failure::timeout("probing");
            self.disconnect(&failure, replies);
            // Where there was no connection, nothing has ended the probe yet.
            if let Probe::Running(_) = self.probe {
                self.probed(Err(failure));
            }
        }
    }

    /// A reply that is late leaves the connection in use: it stays in step, and a late write cannot
    /// overtake the next one. Several failures in a row open the breaker, and that gives it up.
    fn expire_exchanges(&mut self, now: Instant, replies: &mut Replies) {
        let Link::Up(connection, _) = &mut self.link else { return };
        let failure = Failure::timeout("waiting for replies");
        let mut began = None;
        let mut is_stuck = false;
        let heard_at = connection.heard_at;
        for index in 0..connection.in_flight.len() {
            let Some(exchange) = connection.in_flight.get(index) else { break };
            if exchange.is_abandoned {
                continue;
            }
            if exchange_deadline(exchange.sent_at, heard_at, self.deadline) > now {
                break;
            }
            began = began.or(Some(exchange.sent_at));
            if !connection.is_sent(exchange) {
                // What is answered as not sent must not leave later.
                is_stuck = true;
                break;
            }
            let Some(exchange) = connection.in_flight.get_mut(index) else { break };
            exchange.is_abandoned = true;
            connection.is_suspect |= heard_at <= exchange.sent_at;
            let (sent_at, epoch) = (exchange.sent_at, exchange.epoch);
            if let Content::Requests { asked, .. } = &exchange.content {
                for asked in asked {
                    let answer = Answer::Unanswered(failure.why.clone());
                    replies.push_back(self.health.reply(asked, answer, (sent_at, epoch)));
                }
            }
        }
        let Some(began) = began else { return };
        if is_stuck {
            return self.lose_since(&failure, began, replies);
        }
        if heard_at + self.deadline > now {
            // It is slow, or what it sends is large: it is not lost.
            self.health.figures.timeouts += 1;
        } else {
            self.failed(began, &failure, replies);
        }
        self.finish_leaving(replies);
    }
}

/// Until when the reply to an exchange must have come. While bytes arrive over the connection, the
/// server works on it, or on what was asked before: the time counts from the last bytes.
fn exchange_deadline(sent_at: Instant, heard_at: Instant, deadline: Duration) -> Instant {
    (sent_at.max(heard_at) + deadline).min(sent_at + deadline * PROGRESS_MAX)
}
