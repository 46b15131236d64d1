//! The header: the table's identity, and the few words that every read loads.
//!
//! ```text
//!  byte
//!     0  identity, first copy     (16 words)  written once, before the table is published
//!   512  identity, second copy    (16 words)
//!  1024  owner's words            (21 words)  for a restart; hits do not load them
//!  2048  hot line: state, strict floor, lease until, clock offset, policy floors 0 to 3
//!  2112  policy floors 4 to 255
//!  4160  keys in change           (504 words) for a restart
//!  8192  end
//! ```
//!
//! The copies are on different lines and halves of a page, so that one stray line cannot damage
//! both in the same way. All times are nanoseconds since the table's epoch.

use crate::error::LayoutError;
use crate::memory::{Memory, MemoryMut};

/// Bytes of the header.
pub const HEADER_BYTES: usize = 8192;
/// Raised with every change of what bytes mean.
pub const LAYOUT_VERSION: u32 = 1;
/// "l1dtable", in byte order.
pub const MAGIC: u64 = u64::from_le_bytes(*b"l1dtable");

/// Words of one copy of the identity.
pub const IDENTITY_WORDS: usize = 16;
/// Word at which each copy begins.
pub const IDENTITY_COPIES: [usize; 2] = [0, 64];

/// No version above this word's value has been given out; a restart begins there (W5).
pub const VERSION_CEILING: usize = 128;
/// Counts the daemons that have owned this table.
pub const INSTANCE: usize = 129;
/// Fingerprint of the policy that the entries were stored under.
pub const POLICY_FINGERPRINT: usize = 130;
/// Not zero while a tier may still carry out a change that it has not answered, or memcached owes a
/// delete: the daemon that dies meanwhile leaves that to its successor. Zero in tables of builds
/// that did not know it, which neither read nor store it; so it is no part of the fingerprint.
pub const UNSETTLED: usize = 131;
/// While that is not zero: the daemon's session with Redis, which its successor ends there.
pub const SESSION: [usize; 2] = [132, 133];
/// Rises when another policy comes into force. A reader that has looked up a key's rule under
/// another epoch asks the daemon for the policy; hits do not load it. Zero in tables of builds that
/// did not know it, which leave it alone; so it is no part of the fingerprint.
pub const POLICY_EPOCH: usize = 134;

/// Segments, from the first on, whose memory is allocated (W1); 0: all. Clients populate no more
/// than these, and a restart trusts no more. Zero in tables of builds that did not know it, whose
/// files were allocated in full; so it is no part of the fingerprint.
pub const USABLE_SEGMENTS: usize = 135;

/// Hashes of the keys whose change the tiers below may be carrying out; 0: none. Stored before the
/// first byte of the change is sent. Zero in tables of builds that did not know them, which neither
/// read nor store them; so they are no part of the fingerprint. An earlier build that takes the table
/// over in between leaves hashes of keys that are no longer in change, which costs their copies.
pub const CHANGING: usize = 520;
/// Number of these words.
pub const CHANGING_MAX: usize = 504;
/// A bit for each of these words, the lowest of the first for the first: L1 has what this daemon
/// told the writer, and only a tier may still change the key.
pub const DOUBTFUL: usize = 136;
/// Words of such bits.
pub const DOUBTFUL_WORDS: usize = CHANGING_MAX.div_ceil(64);
/// 1 if there are more such keys than words: any key may be one that only a tier may still change.
pub const CHANGING_MORE: usize = 144;
/// A bit for each policy, the lowest of the first word for policy 0: keys of its entries are in
/// change, and have no word.
pub const CHANGING_POLICIES: usize = 145;
/// Words of such bits.
pub const CHANGING_POLICIES_WORDS: usize = POLICIES / 64;

/// [`STATE_SERVING`] or why not (R0).
pub const STATE: usize = 256;
/// Strict entries with a lower version are invisible.
pub const STRICT_FLOOR: usize = 257;
/// Strict entries are visible before this time.
pub const LEASE_UNTIL: usize = 258;
/// CLOCK_MONOTONIC plus this is the time since the table's epoch, suspend included (R7). Wrapping
/// arithmetic: it may be negative.
pub const CLOCK_OFFSET: usize = 259;
/// First of the [`POLICIES`] policy floors: entries of that policy with a lower version are
/// invisible.
pub const POLICY_FLOORS: usize = 260;
/// Number of policies that a table can distinguish.
pub const POLICIES: usize = 256;
const _: () = assert!(STATE.is_multiple_of(8) && POLICY_FLOORS < STATE + 8);
const _: () = assert!(POLICY_FLOORS + POLICIES <= CHANGING && CHANGING.is_multiple_of(8));
const _: () = assert!((CHANGING + CHANGING_MAX) * 8 == HEADER_BYTES);
const _: () = assert!(DOUBTFUL + DOUBTFUL_WORDS == CHANGING_MORE);
const _: () = assert!(CHANGING_POLICIES + CHANGING_POLICIES_WORDS <= STATE);
const _: () = assert!(
    IDENTITY_COPIES[1] >= IDENTITY_WORDS && VERSION_CEILING >= IDENTITY_COPIES[1] + IDENTITY_WORDS
);

/// Being built; not yet published.
pub const STATE_BUILDING: u64 = 0;
/// In use.
pub const STATE_SERVING: u64 = 0x5345_5256;
/// Replaced by another table: attach again.
pub const STATE_SUPERSEDED: u64 = 0x4d4f_5645;

/// The identity of a table and its shape. Written once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Random, so that no two tables are confused.
    pub table_id: u64,
    /// Bytes of the file.
    pub table_bytes: u64,
    /// Bytes of a segment.
    pub segment_bytes: u64,
    /// Number of segments.
    pub segment_count: u64,
    /// Number of buckets.
    pub bucket_count: u64,
    /// Bytes of the largest value.
    pub value_bytes_max: u64,
    /// Seed of the key hash.
    pub hash_seed: u64,
    /// The kernel's boot id: expiries mean nothing after a reboot.
    pub boot_id: [u64; 2],
    /// CLOCK_BOOTTIME when the table was made, in ns.
    pub epoch_ns: u64,
}

/// Identifies the layout. Any change of a size, an offset or the key hash changes it, even if
/// [`LAYOUT_VERSION`] was not raised.
pub const FINGERPRINT: u64 = {
    let figures = [
        HEADER_BYTES,
        IDENTITY_WORDS,
        IDENTITY_COPIES[0],
        IDENTITY_COPIES[1],
        VERSION_CEILING,
        INSTANCE,
        POLICY_FINGERPRINT,
        STATE,
        STRICT_FLOOR,
        LEASE_UNTIL,
        CLOCK_OFFSET,
        POLICY_FLOORS,
        POLICIES,
        crate::segment::SEGMENT_HEADER_WORDS,
        crate::segment::ROLE,
        crate::segment::SEQUENCE,
        crate::segment::FILLED,
        crate::segment::EARLIEST_EXPIRY,
        crate::hash::HASH_ID,
        crate::slot::TAG_BITS as usize,
        crate::slot::POSITION_BITS as usize,
        crate::slot::SLOTS,
        crate::entry::ENTRY_HEADER_BYTES,
        crate::entry::KEY_BYTES_MAX,
        crate::entry::MARK_FLAGS as usize,
        crate::entry::MARK_ABSENT as usize,
        crate::entry::MARK_STRICT as usize,
        crate::entry::TICK_BITS as usize,
    ];
    fingerprint_of(&figures)
};

/// FNV-1a over the figures.
pub(crate) const fn fingerprint_of(figures: &[usize]) -> u64 {
    let mut sum = 0xcbf2_9ce4_8422_2325;
    let mut index = 0;
    while index < figures.len() {
        sum = fnv1a(sum, figures[index] as u64);
        index += 1;
    }
    sum
}

const fn fnv1a(mut sum: u64, word: u64) -> u64 {
    let bytes = word.to_le_bytes();
    let mut index = 0;
    while index < bytes.len() {
        sum = (sum ^ bytes[index] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        index += 1;
    }
    sum
}

impl Identity {
    /// The words of one copy, the checksum last.
    #[must_use]
    pub fn pack(&self) -> [u64; IDENTITY_WORDS] {
        let mut words = [0; IDENTITY_WORDS];
        words[..13].copy_from_slice(&[
            MAGIC,
            u64::from(LAYOUT_VERSION),
            FINGERPRINT,
            self.table_id,
            self.table_bytes,
            self.segment_bytes,
            self.segment_count,
            self.bucket_count,
            self.value_bytes_max,
            self.hash_seed,
            self.boot_id[0],
            self.boot_id[1],
            self.epoch_ns,
        ]);
        words[IDENTITY_WORDS - 1] = checksum(&words);
        words
    }

    /// Checks one copy.
    ///
    /// # Errors
    /// The first check that fails: magic, version, fingerprint, checksum.
    pub fn unpack(words: &[u64; IDENTITY_WORDS]) -> Result<Identity, LayoutError> {
        if words[0] != MAGIC {
            return Err(LayoutError::Magic);
        }
        if words[1] != u64::from(LAYOUT_VERSION) {
            let found = u32::try_from(words[1]).unwrap_or(u32::MAX);
            return Err(LayoutError::Version { found });
        }
        if words[2] != FINGERPRINT {
            return Err(LayoutError::Fingerprint);
        }
        if words[IDENTITY_WORDS - 1] != checksum(words) {
            return Err(LayoutError::Damaged);
        }
        Ok(Identity {
            table_id: words[3],
            table_bytes: words[4],
            segment_bytes: words[5],
            segment_count: words[6],
            bucket_count: words[7],
            value_bytes_max: words[8],
            hash_seed: words[9],
            boot_id: [words[10], words[11]],
            epoch_ns: words[12],
        })
    }

    /// Loads both copies of a table of `bytes` bytes; they must agree.
    ///
    /// # Errors
    /// The first check of the first copy that fails, or [`LayoutError::Damaged`] if they differ.
    ///
    /// # Safety
    /// `memory` has `bytes` bytes.
    pub unsafe fn load(memory: &impl Memory, bytes: u64) -> Result<Identity, LayoutError> {
        if bytes < HEADER_BYTES as u64 {
            return Err(LayoutError::TooSmall { bytes });
        }
        // SAFETY: both copies lie in the header, and the memory holds a header.
        let copies = IDENTITY_COPIES
            .map(|start| core::array::from_fn(|index| unsafe { memory.load(start + index) }));
        let identity = Identity::unpack(&copies[0])?;
        if copies[0] != copies[1] {
            return Err(LayoutError::Damaged);
        }
        if identity.table_bytes != bytes {
            return Err(LayoutError::Size { expected: identity.table_bytes, found: bytes });
        }
        Ok(identity)
    }

    /// Stores both copies.
    ///
    /// # Safety
    /// `memory` holds a header, and nobody else writes it.
    pub unsafe fn store(&self, memory: &impl MemoryMut) {
        for start in IDENTITY_COPIES {
            for (index, word) in self.pack().into_iter().enumerate() {
                crate::fault_point!("identity.word");
                // SAFETY: both copies lie in the header.
                unsafe { memory.store(start + index, word) };
            }
        }
    }
}

/// FNV-1a over all words but the last.
fn checksum(words: &[u64; IDENTITY_WORDS]) -> u64 {
    words[..IDENTITY_WORDS - 1].iter().fold(0xcbf2_9ce4_8422_2325, |sum, word| fnv1a(sum, *word))
}
