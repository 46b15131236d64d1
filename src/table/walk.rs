//! Walks over the index that remove keys by their prefix, a bounded step at a time.

use super::links::Why;
use super::{Found, Table};
use l1d_wire::policy::PolicySet;
use shm_layout::slot::SLOTS;
use shm_layout::{KeyHash, MemoryMut};

/// A walk prefetches the entries of the bucket that follows after this many.
const AHEAD: u32 = 4;

impl<M: MemoryMut> Table<M> {
    /// Removes the keys in `count` buckets from `start` on that begin with `prefix` and have
    /// versions below `below_version`. `removed_key` gets the hash of each. Returns their number,
    /// and the bucket to continue with; `None`: all are done. One walk at a time: between its steps
    /// no entry moves past the bucket where it stopped.
    pub fn flush_prefix(
        &mut self,
        prefix: &[u8],
        below_version: u64,
        start: u32,
        count: u32,
        mut removed_key: impl FnMut(KeyHash),
    ) -> (u64, Option<u32>) {
        let mut removed = 0;
        let next = self.walk_index(start, count, |table, found| {
            let older = found.header.version < below_version;
            if older && table.key_at(found.at, &found.header).starts_with(prefix) {
                removed_key(table.writer.geometry().hasher().hash(&table.scratch));
                table.unlink(found, Why::Removed);
                removed += 1;
            }
        });
        (removed, next)
    }

    /// Removes the keys in `count` buckets from `start` on whose rule in `policy` has another number
    /// than their entries. Otherwise the same; returns the number of those that were not hidden.
    pub(super) fn remove_misplaced(
        &mut self,
        policy: &PolicySet,
        start: u32,
        count: u32,
        mut removed_key: impl FnMut(KeyHash),
    ) -> (u64, Option<u32>) {
        let mut removed = 0;
        let next = self.walk_index(start, count, |table, found| {
            let number = policy.rule(table.key_at(found.at, &found.header)).id;
            if number != found.header.policy {
                removed_key(table.writer.geometry().hasher().hash(&table.scratch));
                let floor = table.writer.policy_floor(found.header.policy);
                removed += u64::from(found.header.version >= floor);
                table.unlink(found, Why::Removed);
            }
        });
        (removed, next)
    }

    /// Visits all entries at once.
    pub(super) fn walk_whole_index(&mut self, visit: impl FnMut(&mut Self, &Found)) {
        // A walk under way goes on where it stopped.
        let walked = self.walked;
        self.walk_index(0, u32::MAX, visit);
        self.walked = walked;
    }

    /// Visits the entries in `count` buckets from `start` on. Returns the bucket to continue with.
    fn walk_index(
        &mut self,
        start: u32,
        count: u32,
        mut visit: impl FnMut(&mut Self, &Found),
    ) -> Option<u32> {
        let buckets = self.writer.geometry().bucket_count();
        let end = start.saturating_add(count).min(buckets);
        for bucket in start..end {
            if bucket + AHEAD < end {
                self.writer.prefetch_bucket(bucket + AHEAD);
            }
            for index in 0..SLOTS {
                let slot = self.writer.geometry().bucket(bucket).slot(index);
                if let Some(found) = self.at_slot(slot) {
                    visit(self, &found);
                }
            }
        }
        self.walked = if end < buckets { end } else { 0 };
        (end < buckets).then_some(end)
    }
}
