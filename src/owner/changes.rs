//! The last changes: who made them, when, and why. A ring of fixed size in the owner's private
//! memory; what has left it is not known.

use crate::doors::Peer;
use crate::tiers::Tier;
use l1d_wire::protocol::Request;
use l1d_wire::snapshot::{Cause, LastChange};
use rapidhash::RapidHashMap;
use std::hash::BuildHasher;

/// Changes that are remembered, in 32 bytes each: 2 MiB, which are touched as they are used.
const RECORDS: usize = 1 << 16;

/// Who asks for a change, and by which request.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Author {
    pid: i32,
    pub(super) uid: u32,
    pub(super) cause: Cause,
}

impl Author {
    pub(super) fn of(peer: &Peer, request: &Request<'_>) -> Author {
        let cause = match request {
            Request::Delete { .. } => Cause::Delete,
            Request::Operate(_) => Cause::Operation,
            Request::Fill { .. } => Cause::Load,
            Request::Flush { .. } => Cause::Flush,
            _ => Cause::Set,
        };
        Author { pid: peer.pid, uid: peer.uid, cause }
    }

    /// Nobody in particular: the value was fetched from this tier.
    pub(super) fn tier(tier: Tier) -> Author {
        let cause = match tier {
            Tier::L2 => Cause::FetchL2,
            Tier::L3 => Cause::FetchL3,
        };
        Author { cause, ..Author::default() }
    }

    /// Nobody in particular: a tier said that there is no value.
    pub(super) fn absence() -> Author {
        Author { cause: Cause::FetchAbsent, ..Author::default() }
    }

    pub(super) fn with(self, cause: Cause) -> Author {
        Author { cause, ..self }
    }

    fn change(self, at_ns: u64, now_ns: u64) -> LastChange {
        // A fetch has no author.
        let is_known = !matches!(self.cause, Cause::FetchL2 | Cause::FetchL3 | Cause::FetchAbsent);
        LastChange {
            cause: self.cause,
            age_ms: now_ns.saturating_sub(at_ns) / 1_000_000,
            pid: Some(self.pid).filter(|pid| is_known && *pid > 0),
            uid: Some(self.uid).filter(|_| is_known),
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Record {
    hash: u64,
    at_ns: u64,
    author: Author,
}

const _: () = assert!(size_of::<Record>() == 32);

/// The last changes.
#[derive(Debug)]
pub(super) struct Changes {
    ring: Box<[Record]>,
    /// Changes noted so far; the next one's place, in the ring.
    count: usize,
    /// The last flush: of this prefix.
    flush: Option<(Vec<u8>, u64, Author)>,
    /// Of keys. Not the table's, which another table does not share.
    hasher: RapidHashMap<(), ()>,
}

impl Changes {
    pub(super) fn new() -> Changes {
        let ring = vec![Record::default(); RECORDS].into_boxed_slice();
        Changes { ring, count: 0, flush: None, hasher: RapidHashMap::default() }
    }

    /// Notes a change of `key` at this time of CLOCK_BOOTTIME.
    pub(super) fn note(&mut self, key: &[u8], at_ns: u64, author: Author) {
        let record = Record { hash: self.hasher.hasher().hash_one(key), at_ns, author };
        self.ring[self.count % RECORDS] = record;
        self.count += 1;
    }

    /// Notes a flush of all keys with this prefix.
    pub(super) fn flushed(&mut self, prefix: &[u8], at_ns: u64, author: Author) {
        self.flush = Some((prefix.to_vec(), at_ns, author));
    }

    /// The last change of `key`, if that is still known. Looks through the whole ring at worst,
    /// which takes some tens of microseconds.
    pub(super) fn last(&self, key: &[u8], now_ns: u64) -> Option<LastChange> {
        let hash = self.hasher.hasher().hash_one(key);
        let (newer, older) = self.ring.split_at(self.count % RECORDS);
        let known = older.iter().chain(newer).rev().take(self.count);
        let record = { known }.find(|record| record.hash == hash);
        let flush = self.flush.as_ref().filter(|(prefix, ..)| key.starts_with(prefix));
        match (record, flush) {
            (Some(record), Some((_, at_ns, _))) if record.at_ns > *at_ns => Some(record),
            (record, None) => record,
            (_, Some((_, at_ns, author))) => return Some(author.change(*at_ns, now_ns)),
        }
        .map(|record| record.author.change(record.at_ns, now_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Grant;

    const PEER: Peer = Peer { uid: 7, gid: 7, pid: 99, grant: Grant::ROOT };

    #[test]
    fn the_last_change_is_known_until_it_has_left_the_ring() {
        let mut changes = Changes::new();
        assert_eq!(changes.last(b"k", 0), None);
        let set = Author { pid: PEER.pid, uid: PEER.uid, cause: Cause::Set };
        changes.note(b"k", 1_000_000, set);
        changes.note(b"k", 2_000_000, set.with(Cause::Delete));
        changes.note(b"other", 3_000_000, Author::tier(Tier::L3));
        let last = changes.last(b"k", 12_000_000).unwrap();
        assert_eq!((last.cause, last.age_ms), (Cause::Delete, 10));
        assert_eq!((last.pid, last.uid), (Some(99), Some(7)));
        let fetched = changes.last(b"other", 12_000_000).unwrap();
        assert_eq!((fetched.cause, fetched.pid, fetched.uid), (Cause::FetchL3, None, None));
        for n in 0..RECORDS - 2 {
            changes.note(&n.to_le_bytes(), 4_000_000, set);
        }
        assert!(changes.last(b"k", 5_000_000).is_some());
        changes.note(b"one more", 4_000_000, set);
        assert_eq!(changes.last(b"k", 5_000_000), None);
        assert!(changes.last(b"other", 5_000_000).is_some());
    }

    #[test]
    fn a_flush_counts_for_its_prefix_until_the_next_change() {
        let mut changes = Changes::new();
        let author = Author { pid: 1, uid: 0, cause: Cause::Set };
        changes.note(b"a:1", 1, author);
        changes.flushed(b"a:", 2, author.with(Cause::Flush));
        let cause = |changes: &Changes, key: &[u8]| changes.last(key, 9).map(|last| last.cause);
        assert_eq!(cause(&changes, b"a:1"), Some(Cause::Flush));
        assert_eq!(cause(&changes, b"b:1"), None);
        changes.note(b"a:1", 3, author);
        assert_eq!(cause(&changes, b"a:1"), Some(Cause::Set));
    }
}
