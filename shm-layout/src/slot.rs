//! The slot word: one aligned 64-bit store publishes or withdraws an entry.
//!
//! ```text
//!  63            48 47                                                  0
//! +----------------+------------------------------------------------------+
//! | tag (16)       | position: word in the log (48)                       |
//! +----------------+------------------------------------------------------+
//! ```
//!
//! An empty slot is zero. A tag is never zero, so no entry's slot is. The tag is on top because the
//! scan of a bucket compares the upper halves of its eight words at once. The position counts from
//! the first segment's first word, so one addition gives the entry's address. The segment, whose
//! generation only confirms the read, is computed in parallel with the load of the entry.

use crate::hash::KeyHash;

/// Bits of the tag.
pub const TAG_BITS: u32 = 16;
/// Bits of the position.
pub const POSITION_BITS: u32 = 48;
const _: () = assert!(TAG_BITS + POSITION_BITS == 64);

/// Slots of a bucket, which is a 64-byte line.
pub const SLOTS: usize = 8;

/// A slot's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotWord(pub u64);

impl SlotWord {
    /// No entry.
    pub const EMPTY: SlotWord = SlotWord(0);

    /// The word for an entry at `position`. Nothing else packs one.
    #[must_use]
    pub const fn pack(hash: KeyHash, position: u64) -> SlotWord {
        debug_assert!(position < 1 << POSITION_BITS);
        SlotWord((hash.tag() as u64) << POSITION_BITS | position)
    }

    /// The key's tag; 0 for an empty slot.
    #[inline(always)]
    #[must_use]
    pub const fn tag(self) -> u16 {
        (self.0 >> POSITION_BITS) as u16
    }

    /// The entry's word in the log; not checked against any geometry.
    #[inline(always)]
    #[must_use]
    pub const fn position(self) -> u64 {
        self.0 & ((1 << POSITION_BITS) - 1)
    }

    /// Whether the slot is empty.
    #[inline(always)]
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}
