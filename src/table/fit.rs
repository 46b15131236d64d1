//! Whether the index suits the entries that came: it was planned for a guess of their size.

use super::Table;
use shm_layout::MemoryMut;
use shm_layout::slot::SLOTS;

/// Fewer entries say nothing of those to come.
const ENTRIES_MIN: u64 = 1000;
/// Above this load, in percent, entries evict one another from full lines while the log has room.
const LOAD_TOO_HIGH: u64 = 92;
/// Below this load of a full log, in percent, half of the index is better used for entries.
const LOAD_TOO_LOW: u64 = 38;

impl<M: MemoryMut> Table<M> {
    /// Bytes of an entry that the index should be planned for, where it was planned for something so
    /// different that it costs hits; `None`: it suits, or it is too early to say.
    #[must_use]
    pub fn misfit(&self) -> Option<u32> {
        let slots = u64::from(self.writer.geometry().bucket_count()) * SLOTS as u64;
        let load = self.slots_used * 100 / slots;
        if self.sweep.verifying.is_some() || self.slots_used < ENTRIES_MIN {
            return None;
        }
        let is_full = !self.eviction.is_filling();
        let suits = load <= LOAD_TOO_HIGH && (load >= LOAD_TOO_LOW || !is_full);
        if suits { None } else { self.mean_entry_bytes() }
    }

    /// Bytes of live entries that there is room for, as far as that shows.
    #[must_use]
    pub fn room_bytes(&self) -> u64 {
        let words: u64 = self.log.segments.iter().map(|s| u64::from(s.live_words)).sum();
        let about = self.writer.geometry().log_bytes() / 10 * 9;
        if self.eviction.is_filling() { about.max(words * 8) } else { words * 8 }
    }

    /// Bytes of an entry with header and padding, on average; `None`: there are none.
    #[must_use]
    pub fn mean_entry_bytes(&self) -> Option<u32> {
        let words: u64 = self.log.segments.iter().map(|s| u64::from(s.live_words)).sum();
        let entries: u64 = self.log.segments.iter().map(|s| u64::from(s.live_entries)).sum();
        u32::try_from((words * 8).checked_div(entries)?).ok()
    }
}
