//! The log: fixed segments, one of them open for appending.
//!
//! One closed segment's worth of room is kept free as long as possible: it is where the live part
//! of a reclaimed segment goes.

use super::Table;
use shm_layout::entry::NEVER;
use shm_layout::memory::WORD_BYTES;
use shm_layout::segment::Role;
use shm_layout::{EntryHeader, Location, MemoryMut, Writer};
use std::collections::VecDeque;

/// What only the owner knows of a segment: 40 bytes a segment, nothing for each entry.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    pub(super) role: Role,
    /// When it was opened, counted in segments.
    pub(super) sequence: u64,
    /// Words from its start that hold entries.
    pub(super) filled_words: u32,
    /// Words of entries that slots refer to.
    pub(super) live_words: u32,
    /// Entries that slots refer to.
    pub(super) live_entries: u32,
    /// No live entry expires before this tick.
    pub(super) earliest_expiry: u32,
    /// All live entries have expired by this tick.
    pub(super) latest_expiry: u32,
    /// The live figures are right. Not so in what an earlier owner left, until it has been swept.
    pub(super) is_counted: bool,
    /// A floor was raised since the last sweep.
    pub(super) is_suspect: bool,
}

impl Segment {
    const EMPTY: Segment = Segment {
        role: Role::Free,
        sequence: 0,
        filled_words: 0,
        live_words: 0,
        live_entries: 0,
        earliest_expiry: NEVER,
        latest_expiry: 0,
        is_counted: true,
        is_suspect: false,
    };
}

#[derive(Debug)]
pub(super) struct Log {
    pub(super) segments: Vec<Segment>,
    pub(super) free: VecDeque<u32>,
    pub(super) open: Option<u32>,
    pub(super) next_sequence: u64,
}

impl Log {
    pub(super) fn new(segments: u32) -> Log {
        Log {
            segments: vec![Segment::EMPTY; segments as usize],
            free: (0..segments).collect(),
            open: None,
            next_sequence: 1,
        }
    }

    /// The segment with this number; numbers come from checked locations.
    pub(super) fn segment(&mut self, number: u32) -> &mut Segment {
        &mut self.segments[number as usize]
    }

    /// Opens the next free segment, closing the open one.
    pub(super) fn open_next<M: MemoryMut>(&mut self, writer: &Writer<M>) -> Option<u32> {
        let next = self.free.pop_front()?;
        if let Some(old) = self.open.take() {
            let segment = self.segment(old);
            segment.role = Role::Closed;
            writer.set_segment(old, Role::Closed, segment.sequence);
        }
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        *self.segment(next) = Segment { role: Role::Open, sequence, ..Segment::EMPTY };
        // Filled first: a restart that sees the role must not see the last life's extent.
        writer.set_filled(next, 0, NEVER);
        writer.set_segment(next, Role::Open, sequence);
        self.open = Some(next);
        Some(next)
    }

    /// Where `words` words would go in the open segment.
    pub(super) fn room(&self, words: usize, segment_words: usize) -> Option<Location> {
        let open = self.open?;
        let word = self.segments[open as usize].filled_words;
        (word as usize + words <= segment_words).then_some(Location { segment: open, word })
    }

    /// Counts an entry as appended, in private and in shared memory, before a slot refers to it.
    pub(super) fn fill<M: MemoryMut>(
        &mut self,
        writer: &Writer<M>,
        at: Location,
        header: &EntryHeader,
    ) {
        let segment = self.segment(at.segment);
        segment.filled_words = at.word + words_of(header);
        segment.earliest_expiry = segment.earliest_expiry.min(header.expiry);
        segment.latest_expiry = segment.latest_expiry.max(header.expiry);
        let bytes = u64::from(segment.filled_words) * WORD_BYTES as u64;
        writer.set_filled(at.segment, bytes, segment.earliest_expiry);
    }

    pub(super) fn count_live(&mut self, number: u32, header: &EntryHeader) {
        let segment = self.segment(number);
        segment.live_words += words_of(header);
        segment.live_entries += 1;
    }

    pub(super) fn count_dead(&mut self, number: u32, header: &EntryHeader) {
        let segment = self.segment(number);
        segment.live_words = segment.live_words.saturating_sub(words_of(header));
        segment.live_entries = segment.live_entries.saturating_sub(1);
    }

    /// A floor was raised: what is live must be looked at again.
    pub(super) fn suspect_all(&mut self) {
        for segment in &mut self.segments {
            segment.is_suspect = true;
        }
    }
}

/// Words of an entry that fits a segment, which has at most 2^28.
pub(super) fn words_of(header: &EntryHeader) -> u32 {
    u32::try_from(header.words()).unwrap_or(u32::MAX)
}

impl<M: MemoryMut> Table<M> {
    /// Room for `words` words at the end of the log, reclaiming what is needed.
    pub(super) fn reserve(&mut self, words: usize, now: u32) -> Location {
        let segment_words = self.writer.geometry().segment_words();
        loop {
            if let Some(at) = self.log.room(words, segment_words) {
                return at;
            }
            self.advance(now);
        }
    }

    /// Opens another segment and leaves one free behind it.
    fn advance(&mut self, now: u32) {
        if self.log.free.is_empty() {
            // Only after a kill in the middle of a reclaim: nowhere to copy to, so drop the oldest.
            self.reclaim_oldest(now);
        }
        self.log.open_next(&self.writer);
        if self.log.free.is_empty() {
            self.reclaim(now);
        }
    }
}
