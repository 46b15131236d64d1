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
//! | requests: a ring that any thread of the client fills, one at a time, and the owner empties | [`ring`] |
//! | replies: a lane for each request that waits | [`lane`] |
//! | hits: rings that lose what is not drained in time | [`report`] |
//!
//! Some words are told and decide nothing: what the client counts of itself ([`Told`]), and the hits of
//! each stripe's threads, beside its mark.
//!
//! The owner believes nothing in it (W9): its own ends are in private memory, every word of the client
//! is loaded once, bounded, and copied before it is looked at. A mailbox that is new is zero, and so
//! is the part of one that its client has punched a hole into.

pub mod lane;
pub mod report;
pub mod ring;

use crate::memory::{LINE_WORDS, MemoryMut, WORD_BYTES};

/// Memory that two sides write, each its own words but for those that are swapped.
pub trait Exchange: MemoryMut {
    /// `fence(SeqCst)`: of two sides that each store, pass this fence and load what the other
    /// stores, at least one sees the other's store.
    fn fence_seq_cst(&self);

    /// Stores a word and returns what it was, as one act. Acquire and release.
    ///
    /// # Safety
    /// `index` is below the number of words of this memory.
    unsafe fn swap(&self, index: usize, word: u64) -> u64;

    /// Stores `new` if the word is `old`, as one act. Whether it was. Acquire and release.
    ///
    /// # Safety
    /// As for [`swap`](Self::swap).
    unsafe fn exchange(&self, index: usize, old: u64, new: u64) -> bool;
}

/// Sizes of a mailbox. Both sides have the same by the version of their protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Words of the ring of requests; a power of two.
    pub ring_words: usize,
    /// Requests that can wait for an answer at a time; at most 64.
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

/// What a client counts and says of itself; the hits, besides, in [`report`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Told {
    /// It woke the owner, by a system call.
    Rings,
    /// A thread of it fell asleep over an answer, or over the ring being full.
    Sleeps,
    /// A request found the ring full, and waited or was refused.
    Full,
}

/// Words of the client: how far it has written requests.
const PRODUCED: usize = 0;
/// Word of the client: the processor that it last asked from, and one.
const CLIENT_CPU: usize = 1;
/// Word of the owner: how far it has read requests.
const CONSUMED: usize = LINE_WORDS;
/// Word of the owner: the processor that it runs on, and one.
const OWNER_CPU: usize = LINE_WORDS + 1;
/// Word of both: 1 while the owner sleeps and wants to be rung.
const RING_ME: usize = 2 * LINE_WORDS;
/// Word of both, a futex: 1 while a thread of the client sleeps until the ring has room.
const ROOM_WANTED: usize = 3 * LINE_WORDS;
/// Words of the client: what it says of itself ([`Told`]). On a line that nobody waits for.
const TOLD: usize = 4 * LINE_WORDS;
const LANES: usize = 5 * LINE_WORDS;

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

    /// Most bytes of a request that one record carries: a quarter of the ring, so that a large
    /// request is read while the rest of it is being written.
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

impl<M: Exchange> Mailbox<M> {
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

    /// Its memory, for waiting on a word of it.
    pub const fn memory(&self) -> &M {
        &self.memory
    }

    /// The word that a thread of the client sleeps on until the ring has room.
    pub const fn room_word(&self) -> usize {
        ROOM_WANTED
    }

    /// The word that a thread of the client sleeps on until its lane has a reply.
    ///
    /// # Panics
    /// Without such a lane.
    pub const fn lane_word(&self, lane: usize) -> usize {
        assert!(lane < self.shape.lanes);
        LANES + lane * LINE_WORDS
    }

    /// Says on which processor the client asks.
    pub fn set_client_cpu(&self, cpu: u32) {
        self.store(CLIENT_CPU, u64::from(cpu) + 1);
    }

    /// Where the client last asked, if it said so. Not to be believed.
    pub fn client_cpu(&self) -> Option<u64> {
        self.load(CLIENT_CPU).checked_sub(1)
    }

    /// Client: says how much of a thing there has been so far.
    pub fn tell(&self, what: Told, count: u64) {
        self.store(TOLD + what as usize, count);
    }

    /// Owner: what the client says of a thing. Not to be believed.
    pub fn told(&self, what: Told) -> u64 {
        self.load(TOLD + what as usize)
    }

    /// Says on which processor the owner runs.
    pub fn set_owner_cpu(&self, cpu: u32) {
        self.store(OWNER_CPU, u64::from(cpu) + 1);
    }

    /// Where the owner last worked, if it said so.
    pub fn owner_cpu(&self) -> Option<u64> {
        self.load(OWNER_CPU).checked_sub(1)
    }

    fn load(&self, index: usize) -> u64 {
        debug_assert!(index < self.shape.words());
        // SAFETY: this module's indices are words of the shape.
        unsafe { self.memory.load(index) }
    }

    fn store(&self, index: usize, word: u64) {
        debug_assert!(index < self.shape.words());
        // SAFETY: as above; each word has one writer at a time, as its drawing says, or is swapped.
        unsafe { self.memory.store(index, word) }
    }
}
