//! The slot word: one aligned 64-bit store publishes or withdraws an entry.
//!
//! ```text
//!  63            48 47                28 27                           0
//! +----------------+--------------------+------------------------------+
//! | tag (16)       | segment (20)       | word in the segment (28)     |
//! +----------------+--------------------+------------------------------+
//! ```
//!
//! An empty slot is zero; a tag is never zero, so no entry's word is. The tag is on top because the
//! scan of a bucket compares the upper halves of its eight words at once.

use crate::geometry::Location;
use crate::hash::KeyHash;

/// Bits of the tag.
pub const TAG_BITS: u32 = 16;
/// Bits of the segment number.
pub const SEGMENT_BITS: u32 = 20;
/// Bits of the offset in a segment, in words.
pub const OFFSET_BITS: u32 = 28;
const _: () = assert!(TAG_BITS + SEGMENT_BITS + OFFSET_BITS == 64);

/// Slots of a bucket: as many as fit a 64-byte line.
pub const SLOTS: usize = 8;

/// A slot's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotWord(pub u64);

impl SlotWord {
    /// No entry.
    pub const EMPTY: SlotWord = SlotWord(0);

    /// The word for an entry at `at`. The only place that packs one.
    #[must_use]
    pub const fn pack(hash: KeyHash, at: Location) -> SlotWord {
        debug_assert!(
            (at.segment as u64) < 1 << SEGMENT_BITS && (at.word as u64) < 1 << OFFSET_BITS
        );
        SlotWord(
            (hash.tag() as u64) << (SEGMENT_BITS + OFFSET_BITS)
                | (at.segment as u64) << OFFSET_BITS
                | at.word as u64,
        )
    }

    /// The key's tag; 0 for an empty slot.
    #[inline(always)]
    #[must_use]
    pub const fn tag(self) -> u16 {
        (self.0 >> (SEGMENT_BITS + OFFSET_BITS)) as u16
    }

    /// Where the entry is; not yet checked against any geometry.
    #[inline(always)]
    #[must_use]
    pub const fn location(self) -> Location {
        Location {
            segment: ((self.0 >> OFFSET_BITS) & ((1 << SEGMENT_BITS) - 1)) as u32,
            word: (self.0 & ((1 << OFFSET_BITS) - 1)) as u32,
        }
    }

    /// Whether the slot is empty.
    #[inline(always)]
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}
