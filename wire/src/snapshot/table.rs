//! Figures of the table.

use serde::{Deserialize, Serialize};

/// Figures of a table. Counts are of events since the daemon started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TableStats {
    /// Identity.
    pub table_id: u64,
    /// Bytes of the file.
    pub table_bytes: u64,
    /// Bytes of it that are allocated; the rest, if any, is allocated later.
    pub usable_bytes: u64,
    /// Bytes of the index.
    pub index_bytes: u64,
    /// Bytes of all segments.
    pub log_bytes: u64,
    /// Bytes of a segment.
    pub segment_bytes: u64,
    /// Segments in all.
    pub segments: u32,
    /// Segments that are allocated.
    pub segments_usable: u32,
    /// Allocated segments without entries.
    pub segments_free: u32,
    /// Segments of the small queue, where newcomers begin.
    pub segments_small: u32,
    /// Segments that the small queue should have by now.
    pub segments_small_target: u32,
    /// Whether newcomers go to main because there is room.
    pub is_filling: bool,
    /// Entries that slots refer to, including expired ones that are not swept yet.
    pub entries: u64,
    /// Bytes of these entries, with headers and padding.
    pub live_bytes: u64,
    /// Bytes of entries that no slot refers to any more, not yet reclaimed.
    pub dead_bytes: u64,
    /// Bytes that entries can be appended to at once.
    pub free_bytes: u64,
    /// Seconds since the oldest value that the log holds was stored, in a segment of which a slot
    /// still refers to some entry: no live value is older. Moving an entry within the table, or to
    /// another, does not make it younger. Known to a 500th of the daemon's uptime or a second. What
    /// an earlier daemon has stored counts from the start of this one; `null`: the table is empty.
    pub oldest_entry_seconds: Option<u64>,
    /// Slots in use, in percent.
    pub index_load_percent: f64,
    /// Bytes of private memory that the owner keeps for the table.
    pub owner_private_bytes: u64,
    /// Whether an earlier daemon's entries are still being verified; live bytes are too low until
    /// then.
    pub is_verifying: bool,
    /// Counts the daemons that have owned this table.
    pub instance: u64,
    /// The next entry's version.
    pub next_version: u64,
    /// Entries stored.
    pub puts: u64,
    /// Bytes of entries stored.
    pub put_bytes: u64,
    /// Keys deleted.
    pub removes: u64,
    /// Live entries evicted to make room.
    pub evicted: u64,
    /// Bytes of live entries evicted to make room.
    pub evicted_bytes: u64,
    /// Live entries evicted because their policy, or known absences, had used up their share.
    pub evicted_over_share: u64,
    /// Bytes of live entries that say that a key has no value.
    pub absent_bytes: u64,
    /// Expired or flushed entries that were unlinked.
    pub expired: u64,
    /// Live entries that index conflicts have evicted.
    pub displaced: u64,
    /// Bytes copied forward when segments were reclaimed.
    pub copied_forward_bytes: u64,
    /// Bytes copied forward for each byte stored.
    pub copied_forward_per_byte: f64,
    /// Hits that were reported.
    pub hits_reported: u64,
    /// Stored keys that had been evicted or had expired not long before.
    pub ghost_hits: u64,
    /// Segments recycled.
    pub recycled: u64,
    /// Slots cleared because they referred to no sound entry.
    pub torn: u64,
}
