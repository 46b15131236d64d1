//! Segments, the parts of the log that are recycled as a whole.
//!
//! Readers need only a segment's generation. Generations are apart from the segment headers, which
//! only the owner reads: packed eight to a line and stored only when a segment is recycled, they
//! stay in every reader's L1 cache.
//!
//! ```text
//!  generations        one word for each segment, padded to a line
//!  segment headers    for each segment one line:
//!      word 0  role
//!           1  sequence: its place in the order of opening, closing and requeueing
//!           2  filled: bytes from its start that hold entries
//!           3  earliest expiry tick of these
//!         4-7  zero
//! ```

/// Words of a segment header.
pub const SEGMENT_HEADER_WORDS: usize = 8;
/// Word of [`Role`].
pub const ROLE: usize = 0;
/// Word of the sequence number.
pub const SEQUENCE: usize = 1;
/// Word of the filled bytes.
pub const FILLED: usize = 2;
/// Word of the earliest expiry.
pub const EARLIEST_EXPIRY: usize = 3;

/// Generation of a segment that has never been recycled.
pub const FIRST_GENERATION: u64 = 2;

/// Whether a segment with this generation is not being recycled.
#[inline(always)]
#[must_use]
pub const fn is_stable(generation: u64) -> bool {
    generation & 1 == 0
}

/// The use of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Role {
    /// Empty.
    Free = 0,
    /// Being appended to.
    Open = 1,
    /// Full.
    Closed = 2,
}

impl Role {
    /// The role that a word stands for, if any.
    #[must_use]
    pub const fn from_word(word: u64) -> Option<Role> {
        match word {
            0 => Some(Role::Free),
            1 => Some(Role::Open),
            2 => Some(Role::Closed),
            _ => None,
        }
    }
}
