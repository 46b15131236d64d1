//! The mailbox: the private read-write memory that one client shares with the daemon, in which
//! requests and replies travel without a system call while both sides are awake.
//!
//! ```text
//! +------+-------+-------+----------------+---------+---------+--------------+
//! | ends | lanes | marks | reports        | replies of each lane | requests |
//! +------+-------+-------+----------------+---------+---------+--------------+
//!   lines, one writer each                  lane_bytes each      ring
//! ```
//!
//! | part | module |
//! |---|---|
//! | requests: a ring that the client's threads fill and the owner drains | [`ring`] |
//! | replies: a lane for each request that awaits one | [`lane`] |
//! | hits: lossy rings | [`report`] |
//!
//! Some words are only for display: the client's counters ([`Counter`]), and the number of hits
//! beside each stripe's mark.
//!
//! The owner trusts nothing in the mailbox (W9): its own ends are in private memory, and it loads
//! each word of the client once, bounds it, and copies records before it interprets them. A new
//! mailbox is zero, and so is any part into which its client has punched a hole.

pub mod lane;
pub mod report;
pub mod ring;

use crate::header::fingerprint_of;
use crate::memory::{LINE_WORDS, MemoryMut, WORD_BYTES};

/// Memory that two sides write: each stores to its own words, and both swap the others.
pub trait AtomicMemory: MemoryMut {
    /// `fence(SeqCst)`: of two sides that each store, pass this fence and load what the other
    /// stores, at least one sees the other's store.
    fn fence_seq_cst(&self);

    /// Atomically stores a word and returns the old one. Acquire and release.
    ///
    /// # Safety
    /// `index` is below the number of words of this memory.
    unsafe fn swap(&self, index: usize, word: u64) -> u64;

    /// Atomically stores `new` if the word is `old`, and returns whether it was. Acquire and
    /// release.
    ///
    /// # Safety
    /// The same as for [`swap`](Self::swap).
    unsafe fn compare_exchange(&self, index: usize, old: u64, new: u64) -> bool;

    /// Atomically adds to a word, wrapping around, and returns the old one. Relaxed.
    ///
    /// # Safety
    /// The same as for [`swap`](Self::swap).
    unsafe fn add(&self, index: usize, number: u64) -> u64;
}

/// Raised with every change of what the words of a mailbox mean.
pub const LAYOUT_VERSION: u32 = 1;

/// Sizes of a mailbox. Both sides use [`SHAPE`]; its figures are in the [`FINGERPRINT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Words of the ring of requests; a power of two.
    pub ring_words: usize,
    /// Requests that can await a reply at a time; at most 64.
    pub lanes: usize,
    /// Bytes of a lane's reply, or of a piece of it; whole words.
    pub lane_bytes: usize,
    /// Rings of hit reports.
    pub stripes: usize,
    /// Reports in each; a power of two.
    pub stripe_words: usize,
}

/// The shape in use.
pub const SHAPE: Shape =
    Shape { ring_words: 8192, lanes: 16, lane_bytes: 8192, stripes: 16, stripe_words: 256 };

/// Counters of a client, for display; its hits are counted in [`report`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Counter {
    /// System calls that woke the owner.
    Wakeups,
    /// Times a thread slept until a reply came or the ring had room.
    Sleeps,
    /// Requests that found the ring full, and waited or were refused.
    RingFull,
}

/// Words of the client: how far it has written requests.
const PRODUCED: usize = 0;
/// Word of the client: the processor of its last request, plus one.
const CLIENT_CPU: usize = 1;
/// Word of the owner: how far it has read requests.
const CONSUMED: usize = LINE_WORDS;
/// Word of the owner: the processor that it runs on, plus one.
const OWNER_CPU: usize = LINE_WORDS + 1;
/// Word of both: [`ASLEEP`], [`ENDING`], or 0 while the owner polls.
const RING_ME: usize = 2 * LINE_WORDS;
/// The owner sleeps and must be rung once. A client that knows no other value takes each for this.
const ASLEEP: u64 = 1;
/// The owner will not read again and is rung for every record. It never becomes another value.
const ENDING: u64 = 2;
/// Word of both, a futex: 1 while a thread of the client sleeps until the ring has room.
const ROOM_WANTED: usize = 3 * LINE_WORDS;
/// Words of the client: its counters ([`Counter`]), on a line that nobody polls.
const COUNTERS: usize = 4 * LINE_WORDS;
const LANES: usize = 5 * LINE_WORDS;

/// Identifies the layout. Any change of a size or an offset changes it, even if [`LAYOUT_VERSION`]
/// was not raised.
pub const FINGERPRINT: u64 = fingerprint_of(&[
    SHAPE.ring_words,
    SHAPE.lanes,
    SHAPE.lane_bytes,
    SHAPE.stripes,
    SHAPE.stripe_words,
    PRODUCED,
    CLIENT_CPU,
    CONSUMED,
    OWNER_CPU,
    RING_ME,
    ROOM_WANTED,
    COUNTERS,
    LANES,
]);

impl Shape {
    const fn marks(self) -> usize {
        LANES + self.lanes * LINE_WORDS
    }

    const fn reports(self) -> usize {
        self.marks() + self.stripes * LINE_WORDS
    }

    const fn replies(self) -> usize {
        self.reports() + self.stripes * self.stripe_words
    }

    const fn ring(self) -> usize {
        self.replies() + self.lanes * self.lane_words()
    }

    const fn lane_words(self) -> usize {
        self.lane_bytes / WORD_BYTES
    }

    /// Words of a mailbox of this shape.
    #[must_use]
    pub const fn words(self) -> usize {
        self.ring() + self.ring_words
    }

    /// Bytes of a mailbox of this shape.
    #[must_use]
    pub const fn bytes(self) -> usize {
        self.words() * WORD_BYTES
    }

    /// Most bytes of a request in one record: a quarter of the ring, so that the owner reads the
    /// beginning of a large request while the client writes the rest.
    #[must_use]
    pub const fn piece_bytes(self) -> usize {
        let bytes = self.ring_words / 4 * WORD_BYTES;
        if bytes > 0xfff8 { 0xfff8 } else { bytes }
    }
}

/// Memory of a mailbox.
#[derive(Debug, Clone)]
pub struct Mailbox<M> {
    memory: M,
    shape: Shape,
}

impl<M: AtomicMemory> Mailbox<M> {
    /// A mailbox in this memory.
    ///
    /// # Safety
    /// `memory` has `shape.words()` words; `shape` has powers of two and whole words where it says
    /// so, and no part of zero size.
    pub const unsafe fn new(memory: M, shape: Shape) -> Mailbox<M> {
        Mailbox { memory, shape }
    }

    /// Its sizes.
    pub const fn shape(&self) -> Shape {
        self.shape
    }

    /// Its memory, for futex waits on its words.
    pub const fn memory(&self) -> &M {
        &self.memory
    }

    /// The futex on which threads of the client sleep until the ring has room.
    pub const fn room_word(&self) -> usize {
        ROOM_WANTED
    }

    /// The futex on which a thread of the client sleeps until its lane has a reply.
    ///
    /// # Panics
    /// If there is no such lane.
    pub const fn lane_word(&self, lane: usize) -> usize {
        assert!(lane < self.shape.lanes);
        LANES + lane * LINE_WORDS
    }

    /// Client: publishes the processor that it sends requests from.
    pub fn set_client_cpu(&self, cpu: u32) {
        crate::fault_point!("client.cpu");
        self.store(CLIENT_CPU, u64::from(cpu) + 1);
    }

    /// Owner: the processor of the client's last request, if known. Not to be trusted.
    pub fn client_cpu(&self) -> Option<u64> {
        self.load(CLIENT_CPU).checked_sub(1)
    }

    /// Client: publishes the value of a counter.
    pub fn set_counter(&self, counter: Counter, count: u64) {
        crate::fault_point!("client.counter");
        self.store(COUNTERS + counter as usize, count);
    }

    /// Owner: the value of a counter. Not to be trusted.
    pub fn counter(&self, counter: Counter) -> u64 {
        self.load(COUNTERS + counter as usize)
    }

    /// Owner: publishes the processor that it runs on.
    pub fn set_owner_cpu(&self, cpu: u32) {
        crate::fault_point!("owner.cpu");
        self.store(OWNER_CPU, u64::from(cpu) + 1);
    }

    /// Owner: says that clients are not to spin for replies.
    pub fn discourage_spinning(&self) {
        crate::fault_point!("owner.discourage");
        self.store(OWNER_CPU, u64::MAX);
    }

    /// Client: whether a thread on processor `cpu` may spin for a reply: not on the owner's own,
    /// and not where the owner has discouraged it.
    pub fn may_spin(&self, cpu: u32) -> bool {
        let owner = self.load(OWNER_CPU);
        owner != u64::MAX && owner != u64::from(cpu) + 1
    }

    fn load(&self, index: usize) -> u64 {
        debug_assert!(index < self.shape.words());
        // SAFETY: all indices that this module computes are words of the shape.
        unsafe { self.memory.load(index) }
    }

    fn store(&self, index: usize, word: u64) {
        debug_assert!(index < self.shape.words());
        // SAFETY: as above; each word has one writer at a time, or is swapped.
        unsafe { self.memory.store(index, word) }
    }
}
