//! Segments: what is recycled as a whole.
//!
//! What readers need of a segment, its generation, stands apart from what only the owner and a
//! restart need: generations lie side by side, eight to a line, and are stored only when a segment
//! is recycled, so that they stay in every reader's nearest cache.
//!
//! ```text
//!  generations        one word for each segment, padded to a line
//!  segment headers    for each segment one line:
//!      word 0  role
//!           1  sequence: when it was opened, in segments opened so far
//!           2  filled: bytes from its start that hold entries
//!           3  earliest expiry tick of them
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

/// Whether nothing is being recycled.
#[inline(always)]
#[must_use]
pub const fn is_stable(generation: u64) -> bool {
    generation & 1 == 0
}

/// What a segment is for.
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
    /// The role that a word means, if any.
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
