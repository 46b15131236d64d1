//! Carrying the visible entries to another table (W11), with the same versions, uses and queues.

use super::Table;
use super::epoch::Shift;
use super::pins::{Full, PutError};
use shm_layout::entry::{MARK_STRICT, tick};
use shm_layout::fault_point;
use shm_layout::slot::SLOTS;
use shm_layout::{Entry, MemoryMut};

/// Buckets between two calls of `goes_on`.
const BUCKETS_AT_A_TIME: u32 = 8;

impl<M: MemoryMut> Table<M> {
    /// Makes this empty table the successor of `old`, which has the same hash seed: takes over its
    /// versions, floors and limits.
    pub(super) fn inherit<N: MemoryMut>(&mut self, old: &Table<N>) {
        fault_point!("carry.inherit");
        self.writer.inherit(&old.writer);
        let shift = Shift::between(old, self);
        fault_point!("carry.clock");
        self.writer.set_clock_offset(old.writer.clock_offset().wrapping_sub(shift.ns()));
        self.instance = old.instance;
        self.next_version = old.next_version;
        self.version_ceiling = old.version_ceiling;
        self.budgets.inherit_limits(&old.budgets);
        self.pins.inherit(&old.pins);
    }

    /// Copies the visible entries of this table's buckets from `bucket` on to `to`, while `goes_on`
    /// returns `true`. Returns the bucket to continue with; `None`: all are done.
    ///
    /// # Errors
    /// `to` has no room for an entry that is never evicted.
    ///
    /// Does not replace an entry of `to` with the same or a later version. Until the last bucket is
    /// copied, no entry moves past the bucket where this stopped.
    pub(super) fn carry<N: MemoryMut>(
        &mut self,
        to: &mut Table<N>,
        mut bucket: u32,
        now_ns: u64,
        mut goes_on: impl FnMut() -> bool,
    ) -> Result<Option<u32>, PutError> {
        let count = self.writer.geometry().bucket_count();
        while bucket < count {
            let end = bucket.saturating_add(BUCKETS_AT_A_TIME).min(count);
            for number in bucket..end {
                for index in 0..SLOTS {
                    let slot = self.writer.geometry().bucket(number).slot(index);
                    self.carry_slot(slot, to, now_ns)?;
                }
            }
            bucket = end;
            if !goes_on() {
                break;
            }
        }
        self.carried = if bucket < count { bucket } else { 0 };
        Ok((bucket < count).then_some(bucket))
    }

    /// Continues `old`'s versions, and its counters since the daemon started.
    pub(super) fn succeed<N: MemoryMut>(&mut self, old: &Table<N>) {
        self.admit_version(old.next_version.saturating_sub(1));
        let own = self.counters;
        self.counters = super::Counters {
            evicted: old.counters.evicted + own.evicted,
            evicted_bytes: old.counters.evicted_bytes + own.evicted_bytes,
            displaced: old.counters.displaced + own.displaced,
            ..old.counters
        };
        self.pins.continue_refusals(&old.pins);
        self.eviction.hits = old.eviction.hits;
        self.eviction.ghost_hits = old.eviction.ghost_hits;
    }

    fn carry_slot<N: MemoryMut>(
        &mut self,
        slot: usize,
        to: &mut Table<N>,
        now_ns: u64,
    ) -> Result<(), PutError> {
        let Some(found) = self.at_slot(slot) else { return Ok(()) };
        let shift = Shift::between(self, to);
        // A damaged entry must not get a new checksum.
        if !self.is_visible(&found.header, tick(now_ns)) || self.entry_is_whole(&found).is_err() {
            return Ok(());
        }
        let held = self.held(&found);
        let queue = self.log.segment(found.at.segment).queue;
        let uses = self.eviction.uses.get(slot);
        let entry = Entry {
            key: self.key_at(found.at, &found.header),
            value: &held.value,
            flags: held.flags,
            policy: held.policy,
            absent: held.absent,
            strict: found.header.marks & MARK_STRICT != 0,
            version: held.version,
            expiry: held.expiry,
        };
        to.receive(&shift.entry(&entry), (queue, uses), shift.time(now_ns))
    }

    /// Stores an entry of another table. An entry that this table cannot hold is lost, as in an
    /// eviction, unless it is one that is never evicted.
    fn receive(
        &mut self,
        entry: &Entry<'_>,
        (queue, uses): (super::Queue, u8),
        now_ns: u64,
    ) -> Result<(), PutError> {
        let hash = self.hash(entry.key);
        let old = self.find(entry.key, hash);
        if old.is_some_and(|old| old.header.version >= entry.version) {
            return Ok(());
        }
        let is_kept = |error| if self.pins.is_pinned(entry) { Err(error) } else { Ok(()) };
        let prepared = match self.writer.prepare(entry) {
            Ok(prepared) => prepared,
            Err(error) => return is_kept(error.into()),
        };
        let (header, now) = (prepared.header(), tick(now_ns));
        if old.is_none() {
            if !self.has_slot(hash, now) {
                return is_kept(PutError::Full(Full::Index));
            }
            self.keep_budget(&header, now);
        }
        let queue = self.queue_after(queue, &header);
        let stored = self.store(&prepared, hash, old, (queue, uses), now);
        if self.pins.is_pinned(entry) { stored } else { Ok(()) }
    }
}
