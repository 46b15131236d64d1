//! The log: segments of fixed size in two queues, and those that are open for appending.
//!
//! New keys start in the small queue; keys that are used again go to main (`eviction`). Entries that
//! are never evicted have a queue of their own (`pins`). One segment is kept free if possible, for
//! the live part of a segment that is reclaimed, and another for the pinned part of one.

use shm_layout::entry::NEVER;
use shm_layout::fault_point;
use shm_layout::memory::WORD_BYTES;
use shm_layout::segment::Role;
use shm_layout::{EntryHeader, Location, MemoryMut, Writer};
use std::collections::VecDeque;

/// The queue that a segment belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Queue {
    Small,
    Main,
    /// Of entries that are never evicted.
    Pinned,
}

impl Queue {
    const ALL: [Queue; 3] = [Queue::Small, Queue::Main, Queue::Pinned];

    const fn index(self) -> usize {
        self as usize
    }

    /// Fewest uses with which an entry at the end of this queue is kept.
    pub(super) const fn uses_kept(self) -> u8 {
        match self {
            Queue::Small => 2,
            Queue::Main | Queue::Pinned => 1,
        }
    }
}

/// A destination of appends; each has its own open segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    /// To the small queue.
    Small,
    /// To main.
    Main,
    /// To main, for entries that outlived most of their segment. They are likely to outlive new
    /// neighbours too, and need fewer copies when kept together (segregation by age in LFS
    /// cleaning: Rosenblum and Ousterhout, SOSP 1991).
    Survivors,
    /// To the queue of entries that are never evicted.
    Pinned,
}

impl Stream {
    const fn index(self) -> usize {
        self as usize
    }

    const fn queue(self) -> Queue {
        match self {
            Stream::Small => Queue::Small,
            Stream::Main | Stream::Survivors => Queue::Main,
            Stream::Pinned => Queue::Pinned,
        }
    }
}

impl From<Queue> for Stream {
    fn from(queue: Queue) -> Stream {
        match queue {
            Queue::Small => Stream::Small,
            Queue::Main => Stream::Main,
            Queue::Pinned => Stream::Pinned,
        }
    }
}

/// The owner's private figures of a segment: 64 bytes each.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    pub(super) role: Role,
    pub(super) queue: Queue,
    /// Its place in the order in which segments were opened, closed or requeued.
    pub(super) sequence: u64,
    /// The epoch in which that happened ([`super::eviction`]).
    pub(super) born: u32,
    /// Words from its start that hold entries.
    pub(super) filled_words: u32,
    /// Words of entries that slots refer to.
    pub(super) live_words: u32,
    /// Entries that slots refer to.
    pub(super) live_entries: u32,
    /// Those of them that would be kept if the segment were reclaimed now.
    pub(super) kept_entries: u32,
    /// No live entry expires before this tick.
    pub(super) earliest_expiry: u32,
    /// All live entries have expired by this tick.
    pub(super) latest_expiry: u32,
    /// No entry has an earlier version; 0: not known.
    pub(super) oldest_version: u64,
    /// The live figures are complete. Those of an earlier owner's segments are not until verified.
    pub(super) is_counted: bool,
    /// A floor was raised since the last sweep.
    pub(super) is_suspect: bool,
}

impl Segment {
    const EMPTY: Segment = Segment {
        role: Role::Free,
        queue: Queue::Main,
        sequence: 0,
        born: 0,
        filled_words: 0,
        live_words: 0,
        live_entries: 0,
        kept_entries: 0,
        earliest_expiry: NEVER,
        latest_expiry: 0,
        oldest_version: u64::MAX,
        is_counted: true,
        is_suspect: false,
    };
}

#[derive(Debug)]
pub(super) struct Log {
    pub(super) segments: Vec<Segment>,
    /// Segments from the first on that have memory (W1).
    usable: u32,
    pub(super) free: VecDeque<u32>,
    open: [Option<u32>; 4],
    /// Closed segments, the oldest first.
    closed: [VecDeque<u32>; 3],
    next_sequence: u64,
}

impl Log {
    /// A log of `segments` segments, all of them empty; the first `usable` are free.
    pub(super) fn new(segments: u32, usable: u32) -> Log {
        Log {
            segments: vec![Segment::EMPTY; segments as usize],
            usable,
            free: (0..usable).collect(),
            open: [None; 4],
            closed: [const { VecDeque::new() }; 3],
            next_sequence: 1,
        }
    }

    /// Segments that have memory.
    pub(super) fn usable(&self) -> usize {
        self.usable as usize
    }

    /// Segments without entries that have memory.
    pub(super) fn add_usable(&mut self, usable: u32) {
        self.free.extend(self.usable..usable);
        self.usable = self.usable.max(usable);
    }

    /// The segment with this number; numbers come from checked locations.
    pub(super) fn segment(&mut self, number: u32) -> &mut Segment {
        &mut self.segments[number as usize]
    }

    /// Closed segments of a queue, the oldest first.
    pub(super) fn closed(&self, queue: Queue) -> &VecDeque<u32> {
        &self.closed[queue.index()]
    }

    /// Closed segments of all queues.
    pub(super) fn all_closed(&self) -> impl Iterator<Item = u32> {
        self.closed.iter().flatten().copied()
    }

    /// Segments of a queue, the open one included.
    pub(super) fn count(&self, queue: Queue) -> usize {
        let open = self.open.iter().flatten();
        let open = open.filter(|number| self.segments[**number as usize].queue == queue);
        self.closed(queue).len() + open.count()
    }

    /// Takes over a segment that an earlier owner filled, in any order: [`sort`](Self::sort)
    /// follows.
    pub(super) fn adopt<M: MemoryMut>(
        &mut self,
        writer: &Writer<M>,
        number: u32,
        sequence: u64,
        filled_words: u32,
    ) {
        // The header does not record the queue: everything that survives a restart joins main.
        let role = Role::Closed;
        *self.segment(number) = Segment {
            role,
            sequence,
            filled_words,
            oldest_version: 0,
            is_counted: false,
            ..Segment::EMPTY
        };
        fault_point!("adopt.segment");
        writer.set_segment(number, role, sequence);
        self.next_sequence = self.next_sequence.max(sequence.saturating_add(1));
        self.closed[Queue::Main.index()].push_back(number);
    }

    /// Sorts the queues by age.
    pub(super) fn sort(&mut self) {
        for queue in Queue::ALL {
            let segments = &self.segments;
            self.closed[queue.index()]
                .make_contiguous()
                .sort_by_key(|number| segments[*number as usize].sequence);
        }
    }

    /// Opens a free segment for a stream, closing the one that was open for it.
    pub(super) fn open_next<M: MemoryMut>(
        &mut self,
        writer: &Writer<M>,
        stream: Stream,
        epoch: u32,
    ) -> Option<u32> {
        let next = self.free.pop_front()?;
        let queue = stream.queue();
        self.close(writer, stream);
        let sequence = self.take_sequence();
        *self.segment(next) =
            Segment { role: Role::Open, queue, sequence, born: epoch, ..Segment::EMPTY };
        // Filled first: a restart that sees the new role must not see the old extent.
        fault_point!("open.filled");
        writer.set_filled(next, 0, NEVER);
        fault_point!("open.segment");
        writer.set_segment(next, Role::Open, sequence);
        self.open[stream.index()] = Some(next);
        Some(next)
    }

    /// Closes the open segment of a stream, if there is one.
    fn close<M: MemoryMut>(&mut self, writer: &Writer<M>, stream: Stream) {
        let Some(old) = self.open[stream.index()].take() else { return };
        // After segments that were requeued while it was open.
        let sequence = self.take_sequence();
        let segment = self.segment(old);
        segment.role = Role::Closed;
        segment.sequence = sequence;
        fault_point!("close.segment");
        writer.set_segment(old, Role::Closed, sequence);
        self.closed[stream.queue().index()].push_back(old);
    }

    /// Opens the closed segment with the most room for a stream, to go on after its entries.
    pub(super) fn reopen<M: MemoryMut>(&mut self, writer: &Writer<M>, stream: Stream) {
        self.close(writer, stream);
        let roomiest = self.all_closed().min_by_key(|n| self.segments[*n as usize].filled_words);
        let Some(number) = roomiest else { return };
        self.leave(number);
        let segment = self.segment(number);
        segment.role = Role::Open;
        segment.queue = stream.queue();
        fault_point!("reopen.segment");
        writer.set_segment(number, Role::Open, segment.sequence);
        self.open[stream.index()] = Some(number);
    }

    /// Moves all segments of the queue of pinned entries to the young end of main.
    pub(super) fn join_main<M: MemoryMut>(&mut self, writer: &Writer<M>, epoch: u32) {
        self.close(writer, Stream::Pinned);
        while let Some(number) = self.closed(Queue::Pinned).front().copied() {
            self.requeue(writer, number, Queue::Main, epoch);
        }
    }

    /// Makes a closed segment, with its entries, the newest closed one of `queue`.
    pub(super) fn requeue<M: MemoryMut>(
        &mut self,
        writer: &Writer<M>,
        number: u32,
        queue: Queue,
        epoch: u32,
    ) {
        self.leave(number);
        let sequence = self.take_sequence();
        let segment = self.segment(number);
        segment.queue = queue;
        segment.sequence = sequence;
        segment.born = epoch;
        fault_point!("requeue.segment");
        writer.set_segment(number, Role::Closed, sequence);
        self.closed[queue.index()].push_back(number);
    }

    /// Marks a closed segment free.
    pub(super) fn release<M: MemoryMut>(&mut self, writer: &Writer<M>, number: u32) {
        self.leave(number);
        *self.segment(number) = Segment::EMPTY;
        fault_point!("release.segment");
        writer.set_segment(number, Role::Free, 0);
        self.free.push_back(number);
    }

    fn take_sequence(&mut self) -> u64 {
        self.next_sequence += 1;
        self.next_sequence - 1
    }

    fn leave(&mut self, number: u32) {
        for queue in &mut self.closed {
            queue.retain(|other| *other != number);
        }
    }

    /// Where the open segment of a stream has room for `words` words, if it has.
    pub(super) fn room(
        &self,
        stream: Stream,
        words: usize,
        segment_words: usize,
    ) -> Option<Location> {
        let open = self.open[stream.index()]?;
        let word = self.segments[open as usize].filled_words;
        (word as usize + words <= segment_words).then_some(Location { segment: open, word })
    }

    /// Words that are left in the open segment of a stream.
    pub(super) fn words_left(&self, stream: Stream, segment_words: usize) -> usize {
        let open = self.open[stream.index()].map(|open| &self.segments[open as usize]);
        open.map_or(0, |segment| segment_words.saturating_sub(segment.filled_words as usize))
    }

    /// Counts an appended entry, in private and shared memory. To be called before a slot refers to
    /// it.
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
        segment.oldest_version = segment.oldest_version.min(header.version);
        let bytes = u64::from(segment.filled_words) * WORD_BYTES as u64;
        fault_point!("fill.filled");
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

    /// Marks all segments for a sweep, after a floor was raised.
    pub(super) fn suspect_all(&mut self) {
        for segment in &mut self.segments {
            segment.is_suspect = true;
        }
    }
}

/// Words of an entry; it fits a segment, which has at most 2^28.
pub(super) fn words_of(header: &EntryHeader) -> u32 {
    u32::try_from(header.words()).unwrap_or(u32::MAX)
}
