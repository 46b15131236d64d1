//! The cache of one process, for keys whose policy says `scope = "process"`.
//!
//! Reads fill it from the daemon's answers, writes go to the daemon first and then here. Between a
//! request and its answer another thread may write the same key; the answer is then older than the
//! write and must not be kept. So keys are spread over stripes, each with a count of the writes in
//! it: an answer is kept only if no write has begun or ended in its stripe since the request, and
//! of two concurrent writes neither is kept, because this process cannot know which came last at
//! the daemon.

use crate::clock;
use crate::value::{Meta, Source};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const STRIPES: usize = 64;

/// The cost of an entry beyond key and value: two allocations, the cache's own bookkeeping.
const ENTRY_BYTES: u64 = 128;

/// Entries whose room is set aside at the start.
const ENTRIES_EXPECTED: usize = 1024;

#[derive(Clone)]
struct Kept {
    /// `None`: the key is known to have no value.
    value: Option<Arc<[u8]>>,
    flags: u32,
    /// On CLOCK_BOOTTIME: a life ends during suspend too.
    expiry_ns: u64,
}

#[derive(Clone)]
struct Bytes;

impl Weighter<Box<[u8]>, Kept> for Bytes {
    fn weight(&self, key: &Box<[u8]>, kept: &Kept) -> u64 {
        let value_bytes = kept.value.as_ref().map_or(0, |value| value.len());
        key.len() as u64 + value_bytes as u64 + ENTRY_BYTES
    }
}

/// The outcome of a read of the cache.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ProcessRead {
    Hit(Meta),
    Absent,
    Miss,
}

/// A value, or an absence, to keep for a key.
pub(crate) struct Fresh<'a> {
    /// `None`: it has no value.
    pub value: Option<&'a [u8]>,
    pub flags: u32,
    pub ttl: Duration,
}

/// A read or write in progress; see [`ProcessCache::begin_read`].
pub(crate) struct Ticket {
    stripe: usize,
    count: u64,
    /// A life counts from here on CLOCK_BOOTTIME: when the answer is looked at says nothing, as
    /// this process may have been stopped in between.
    begun_ns: u64,
}

pub(crate) struct ProcessCache {
    cache: Cache<Box<[u8]>, Kept, Bytes>,
    stripes: [Mutex<u64>; STRIPES],
    hasher: RandomState,
}

impl ProcessCache {
    pub(crate) fn new(capacity_bytes: u64) -> ProcessCache {
        ProcessCache {
            cache: Cache::with_weighter(ENTRIES_EXPECTED, capacity_bytes, Bytes),
            stripes: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
        }
    }

    /// What remains of the life of the key's value; `None` if it is not here any more.
    #[cfg(feature = "tracing")]
    pub(crate) fn life_left(&self, key: &[u8]) -> Option<std::time::Duration> {
        let left_ns = self.cache.get(key)?.expiry_ns.saturating_sub(clock::boottime_ns());
        Some(std::time::Duration::from_nanos(left_ns))
    }

    /// Reads `key` into `into`, replacing its content.
    pub(crate) fn read(&self, key: &[u8], into: &mut Vec<u8>) -> ProcessRead {
        let Some(kept) = self.cache.get(key) else {
            return ProcessRead::Miss;
        };
        if clock::boottime_ns() >= kept.expiry_ns {
            // Only this very entry: a fresh one may have taken its place by now.
            self.cache.remove_if(key, |now| now.expiry_ns == kept.expiry_ns);
            return ProcessRead::Miss;
        }
        into.clear();
        let Some(value) = &kept.value else {
            return ProcessRead::Absent;
        };
        into.extend_from_slice(value);
        ProcessRead::Hit(Meta { flags: kept.flags, version: 0, source: Source::Process })
    }

    /// Before the daemon is asked for `key`.
    pub(crate) fn begin_read(&self, key: &[u8]) -> Ticket {
        let stripe = self.stripe(key);
        let begun_ns = clock::boottime_ns();
        let count = *self.lock(stripe);
        Ticket { stripe, count, begun_ns }
    }

    /// Before the daemon is told to change `key`.
    pub(crate) fn begin_write(&self, key: &[u8]) -> Ticket {
        let stripe = self.stripe(key);
        let begun_ns = clock::boottime_ns();
        let mut count = self.lock(stripe);
        *count = count.wrapping_add(1);
        Ticket { stripe, count: *count, begun_ns }
    }

    /// Keeps the daemon's answer to a question.
    pub(crate) fn end_read(&self, ticket: &Ticket, key: &[u8], fresh: &Fresh<'_>) {
        let count = self.lock(ticket.stripe);
        if *count == ticket.count {
            self.keep(ticket, key, fresh);
        }
    }

    /// Keeps what the daemon has taken, or, with `None` (it did not, or nobody knows), forgets the
    /// key.
    pub(crate) fn end_write(&self, ticket: &Ticket, key: &[u8], fresh: Option<&Fresh<'_>>) {
        let mut count = self.lock(ticket.stripe);
        let alone = *count == ticket.count;
        // Reads begun during the write may have been answered before it.
        *count = count.wrapping_add(1);
        match fresh {
            Some(fresh) if alone => self.keep(ticket, key, fresh),
            _ => drop(self.cache.remove(key)),
        }
    }

    /// Forgets the keys for which `is_stale` holds, and everything in progress.
    pub(crate) fn forget(&self, is_stale: impl Fn(&[u8]) -> bool) {
        for stripe in 0..STRIPES {
            let mut count = self.lock(stripe);
            *count = count.wrapping_add(1);
        }
        self.cache.retain(|key, _| !is_stale(key));
    }

    fn keep(&self, ticket: &Ticket, key: &[u8], fresh: &Fresh<'_>) {
        let ttl_ns = u64::try_from(fresh.ttl.as_nanos()).unwrap_or(u64::MAX);
        let kept = Kept {
            value: fresh.value.map(Arc::from),
            flags: fresh.flags,
            expiry_ns: ticket.begun_ns.saturating_add(ttl_ns),
        };
        self.cache.insert(Box::from(key), kept);
    }

    fn stripe(&self, key: &[u8]) -> usize {
        #[expect(clippy::cast_possible_truncation, reason = "any bits of the hash will do")]
        {
            self.hasher.hash_one(key) as usize % STRIPES
        }
    }

    fn lock(&self, stripe: usize) -> MutexGuard<'_, u64> {
        // The remainder names no other stripe: it shows the compiler that there is one.
        self.stripes[stripe % STRIPES].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    //! The hazard: an answer that was overtaken by a write is kept, and this process goes on
    //! reading the old value while all others have the new one.

    use super::*;

    const LONG: Duration = Duration::from_secs(1000);

    fn fresh(value: &[u8]) -> Fresh<'_> {
        Fresh { value: Some(value), flags: 7, ttl: LONG }
    }

    fn read(cache: &ProcessCache) -> Option<Vec<u8>> {
        let mut value = vec![1, 2, 3];
        match cache.read(b"key", &mut value) {
            ProcessRead::Hit(meta) => {
                assert_eq!(meta.flags, 7);
                Some(value)
            }
            _ => None,
        }
    }

    #[test]
    fn an_answer_is_kept_until_its_life_ends() {
        let cache = ProcessCache::new(1 << 20);
        let ticket = cache.begin_read(b"key");
        cache.end_read(&ticket, b"key", &fresh(b""));
        assert_eq!(read(&cache), Some(vec![]));

        let ended = Fresh { ttl: Duration::ZERO, ..fresh(b"old") };
        cache.end_read(&ticket, b"key", &ended);
        assert_eq!(read(&cache), None);
    }

    #[test]
    fn an_absence_is_told_from_not_knowing() {
        let cache = ProcessCache::new(1 << 20);
        let mut value = vec![];
        assert_eq!(cache.read(b"key", &mut value), ProcessRead::Miss);
        let absent = Fresh { value: None, ..fresh(b"") };
        cache.end_read(&cache.begin_read(b"key"), b"key", &absent);
        assert_eq!(cache.read(b"key", &mut value), ProcessRead::Absent);
    }

    #[test]
    fn an_answer_overtaken_by_a_write_is_not_kept() {
        let cache = ProcessCache::new(1 << 20);
        // The write lies wholly within the question, around its end, or around its beginning.
        let question = cache.begin_read(b"key");
        let write = cache.begin_write(b"key");
        cache.end_write(&write, b"key", Some(&fresh(b"new")));
        cache.end_read(&question, b"key", &fresh(b"old"));
        assert_eq!(read(&cache), Some(b"new".to_vec()));

        let question = cache.begin_read(b"key");
        let write = cache.begin_write(b"key");
        cache.end_read(&question, b"key", &fresh(b"old"));
        cache.end_write(&write, b"key", Some(&fresh(b"newer")));
        assert_eq!(read(&cache), Some(b"newer".to_vec()));

        let write = cache.begin_write(b"key");
        let question = cache.begin_read(b"key");
        cache.end_write(&write, b"key", None);
        cache.end_read(&question, b"key", &fresh(b"old"));
        assert_eq!(read(&cache), None);
    }

    #[test]
    fn a_life_counts_from_the_question_not_from_the_answer() {
        let cache = ProcessCache::new(1 << 20);
        // This process was stopped for a second, longer than the answer lives. No more: the clock
        // counts from the boot, which may be minutes ago.
        let late = |ticket: Ticket| Ticket { begun_ns: ticket.begun_ns - 1_000_000_000, ..ticket };
        let old = Fresh { ttl: Duration::from_millis(900), ..fresh(b"old") };
        cache.end_read(&late(cache.begin_read(b"key")), b"key", &old);
        assert_eq!(read(&cache), None);
        cache.end_write(&late(cache.begin_write(b"key")), b"key", Some(&old));
        assert_eq!(read(&cache), None);
    }

    #[test]
    fn of_two_writes_at_once_neither_is_kept() {
        let cache = ProcessCache::new(1 << 20);
        let one = cache.begin_write(b"key");
        let two = cache.begin_write(b"key");
        cache.end_write(&two, b"key", Some(&fresh(b"two")));
        cache.end_write(&one, b"key", Some(&fresh(b"one")));
        assert_eq!(read(&cache), None);
    }

    #[test]
    fn a_prefix_is_forgotten_and_nothing_else() {
        let cache = ProcessCache::new(1 << 20);
        for key in [b"a:1".as_slice(), b"a:2", b"b:1"] {
            cache.end_read(&cache.begin_read(key), key, &fresh(key));
        }
        let question = cache.begin_read(b"a:3");
        cache.forget(|key| key.starts_with(b"a:"));
        cache.end_read(&question, b"a:3", &fresh(b"old"));
        let mut value = vec![];
        for gone in [b"a:1", b"a:2", b"a:3"] {
            assert_eq!(cache.read(gone, &mut value), ProcessRead::Miss);
        }
        assert!(matches!(cache.read(b"b:1", &mut value), ProcessRead::Hit(_)));
    }

    #[test]
    fn memory_is_bounded_by_bytes() {
        let cache = ProcessCache::new(1 << 20);
        let value = vec![0; 10_000];
        for number in 0..1000_u32 {
            let key = number.to_le_bytes();
            cache.end_read(&cache.begin_read(&key), &key, &fresh(&value));
        }
        assert!(cache.cache.weight() <= 1 << 20);
        assert!(!cache.cache.is_empty());
    }
}
