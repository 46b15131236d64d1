//! Figures of the daemon, its table's file, and moves.

use serde::{Deserialize, Serialize};

/// The daemon itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Daemon {
    /// Its process.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// Seconds since it started.
    pub uptime_seconds: u64,
    /// The longest turn of its loop since it started, in microseconds, without the wait for events.
    pub longest_turn_us: u64,
    /// The longest turn in each of the last 60 seconds, in microseconds, the latest first; fewer
    /// after a start.
    pub longest_turn_each_second_us: Vec<u64>,
    /// Lines of its log that were dropped because nobody took them.
    pub log_lines_dropped: u64,
    /// Whether it goes on with the table of an earlier daemon.
    pub table_taken_over: bool,
}

/// The table's file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TableFile {
    /// Its path.
    pub path: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// The pages in which the daemon has it mapped; `null` where the kernel does not tell.
    pub pages: Option<PagesFigures>,
}

/// The pages in which a process has mapped the table.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PagesFigures {
    /// Bytes of the table.
    pub table_bytes: u64,
    /// Bytes that are in the process's page table.
    pub resident_bytes: u64,
    /// Of these, bytes in large pages.
    pub large_bytes: u64,
    /// Bytes of a large page.
    pub large_page_bytes: u64,
    /// Bytes of a small page.
    pub small_page_bytes: u64,
    /// The effect, in a sentence.
    pub effect: String,
}

/// Moves to tables of another shape.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Moves {
    /// Moves that have ended, since the daemon started.
    pub moves: u64,
    /// The move under way; `null`: none is.
    pub under_way: Option<Move>,
    /// Processes that still read a former table.
    pub processes_in_former_tables: u64,
    /// Bytes of former tables that such processes keep in memory.
    pub bytes_of_these_tables: u64,
    /// The size of an entry, in bytes, that the index should be planned for, because its present
    /// plan costs hits; `null`: it suits, or it is too early to tell.
    pub index_suits_entry_bytes: Option<u32>,
}

/// The progress of a move.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Move {
    /// Bytes of the table in force.
    pub from_bytes: u64,
    /// Bytes of its successor.
    pub to_bytes: u64,
    /// Buckets copied; 0 while the successor's memory is being cleared.
    pub buckets_copied: u32,
    /// Buckets of the table in force.
    pub buckets: u32,
}

impl From<&crate::pages::Pages> for PagesFigures {
    fn from(pages: &crate::pages::Pages) -> PagesFigures {
        PagesFigures {
            table_bytes: pages.table_bytes,
            resident_bytes: pages.resident_bytes,
            large_bytes: pages.large_bytes,
            large_page_bytes: pages.large_page_bytes,
            small_page_bytes: pages.small_page_bytes,
            effect: pages.to_string(),
        }
    }
}
