//! Lanes: where a request's reply arrives, and what its thread waits on.
//!
//! The low half of a lane's word, a futex, holds the state and sequence number of the lane's
//! request; the high half, once there is a reply, holds its length.
//!
//! ```text
//!            client              owner                  client
//!  WAITING ----------> SLEEPING ---------> READY ---------------> (next request)
//!     |    going to sleep        reply       ^ ^
//!     +--------------------------------------+ |
//!  POLLED                reply                 |
//!     +----------------------------------------+
//! ```
//!
//! No thread sleeps on a `POLLED` request: its reply makes a descriptor readable.
//!
//! The owner swaps in `READY` after the reply's bytes (release, partner of the acquire in
//! [`Mailbox::reply`]), and the old word tells it whether a thread sleeps. The client goes to sleep
//! with a compare-and-exchange that fails if the reply has come. So no wakeup is lost.

use super::{AtomicMemory, Mailbox};

const POLLED: u64 = 0;
const WAITING: u64 = 1;
const SLEEPING: u64 = 2;
const READY: u64 = 3;
/// Sequences fit the futex word beside the state.
const SEQUENCE_MASK: u32 = (1 << 30) - 1;
const LOW: u64 = 0xffff_ffff;
/// In the high half: more pieces follow.
const MORE: u64 = 1 << 31;

const fn word(sequence: u32, state: u64) -> u64 {
    ((sequence & SEQUENCE_MASK) as u64) << 2 | state
}

/// Who must be woken for a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wakes {
    /// Nobody: the thread polls the word.
    Nobody,
    /// The thread that sleeps on the lane's word.
    Thread,
    /// Whoever polls the client's descriptor.
    Descriptor,
}

/// A reply, or a piece of one, that has arrived in a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Bytes in the lane.
    pub bytes: usize,
    /// Whether another piece follows once [`super::ring::Kind::More`] has asked for it.
    pub more: bool,
}

impl<M: AtomicMemory> Mailbox<M> {
    /// Client: prepares the lane for the reply to its request `sequence`, or for the next piece of
    /// the reply. To be called before the record is pushed.
    pub fn open_lane(&self, lane: usize, sequence: u32) {
        crate::fault_point!("lane.open");
        self.store(self.lane_word(lane), word(sequence, WAITING));
    }

    /// Client: as [`open_lane`](Self::open_lane), for a request whose reply makes the descriptor
    /// readable.
    pub fn open_polled_lane(&self, lane: usize, sequence: u32) {
        crate::fault_point!("lane.open-polled");
        self.store(self.lane_word(lane), word(sequence, POLLED));
    }

    /// Client: the piece that has arrived for the lane's request `sequence`, if any.
    pub fn reply(&self, lane: usize, sequence: u32) -> Option<Piece> {
        let found = self.load(self.lane_word(lane));
        if found & LOW != word(sequence, READY) {
            return None;
        }
        // Partner: the release of `answer`.
        self.memory.fence_acquire();
        let high = found >> 32;
        let bytes = usize::try_from(high & !MORE).unwrap_or(usize::MAX);
        Some(Piece { bytes: bytes.min(self.shape.lane_bytes), more: high & MORE != 0 })
    }

    /// Client: copies a piece out of the lane.
    ///
    /// # Panics
    /// If `into` is larger than a lane.
    pub fn take(&self, lane: usize, into: &mut [u8]) {
        assert!(into.len() <= self.shape.lane_bytes && lane < self.shape.lanes);
        let from = self.shape.replies() + lane * self.shape.lane_words();
        // SAFETY: the lane has that many bytes in this mailbox; `into` is a slice.
        unsafe { self.memory.copy_out(from, into.as_mut_ptr(), into.len()) };
    }

    /// Client: announces that the thread is about to sleep on [`Mailbox::lane_word`], and returns
    /// the value of the futex to wait on; `None` if the reply has come.
    pub fn sleep_in(&self, lane: usize, sequence: u32) -> Option<u32> {
        let index = self.lane_word(lane);
        let (waiting, sleeping) = (word(sequence, WAITING), word(sequence, SLEEPING));
        crate::fault_point!("lane.sleep");
        // SAFETY: a word of the mailbox.
        let slept = self.load(index) == sleeping
            || unsafe { self.memory.compare_exchange(index, waiting, sleeping) };
        #[expect(clippy::cast_possible_truncation, reason = "the low half is all there is")]
        slept.then_some(sleeping as u32)
    }

    /// Owner: puts a reply, or a piece of one, into the lane, and returns who must be woken.
    ///
    /// # Panics
    /// If there are more bytes than a lane has, or there is no such lane.
    pub fn answer(&self, lane: usize, sequence: u32, bytes: &[u8], more: bool) -> Wakes {
        assert!(bytes.len() <= self.shape.lane_bytes && lane < self.shape.lanes);
        let to = self.shape.replies() + lane * self.shape.lane_words();
        crate::fault_point!("reply.bytes");
        // SAFETY: the lane has that many bytes in this mailbox, which only the owner writes.
        unsafe { self.memory.copy_in(to, bytes) };
        let high = bytes.len() as u64 | if more { MORE } else { 0 };
        crate::fault_point!("reply.ready");
        // Release: partner of the acquire in `reply`. SAFETY: a word of the mailbox.
        let before =
            unsafe { self.memory.swap(self.lane_word(lane), word(sequence, READY) | high << 32) };
        match before & LOW {
            low if low == word(sequence, SLEEPING) => Wakes::Thread,
            low if low == word(sequence, POLLED) => Wakes::Descriptor,
            _ => Wakes::Nobody,
        }
    }
}
