//! What a read does with a value in memory that may change: copy it, or inspect it in place.

use crate::memory::{Memory, WORD_BYTES};
use crate::outcome::Sighting;

/// Where a value is copied to: a [`Receiver`] of its bytes.
///
/// # Safety
/// [`room`](Self::room) returns memory that is valid for writing that many bytes until the next
/// call or the end of the read, and that nobody else touches.
pub unsafe trait Destination {
    /// Returns room for a value of `bytes` bytes. Called again if the read is retried; the contents
    /// are then void.
    fn room(&mut self, bytes: usize) -> *mut u8;
}

/// What a read does with a value that it has found, between its two loads of the generation.
pub trait Receiver<M: Memory> {
    /// Called with the value, which may be torn, and again if the read is retried: the result
    /// counts only if the read returns a hit.
    fn receive(&mut self, value: InPlace<'_, M>);

    /// Called when the value received last was whole, with what
    /// [`Reader::holds`](crate::Reader::holds) needs to check later whether it is still the key's.
    /// Counts only if the read returns a hit.
    #[inline(always)]
    fn sighted(&mut self, _: Sighting) {}
}

impl<M: Memory, D: Destination> Receiver<M> for D {
    #[inline(always)]
    fn receive(&mut self, value: InPlace<'_, M>) {
        let room = self.room(value.bytes);
        // SAFETY: the value is part of the table; `room` is valid for its bytes.
        unsafe { value.memory.copy_out(value.word, room, value.bytes) };
    }
}

/// Inspects a value in place.
#[derive(Debug)]
pub struct Look<F>(pub F);

impl<M: Memory, F: FnMut(InPlace<'_, M>)> Receiver<M> for Look<F> {
    #[inline(always)]
    fn receive(&mut self, value: InPlace<'_, M>) {
        (self.0)(value);
    }
}

/// A value, or a key, in memory that may change at any moment. No method gives a reference into it.
#[derive(Debug, Clone)]
pub struct InPlace<'a, M> {
    pub(crate) memory: &'a M,
    /// Its first word. All its words are part of the table.
    pub(crate) word: usize,
    pub(crate) bytes: usize,
}

impl<M: Memory> InPlace<'_, M> {
    /// Its length in bytes.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.bytes
    }

    /// Whether it has no bytes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Fills `into` with the bytes from byte `offset` on. `false` if there are not enough; `into`
    /// is then unchanged.
    #[must_use]
    pub fn copy_to(&self, offset: usize, into: &mut [u8]) -> bool {
        if offset.checked_add(into.len()).is_none_or(|end| end > self.bytes) {
            return false;
        }
        // Up to the next whole word, and then as a value that begins there.
        let head = (offset.next_multiple_of(WORD_BYTES) - offset).min(into.len());
        let (head, rest) = into.split_at_mut(head);
        let word = self.word + offset / WORD_BYTES;
        if !head.is_empty() {
            // SAFETY: `offset` lies in the value, whose words are part of the table.
            let bytes = unsafe { self.memory.load(word) }.to_le_bytes();
            let from = offset % WORD_BYTES;
            head.copy_from_slice(&bytes[from..from + head.len()]);
        }
        let word = self.word + offset.div_ceil(WORD_BYTES);
        // SAFETY: the rest ends inside the value; `rest` is a slice of that many bytes.
        unsafe { self.memory.copy_out(word, rest.as_mut_ptr(), rest.len()) };
        true
    }

    /// Whether it equals `bytes`.
    #[inline(always)]
    #[must_use]
    pub fn equals(&self, bytes: &[u8]) -> bool {
        // SAFETY: of equal lengths, and all words of the value are part of the table.
        bytes.len() == self.bytes && unsafe { self.memory.equals(self.word, bytes) }
    }

    /// Whether the value has `bytes` at byte `offset`.
    #[must_use]
    pub fn has_at(&self, offset: usize, bytes: &[u8]) -> bool {
        let mut block = [0; 64];
        if offset.checked_add(bytes.len()).is_none_or(|end| end > self.bytes) {
            return false;
        }
        bytes.chunks(block.len()).enumerate().all(|(index, wanted)| {
            let found = &mut block[..wanted.len()];
            self.copy_to(offset + index * 64, found) && found == wanted
        })
    }
}
