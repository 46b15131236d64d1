//! Figures of the clients.

use serde::{Deserialize, Serialize};

/// Counts of one client since it connected, or sums of several.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClientReported {
    /// Hits in the table, without those that its threads have not told of yet.
    pub hits: u64,
    /// System calls that woke the daemon.
    pub rings: u64,
    /// Times that a thread slept until a reply came, or until a full ring had room.
    pub sleeps: u64,
    /// Requests that found the ring full.
    pub ring_full: u64,
}

/// A client and its counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClientFigures {
    /// Its process; 0 if it is in another pid namespace.
    pub pid: i32,
    /// Its user.
    pub uid: u32,
    /// Seconds since it connected.
    pub connected_seconds: u64,
    /// Its requests come through a mailbox, not over the socket.
    pub has_mailbox: bool,
    /// Hits in percent of hits and reads; `null` without any. Reads of keys that came into the
    /// table in between count as if they had not been there.
    pub hit_percent: Option<f64>,
    /// Its counts.
    #[serde(flatten)]
    pub figures: Figures,
}

/// All clients together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Totals {
    /// Connections now.
    pub connections: u64,
    /// Mailboxes now.
    pub mailboxes: u64,
    /// Sums over clients that are connected and those that were.
    #[serde(flatten)]
    pub figures: Figures,
}

/// The answer to [`Request::Clients`](crate::protocol::Request::Clients).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Clients {
    /// Each attached client.
    pub clients: Vec<ClientFigures>,
}
