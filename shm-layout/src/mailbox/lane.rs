//! Lanes: where a request's reply arrives, and what its thread waits on.
//!
//! The lane's word says in its low half (a futex) which request of the lane it is about and how far
//! that is; in its high half, once there is a reply, how long it is.
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
//! `POLLED` is a request that no thread sleeps on: its reply makes a descriptor readable.
//!
//! The owner swaps in `READY` behind the reply's bytes (release, partner of the acquire in
//! [`Mailbox::reply`]) and learns in the same act whether somebody sleeps; the client goes to
//! sleep by a compare-and-exchange that fails once a reply is there. So no wake is lost.

use super::{Exchange, Mailbox};

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

/// Who is to be told of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wakes {
    /// Nobody: somebody looks.
    Nobody,
    /// The thread that sleeps on the lane's word.
    Thread,
    /// Whoever waits for the client's descriptor.
    Descriptor,
}

/// A reply, or a piece of it, that has arrived in a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Bytes in the lane.
    pub bytes: usize,
    /// Whether there is more to come, after [`super::ring::Kind::More`].
    pub more: bool,
}

impl<M: Exchange> Mailbox<M> {
    /// Client: makes the lane ready for the reply to request `sequence` of it, or its next piece. To
    /// be called before the record is pushed.
    pub fn open_lane(&self, lane: usize, sequence: u32) {
        self.store(self.lane_word(lane), word(sequence, WAITING));
    }

    /// Client: as [`open_lane`](Self::open_lane), for a request whose reply is waited for at the
    /// descriptor.
    pub fn open_polled_lane(&self, lane: usize, sequence: u32) {
        self.store(self.lane_word(lane), word(sequence, POLLED));
    }

    /// Client: what has arrived for request `sequence` of the lane.
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

    /// Client: says that the thread is about to sleep on [`Mailbox::lane_word`]. What the low half of
    /// that word is then; `None` when the reply has come.
    pub fn sleep_in(&self, lane: usize, sequence: u32) -> Option<u32> {
        let index = self.lane_word(lane);
        let (waiting, sleeping) = (word(sequence, WAITING), word(sequence, SLEEPING));
        // SAFETY: a word of the mailbox.
        let slept = self.load(index) == sleeping
            || unsafe { self.memory.exchange(index, waiting, sleeping) };
        #[expect(clippy::cast_possible_truncation, reason = "the low half is all there is")]
        slept.then_some(sleeping as u32)
    }

    /// Owner: puts a reply, or a piece of it, into the lane. Who is to be told.
    ///
    /// # Panics
    /// With more bytes than a lane has, or without such a lane.
    pub fn answer(&self, lane: usize, sequence: u32, bytes: &[u8], more: bool) -> Wakes {
        assert!(bytes.len() <= self.shape.lane_bytes && lane < self.shape.lanes);
        let to = self.shape.replies() + lane * self.shape.lane_words();
        // SAFETY: the lane has that many bytes in this mailbox, which only the owner writes.
        unsafe { self.memory.copy_in(to, bytes) };
        let high = bytes.len() as u64 | if more { MORE } else { 0 };
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
