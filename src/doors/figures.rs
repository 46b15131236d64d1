//! Counts for each client, for people to read: no decision depends on them.

use super::Peer;
use l1d_wire::protocol::Request;
use serde::Serialize;

/// Counts of one client since it connected, or sums of several.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Figures {
    /// Requests taken from it.
    pub requests: u64,
    /// Keys that it requested from the daemon because they were not in the table.
    pub reads: u64,
    /// Keys that it set or deleted.
    pub writes: u64,
    /// Bytes of its requests.
    pub request_bytes: u64,
    /// Bytes of its replies.
    pub reply_bytes: u64,
    /// Turns in which it had more requests than the budget of one client.
    pub budgets_used_up: u64,
    /// Polls of its mailbox that found nothing.
    pub empty_polls: u64,
    /// System calls that woke it.
    pub wakes: u64,
    /// Hit reports drained from its mailbox.
    pub hit_reports: u64,
    /// Hit reports that were overwritten before they were drained.
    pub hit_reports_lost: u64,
    /// Figures that the client reports. Not to be trusted.
    pub client_reported: ClientReported,
}

/// Counts that a client keeps of itself. They may be anything.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ClientReported {
    /// Hits in the table, without those that its threads have not reported yet.
    pub hits: u64,
    /// System calls that woke the daemon.
    pub rings: u64,
    /// Times that a thread slept until a reply came, or until a full ring had room.
    pub sleeps: u64,
    /// Requests that found the ring full.
    pub ring_full: u64,
}

/// A client and its counts.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct ClientFigures {
    /// Its process; 0 if it is in another pid namespace.
    pub pid: i32,
    /// Its user.
    pub uid: u32,
    /// Seconds since it connected.
    pub connected_seconds: u64,
    /// Its requests come through a mailbox, not over the socket.
    pub has_mailbox: bool,
    /// Its counts.
    #[serde(flatten)]
    pub figures: Figures,
}

/// All clients together.
#[derive(Debug, Default, Clone, Copy, Serialize)]
pub struct Totals {
    /// Connections now.
    pub connections: usize,
    /// Mailboxes now.
    pub mailboxes: usize,
    /// Sums over clients that are connected and those that were.
    #[serde(flatten)]
    pub figures: Figures,
}

impl Figures {
    /// Counts a request of `bytes`, unless it is an attach. Returns how much work it is: its number
    /// of keys, at least one.
    pub(super) fn count(&mut self, request: &Request<'_>, bytes: usize) -> usize {
        if matches!(request, Request::Attach { .. }) {
            return 1;
        }
        self.requests += 1;
        self.request_bytes += bytes as u64;
        let (reads, writes) = match request {
            Request::Get { .. } | Request::Reserve { .. } => (1, 0),
            Request::GetMany { keys } => (keys.len(), 0),
            Request::Set(_)
            | Request::Delete { .. }
            | Request::Fill { .. }
            | Request::Operate(_) => (0, 1),
            Request::SetMany { sets } => (0, sets.len()),
            _ => (0, 0),
        };
        self.reads += reads as u64;
        self.writes += writes as u64;
        (reads + writes).max(1)
    }

    /// Adds `other`. Saturating, as the counts that a client reports may be anything.
    pub(super) fn add(&mut self, other: &Figures) {
        let reported = other.client_reported;
        for (sum, figure) in [
            (&mut self.requests, other.requests),
            (&mut self.reads, other.reads),
            (&mut self.writes, other.writes),
            (&mut self.request_bytes, other.request_bytes),
            (&mut self.reply_bytes, other.reply_bytes),
            (&mut self.budgets_used_up, other.budgets_used_up),
            (&mut self.empty_polls, other.empty_polls),
            (&mut self.wakes, other.wakes),
            (&mut self.hit_reports, other.hit_reports),
            (&mut self.hit_reports_lost, other.hit_reports_lost),
            (&mut self.client_reported.hits, reported.hits),
            (&mut self.client_reported.rings, reported.rings),
            (&mut self.client_reported.sleeps, reported.sleeps),
            (&mut self.client_reported.ring_full, reported.ring_full),
        ] {
            *sum = sum.saturating_add(figure);
        }
    }
}

impl ClientFigures {
    pub(super) fn new(peer: &Peer, connected_seconds: u64) -> ClientFigures {
        ClientFigures {
            pid: peer.pid,
            uid: peer.uid,
            connected_seconds,
            has_mailbox: false,
            figures: Figures::default(),
        }
    }
}
