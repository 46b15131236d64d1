//! The clients of one user together: connections, mailboxes and memory, and the limits on these.

use super::peers::Peers;
use super::shares::{Shares, WORK_AT_MAILBOXES, WORK_AT_SOCKETS};
use super::unix::{Connection, Phase};
use super::{Admission, Limits, Origin, Peer};
use crate::access::Grant;
use std::collections::{BTreeSet, HashMap};
use std::os::fd::{AsFd, BorrowedFd};

/// The connections of one user, and their memory.
#[derive(Debug, Default)]
pub(super) struct Usage {
    pub(super) connections: usize,
    pub(super) mailboxes: usize,
    /// Memory of buffers beyond what every connection may keep.
    pub(super) excess_bytes: usize,
}

/// All users with connections.
#[derive(Debug)]
pub(super) struct Users {
    pub(super) per_uid: HashMap<u32, Usage>,
    /// Connections to be closed, of clients that may not connect any more.
    expelled: Vec<Origin>,
    /// Limits that users have reached, which the log is to have.
    reached: Vec<(Peer, &'static str, usize)>,
    /// Users that hold more memory than they may, or did when it was counted.
    hoarding: BTreeSet<u32>,
    /// As in [`Limits`].
    buffer_bytes_max: usize,
    /// Of a turn at the sockets, and of a round of the mailboxes.
    pub(super) at_sockets: Shares,
    pub(super) at_mailboxes: Shares,
}

impl Users {
    pub(super) fn new(limits: &Limits) -> Users {
        Users {
            per_uid: HashMap::new(),
            expelled: Vec::new(),
            reached: Vec::new(),
            hoarding: BTreeSet::new(),
            buffer_bytes_max: limits.buffer_bytes_per_uid_max,
            at_sockets: Shares::of(WORK_AT_SOCKETS),
            at_mailboxes: Shares::of(WORK_AT_MAILBOXES),
        }
    }

    /// A connection of the user has gone.
    pub(super) fn left(&mut self, connection: &Connection) {
        let uid = connection.peer.uid;
        let Some(usage) = self.per_uid.get_mut(&uid) else { return };
        let mailboxes = usize::from(connection.phase.mailbox().is_some());
        usage.connections = usage.connections.saturating_sub(1);
        usage.mailboxes = usage.mailboxes.saturating_sub(mailboxes);
        usage.excess_bytes = usage.excess_bytes.saturating_sub(connection.counted_bytes);
        if usage.connections == 0 {
            self.per_uid.remove(&uid);
        }
    }
}

impl Peers {
    /// Returns whether the client's user may have another mailbox. Without one, the client uses the
    /// socket.
    pub(super) fn may_have_mailbox(&mut self, origin: Origin) -> bool {
        let Some(connection) = self.connections.get(&origin) else { return false };
        let is_wanted = matches!(connection.phase, Phase::Attaching { wants_mailbox: true });
        let Some(most) = connection.quota.mailboxes.filter(|_| is_wanted) else { return true };
        let has = self.users.per_uid.get(&connection.peer.uid).map_or(0, |usage| usage.mailboxes);
        if has >= most {
            self.users.reached.push((connection.peer, "mailboxes_max", most));
        }
        has < most
    }

    /// Asks again what each client may do.
    pub(super) fn admit_again(
        &mut self,
        admit: &mut dyn FnMut(&Peer, BorrowedFd<'_>) -> Admission,
    ) {
        for (origin, connection) in &mut self.connections {
            match admit(&connection.peer, connection.stream.as_fd()) {
                Some((grant, quota)) => {
                    connection.peer.grant = grant;
                    connection.quota = quota;
                }
                None => {
                    connection.peer.grant = Grant::NOBODY;
                    self.users.expelled.push(*origin);
                }
            }
        }
    }

    /// Takes the connections of clients that may not connect any more.
    pub(super) fn take_expelled(&mut self) -> Vec<Origin> {
        std::mem::take(&mut self.users.expelled)
    }

    /// Takes the limits that users have reached.
    pub(super) fn take_reached_quotas(&mut self) -> Vec<(Peer, &'static str, usize)> {
        std::mem::take(&mut self.users.reached)
    }

    /// If a user holds more than it may: of its connections that hold some, the one with the
    /// soonest deadline.
    pub(super) fn hoarder_of_user(&mut self) -> Option<Origin> {
        while let Some(uid) = self.users.hoarding.first().copied() {
            let hoarder = self.hoarder_of(uid);
            if hoarder.is_some() {
                return hoarder;
            }
            self.users.hoarding.remove(&uid);
        }
        None
    }

    fn hoarder_of(&mut self, uid: u32) -> Option<Origin> {
        let held = self.users.per_uid.get(&uid).map_or(0, |usage| usage.excess_bytes);
        let is_its = |origin: &Origin| {
            let connection = self.connections.get(origin)?;
            (connection.peer.uid == uid && connection.counted_bytes > 0).then_some(connection)
        };
        let mut its =
            self.deadlines.iter().filter_map(|(_, origin)| Some((*origin, is_its(origin)?)));
        let (origin, connection) = its.next()?;
        let most = self.bytes_max(connection);
        if held <= most {
            return None;
        }
        self.users.reached.push((connection.peer, "bytes_max", most));
        Some(origin)
    }

    fn bytes_max(&self, connection: &Connection) -> usize {
        match connection.peer.uid {
            0 => usize::MAX,
            _ => connection.quota.bytes.unwrap_or(self.users.buffer_bytes_max),
        }
    }

    /// Counts the memory that a connection now holds.
    pub(super) fn recount(&mut self, origin: Origin) {
        let Some(connection) = self.connections.get_mut(&origin) else { return };
        let now = connection.excess_bytes();
        let before = std::mem::replace(&mut connection.counted_bytes, now);
        if now == before {
            return;
        }
        let uid = connection.peer.uid;
        self.excess_bytes = self.excess_bytes.saturating_sub(before) + now;
        let usage = self.users.per_uid.entry(uid).or_default();
        usage.excess_bytes = usage.excess_bytes.saturating_sub(before) + now;
        let held = usage.excess_bytes;
        if let Some(connection) = self.connections.get(&origin)
            && now > before
            && held > self.bytes_max(connection)
        {
            self.users.hoarding.insert(uid);
        }
    }
}
