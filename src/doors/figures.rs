//! What is counted of each client, for people: nothing is decided by it.

use super::Peer;
use l1d_client::protocol::Request;
use serde::Serialize;

/// What has happened with a client since it connected, or with several together.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Figures {
    /// Requests taken from it.
    pub requests: u64,
    /// Keys that it asked for: those that it did not find in the table.
    pub reads: u64,
    /// Keys that it set or deleted.
    pub writes: u64,
    /// Bytes of the requests.
    pub request_bytes: u64,
    /// Bytes of the answers.
    pub reply_bytes: u64,
    /// Turns in which it had more requests than one client is served at once.
    pub budgets_used_up: u64,
    /// Looks into its mailbox that found nothing.
    pub looks_in_vain: u64,
    /// How often it was woken by a system call.
    pub wakes: u64,
    /// Hit reports that were found in its mailbox.
    pub hit_reports: u64,
    /// Hit reports that were written over before.
    pub hit_reports_lost: u64,
    /// What it says of itself. Not to be believed.
    pub told: Told,
}

/// What a client says of itself.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Told {
    /// Hits in the table, but for those that its threads have not yet reported.
    pub hits: u64,
    /// How often it woke the daemon by a system call.
    pub rings: u64,
    /// How often a thread slept over an answer, or over the ring being full.
    pub sleeps: u64,
    /// How often the ring had no room for a request.
    pub ring_full: u64,
}

/// A client, and its figures.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct ClientFigures {
    /// Its process; 0 when it is of another pid namespace.
    pub pid: i32,
    /// Its user.
    pub uid: u32,
    /// Seconds since it connected.
    pub connected_seconds: u64,
    /// Whether its requests travel in a mailbox, or over the socket.
    pub has_mailbox: bool,
    /// What it did.
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
    /// Figures of those that are there and of those that are gone.
    #[serde(flatten)]
    pub figures: Figures,
}

impl Figures {
    /// Counts a request of so many bytes, unless it is the one to attach. How much work it is: its keys,
    /// or one.
    pub(super) fn count(&mut self, request: &Request<'_>, bytes: usize) -> usize {
        if matches!(request, Request::Attach { .. }) {
            return 1;
        }
        self.requests += 1;
        self.request_bytes += bytes as u64;
        let (reads, writes) = match request {
            Request::Get { .. } => (1, 0),
            Request::GetMany { keys } => (keys.len(), 0),
            Request::Set(_) | Request::Delete { .. } => (0, 1),
            Request::SetMany { sets } => (0, sets.len()),
            _ => (0, 0),
        };
        self.reads += reads as u64;
        self.writes += writes as u64;
        (reads + writes).max(1)
    }

    /// Adds `other`'s; what a client says may be anything.
    pub(super) fn add(&mut self, other: &Figures) {
        let Figures { told, .. } = other;
        for (sum, figure) in [
            (&mut self.requests, other.requests),
            (&mut self.reads, other.reads),
            (&mut self.writes, other.writes),
            (&mut self.request_bytes, other.request_bytes),
            (&mut self.reply_bytes, other.reply_bytes),
            (&mut self.budgets_used_up, other.budgets_used_up),
            (&mut self.looks_in_vain, other.looks_in_vain),
            (&mut self.wakes, other.wakes),
            (&mut self.hit_reports, other.hit_reports),
            (&mut self.hit_reports_lost, other.hit_reports_lost),
            (&mut self.told.hits, told.hits),
            (&mut self.told.rings, told.rings),
            (&mut self.told.sleeps, told.sleeps),
            (&mut self.told.ring_full, told.ring_full),
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
