//! Whether the size of the index, which was planned from a guess, suits the entries.

use super::Table;
use shm_layout::MemoryMut;
use shm_layout::slot::SLOTS;

/// Fewer entries are not representative.
const ENTRIES_MIN: u64 = 1000;
/// Above this load, in percent, full lines evict entries while the log has room.
const LOAD_TOO_HIGH: u64 = 92;
/// Below this load with a full log, in percent, half of the index would be better used for entries.
const LOAD_TOO_LOW: u64 = 38;

impl<M: MemoryMut> Table<M> {
    /// The size of an entry, in bytes, that the index should be planned for, if the present plan
    /// costs hits; `None`: it suits, or it is too early to tell.
    #[must_use]
    pub fn misfit(&self) -> Option<u32> {
        let slots = u64::from(self.writer.geometry().bucket_count()) * SLOTS as u64;
        let load = self.slots_used * 100 / slots;
        // While segments have no memory, the table is smaller than its index was planned for.
        let is_whole = self.log.usable() == self.log.segments.len();
        if self.sweep.verifying.is_some() || self.slots_used < ENTRIES_MIN || !is_whole {
            return None;
        }
        let is_full = !self.eviction.is_filling();
        let suits = load <= LOAD_TOO_HIGH && (load >= LOAD_TOO_LOW || !is_full);
        if suits { None } else { self.mean_entry_bytes() }
    }

    /// An estimate of the bytes of live entries that the table has room for.
    #[must_use]
    pub fn room_bytes(&self) -> u64 {
        let words: u64 = self.log.segments.iter().map(|s| u64::from(s.live_words)).sum();
        let about = self.usable_words() * 8 / 10 * 9;
        if self.eviction.is_filling() { about.max(words * 8) } else { words * 8 }
    }

    /// The mean size of an entry in bytes, with header and padding; `None`: there are no entries.
    #[must_use]
    pub fn mean_entry_bytes(&self) -> Option<u32> {
        let words: u64 = self.log.segments.iter().map(|s| u64::from(s.live_words)).sum();
        let entries: u64 = self.log.segments.iter().map(|s| u64::from(s.live_entries)).sum();
        u32::try_from((words * 8).checked_div(entries)?).ok()
    }
}
