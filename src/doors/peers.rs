//! All connections, their deadlines and their memory.

use super::figures;
use super::mailbox::OwnerEnd;
use super::unix::{Closed, Connection, LISTENER, Stall};
use super::users::Users;
use super::{Limits, Origin, Peer};
use crate::access::Quota;
use crate::reactor::{Reactor, Token};
use l1d_wire::snapshot::{ClientFigures, Figures, Totals};
use rapidhash::RapidHashMap;
use std::collections::{BTreeSet, VecDeque};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

const FIRST_ORIGIN: u64 = LISTENER + 1;

#[derive(Debug)]
pub(super) struct Peers {
    /// Looked up for each request and each reply. A fast hash is safe: the keys are our own.
    pub(super) connections: RapidHashMap<Origin, Connection>,
    pub(super) users: Users,
    next_origin: u64,
    /// Connections to be served in this turn, each once.
    touched: Vec<Origin>,
    /// Connections that wait for their user's share of another turn, by user, in the order in which
    /// they came. Nothing is done for them meanwhile, however many they are.
    left: Vec<(u32, VecDeque<Origin>)>,
    /// The reactor watches connections; not when the daemon stops.
    watches: bool,
    /// Stall deadlines, soonest first.
    pub(super) deadlines: BTreeSet<(Instant, Origin)>,
    /// Memory of all buffers beyond what every connection may keep.
    pub(super) excess_bytes: usize,
    /// Connections whose mailbox is polled in every turn.
    active: Vec<Origin>,
    /// Connections that were active before the loop slept.
    resting: Vec<Origin>,
    /// All connections with a mailbox.
    mailboxes: Vec<Origin>,
    /// Index of the mailbox whose hit reports were drained last.
    reporting: usize,
    /// A buffer for replies that go to a mailbox.
    pub(super) frame: Vec<u8>,
    /// Figures of clients that have disconnected.
    disconnected: Figures,
    /// Connections with threads that sleep though their replies have come.
    sleepers: Vec<Origin>,
    limits: Limits,
    /// As in [`Limits`], until the daemon stops.
    pub(super) spin: Duration,
}

impl Peers {
    pub(super) fn new(limits: &Limits) -> Peers {
        Peers {
            connections: RapidHashMap::default(),
            users: Users::new(limits),
            next_origin: FIRST_ORIGIN,
            touched: Vec::new(),
            left: Vec::new(),
            watches: true,
            deadlines: BTreeSet::new(),
            excess_bytes: 0,
            active: Vec::new(),
            resting: Vec::new(),
            mailboxes: Vec::new(),
            reporting: 0,
            frame: Vec::new(),
            disconnected: Figures::default(),
            sleepers: Vec::new(),
            limits: *limits,
            spin: limits.spin,
        }
    }

    /// Adds a connection. Its deadline to attach begins.
    pub(super) fn insert(&mut self, stream: UnixStream, peer: Peer, quota: Quota) -> Origin {
        let origin = Origin(self.next_origin);
        self.next_origin += 1;
        self.users.per_uid.entry(peer.uid).or_default().connections += 1;
        self.connections.insert(origin, Connection::new(stream, peer, quota));
        self.touch(origin);
        origin
    }

    pub(super) fn remove(&mut self, origin: Origin) -> Option<Connection> {
        // Its last reply may be among them.
        self.wake_sleepers();
        let connection = self.connections.remove(&origin)?;
        if let Some((_, until)) = connection.stall {
            self.deadlines.remove(&(until, origin));
        }
        self.excess_bytes = self.excess_bytes.saturating_sub(connection.counted_bytes);
        if connection.phase.mailbox().is_some() {
            self.mailboxes.retain(|other| *other != origin);
        }
        figures::add(&mut self.disconnected, &connection.figures().figures);
        self.users.left(&connection);
        Some(connection)
    }

    /// The connection has got a mailbox.
    pub(super) fn add_mailbox(&mut self, origin: Origin) {
        self.mailboxes.push(origin);
        if let Some(connection) = self.connections.get(&origin) {
            self.users.per_uid.entry(connection.peer.uid).or_default().mailboxes += 1;
        }
    }

    /// Has the mailbox of `origin` polled in every turn.
    pub(super) fn activate(&mut self, origin: Origin) {
        if let Some(mailbox) = self.mailbox_mut(origin)
            && !std::mem::replace(&mut mailbox.is_active, true)
        {
            self.active.push(origin);
        }
    }

    /// The connection at this place of the active list.
    pub(super) fn active(&self, place: usize) -> Option<Origin> {
        self.active.get(place).copied()
    }

    /// A thread of `origin` is to be woken by the next [`wake_sleepers`](Self::wake_sleepers).
    pub(super) fn add_sleepers(&mut self, origin: Origin) {
        if self.sleepers.last() != Some(&origin) {
            self.sleepers.push(origin);
        }
    }

    /// Wakes the threads whose replies have come. Together, after the replies were written and the
    /// tiers were asked: a thread that is woken may take the owner's core.
    pub(super) fn wake_sleepers(&mut self) {
        if self.sleepers.is_empty() {
            return;
        }
        let now = Instant::now();
        let mut sleepers = std::mem::take(&mut self.sleepers);
        for origin in sleepers.drain(..) {
            if let Some(mailbox) = self.mailbox_mut(origin) {
                mailbox.wake_sleepers(now);
            }
        }
        self.sleepers = sleepers;
    }

    /// How many mailboxes are polled in every turn.
    pub(super) fn active_count(&self) -> usize {
        self.active.len()
    }

    /// Removes this place from the active list; the last one moves into it.
    pub(super) fn deactivate(&mut self, place: usize) {
        if place < self.active.len() {
            let origin = self.active.swap_remove(place);
            if let Some(mailbox) = self.mailbox_mut(origin) {
                mailbox.is_active = false;
            }
        }
    }

    /// If the user of this mailbox has had as much done in this round as it may, leaves it for the next
    /// one. Returns whether it did.
    pub(super) fn leave_mailbox(&mut self, origin: Origin) -> bool {
        let Some(connection) = self.connections.get_mut(&origin) else { return false };
        let is_spent = self.users.at_mailboxes.is_spent(connection.peer.uid);
        if is_spent && let Some(mailbox) = connection.phase.mailbox_mut() {
            mailbox.is_left = true;
        }
        is_spent
    }

    /// Has the mailboxes that were left polled before the others in the next round.
    pub(super) fn poll_left_first(&mut self) {
        let mut active = std::mem::take(&mut self.active);
        // Stable: each user's mailboxes stay in their order.
        active.sort_by_cached_key(|origin| {
            let mailbox = self.mailbox_mut(*origin);
            !mailbox.is_some_and(|mailbox| std::mem::take(&mut mailbox.is_left))
        });
        self.active = active;
    }

    /// Moves the connection at this place of the active list to those that rest.
    pub(super) fn rest(&mut self, place: usize) {
        self.resting.extend(self.active(place));
        self.deactivate(place);
    }

    pub(super) fn take_resting(&mut self) -> Option<Origin> {
        self.resting.pop()
    }

    /// How many mailboxes there are.
    pub(super) fn mailboxes(&self) -> usize {
        self.mailboxes.len()
    }

    /// The next mailbox to drain hit reports from, round robin.
    pub(super) fn next_reporting(&mut self) -> Option<&mut OwnerEnd> {
        self.reporting = (self.reporting + 1) % self.mailboxes.len().max(1);
        let origin = *self.mailboxes.get(self.reporting)?;
        self.mailbox_mut(origin)
    }

    /// All connections with a mailbox.
    pub(super) fn with_mailboxes(&self) -> Vec<Origin> {
        self.mailboxes.clone()
    }

    pub(super) fn mailbox_mut(&mut self, origin: Origin) -> Option<&mut OwnerEnd> {
        self.connections.get_mut(&origin)?.phase.mailbox_mut()
    }

    pub(super) fn get_mut(&mut self, origin: Origin) -> Option<&mut Connection> {
        self.connections.get_mut(&origin)
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut Connection> {
        self.connections.values_mut()
    }

    pub(super) fn count(&self) -> usize {
        self.connections.len()
    }

    pub(super) fn count_of(&self, uid: u32) -> usize {
        self.users.per_uid.get(&uid).map_or(0, |usage| usage.connections)
    }

    /// Has `origin` served in this turn.
    pub(super) fn touch(&mut self, origin: Origin) {
        if let Some(connection) = self.connections.get_mut(&origin)
            && !std::mem::replace(&mut connection.is_touched, true)
        {
            self.touched.push(origin);
        }
    }

    /// If the user of this connection has had as much done in this turn as it may, leaves it for a
    /// later one, after those that were left before. Returns whether it was left. What it is to get
    /// counts as its memory already.
    pub(super) fn leave(&mut self, origin: Origin, reactor: &Reactor, now: Instant) -> bool {
        let Some(connection) = self.connections.get_mut(&origin) else { return false };
        let uid = connection.peer.uid;
        // A wakeup is next to no work, and whoever sends one has a share at the mailboxes.
        let is_wakeup = connection.phase.mailbox().is_some() && !connection.incoming.is_over();
        if is_wakeup || !self.users.at_sockets.is_spent(uid) {
            return false;
        }
        if std::mem::replace(&mut connection.is_touched, true) {
            // A reply to it has come since the others were taken: it is among those touched next.
            return true;
        }
        // Otherwise every wait would report what is left unread.
        if connection.is_watched && !connection.phase.is_leaving() {
            connection.is_watched = reactor.deregister(&connection.stream).is_err();
        }
        match self.left.iter_mut().find(|(other, _)| *other == uid) {
            Some((_, left)) => left.push_back(origin),
            None => self.left.push((uid, VecDeque::from([origin]))),
        }
        self.weigh(origin, now);
        true
    }

    /// The next one of those that were left whose user may have something done again.
    pub(super) fn next_left(&mut self) -> Option<Origin> {
        let shares = &self.users.at_sockets;
        let place = self.left.iter().position(|(uid, _)| !shares.is_spent(*uid))?;
        let (_, left) = self.left.get_mut(place)?;
        let origin = left.pop_front();
        if left.is_empty() {
            self.left.swap_remove(place);
        }
        if let Some(connection) = origin.and_then(|origin| self.get_mut(origin)) {
            connection.is_touched = false;
        }
        origin
    }

    /// Has the reactor watch a connection that was left.
    ///
    /// # Errors
    /// When it cannot, and the connection is to be closed.
    pub(super) fn watch_again(&mut self, origin: Origin, reactor: &Reactor) -> Result<(), Closed> {
        let watches = self.watches;
        let Some(connection) = self.get_mut(origin) else { return Ok(()) };
        if watches && !connection.is_watched {
            let (token, interest) = (Token::door(origin.0), connection.watched);
            reactor.register(&connection.stream, token, interest).map_err(|_| Closed)?;
            connection.is_watched = true;
            // Now, and not after others that the next wait reports.
            connection.incoming.suspect();
        }
        Ok(())
    }

    /// Has the reactor watch no connection any more.
    pub(super) fn watch_none(&mut self, reactor: &Reactor) {
        self.watches = false;
        for connection in self.connections.values_mut().filter(|it| it.is_watched) {
            let _ = reactor.deregister(&connection.stream);
        }
    }

    pub(super) fn has_touched(&self) -> bool {
        !self.touched.is_empty()
    }

    /// Connections wait for their users' shares.
    pub(super) fn has_left(&self) -> bool {
        !self.left.is_empty()
    }

    /// The user of one of them has a share again.
    pub(super) fn may_serve_left(&self) -> bool {
        self.left.iter().any(|(uid, _)| !self.users.at_sockets.is_spent(*uid))
    }

    /// Takes the connections that are to be served.
    pub(super) fn take_touched(&mut self) -> Vec<Origin> {
        for origin in &self.touched {
            if let Some(connection) = self.connections.get_mut(origin) {
                connection.is_touched = false;
            }
        }
        std::mem::take(&mut self.touched)
    }

    /// After `origin` was served: updates its deadline, its share of the memory and the reactor's
    /// interest.
    ///
    /// # Errors
    /// When the connection is over, and to be closed.
    pub(super) fn settle(
        &mut self,
        origin: Origin,
        reactor: &Reactor,
        limits: &Limits,
        now: Instant,
    ) -> Result<(), Closed> {
        let Some(connection) = self.connections.get_mut(&origin) else { return Ok(()) };
        connection.input.shrink();
        if connection.is_over() {
            return Err(Closed);
        }
        let has_frame = connection.input.has_frame(limits.frame_bytes_max);
        let interest = connection.interest(has_frame);
        self.weigh(origin, now);
        let Some(connection) = self.connections.get_mut(&origin) else { return Ok(()) };
        if interest != connection.watched && !connection.phase.is_leaving() {
            connection.watched = interest;
            let token = Token::door(origin.0);
            reactor.modify(&connection.stream, token, interest).map_err(|_| Closed)?;
        }
        if has_frame && connection.takes_requests() && connection.output.is_empty() {
            self.touch(origin);
        }
        Ok(())
    }

    /// Updates the deadline of `origin` and its share of the memory: whoever has neither is passed
    /// over when memory runs short.
    pub(super) fn weigh(&mut self, origin: Origin, now: Instant) {
        let limits = self.limits;
        let Some(connection) = self.connections.get_mut(&origin) else { return };
        let has_frame = connection.input.has_frame(limits.frame_bytes_max);
        let stall = connection.stalls_on(has_frame);
        if stall != connection.stall.map(|(stall, _)| stall) {
            if let Some((_, until)) = connection.stall {
                self.deadlines.remove(&(until, origin));
            }
            connection.stall = stall.map(|stall| (stall, now + limits.stall));
            if let Some((_, until)) = connection.stall {
                self.deadlines.insert((until, origin));
            }
        }
        self.recount(origin);
    }

    /// When the next deadline passes.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(until, _)| *until)
    }

    /// Connections whose deadline has passed. One that moved data in this very turn, or that waits to be
    /// served, gets another deadline: then it was the daemon that was late.
    pub(super) fn stalled(&mut self, now: Instant, turn: u64, stall: Duration) -> Vec<Origin> {
        let due: Vec<_> = self.deadlines.iter().copied().take_while(|due| due.0 <= now).collect();
        let mut stalled = Vec::new();
        for (until, origin) in due {
            let Some(connection) = self.connections.get_mut(&origin) else { continue };
            match &mut connection.stall {
                // What it has sent, or is to get, is left for another turn.
                Some((_, deadline))
                    if connection.is_touched || connection.progress.is_moving(turn) =>
                {
                    *deadline = now + stall;
                    self.deadlines.remove(&(until, origin));
                    self.deadlines.insert((*deadline, origin));
                }
                _ => stalled.push(origin),
            }
        }
        stalled
    }

    /// If `origin` is waited for only because of requests or replies in its mailbox that are
    /// incomplete, drops these. Returns whether that was so.
    pub(super) fn cut(&mut self, origin: Origin) -> bool {
        let Some(connection) = self.connections.get_mut(&origin) else { return false };
        let Some((Stall::Mailbox(_), until)) = connection.stall else { return false };
        let Some(mailbox) = connection.phase.mailbox_mut() else { return false };
        mailbox.cut();
        connection.stall = None;
        self.deadlines.remove(&(until, origin));
        self.recount(origin);
        true
    }

    /// If all connections together hold more than `buffer_bytes_max`: of those that hold some, the
    /// one with the soonest deadline, which has stalled longest.
    pub(super) fn hoarder(&self, buffer_bytes_max: usize) -> Option<Origin> {
        if self.excess_bytes <= buffer_bytes_max {
            return None;
        }
        let holds =
            |origin: &Origin| self.connections.get(origin).is_some_and(|c| c.counted_bytes > 0);
        self.deadlines.iter().map(|(_, origin)| *origin).find(holds)
    }

    /// Figures of each attached client.
    pub(super) fn figures(&self) -> Vec<ClientFigures> {
        let attached = self.connections.values().filter(|c| c.phase.is_attached());
        attached.map(Connection::figures).collect()
    }

    /// Figures of all clients, including those that have disconnected.
    pub(super) fn total_figures(&self) -> Totals {
        let mut sum = self.disconnected;
        for connection in self.connections.values() {
            figures::add(&mut sum, &connection.figures().figures);
        }
        let connections = self.connections.len() as u64;
        Totals { connections, mailboxes: self.mailboxes.len() as u64, figures: sum }
    }
}
