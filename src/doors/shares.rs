//! What is done for the clients of one user before those of all others have their turn: in a
//! millisecond at the sockets, and in a round of the mailboxes.

/// Work of one user in a turn at the sockets: keys, and what other requests are worth. A request that
/// exceeds it is completed; the excess is taken off the next turns.
pub(super) const WORK_AT_SOCKETS: usize = 1024;
/// The same in a round of the mailboxes, which others wait for to end: some 0.3 ms.
pub(super) const WORK_AT_MAILBOXES: usize = 256;
/// The most turns that a user owes for earlier ones, so that nobody waits for long on an idle host.
pub(super) const OWED_MAX: usize = 8;

/// What a request is worth that is answered with figures: as much as a user may have done, since it
/// looks at every rule, or at every client.
pub(super) const WORK_OF_FIGURES: usize = WORK_AT_SOCKETS;
/// Of making a mailbox for a client that attaches, and of taking it away.
pub(super) const WORK_OF_A_MAILBOX: usize = 128;
/// Bytes received, answered or sent that take about as long as a key.
const BYTES_OF_A_KEY: usize = 1024;

/// The shares of all users at one door.
#[derive(Debug)]
pub(super) struct Shares {
    /// What each user may have done in a turn.
    work: usize,
    /// Work that was done for the users that had some done in this turn, or that they owe for earlier
    /// ones. A short list is searched faster than a map.
    done: Vec<(u32, usize)>,
    /// One of them has had as much done as it may.
    any_is_spent: bool,
}

impl Shares {
    /// Each user may have this much done in a turn.
    pub(super) fn of(work: usize) -> Shares {
        Shares { work, done: Vec::new(), any_is_spent: false }
    }

    /// Another turn begins, of which each user has its share again.
    pub(super) fn begin_turn(&mut self) {
        self.any_is_spent = false;
        self.done.retain_mut(|(_, done)| {
            *done = done.saturating_sub(self.work);
            self.any_is_spent |= *done >= self.work;
            *done > 0
        });
    }

    /// Work was done for this user.
    pub(super) fn spend(&mut self, uid: u32, work: usize) {
        let place = self.done.iter().position(|(other, _)| *other == uid).unwrap_or_else(|| {
            self.done.push((uid, 0));
            self.done.len() - 1
        });
        if let Some((_, done)) = self.done.get_mut(place) {
            *done = done.saturating_add(work).min(OWED_MAX * self.work);
            self.any_is_spent |= *done >= self.work;
        }
    }

    /// Bytes were copied for this user.
    pub(super) fn spend_bytes(&mut self, uid: u32, bytes: usize) {
        if bytes >= BYTES_OF_A_KEY {
            self.spend(uid, bytes / BYTES_OF_A_KEY);
        }
    }

    /// Some user has had as much done in this turn as it may. Hardly ever; otherwise nothing needs to
    /// be looked up.
    pub(super) fn any_is_spent(&self) -> bool {
        self.any_is_spent
    }

    /// The user has had as much done in this turn as it may.
    pub(super) fn is_spent(&self, uid: u32) -> bool {
        let is_it = |(other, done): &(u32, usize)| *other == uid && *done >= self.work;
        self.any_is_spent && self.done.iter().any(is_it)
    }
}
