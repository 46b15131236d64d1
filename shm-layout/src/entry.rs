//! An entry, immutable once a slot refers to it.
//!
//! ```text
//!  offset
//!       +--------------------------------+----------------+--------+--------+
//!   0   | value bytes (32)               | key bytes (16) | policy | marks  |
//!       +--------------------------------+----------------+--------+--------+
//!   8   | version (64)                                                      |
//!       +--------------------------------+---------------------------------+
//!  16   | expiry tick (32)               | checksum (32)                   |
//!       +--------------------------------+---------------------------------+
//!  24   | client flags (32), only with the mark FLAGS      | zero          |
//!       +------------------------------------------------------------------+
//!   .   | key, zero-padded to a multiple of 8                              |
//!       +------------------------------------------------------------------+
//!   .   | value, zero-padded to a multiple of 8                            |
//!       +------------------------------------------------------------------+
//! ```
//!
//! (Low bits left, in byte order.) Key and value begin on words of their own, because shared memory
//! is read in aligned words only.

use crate::error::LayoutError;
use crate::hash::{KeyHash, TableHasher};
use crate::memory::{MemoryMut, WORD_BYTES, words_for};

/// Bytes of the fixed header.
pub const ENTRY_HEADER_BYTES: usize = 24;
/// Longest key.
pub const KEY_BYTES_MAX: usize = 65_000;
/// A word of client flags follows the header.
pub const MARK_FLAGS: u8 = 1;
/// The key is known to have no value.
pub const MARK_ABSENT: u8 = 2;
/// Visible only above the strict floor and before the lease ends.
pub const MARK_STRICT: u8 = 4;
const MARKS: u8 = MARK_FLAGS | MARK_ABSENT | MARK_STRICT;

/// A tick is 2^24 ns, 16.8 ms; 32 bits of them count 834 days since the table was made.
pub const TICK_BITS: u32 = 24;
/// The expiry of an entry that has none.
pub const NEVER: u32 = u32::MAX;

/// The tick of `ns`, in nanoseconds since the table's epoch. At the last tick every entry that
/// expires has expired.
#[inline(always)]
#[must_use]
pub const fn tick(ns: u64) -> u32 {
    let tick = ns >> TICK_BITS;
    #[expect(clippy::cast_possible_truncation, reason = "guarded by the comparison")]
    if tick >= NEVER as u64 { NEVER } else { tick as u32 }
}

/// The expiry tick of an entry that must be invisible at `deadline_ns`. One tick early, because the
/// readers' clock may lag by one of its own ticks (4 to 10 ms), which is less than one of ours.
#[must_use]
pub const fn expiry_tick(deadline_ns: u64) -> u32 {
    let tick = tick(deadline_ns);
    if tick == NEVER { NEVER - 1 } else { tick.saturating_sub(1) }
}

/// The first 24 bytes of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryHeader {
    /// Bytes of the value.
    pub value_bytes: u32,
    /// Bytes of the key.
    pub key_bytes: u16,
    /// Rule of the policy that it was stored under.
    pub policy: u8,
    /// `MARK_*`.
    pub marks: u8,
    /// Table-wide, ever rising.
    pub version: u64,
    /// Visible while the current tick is below this one; [`NEVER`]: always.
    pub expiry: u32,
    /// Of the rest of the entry.
    pub checksum: u32,
}

/// The first word of an entry, which a read needs before all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntrySizes(pub u64);

#[expect(clippy::cast_possible_truncation, reason = "fields are cut out of the word")]
impl EntrySizes {
    /// Bytes of the value.
    #[inline(always)]
    #[must_use]
    pub const fn value_bytes(self) -> u32 {
        self.0 as u32
    }

    /// Bytes of the key.
    #[inline(always)]
    #[must_use]
    pub const fn key_bytes(self) -> usize {
        (self.0 >> 32) as u16 as usize
    }

    /// Rule of the policy.
    #[inline(always)]
    #[must_use]
    pub const fn policy(self) -> u8 {
        (self.0 >> 48) as u8
    }

    /// `MARK_*`.
    #[inline(always)]
    #[must_use]
    pub const fn marks(self) -> u8 {
        (self.0 >> 56) as u8
    }

    /// Whether the key has `key_bytes` bytes and there are no marks.
    #[inline(always)]
    #[must_use]
    pub const fn is_plain(self, key_bytes: usize) -> bool {
        // One comparison for both: the key's bytes, and the marks below them.
        let both = ((self.0 >> 32) as u32).rotate_left(8) & 0x00ff_ffff;
        both as u64 == (key_bytes as u64) << 8
    }

    /// Words from the start of the entry to its key.
    #[inline(always)]
    #[must_use]
    pub const fn key_word(self) -> usize {
        ENTRY_HEADER_BYTES / WORD_BYTES + (self.marks() & MARK_FLAGS) as usize
    }

    /// Whether an entry of a table with this largest value can have these sizes and marks.
    #[inline(always)]
    #[must_use]
    pub const fn is_plausible(self, value_bytes_max: u32) -> bool {
        self.key_bytes() >= 1
            && self.key_bytes() <= KEY_BYTES_MAX
            && self.value_bytes() <= value_bytes_max
            && self.marks() & !MARKS == 0
            && (self.marks() & MARK_ABSENT == 0 || self.value_bytes() == 0)
    }
}

impl EntryHeader {
    /// Packs the header into its three words.
    #[inline(always)]
    #[must_use]
    pub const fn pack(&self) -> [u64; 3] {
        [
            self.value_bytes as u64
                | (self.key_bytes as u64) << 32
                | (self.policy as u64) << 48
                | (self.marks as u64) << 56,
            self.version,
            self.expiry as u64 | (self.checksum as u64) << 32,
        ]
    }

    /// Unpacks the three words; checks nothing.
    #[inline(always)]
    #[must_use]
    pub const fn unpack(words: [u64; 3]) -> EntryHeader {
        #[expect(clippy::cast_possible_truncation, reason = "fields are cut out of words")]
        EntryHeader {
            value_bytes: words[0] as u32,
            key_bytes: (words[0] >> 32) as u16,
            policy: (words[0] >> 48) as u8,
            marks: (words[0] >> 56) as u8,
            version: words[1],
            expiry: words[2] as u32,
            checksum: (words[2] >> 32) as u32,
        }
    }

    /// Words from the start of the entry to its key.
    #[inline(always)]
    #[must_use]
    pub const fn key_word(&self) -> usize {
        EntrySizes(self.pack()[0]).key_word()
    }

    /// Words from the start of the entry to its value.
    #[inline(always)]
    #[must_use]
    pub const fn value_word(&self) -> usize {
        self.key_word() + words_for(self.key_bytes as usize)
    }

    /// Words of the whole entry.
    #[inline(always)]
    #[must_use]
    pub const fn words(&self) -> usize {
        self.value_word() + words_for(self.value_bytes as usize)
    }

    /// Bytes of the whole entry.
    #[inline(always)]
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.words() * WORD_BYTES
    }

    /// Whether an entry of a table with this largest value can have this header. Does not verify
    /// the checksum.
    #[inline(always)]
    #[must_use]
    pub const fn is_plausible(&self, value_bytes_max: u32) -> bool {
        EntrySizes(self.pack()[0]).is_plausible(value_bytes_max)
    }
}

/// Most bytes that an entry with a value of `value_bytes` bytes can take.
#[must_use]
pub const fn entry_bytes_max(value_bytes: u32) -> usize {
    ENTRY_HEADER_BYTES
        + WORD_BYTES
        + (words_for(KEY_BYTES_MAX) + words_for(value_bytes as usize)) * WORD_BYTES
}

/// An entry as the owner stores it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Entry<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The value.
    pub value: &'a [u8],
    /// Client flags; 0 takes no space.
    pub flags: u32,
    /// Rule of the policy.
    pub policy: u8,
    /// The key is known to have no value.
    pub absent: bool,
    /// Visible only above the strict floor and under a lease.
    pub strict: bool,
    /// Table-wide version.
    pub version: u64,
    /// Expiry tick; 0 in a default value: expired at once.
    pub expiry: u32,
}

impl<'a> Entry<'a> {
    /// Builds the header.
    ///
    /// # Errors
    /// A key of 0 or more than [`KEY_BYTES_MAX`] bytes, or a value beyond 32 bits.
    #[inline(always)]
    pub fn prepare(&self) -> Result<PreparedEntry<'a>, LayoutError> {
        if self.key.is_empty() || self.key.len() > KEY_BYTES_MAX {
            return Err(LayoutError::KeyBytes { bytes: self.key.len() });
        }
        let too_long = LayoutError::ValueBytes { bytes: self.value.len() };
        let header = EntryHeader {
            value_bytes: u32::try_from(self.value.len()).map_err(|_| too_long)?,
            key_bytes: u16::try_from(self.key.len()).unwrap_or(u16::MAX),
            policy: self.policy,
            marks: (MARK_FLAGS * u8::from(self.flags != 0))
                | (MARK_ABSENT * u8::from(self.absent))
                | (MARK_STRICT * u8::from(self.strict)),
            version: self.version,
            expiry: self.expiry,
            checksum: 0,
        };
        Ok(PreparedEntry { entry: *self, header: header.pack() })
    }
}

/// An entry and its header, built once for everyone who needs its size or its fields. Only the
/// checksum is missing: it takes a pass over the value, and is computed when the entry is stored.
#[derive(Debug, Clone, Copy)]
pub struct PreparedEntry<'a> {
    entry: Entry<'a>,
    /// Packed, with a checksum of 0. Fields that are stored one by one and then loaded as words
    /// cause store-forwarding stalls.
    header: [u64; 3],
}

impl<'a> PreparedEntry<'a> {
    /// The entry.
    #[inline(always)]
    #[must_use]
    pub const fn entry(&self) -> &Entry<'a> {
        &self.entry
    }

    /// Its header, with a checksum of 0.
    #[inline(always)]
    #[must_use]
    pub const fn header(&self) -> EntryHeader {
        EntryHeader::unpack(self.header)
    }

    /// Words of the whole entry.
    #[inline(always)]
    #[must_use]
    pub const fn words(&self) -> usize {
        self.header().words()
    }

    /// Stores the entry at word `at`, with its checksum. `hash` is its key's under `hasher`.
    ///
    /// # Safety
    /// `at..at + self.words()` are words of `memory` that nobody else writes and no slot refers to.
    #[inline(always)]
    pub unsafe fn store(
        &self,
        memory: &impl MemoryMut,
        at: usize,
        hasher: &TableHasher,
        hash: KeyHash,
    ) {
        let PreparedEntry { entry, header: mut words } = *self;
        let header = self.header();
        words[2] |= u64::from(hasher.checksum(words, entry.flags, hash, entry.value)) << 32;
        // SAFETY: the caller vouches for all words of the entry. The header was made from this
        // entry, so its parts follow one another and end with the entry.
        unsafe {
            for (index, word) in words.into_iter().enumerate() {
                crate::fault_point!("entry.header");
                memory.store(at + index, word);
            }
            if header.marks & MARK_FLAGS != 0 {
                crate::fault_point!("entry.flags");
                memory.store(at + 3, u64::from(entry.flags));
            }
            crate::fault_point!("entry.key");
            memory.copy_in(at + header.key_word(), entry.key);
            crate::fault_point!("entry.value");
            memory.copy_in(at + header.value_word(), entry.value);
        }
    }
}
