//! Counts for each client, for people to read: no decision depends on them.

use super::Peer;
use super::shares::{WORK_OF_A_MAILBOX, WORK_OF_FIGURES};
use l1d_wire::protocol::Request;
use l1d_wire::snapshot::{ClientFigures, Figures};

/// Counts a request of `bytes`, unless it is an attach. Returns how much work it is: its number
/// of keys, at least one, or what is known to take longer.
pub(super) fn count(figures: &mut Figures, request: &Request<'_>, bytes: usize) -> usize {
    if matches!(request, Request::Attach { .. }) {
        return WORK_OF_A_MAILBOX;
    }
    figures.requests += 1;
    figures.request_bytes += bytes as u64;
    let (reads, writes) = match request {
        Request::Get { .. } | Request::Reserve { .. } => (1, 0),
        Request::GetMany { keys } => (keys.len(), 0),
        Request::Set(_) | Request::Delete { .. } | Request::Fill { .. } | Request::Operate(_) => {
            (0, 1)
        }
        Request::SetMany { sets } => (0, sets.len()),
        Request::Abandon { .. } => (0, 0),
        _ => return WORK_OF_FIGURES,
    };
    figures.reads += reads as u64;
    figures.writes += writes as u64;
    (reads + writes).max(1)
}

/// Adds `other` to `sum`. Saturating, as the counts that a client reports may be anything.
pub(super) fn add(sum: &mut Figures, other: &Figures) {
    let reported = other.client_reported;
    for (count, figure) in [
        (&mut sum.requests, other.requests),
        (&mut sum.reads, other.reads),
        (&mut sum.writes, other.writes),
        (&mut sum.request_bytes, other.request_bytes),
        (&mut sum.reply_bytes, other.reply_bytes),
        (&mut sum.budgets_used_up, other.budgets_used_up),
        (&mut sum.empty_polls, other.empty_polls),
        (&mut sum.wakes, other.wakes),
        (&mut sum.hit_reports, other.hit_reports),
        (&mut sum.hit_reports_lost, other.hit_reports_lost),
        (&mut sum.client_reported.hits, reported.hits),
        (&mut sum.client_reported.rings, reported.rings),
        (&mut sum.client_reported.sleeps, reported.sleeps),
        (&mut sum.client_reported.ring_full, reported.ring_full),
    ] {
        *count = count.saturating_add(figure);
    }
}

/// Those of a client that has just connected.
pub(super) fn of(peer: &Peer, connected_seconds: u64) -> ClientFigures {
    ClientFigures {
        pid: peer.pid,
        uid: peer.uid,
        connected_seconds,
        has_mailbox: false,
        hit_percent: None,
        figures: Figures::default(),
    }
}
