//! All connections, their deadlines and memory; where answers go.

use super::figures::{ClientFigures, Figures, Totals};
use super::mailbox::Mailbox;
use super::unix::{Asked, Connection, Over};
use super::{Limits, Origin, Peer, Replies};
use l1d_client::protocol::frame::HEADER_BYTES;
use l1d_client::protocol::{Attached, EncodeError, ErrorCode, Response};
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use rapidhash::RapidHashMap;
use std::collections::{BTreeSet, HashMap};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// An answer's buffer over this size is given back.
const FRAME_BYTES_KEPT: usize = 64 << 10;
/// Origins begin here; smaller numbers are the event loop's own in epoll.
const FIRST_ORIGIN: u64 = 16;

#[derive(Debug)]
pub(super) struct Peers {
    /// Looked up for each request and each answer; the keys are our own.
    connections: RapidHashMap<Origin, Connection>,
    per_uid: HashMap<u32, usize>,
    next_origin: u64,
    /// Whom something has happened to since they were last looked at, each once.
    touched: Vec<Origin>,
    /// Until when each waits that may not wait for ever.
    deadlines: BTreeSet<(Instant, Origin)>,
    /// Memory of all buffers beyond what every connection may keep.
    excess_bytes: usize,
    /// Connections whose mailbox is looked at in every turn.
    active: Vec<Origin>,
    /// All connections with a mailbox, and whose reports are taken next.
    mailboxes: Vec<Origin>,
    reporting: usize,
    /// An answer for a mailbox, being written.
    frame: Vec<u8>,
    /// What those did that are gone.
    gone: Figures,
}

impl Peers {
    pub(super) fn new() -> Peers {
        Peers {
            connections: RapidHashMap::default(),
            per_uid: HashMap::new(),
            next_origin: FIRST_ORIGIN,
            touched: Vec::new(),
            deadlines: BTreeSet::new(),
            excess_bytes: 0,
            active: Vec::new(),
            mailboxes: Vec::new(),
            reporting: 0,
            frame: Vec::new(),
            gone: Figures::default(),
        }
    }

    /// Takes a connection in; it has until the usual deadline to attach.
    pub(super) fn insert(&mut self, stream: UnixStream, peer: Peer) -> Origin {
        let origin = Origin(self.next_origin);
        self.next_origin += 1;
        *self.per_uid.entry(peer.uid).or_default() += 1;
        self.connections.insert(origin, Connection::new(stream, peer));
        self.touch(origin);
        origin
    }

    pub(super) fn remove(&mut self, origin: Origin) -> Option<Connection> {
        let connection = self.connections.remove(&origin)?;
        if let Some((_, until)) = connection.waiting {
            self.deadlines.remove(&(until, origin));
        }
        self.excess_bytes = self.excess_bytes.saturating_sub(connection.counted_bytes);
        if connection.mailbox.is_some() {
            self.mailboxes.retain(|other| *other != origin);
        }
        self.gone.add(&connection.figures().figures);
        if let Some(count) = self.per_uid.get_mut(&connection.peer.uid) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.per_uid.remove(&connection.peer.uid);
            }
        }
        Some(connection)
    }

    /// Has the mailbox of `origin` looked at in every turn.
    pub(super) fn activate(&mut self, origin: Origin) {
        if let Some(mailbox) = self.connections.get_mut(&origin).and_then(|c| c.mailbox.as_mut())
            && !std::mem::replace(&mut mailbox.is_active, true)
        {
            self.active.push(origin);
        }
    }

    /// The connection at this place of the active ones.
    pub(super) fn active(&self, place: usize) -> Option<Origin> {
        self.active.get(place).copied()
    }

    /// Takes the one at this place out; another one comes to its place.
    pub(super) fn deactivate(&mut self, place: usize) {
        if place < self.active.len() {
            let origin = self.active.swap_remove(place);
            if let Some(mailbox) = self.mailbox_mut(origin) {
                mailbox.is_active = false;
            }
        }
    }

    /// The next mailbox, round and round, for its hit reports.
    pub(super) fn next_reporting(&mut self) -> Option<&mut Mailbox> {
        self.reporting = (self.reporting + 1) % self.mailboxes.len().max(1);
        let origin = *self.mailboxes.get(self.reporting)?;
        self.mailbox_mut(origin)
    }

    pub(super) fn mailbox_mut(&mut self, origin: Origin) -> Option<&mut Mailbox> {
        self.connections.get_mut(&origin)?.mailbox.as_deref_mut()
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
        self.per_uid.get(&uid).copied().unwrap_or(0)
    }

    /// Has `origin` looked at in this turn.
    pub(super) fn touch(&mut self, origin: Origin) {
        if let Some(connection) = self.connections.get_mut(&origin)
            && !std::mem::replace(&mut connection.is_touched, true)
        {
            self.touched.push(origin);
        }
    }

    pub(super) fn has_touched(&self) -> bool {
        !self.touched.is_empty()
    }

    /// Whom something has happened to since the last call.
    pub(super) fn take_touched(&mut self) -> Vec<Origin> {
        for origin in &self.touched {
            if let Some(connection) = self.connections.get_mut(origin) {
                connection.is_touched = false;
            }
        }
        std::mem::take(&mut self.touched)
    }

    /// After something was done for `origin`: decides what it waits for, what epoll watches, and
    /// whether it is over.
    pub(super) fn conclude(
        &mut self,
        origin: Origin,
        epoll: &Epoll,
        limits: &Limits,
        now: Instant,
    ) -> Result<(), Over> {
        let Some(connection) = self.connections.get_mut(&origin) else { return Ok(()) };
        connection.input.shrink();
        if connection.is_over() {
            return Err(Over);
        }
        let has_frame = connection.input.has_frame(limits.frame_bytes_max);
        let excess_bytes = connection.excess_bytes();
        self.excess_bytes = self.excess_bytes.saturating_sub(connection.counted_bytes);
        self.excess_bytes += excess_bytes;
        connection.counted_bytes = excess_bytes;

        let waits_for = connection.waits_for(has_frame);
        if waits_for != connection.waiting.map(|(what, _)| what) {
            if let Some((_, until)) = connection.waiting {
                self.deadlines.remove(&(until, origin));
            }
            connection.waiting = waits_for.map(|what| (what, now + limits.stall));
            if let Some((_, until)) = connection.waiting {
                self.deadlines.insert((until, origin));
            }
        }
        let interest = connection.interest(has_frame);
        if interest != connection.watched && !connection.is_leaving {
            connection.watched = interest;
            watch(epoll, connection, origin).map_err(|_| Over)?;
        }
        if has_frame && connection.takes_requests() && connection.output.is_empty() {
            self.touch(origin);
        }
        Ok(())
    }

    /// When the next deadline passes.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(until, _)| *until)
    }

    /// Who has kept the daemon waiting too long. Not who moved in this very turn: then the daemon
    /// itself was late, and it waits anew.
    pub(super) fn stalled(&mut self, now: Instant, turn: u64, stall: Duration) -> Vec<Origin> {
        let due: Vec<_> = self.deadlines.iter().copied().take_while(|due| due.0 <= now).collect();
        let mut stalled = Vec::new();
        for (until, origin) in due {
            let Some(connection) = self.connections.get_mut(&origin) else { continue };
            match &mut connection.waiting {
                Some(waiting) if connection.progress.is_moving(turn) => {
                    waiting.1 = now + stall;
                    self.deadlines.remove(&(until, origin));
                    self.deadlines.insert((waiting.1, origin));
                }
                _ => stalled.push(origin),
            }
        }
        stalled
    }

    /// Who is to go so that the others' memory suffices: of those who hold some, the one that has
    /// kept the daemon waiting longest.
    pub(super) fn hoarder(&self, buffer_bytes_max: usize) -> Option<Origin> {
        if self.excess_bytes <= buffer_bytes_max {
            return None;
        }
        let holds =
            |origin: &Origin| self.connections.get(origin).is_some_and(|c| c.counted_bytes > 0);
        self.deadlines.iter().map(|(_, origin)| *origin).find(holds)
    }

    fn answer_in_mailbox(&mut self, origin: Origin, lane: u8, response: &Response<'_>) {
        let Some(connection) = self.connections.get_mut(&origin) else { return };
        let Some(mailbox) = &mut connection.mailbox else { return };
        self.frame.clear();
        if let Err(error) = response.encode(&mut self.frame) {
            let message = error.to_string();
            let response = Response::Error { code: ErrorCode::Internal, message: &message };
            // Of so short a message the encoding does not fail.
            let _ = response.encode(&mut self.frame);
        }
        if !mailbox.answer(lane, self.frame.get(HEADER_BYTES..).unwrap_or_default()) {
            tracing::error!(?origin, lane, "an answer to nothing was dropped");
        }
        let waits = mailbox.waits_for_more().is_some();
        connection.counted.reply_bytes += self.frame.len() as u64;
        connection.ring();
        self.frame.shrink_to(FRAME_BYTES_KEPT);
        if waits {
            self.touch(origin);
        }
    }

    fn answer(&mut self, origin: Origin, response: &Response<'_>, descriptor: Option<OwnedFd>) {
        let (origin, lane) = origin.split();
        if let Some(lane) = lane {
            return self.answer_in_mailbox(origin, lane, response);
        }
        let Some(connection) = self.connections.get_mut(&origin) else { return };
        match std::mem::replace(&mut connection.asked, Asked::Nothing) {
            Asked::Nothing => {
                tracing::error!(?origin, "an answer to nothing was dropped");
                return;
            }
            Asked::Attach if descriptor.is_none() => connection.is_closing = true,
            Asked::Attach | Asked::Other => {}
        }
        let queued = match descriptor {
            Some(descriptor) => {
                connection.is_attached = true;
                let queued = attach(connection, response, descriptor);
                if connection.mailbox.is_some() {
                    self.mailboxes.push(origin);
                }
                queued
            }
            None => connection.output.push(response),
        };
        if let Err(error) = queued {
            let message = error.to_string();
            let response = Response::Error { code: ErrorCode::Internal, message: &message };
            connection.is_closing |= connection.output.push(&response).is_err();
        }
        self.touch(origin);
    }
}

/// Answers an attach, with a mailbox if one is wanted and can be had.
fn attach(
    connection: &mut Connection,
    response: &Response<'_>,
    table: OwnedFd,
) -> Result<(), EncodeError> {
    if let Response::Attached(attached) = response
        && connection.wants_mailbox
    {
        match Mailbox::create(Instant::now()) {
            Ok((mailbox, file)) => {
                let attached = Attached { mailbox_bytes: mailbox.bytes(), ..attached.clone() };
                connection.mailbox = Some(Box::new(mailbox));
                let response = Response::Attached(attached);
                return connection.output.push_with(&response, vec![table, file]);
            }
            Err(error) => {
                tracing::warn!(%error, "no mailbox for a client, which uses the socket instead");
            }
        }
    }
    connection.output.push_with(response, vec![table])
}

impl Replies for Peers {
    fn reply(&mut self, origin: Origin, response: &Response<'_>) {
        self.answer(origin, response, None);
    }

    fn reply_with_table(&mut self, origin: Origin, response: &Response<'_>, table: BorrowedFd<'_>) {
        match table.try_clone_to_owned() {
            Ok(descriptor) => self.answer(origin, response, Some(descriptor)),
            Err(error) => {
                let message = format!(
                    "the daemon cannot hand over the table: {error}; raise its limit of open files"
                );
                let code = ErrorCode::Internal;
                self.answer(origin, &Response::Error { code, message: &message }, None);
            }
        }
    }

    fn clients(&self) -> Vec<ClientFigures> {
        let attached = self.connections.values().filter(|connection| connection.is_attached);
        attached.map(Connection::figures).collect()
    }

    fn totals(&self) -> Totals {
        let mut figures = self.gone;
        for connection in self.connections.values() {
            figures.add(&connection.figures().figures);
        }
        Totals { connections: self.connections.len(), mailboxes: self.mailboxes.len(), figures }
    }
}

/// Tells epoll what to watch for a connection that it knows.
fn watch(epoll: &Epoll, connection: &Connection, origin: Origin) -> nix::Result<()> {
    let flags: EpollFlags = connection.watched;
    epoll.modify(&connection.stream, &mut EpollEvent::new(flags, origin.0))
}
