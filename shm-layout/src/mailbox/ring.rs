//! The ring of requests.
//!
//! A record is a header word and the request's bytes, padded to whole words; it may wrap around the
//! ring's end. `produced` and `consumed` count all words ever written and read. The client stores
//! `produced` after a record (release, partner of the owner's acquire in [`Consumer::look`]). The
//! owner stores `consumed` after it has copied a record and *before* it acts on it (release,
//! partner of the client's acquire in [`Producer::push`]). So records beyond `consumed` were not
//! acted on, and a client whose daemon died may send them to the next one.

use super::{ASLEEP, AtomicMemory, CONSUMED, ENDING, Mailbox, PRODUCED, RING_ME, ROOM_WANTED};
use crate::memory::{LINE_WORDS, WORD_BYTES, words_for};
use core::ops::Range;

/// Words of records that the owner prefetches.
const READ_AHEAD: u64 = 128;

/// The kind of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A whole request.
    Whole = 1,
    /// The first piece of a request.
    First = 2,
    /// A piece of a request.
    Next = 3,
    /// The last piece of a request.
    Last = 4,
    /// No request: the client has taken a piece of a reply and is ready for the next.
    More = 5,
}

impl Kind {
    const fn from_bits(bits: u8) -> Option<Kind> {
        Some(match bits {
            1 => Kind::Whole,
            2 => Kind::First,
            3 => Kind::Next,
            4 => Kind::Last,
            5 => Kind::More,
            _ => return None,
        })
    }
}

/// The header of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Its kind.
    pub kind: Kind,
    /// The lane for the reply; `None`: there is no reply.
    pub lane: Option<u8>,
    /// The sequence number of the lane's request.
    pub sequence: u32,
}

const NO_LANE: u8 = 0xff;

/// Bits 0..16: bytes; 16..24: kind; 24..32: lane; 32..64: sequence.
fn pack(head: Head, bytes: usize) -> u64 {
    (bytes as u64 & 0xffff)
        | (head.kind as u64) << 16
        | u64::from(head.lane.unwrap_or(NO_LANE)) << 24
        | u64::from(head.sequence) << 32
}

#[expect(clippy::cast_possible_truncation, reason = "cut into its fields")]
fn unpack(word: u64) -> Option<(Head, usize)> {
    let lane = (word >> 24) as u8;
    let head = Head {
        kind: Kind::from_bits((word >> 16) as u8)?,
        lane: (lane != NO_LANE).then_some(lane),
        sequence: (word >> 32) as u32,
    };
    Some((head, word as u16 as usize))
}

/// The ring has no room for a record now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// The client has broken the rules of the ring (W9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken;

/// The client's end. One thread at a time.
#[derive(Debug)]
pub struct Producer<M> {
    mailbox: Mailbox<M>,
    produced: u64,
    /// `consumed` as last loaded.
    consumed: u64,
}

impl<M: AtomicMemory> Producer<M> {
    /// The end of a new mailbox.
    pub fn new(mailbox: Mailbox<M>) -> Producer<M> {
        Producer { mailbox, produced: 0, consumed: 0 }
    }

    /// The end of what has been written: records from here on are not yet in the ring.
    pub fn position(&self) -> u64 {
        self.produced
    }

    /// Writes one record, which is visible to the owner when this returns. The caller must call
    /// [`Mailbox::must_ring`] next.
    ///
    /// # Errors
    /// [`Full`]: nothing was written.
    ///
    /// # Panics
    /// If there are more bytes than [`super::Shape::piece_bytes`].
    pub fn push(&mut self, head: Head, bytes: &[u8]) -> Result<(), Full> {
        let shape = self.mailbox.shape;
        assert!(bytes.len() <= shape.piece_bytes());
        let words = 1 + words_for(bytes.len()) as u64;
        let size = shape.ring_words as u64;
        if self.produced + words - self.consumed > size {
            self.consumed = self.mailbox.load(CONSUMED).min(self.produced);
            // Partner: the release fence of `Consumer::next`. No record is overwritten before the
            // owner has copied it.
            self.mailbox.memory.fence_acquire();
            if self.produced + words - self.consumed > size {
                return Err(Full);
            }
        }
        crate::fault_point!("push.head");
        self.store_at(self.produced, pack(head, bytes.len()));
        let begin = self.index(self.produced + 1);
        let until_end = (shape.ring_words - begin) * WORD_BYTES;
        let (first, rest) = bytes.split_at(bytes.len().min(until_end));
        // SAFETY: both parts lie in the ring, in words that only this end writes now.
        unsafe {
            crate::fault_point!("push.bytes");
            self.mailbox.memory.copy_in(shape.ring() + begin, first);
            if !rest.is_empty() {
                crate::fault_point!("push.wrapped");
                self.mailbox.memory.copy_in(shape.ring(), rest);
            }
        }
        self.produced += words;
        // Partner: the acquire fence of `Consumer::look`.
        self.mailbox.memory.fence_release();
        crate::fault_point!("push.produced");
        self.mailbox.store(PRODUCED, self.produced);
        Ok(())
    }

    fn index(&self, position: u64) -> usize {
        index(&self.mailbox, position)
    }

    fn store_at(&self, position: u64, word: u64) {
        self.mailbox.store(self.mailbox.shape.ring() + self.index(position), word);
    }
}

impl<M: AtomicMemory> Mailbox<M> {
    /// Client: whether the owner must be rung for a pushed record. If the owner sleeps, returns
    /// `true` to one caller only; if it reads no more ([`Consumer::may_end`]), to every caller, so
    /// that each of them learns it.
    pub fn must_ring(&self) -> bool {
        // Partner: the fence of `Consumer::asks_to_be_rung`. Either the owner sees the record before
        // it sleeps, or this thread sees that it must ring.
        self.memory.fence_seq_cst();
        match self.load(RING_ME) {
            0 => false,
            ASLEEP => {
                crate::fault_point!("push.ring");
                // SAFETY: a word of the mailbox. If the exchange fails, another thread rings,
                // unless the owner has announced its end meanwhile.
                unsafe {
                    self.memory.compare_exchange(RING_ME, ASLEEP, 0) || self.load(RING_ME) == ENDING
                }
            }
            _ => true,
        }
    }

    /// Client: whether the owner has read all records before `position`. It has not acted on later
    /// ones.
    pub fn is_consumed(&self, position: u64) -> bool {
        let consumed = self.load(CONSUMED);
        self.memory.fence_acquire();
        consumed >= position
    }

    /// Client: announces that a thread is about to sleep on [`Mailbox::room_word`], while that is
    /// 1, until the ring has room. The thread must try [`Producer::push`] once more before it
    /// sleeps.
    pub fn want_room(&self) {
        crate::fault_point!("room.want");
        self.store(ROOM_WANTED, 1);
        // Partner: the fence of `Consumer::wakes_for_room`.
        self.memory.fence_seq_cst();
    }
}

#[expect(clippy::cast_possible_truncation, reason = "masked to the ring")]
fn index<M>(mailbox: &Mailbox<M>, position: u64) -> usize {
    position as usize & (mailbox.shape.ring_words - 1)
}

/// The owner's end.
#[derive(Debug)]
pub struct Consumer<M> {
    mailbox: Mailbox<M>,
    consumed: u64,
    /// `produced` as last loaded and checked.
    produced: u64,
}

impl<M: AtomicMemory> Consumer<M> {
    /// The end of a new mailbox.
    pub fn new(mailbox: Mailbox<M>) -> Consumer<M> {
        Consumer { mailbox, consumed: 0, produced: 0 }
    }

    /// Whether there is a record to read.
    ///
    /// # Errors
    /// [`Broken`]: the client's count is impossible.
    pub fn look(&mut self) -> Result<bool, Broken> {
        if self.produced != self.consumed {
            return Ok(true);
        }
        let produced = self.mailbox.load(PRODUCED);
        if produced == self.produced {
            return Ok(false);
        }
        if produced.wrapping_sub(self.consumed) > self.mailbox.shape.ring_words as u64 {
            return Err(Broken);
        }
        // Partner: the release fence of `Producer::push`.
        self.mailbox.memory.fence_acquire();
        self.produced = produced;
        self.prefetch(0..READ_AHEAD);
        Ok(true)
    }

    /// Prefetches records that are known to be written, in this range of words after the last one
    /// read: where a record begins is known only when the one before has arrived. Not beyond them,
    /// because the client would have to fetch those lines back.
    fn prefetch(&self, words: Range<u64>) {
        let there = (self.produced - self.consumed).min(words.end);
        for word in (words.start..there).step_by(LINE_WORDS) {
            let at = index(&self.mailbox, self.consumed + word);
            self.mailbox.memory.prefetch(self.mailbox.shape.ring() + at);
        }
    }

    /// Copies the next record to the beginning of `bytes` and returns its length. To be called
    /// after [`look`](Self::look) has returned `true`. The client may then overwrite the record.
    ///
    /// # Errors
    /// [`Broken`]: the ring holds no valid record there.
    ///
    /// # Panics
    /// If `bytes` is shorter than [`super::Shape::piece_bytes`].
    pub fn next(&mut self, bytes: &mut [u8]) -> Result<(Head, usize), Broken> {
        let shape = self.mailbox.shape;
        assert!(bytes.len() >= shape.piece_bytes());
        let there = self.produced - self.consumed;
        if there == 0 {
            return Err(Broken);
        }
        let ring = shape.ring();
        let word = self.mailbox.load(ring + index(&self.mailbox, self.consumed));
        let (head, count) = unpack(word).ok_or(Broken)?;
        let words = 1 + words_for(count) as u64;
        let knows_lane = head.lane.is_none_or(|lane| usize::from(lane) < shape.lanes);
        if words > there || count > shape.piece_bytes() || !knows_lane {
            return Err(Broken);
        }
        let begin = index(&self.mailbox, self.consumed + 1);
        let first = count.min((shape.ring_words - begin) * WORD_BYTES);
        let to = bytes.as_mut_ptr();
        // SAFETY: both parts lie in the ring; `bytes` has room for `count`, checked above.
        unsafe {
            self.mailbox.memory.copy_out(ring + begin, to, first);
            if count > first {
                self.mailbox.memory.copy_out(ring, to.add(first), count - first);
            }
        }
        self.consumed += words;
        self.prefetch(READ_AHEAD - words.min(READ_AHEAD)..READ_AHEAD);
        // Partner: the acquire fence of `Producer::push`. The copy is complete before the room is
        // free.
        self.mailbox.memory.fence_release();
        crate::fault_point!("consume.mark");
        self.mailbox.store(CONSUMED, self.consumed);
        Ok((head, count))
    }

    /// Asks to be rung. `Ok(true)`: the owner need not poll this mailbox until then; `Ok(false)`: a
    /// record has been written meanwhile.
    ///
    /// # Errors
    /// The same as for [`look`](Self::look).
    pub fn may_sleep(&mut self) -> Result<bool, Broken> {
        if self.asks_to_be_rung(ASLEEP)? {
            return Ok(true);
        }
        crate::fault_point!("sleep.withdraw");
        self.mailbox.store(RING_ME, 0);
        Ok(false)
    }

    /// Asks to be rung for every record from here on. `Ok(true)`: the ring is empty, and whoever
    /// pushes a record will ring; if that fails by then, they know that it is not read. `Ok(false)`:
    /// there is a record to read before.
    ///
    /// # Errors
    /// The same as for [`look`](Self::look).
    pub fn may_end(&mut self) -> Result<bool, Broken> {
        self.asks_to_be_rung(ENDING)
    }

    /// Returns whether the ring is empty after the request could be seen.
    fn asks_to_be_rung(&mut self, request: u64) -> Result<bool, Broken> {
        crate::fault_point!("sleep.ask");
        self.mailbox.store(RING_ME, request);
        // Partner: the fence of `Mailbox::must_ring`.
        self.mailbox.memory.fence_seq_cst();
        Ok(!self.look()?)
    }

    /// Withdraws the request of [`may_sleep`](Self::may_sleep) to be rung, because the owner polls
    /// the mailbox again. A client that does not see this in time only rings once too often.
    pub fn stay_awake(&self) {
        crate::fault_point!("sleep.end");
        self.mailbox.store(RING_ME, 0);
    }

    /// After records were read: whether threads of the client sleep until the ring has room and
    /// must be woken. Returns `true` once.
    pub fn wakes_for_room(&self) -> bool {
        // Partner: the fence of `Mailbox::want_room`.
        self.mailbox.memory.fence_seq_cst();
        crate::fault_point!("room.wake");
        // SAFETY: a word of the mailbox.
        self.mailbox.load(ROOM_WANTED) != 0
            && unsafe { self.mailbox.memory.swap(ROOM_WANTED, 0) } != 0
    }
}
