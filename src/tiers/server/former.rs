//! Former connections: given up while the server may still carry out changes that were sent over
//! them. Closing a connection recalls nothing that the server's kernel has received (P12).
//!
//! A former connection sends nothing more and is read to its end: then the server has carried out
//! all that it ever will. Where the server can end a session for certain (Redis' `CLIENT KILL`),
//! the next connection has that done before it asks for anything else.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rapidhash::RapidHashSet;

use super::{Connection, Link, Protocol, Server};
use crate::reactor::{Interest, Token};
use crate::tiers::connection::{Content, Ending, Received, State};
use crate::tiers::dial;
use crate::tiers::inherited::Inherited;
use crate::tiers::redis::Redis;

/// Former connections at which no further changes are sent: each may leave another one.
pub(super) const FORMERS_MAX: usize = 64;
/// How long a connection that the network has broken off counts as one over which the server may
/// still carry out changes.
const BROKEN_OFF: Duration = Duration::from_secs(60);

/// A former connection.
#[derive(Debug)]
pub(super) struct Former<P: Protocol> {
    pub(super) token: u64,
    sight: Sight<P>,
    session: P::Session,
    changes: Changes,
}

/// Keys whose changes the server may still carry out.
#[derive(Debug)]
enum Changes {
    Of(RapidHashSet<Arc<[u8]>>),
    /// The connection was another daemon's.
    Inherited(Inherited),
}

/// How the end of a former connection will be known.
#[derive(Debug)]
enum Sight<P: Protocol> {
    /// It is read to its end.
    Read(Connection<P>),
    /// Not at all: the network broke it off then, or another daemon ended then and the server cannot
    /// be told to end its session.
    BrokenOff(Instant),
    /// The next connection has the server end it.
    Next,
}

impl<P: Protocol> Former<P> {
    /// Whether the server may still carry out a change of `key`.
    pub(super) fn may_change(&self, key: &[u8]) -> bool {
        match &self.changes {
            Changes::Of(keys) => keys.contains(key),
            Changes::Inherited(inherited) => inherited.may_hold(key),
        }
    }

    fn is_own(&self) -> bool {
        matches!(self.changes, Changes::Of(_))
    }

    /// The server will not end it. Returns whether anything in it matters.
    fn cannot_be_ended(&mut self, now: Instant) -> bool {
        match &self.changes {
            Changes::Of(_) => true,
            Changes::Inherited(inherited) => {
                if let Sight::Next = self.sight {
                    self.sight = Sight::BrokenOff(now);
                }
                !inherited.is_empty()
            }
        }
    }
}

impl<P: Protocol> Server<P> {
    /// Whether there are former connections.
    pub fn has_formers(&self) -> bool {
        !self.formers.is_empty()
    }

    /// Closes a connection that was given up, or keeps it until the server is done with it.
    pub(super) fn retire(&mut self, mut connection: Connection<P>) {
        let keys: RapidHashSet<Arc<[u8]>> = connection.unanswered_changes().cloned().collect();
        if keys.is_empty() {
            return dial::close_with_reset(connection.fd());
        }
        self.doubtful.extend(keys.iter().cloned());
        let (token, session) = (connection.token, std::mem::take(&mut connection.session));
        let sight = if connection.is_broken_off {
            self.has_lost_sight = true;
            Sight::BrokenOff(Instant::now())
        } else if connection.drain().is_ok()
            && self.reactor.modify(connection.fd(), Token::tier(token), Interest::READABLE).is_ok()
        {
            Sight::Read(connection)
        } else {
            // Only a connection that the server has reset cannot be shut down.
            return;
        };
        self.formers.push(Former { token, sight, session, changes: Changes::Of(keys) });
    }

    /// Reads a former connection. At its end the server has carried out all that it ever will.
    pub(super) fn drain(&mut self, index: usize, scratch: &mut [u8]) {
        let Some(former) = self.formers.get_mut(index) else { return };
        let Sight::Read(connection) = &mut former.sight else { return };
        match connection.receive(scratch) {
            Ok(Received::Bytes(_) | Received::Nothing) => {}
            Err(error) if error.kind() != io::ErrorKind::ConnectionReset => {
                former.sight = Sight::BrokenOff(Instant::now());
                self.has_lost_sight = true;
            }
            Ok(Received::End) | Err(_) => {
                self.formers.swap_remove(index);
                tracing::debug!(tier = %self.tier(), "a former connection has drained");
            }
        }
    }

    /// Has the server end the sessions of former connections. Returns whether that was sent, over a
    /// connection that has been greeted.
    pub(super) fn end_formers(&mut self, now: Instant) -> bool {
        let Link::Up(connection, _) = &mut self.link else { return false };
        let (protocol, epoch) = (&self.protocol, self.health.epoch());
        let own = std::mem::take(&mut connection.session);
        let before = connection.in_flight.len();
        self.formers.retain_mut(|former| {
            let start = connection.out().len();
            match protocol.end_session(&own, &former.session, connection.out()) {
                Ending::Asked => {
                    connection.push(Content::End { former: former.token }, start, now, epoch);
                    true
                }
                Ending::OtherServer => false,
                Ending::Impossible => former.cannot_be_ended(now),
            }
        });
        connection.session = own;
        connection.in_flight.len() > before
    }

    /// The server has answered to one of [`end_formers`](Server::end_formers).
    pub(super) fn ended(&mut self, token: u64, is_ended: bool) {
        let mut formers = self.formers.iter();
        let Some(index) = formers.position(|former| former.token == token) else { return };
        let Some(former) = self.formers.get_mut(index) else { return };
        if is_ended || !former.cannot_be_ended(Instant::now()) {
            self.formers.swap_remove(index);
            tracing::debug!(tier = %self.tier(), is_ended, "a former connection");
        }
    }

    /// Forgets former connections that were broken off long ago. Returns when the next one is.
    pub(super) fn expire_formers(&mut self, now: Instant) -> Option<Instant> {
        let ends = |former: &Former<P>| match former.sight {
            Sight::Read(_) | Sight::Next => None,
            Sight::BrokenOff(since) => Some(since + BROKEN_OFF),
        };
        self.formers.retain(|former| ends(former).is_none_or(|end| end > now));
        self.formers.iter().filter_map(ends).min()
    }

    /// Takes over what a daemon that died has left unanswered. Where the server can end its
    /// session, the next connection has that done before it asks for anything else; otherwise
    /// nothing can be known of that, as of a connection that the network has broken off.
    pub fn inherit(&mut self, session: Option<P::Session>, inherited: Inherited) {
        let sight = match session {
            Some(_) => Sight::Next,
            None if inherited.is_empty() => return,
            None => Sight::BrokenOff(Instant::now()),
        };
        self.tokens.1 += 1;
        let token = self.tokens.0 + self.tokens.1;
        let (session, changes) = (session.unwrap_or_default(), Changes::Inherited(inherited));
        self.formers.push(Former { token, sight, session, changes });
    }

    /// Whether the server may still carry out what an earlier daemon has sent.
    pub fn inherits(&self) -> bool {
        !self.formers.iter().all(Former::is_own)
    }

    /// The keys of this daemon's changes that the server may still carry out, of those that it was
    /// sent.
    pub fn sent_changes(&self) -> RapidHashSet<Arc<[u8]>> {
        let mut keys = RapidHashSet::default();
        for former in &self.formers {
            if let Changes::Of(of) = &former.changes {
                keys.extend(of.iter().cloned());
            }
        }
        if let Link::Up(connection, _) = &self.link {
            keys.extend(connection.unanswered_changes().cloned());
        }
        keys
    }
}

impl Server<Redis> {
    /// What identifies the connection at the server, for a daemon that comes after this one: the
    /// server and the client's number; zeros if that is not known. The former connection's, as long
    /// as no other one is open.
    pub fn session(&self) -> [u64; 2] {
        match &self.link {
            Link::Up(connection, _)
                if connection.state == State::Open && self.formers.is_empty() =>
            {
                connection.session.words()
            }
            // Of two that have not ended, neither is named: the next daemon would take the end of
            // the one for the end of both.
            Link::Up(connection, _) if connection.state == State::Open => [0; 2],
            _ => match self.formers.as_slice() {
                [former] => former.session.words(),
                _ => [0; 2],
            },
        }
    }
}
