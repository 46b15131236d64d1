//! Changes on their way to the tiers: one at a time for each key, in order of arrival (P7).

use super::changes::Author;
use super::changing::Place;
use super::life::Lives;
use super::response::Waiter;
use crate::access::Quota;
use crate::tiers::Operation;
use l1d_wire::policy::Rule;
use l1d_wire::protocol::frame::MANY_KEYS;
use rapidhash::RapidHashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// The most changes in progress or waiting; one more is refused.
pub(super) const CHANGES_MAX: usize = 8192;
/// Reserved for unacknowledged sets: the most that can arrive between two capacity checks
/// (`doors/mailbox/intake.rs` hands over eight requests at a time).
const UNAWAITED: usize = 64;
/// Bytes of values in progress or waiting, above which no more requests are taken out of rings.
const BYTES_MAX: usize = 256 << 20;
/// How many one user may have in progress or waiting before its rings are left alone, where nothing
/// else is configured: half of what is taken from all.
const CHANGES_OF_USER_MAX: usize = CHANGES_MAX / 4;
/// The same in bytes of values.
const BYTES_OF_USER_MAX: usize = BYTES_MAX / 4;

/// The change of a key.
#[derive(Debug)]
pub(super) enum Change {
    /// Set the key to a value, through the tiers.
    Set { value: Arc<[u8]>, flags: u32, lives: Lives },
    /// Delete the key, through the tiers: for a delete, or for a set of a value that is not to be
    /// kept.
    Delete { by_set: bool },
    /// Have the store of record carry out an operation.
    Operate(Operating),
}

impl Change {
    /// Bytes of the value that it holds.
    fn bytes(&self) -> usize {
        match self {
            Change::Set { value, .. } => value.len(),
            Change::Delete { .. } => 0,
            Change::Operate(operating) => operating.operation.bytes(),
        }
    }
}

/// An operation, until its turn comes.
#[derive(Debug, Clone)]
pub(super) struct Operating {
    /// As the caller gave it; `expected` bytes are not known before its turn.
    pub(super) operation: Operation,
    /// The version whose bytes are expected.
    pub(super) version: Option<u64>,
    /// Life in the store of record; `None`: without end.
    pub(super) ttl: Option<Duration>,
    pub(super) lives: Lives,
}

/// A change and its waiter.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) id: u64,
    pub(super) key: Arc<[u8]>,
    /// Id of the key's rule.
    pub(super) rule: u8,
    pub(super) change: Change,
    pub(super) waiter: Waiter,
    /// Who asked for it.
    pub(super) author: Author,
    /// Where the next daemon would find its key, once it has begun.
    pub(super) place: Option<Place>,
}

/// All changes in progress and waiting.
#[derive(Debug, Default)]
pub(super) struct Writes {
    /// For each key the change in progress, then the later ones.
    by_key: RapidHashMap<Arc<[u8]>, VecDeque<Write>>,
    key_of: RapidHashMap<u64, Arc<[u8]>>,
    /// Bytes of all values.
    bytes: usize,
    /// Of each user: how many, and their bytes.
    per_uid: RapidHashMap<u32, Held>,
    next: u64,
}

/// Changes in progress and waiting, and the bytes of their values.
#[derive(Debug, Clone, Copy, Default)]
struct Held {
    changes: usize,
    bytes: usize,
}

impl Writes {
    /// Queues a change; `Ok(true)`: it is the first, begin it. `Err`: the queue is full.
    pub(super) fn line_up(
        &mut self,
        key: &Arc<[u8]>,
        rule: u8,
        change: Change,
        (waiter, author): (Waiter, Author),
    ) -> Result<bool, ()> {
        let is_unawaited_set = matches!((&change, &waiter), (Change::Set { .. }, Waiter::Nobody));
        let reserved = if is_unawaited_set { 0 } else { UNAWAITED };
        if self.key_of.len() >= CHANGES_MAX - reserved {
            return Err(());
        }
        let held = self.per_uid.entry(author.uid).or_default();
        held.changes += 1;
        held.bytes += change.bytes();
        self.bytes += change.bytes();
        self.next += 1;
        self.key_of.insert(self.next, key.clone());
        let line = self.by_key.entry(key.clone()).or_default();
        let (id, key) = (self.next, key.clone());
        line.push_back(Write { id, key, rule, change, waiter, author, place: None });
        Ok(line.len() == 1)
    }

    /// Looks every key's rule up again: another policy is in force, and what the tiers have taken is
    /// to live in the table no longer than that allows.
    pub(super) fn renumber<'a>(&mut self, rule: impl Fn(&[u8]) -> &'a Rule) {
        for write in self.by_key.values_mut().flatten() {
            let rule = rule(&write.key);
            write.rule = rule.id;
            if let Change::Set { lives, .. } = &mut write.change {
                lives.l1 = lives.l1.min(rule.ttl);
            }
        }
    }

    /// The change of `key` that is in progress.
    pub(super) fn first(&self, key: &[u8]) -> Option<&Write> {
        self.by_key.get(key)?.front()
    }

    /// The change of `key` that is in progress is noted there.
    pub(super) fn noted(&mut self, key: &[u8], place: Place) {
        if let Some(write) = self.by_key.get_mut(key).and_then(VecDeque::front_mut) {
            write.place = Some(place);
        }
    }

    /// Ends the change with this number, if it is the one in progress.
    pub(super) fn end(&mut self, id: u64) -> Option<Write> {
        let key = self.key_of.get(&id)?.clone();
        let line = self.by_key.get_mut(&key)?;
        if line.front()?.id != id {
            return None;
        }
        let write = line.pop_front();
        self.key_of.remove(&id);
        if line.is_empty() {
            self.by_key.remove(&key);
        }
        if let Some(write) = &write {
            self.release(write.author.uid, write.change.bytes());
        }
        write
    }

    /// A set or delete of `key` is in progress or waiting, so a fetched value may be older.
    pub(super) fn is_changing(&self, key: &[u8]) -> bool {
        self.by_key.contains_key(key)
    }

    /// No client should ask for more: the remaining room is reserved for requests that have already
    /// been taken out of a ring. A request that waits for an answer can be refused; an
    /// unacknowledged set has reserved room.
    pub(super) fn is_full(&self) -> bool {
        self.key_of.len() >= CHANGES_MAX / 2 || self.bytes >= BYTES_MAX
    }

    /// The limit that a user has reached, and what it is. While it has, its requests stay in their
    /// rings, and those of others are taken out.
    pub(super) fn reached(&self, uid: u32, quota: Quota) -> Option<(&'static str, usize)> {
        let held = self.per_uid.get(&uid)?;
        let changes_max = quota.writes.unwrap_or(CHANGES_OF_USER_MAX);
        let bytes_max = quota.bytes.unwrap_or(BYTES_OF_USER_MAX);
        if held.changes >= changes_max {
            return Some(("writes_max", changes_max));
        }
        (held.bytes >= bytes_max).then_some(("bytes_max", bytes_max))
    }

    /// That limit, if the user is so far beyond it as only requests over sockets bring it, which wait in
    /// no ring: another change is to be refused, because the room of all others would be next.
    pub(super) fn exceeds(&self, uid: u32, quota: Quota) -> Option<(&'static str, usize)> {
        let held = self.per_uid.get(&uid)?;
        let (limit, most) = self.reached(uid, quota)?;
        // The last request that came out of a ring may have brought as much beyond the limit.
        let is_beyond = match limit {
            "writes_max" => held.changes >= most.saturating_add(MANY_KEYS),
            _ => held.bytes >= most.saturating_mul(2),
        };
        is_beyond.then_some((limit, most))
    }

    fn release(&mut self, uid: u32, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
        if let Some(held) = self.per_uid.get_mut(&uid) {
            held.changes = held.changes.saturating_sub(1);
            held.bytes = held.bytes.saturating_sub(bytes);
            if held.changes == 0 {
                self.per_uid.remove(&uid);
            }
        }
    }

    /// Number of changes in progress and waiting.
    pub(super) fn count(&self) -> usize {
        self.key_of.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tiers::L2Change;

    #[test]
    fn changes_of_one_key_go_one_after_another() {
        let mut writes = Writes::default();
        let key: Arc<[u8]> = b"k"[..].into();
        let by = Author::default();
        assert_eq!(
            writes.line_up(&key, 0, Change::Delete { by_set: false }, (Waiter::Nobody, by)),
            Ok(true)
        );
        assert_eq!(
            writes.line_up(&key, 0, Change::Delete { by_set: false }, (Waiter::Nobody, by)),
            Ok(false)
        );
        let first = writes.first(b"k").unwrap().id;
        assert!(writes.end(first + 1).is_none(), "the second is not in progress");
        assert_eq!(writes.end(first).unwrap().id, first);
        assert!(writes.is_changing(b"k"));
        assert_eq!(writes.end(first + 1).unwrap().id, first + 1);
        assert!(!writes.is_changing(b"k"));
        assert_eq!(writes.count(), 0);
    }

    /// The hazard: a set that has left its ring is refused when no requester is left to be told.
    #[test]
    fn those_who_wait_for_an_answer_leave_room_for_sets_that_nobody_waits_for() {
        let mut writes = Writes::default();
        let lives = Lives { l1: Duration::ZERO, l2: L2Change::None, l3: None, asked: None };
        let set = || Change::Set { value: b"v"[..].into(), flags: 0, lives };
        let mut line_up = |n: usize, change, waiter| {
            let key: Arc<[u8]> = n.to_le_bytes()[..].into();
            writes.line_up(&key, 0, change, (waiter, Author::default()))
        };
        let asker = Waiter::Origin(crate::doors::Origin(16));
        let taken = (0..CHANGES_MAX).take_while(|n| line_up(*n, set(), asker).is_ok()).count();
        assert_eq!(taken, CHANGES_MAX - UNAWAITED);
        for n in taken..CHANGES_MAX {
            assert_eq!(line_up(n, set(), Waiter::Nobody), Ok(true), "{n}");
        }
        assert!(line_up(CHANGES_MAX, set(), Waiter::Nobody).is_err(), "bounded all the same");
    }
}
