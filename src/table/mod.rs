//! The table as its owner sees it: append, publish, delete, expire, reclaim.
//!
//! Only [`shm_layout::Writer`] touches shared words. This module decides what to write, and keeps
//! the owner's own figures in private memory. One thread owns a [`Table`].
//!
//! | part | file |
//! |---|---|
//! | finding a key's slot, choosing one for a new key | `index` |
//! | linking and unlinking entries, and counting them | `links` |
//! | the log: segments, two queues of them | `log` |
//! | eviction, and reclaiming segments | `eviction` |
//! | shares of policies and known absences | `budget` |
//! | entries that are never evicted | `pins` |
//! | freeing expired entries, a bounded step at a time | `sweep` |
//! | taking over an earlier owner's table | `restart` |
//! | checking every invariant | `check` |
//! | whether the index has the right size | `fit` |
//! | moving to a table of another shape | `carry`, `tables` |
//! | the numbers of the policy's rules, and where they are kept | `numbers`, `numbers_file` |
//! | removing keys by their prefix, a step at a time | `walk` |
//! | the largest keys, and keys by their hashes | `keys` |
//! | the file, its directory, and the pages it lies in | `file`, `directory`, `pages` |
//! | allocating the rest of a new table while it is in use | `preparation` |

mod budget;
mod carry;
mod check;
mod directory;
mod epoch;
mod eviction;
mod file;
mod fit;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod index;
mod keys;
mod links;
mod log;
mod numbers;
mod numbers_file;
mod own_slot;
mod pages;
mod pins;
mod preparation;
mod restart;
mod stats;
mod sweep;
mod tables;
#[cfg(test)]
mod tests;
mod walk;

pub use check::CheckReport;
pub use directory::Directory;
pub use file::{FileError, FileOptions, TableFile};
pub use keys::{Key, Largest};
pub use numbers::{ChangeKind, RuleChange};
pub use pins::{Full, PutError};
pub use tables::{Adopted, MoveError, PolicyChange, Step, Tables};

use eviction::Eviction;
use links::Why;
use log::{Log, Queue};
use shm_layout::entry::{NEVER, tick};
use shm_layout::fault_point;
use shm_layout::header::POLICIES;
use shm_layout::{Entry, EntryHeader, KeyHash, Location, MemoryMut, PreparedEntry, Writer};
use stats::Counters;

/// Versions reserved by one store of the ceiling (W5).
const VERSIONS_RESERVED: u64 = 1 << 16;

/// The owner's handle on a table.
#[derive(Debug)]
pub struct Table<M> {
    writer: Writer<M>,
    log: Log,
    eviction: Eviction,
    budgets: budget::Budgets,
    pins: pins::Pins,
    next_version: u64,
    version_ceiling: u64,
    slots_used: u64,
    instance: u64,
    sweep: sweep::Sweep,
    /// Buckets below this have been passed by the walk under way; 0: there is none.
    walked: u32,
    /// Buckets below this have been carried to another table; 0: no move is under way.
    carried: u32,
    counters: Counters,
    /// A key copied from shared memory.
    scratch: Vec<u8>,
}

/// An entry that a slot refers to.
#[derive(Debug, Clone, Copy)]
struct Found {
    /// The slot, as a word of the table.
    slot: usize,
    at: Location,
    header: EntryHeader,
}

/// The entry of a key, copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The value; empty for a known absence.
    pub value: Vec<u8>,
    /// Client flags.
    pub flags: u32,
    /// The entry's version.
    pub version: u64,
    /// Expiry tick.
    pub expiry: u32,
    /// Rule of the policy that it was stored under.
    pub policy: u8,
    /// The key is known to have no value.
    pub absent: bool,
    /// Number of the segment that holds it.
    pub segment: u32,
    /// Bytes of the entry with header and padding.
    pub entry_bytes: usize,
}

impl<M: MemoryMut> Table<M> {
    /// A new table in zeroed memory, not yet open for readers.
    #[must_use]
    pub fn new(writer: Writer<M>) -> Table<M> {
        let (segments, usable) = (writer.geometry().segment_count(), writer.usable_segments());
        let mut table = Table::over(writer, Log::new(segments, usable));
        fault_point!("create.instance");
        table.instance = table.writer.next_instance();
        table
    }

    fn over(writer: Writer<M>, log: Log) -> Table<M> {
        let version_ceiling = writer.version_ceiling();
        let eviction = Eviction::new(writer.geometry());
        let segment_words = writer.geometry().segment_words();
        let budgets = budget::Budgets::new((log.usable() * segment_words) as u64);
        let pins = pins::Pins::new(pins::Most::of(writer.geometry(), log.usable()));
        Table {
            writer,
            log,
            eviction,
            budgets,
            pins,
            next_version: version_ceiling + 1,
            version_ceiling,
            slots_used: 0,
            instance: 0,
            sweep: sweep::Sweep::default(),
            walked: 0,
            carried: 0,
            counters: Counters::default(),
            scratch: Vec::new(),
        }
    }

    /// The writer, for floors, state and clock.
    pub fn writer(&self) -> &Writer<M> {
        &self.writer
    }

    /// Adds the segments below `usable`, whose memory was allocated, to the log (W1).
    pub(super) fn add_usable(&mut self, usable: u32) {
        // First: a kill in between costs nothing, the other way round it would cost entries.
        fault_point!("grow.usable");
        self.writer.set_usable_segments(usable);
        self.log.add_usable(usable);
        self.budgets.set_log_words(self.usable_words());
        self.pins.set_most(pins::Most::of(self.writer.geometry(), self.log.usable()));
        // There is room again.
        self.update_filling();
        self.give_up_reclaiming();
    }

    /// Segments without entries.
    fn free_segments(&self) -> usize {
        self.log.free.len()
    }

    /// Words of the segments that have memory.
    fn usable_words(&self) -> u64 {
        (self.log.usable() * self.writer.geometry().segment_words()) as u64
    }

    /// The number of daemons that have owned this table.
    #[must_use]
    pub fn instance(&self) -> u64 {
        self.instance
    }

    /// Hashes a key for this table.
    #[must_use]
    pub fn hash(&self, key: &[u8]) -> KeyHash {
        self.writer.geometry().hasher().hash(key)
    }

    /// The next entry's version; a floor raised to it hides everything stored before.
    #[must_use]
    pub fn next_version(&self) -> u64 {
        self.next_version
    }

    /// Begins after `version`, which another table may have given out (W5).
    pub(super) fn begin_after(&mut self, version: u64) {
        self.admit_version(version);
    }

    /// Marks versions up to `version` as given out (W5).
    fn admit_version(&mut self, version: u64) {
        if version > self.version_ceiling {
            self.version_ceiling = version + VERSIONS_RESERVED;
            fault_point!("admit.ceiling");
            self.writer.set_version_ceiling(self.version_ceiling);
        }
        self.next_version = self.next_version.max(version + 1);
    }

    /// Stores an entry, publishes it, and returns the version that it got. `now_ns` counts from the
    /// table's epoch.
    ///
    /// # Errors
    /// The table does not take it, and is unchanged.
    pub fn put(&mut self, entry: &Entry<'_>, now_ns: u64) -> Result<u64, PutError> {
        let version = self.next_version;
        self.put_version(&Entry { version, ..*entry }, self.hash(entry.key), now_ns)?;
        Ok(version)
    }

    /// [`put`](Self::put) under `entry`'s own version; replaces any entry of the key. Returns the
    /// size of the entry in bytes.
    fn put_version(
        &mut self,
        entry: &Entry<'_>,
        hash: KeyHash,
        now_ns: u64,
    ) -> Result<usize, PutError> {
        let prepared = self.writer.prepare(entry)?;
        let header = prepared.header();
        let now = tick(now_ns);
        let old = self.find(entry.key, hash);
        self.admit_beside_pins(&header, hash, old.as_ref(), now)?;
        let queue = match &old {
            // Not always small: the hottest keys would be demoted.
            Some(old) => {
                self.queue_after(self.log.segments[old.at.segment as usize].queue, &header)
            }
            None if self.pins.holds(&header) => Queue::Pinned,
            None => self.queue_for(hash, &header, now),
        };
        self.store(&prepared, hash, old, (queue, 0), now)?;
        self.counters.puts += 1;
        self.counters.put_bytes += header.bytes() as u64;
        Ok(header.bytes())
    }

    /// Appends an entry to `queue` and publishes it in place of `old`, whose uses it keeps; a new
    /// key begins with `uses`.
    #[inline(always)]
    fn store(
        &mut self,
        entry: &PreparedEntry<'_>,
        hash: KeyHash,
        old: Option<Found>,
        (queue, uses): (Queue, u8),
        now: u32,
    ) -> Result<(), PutError> {
        let (words, key, version) = (entry.words(), entry.entry().key, entry.entry().version);
        // Room first: making room may move or evict the entry that is to be replaced.
        let reclaimed = self.eviction.reclaimed;
        let at = self.reserve(words, queue, now).ok_or(PutError::Full(Full::Table))?;
        let old = if self.eviction.reclaimed == reclaimed { old } else { self.find(key, hash) };
        self.admit_version(version);
        fault_point!("put.append");
        self.writer.append(at, entry, hash)?;
        let header = entry.header();
        self.log.fill(&self.writer, at, &header);
        let (slot, uses) = match old {
            Some(old) => {
                let uses = self.eviction.uses.get(old.slot);
                self.count_dead(&old);
                (old.slot, uses)
            }
            None => (self.choose_slot(hash, now), uses),
        };
        fault_point!("put.publish");
        self.writer.publish(slot, hash, at);
        self.count_live(slot, at, &header, uses);
        self.keep_pace(words, queue, now);
        Ok(())
    }

    /// Prefetches a key's two lines of the index, and the counts of their uses.
    pub fn prefetch_index(&self, key: &[u8]) {
        let hash = self.hash(key);
        self.writer.prefetch_index(hash);
        for bucket in self.writer.geometry().buckets(hash) {
            self.eviction.uses.prefetch(bucket.word());
        }
    }

    /// Prefetches the entry of a key whose index lines have arrived: a set or a delete reads it
    /// before it unlinks it.
    pub fn prefetch_entry(&self, key: &[u8]) {
        self.writer.prefetch_entry(self.hash(key));
    }

    /// The visible entry of `key`; counts as a hit.
    pub fn get(&mut self, key: &[u8], now_ns: u64) -> Option<Held> {
        let (slot, held) = self.look_up(key, now_ns)?;
        self.use_slot(slot);
        Some(held)
    }

    /// The visible entry of `key`; does not count as a hit.
    pub fn peek(&self, key: &[u8], now_ns: u64) -> Option<Held> {
        self.look_up(key, now_ns).map(|(_, held)| held)
    }

    /// The header of the entry of a key with this hash, or of a neighbour with the same tag.
    #[must_use]
    pub fn header_by_hash(&self, hash: KeyHash) -> Option<EntryHeader> {
        let slots = self.writer.tagged_slots(hash);
        slots.filter_map(|slot| self.at_slot(slot)).map(|found| found.header).next()
    }

    /// Whether a reader would find `key` now.
    pub fn contains(&self, key: &[u8], now_ns: u64) -> bool {
        let found = self.find(key, self.hash(key));
        found.is_some_and(|found| self.is_visible(&found.header, tick(now_ns)))
    }

    fn look_up(&self, key: &[u8], now_ns: u64) -> Option<(usize, Held)> {
        let found = self.find(key, self.hash(key))?;
        self.is_visible(&found.header, tick(now_ns)).then(|| (found.slot, self.held(&found)))
    }

    /// Removes `key`, and returns whether a reader would have found a value.
    pub fn remove(&mut self, key: &[u8], now_ns: u64) -> bool {
        let hash = self.hash(key);
        let Some(found) = self.find(key, hash) else { return false };
        let was_visible = self.is_visible(&found.header, tick(now_ns));
        self.unlink(&found, Why::Removed);
        was_visible && found.header.marks & shm_layout::entry::MARK_ABSENT == 0
    }

    /// Hides everything stored so far, by one store for each policy. The sweep frees the memory
    /// later.
    pub fn flush(&mut self) {
        self.flush_below(self.next_version);
    }

    fn flush_below(&mut self, floor: u64) {
        let all: [u8; POLICIES] =
            std::array::from_fn(|policy| u8::try_from(policy).unwrap_or(u8::MAX));
        self.hide_policies(&all, floor);
    }

    /// Hides everything stored under these numbers of policies with a version below `floor`.
    fn hide_policies(&mut self, policies: &[u8], floor: u64) {
        for policy in policies {
            fault_point!("hide.floor");
            self.writer.raise_policy_floor(*policy, floor);
            self.pins.hide(*policy);
        }
        // While entries are being verified, their bytes are not all counted.
        let is_counted = self.sweep.verifying.is_none();
        if !is_counted || policies.iter().any(|policy| self.policy_bytes(*policy) > 0) {
            self.log.suspect_all();
        }
    }

    fn is_visible(&self, header: &EntryHeader, now: u32) -> bool {
        (header.expiry == NEVER || now < header.expiry) && !self.is_hidden(header)
    }

    /// Whether an entry is below its policy's floor.
    fn is_hidden(&self, header: &EntryHeader) -> bool {
        header.version < self.writer.policy_floor(header.policy)
    }

    fn held(&self, found: &Found) -> Held {
        let header = &found.header;
        let (mut value, mut flags) = (vec![0; header.value_bytes as usize], 0);
        if let Some(view) = self.writer.view(found.at, header) {
            let is_copied = view.value().copy_to(0, &mut value);
            debug_assert!(is_copied, "the value has as many bytes as its header says");
            flags = view.flags();
        }
        Held {
            value,
            flags,
            version: header.version,
            expiry: header.expiry,
            policy: header.policy,
            absent: header.marks & shm_layout::entry::MARK_ABSENT != 0,
            segment: found.at.segment,
            entry_bytes: header.bytes(),
        }
    }
}
