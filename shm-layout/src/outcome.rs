//! What a read returns, and what it carries from one of its steps to the next.

use crate::hash::KeyHash;
use crate::slot::SlotWord;

/// A value that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hit {
    /// Version of its entry.
    pub version: u64,
    /// Client flags.
    pub flags: u32,
    /// Bytes of the value: as many as the last call asked the destination for.
    pub value_bytes: u32,
    /// Expiry tick.
    pub expiry: u32,
    /// Rule of the policy that it was stored under.
    pub policy: u8,
}

/// Where a read found an entry, and in which generation of its segment. That identifies the entry
/// among all that the table ever held or will hold.
#[derive(Debug, Clone, Copy)]
pub struct Sighting {
    pub(crate) slot: usize,
    pub(crate) word: SlotWord,
    pub(crate) segment: u32,
    pub(crate) generation: u64,
    pub(crate) marks: u8,
    pub(crate) hit: Hit,
}

impl Sighting {
    /// The hit that the read returned.
    #[inline(always)]
    #[must_use]
    pub const fn hit(&self) -> &Hit {
        &self.hit
    }
}

/// The result of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The value is in the destination.
    Hit(Hit),
    /// The key is known to have no value.
    Absent,
    /// The table does not hold the key.
    Miss,
    /// The table is no longer in use: attach again (R0).
    Detached,
}

/// A key's lookup under way: its hash and, after
/// [`Reader::prefetch_entry`](crate::Reader::prefetch_entry), the slot whose entry is prefetched.
#[derive(Debug, Clone, Copy, Default)]
pub struct Probe {
    pub(crate) hash: KeyHash,
    /// The first slot with the key's tag; 0, which is no slot, while it is not known.
    pub(crate) slot: usize,
}

impl Probe {
    /// The key's hash.
    #[inline(always)]
    #[must_use]
    pub const fn hash(&self) -> KeyHash {
        self.hash
    }
}

/// Why [`Reader::read_fast`](crate::Reader::read_fast) returned no hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoHit {
    /// Like [`Outcome::Miss`].
    Miss,
    /// Like [`Outcome::Detached`].
    Detached,
    /// The fast path cannot tell; [`Reader::read_slow`](crate::Reader::read_slow) can.
    Unclear,
}
