//! Links: the slots that refer to entries, and what is counted of entries as they come and go.

use super::{Found, Table};
use shm_layout::fault_point;
use shm_layout::{EntryHeader, Location, MemoryMut};

/// Why an entry leaves the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// A caller removed the key, or flushed its prefix.
    Removed,
    /// Its memory was needed.
    Evicted,
    /// Its policy, or the known absences, had used up their share.
    OverShare,
    /// Both lines of another key were full.
    Displaced,
    /// It had expired, or was below its policy's floor.
    Expired,
    /// It was not whole, or not where its key belongs.
    Torn,
}

impl<M: MemoryMut> Table<M> {
    /// Clears the slot of an entry that leaves the table, and counts that.
    pub(super) fn unlink(&mut self, found: &Found, why: Why) {
        fault_point!("unlink.clear");
        self.writer.clear(found.slot);
        self.count_dead(found);
        let counters = &mut self.counters;
        match why {
            Why::Removed => counters.removes += 1,
            Why::Evicted | Why::OverShare => {
                counters.evicted += 1;
                counters.evicted_bytes += found.header.bytes() as u64;
            }
            Why::Displaced => counters.displaced += 1,
            Why::Expired => counters.expired += 1,
            Why::Torn => counters.torn += 1,
        }
        if why == Why::OverShare {
            self.budgets.evicted += 1;
        }
    }

    /// Clears a slot in use that refers to no possible entry.
    pub(super) fn unlink_torn(&mut self, slot: usize) {
        fault_point!("unlink.torn");
        self.writer.clear(slot);
        self.eviction.uses.set(slot, 0);
        self.slots_used = self.slots_used.saturating_sub(1);
        self.counters.torn += 1;
    }

    /// Counts an entry that `slot` now refers to.
    pub(super) fn count_live(&mut self, slot: usize, at: Location, header: &EntryHeader, uses: u8) {
        self.slots_used += 1;
        let found = Found { slot, at, header: *header };
        // Otherwise it will be, with the others of its segment.
        if self.sweep.is_counted(&self.log, &found, self.bucket_of(slot)) {
            self.log.count_live(at.segment, header);
            self.budgets.count_live(header);
        }
        if self.pins.is_any() {
            let is_hidden = self.is_hidden(header);
            self.pins.count_live(header, is_hidden);
        }
        self.set_uses(slot, at.segment, uses);
    }

    /// Counts an entry that its slot no longer refers to.
    pub(super) fn count_dead(&mut self, found: &Found) {
        self.slots_used -= 1;
        if self.sweep.is_counted(&self.log, found, self.bucket_of(found.slot)) {
            self.log.count_dead(found.at.segment, &found.header);
            self.budgets.count_dead(&found.header);
        }
        if self.pins.is_any() {
            let is_hidden = self.is_hidden(&found.header);
            self.pins.count_dead(&found.header, is_hidden);
        }
        self.set_uses(found.slot, found.at.segment, 0);
    }
}
