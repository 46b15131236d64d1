//! Where the parts of a table are. The geometry is checked once, and every later address is
//! computed from this copy (R2), so a header that is damaged afterwards cannot send a reader out of
//! bounds.
//!
//! ```text
//!  header | generations | segment headers | buckets | segment 0 | segment 1 | ...
//! ```

use crate::entry::{ENTRY_HEADER_BYTES, entry_bytes_max};
use crate::error::LayoutError;
use crate::hash::{KeyHash, TableHasher};
use crate::header::{HEADER_BYTES, Identity};
use crate::memory::{LINE_WORDS, Memory, WORD_BYTES};
use crate::segment::SEGMENT_HEADER_WORDS;
use crate::slot::{POSITION_BITS, SLOTS};

/// Fewest segments of a table (W1).
pub const SEGMENTS_MIN: u64 = 16;
/// A segment holds at least this many entries of the largest size (W1): after the live part of a
/// segment is copied forward, the entry that needed the room always fits.
pub const ENTRIES_PER_SEGMENT_MIN: u64 = 4;
/// Most segments of a table, as a power of two.
pub const SEGMENT_COUNT_BITS: u32 = 20;
/// Most words of a segment, as a power of two.
pub const SEGMENT_WORDS_BITS: u32 = 28;
const _: () = assert!(SEGMENT_COUNT_BITS + SEGMENT_WORDS_BITS == POSITION_BITS);
/// Segments that a table is divided into, if its largest value allows.
const SEGMENTS_WANTED: u64 = 128;
/// Large parts begin on a page.
const PAGE: u64 = 4096;
const PAGE_WORDS: u64 = PAGE / WORD_BYTES as u64;

/// The sizes and the identity of a new table.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Bytes of the file; rounded down to whole pages.
    pub table_bytes: u64,
    /// Largest value.
    pub value_bytes_max: u32,
    /// Expected bytes of an entry, with header, key and value; determines the size of the index.
    pub entry_bytes: u32,
    /// Bytes of a segment; `None`: a 128th of the table, or more if the largest value needs it.
    pub segment_bytes: Option<u64>,
    /// Slots in use when the table is full of entries of the expected size, in percent.
    pub load_percent: u32,
    /// Random identity.
    pub table_id: u64,
    /// Seed of the key hash.
    pub hash_seed: u64,
    /// The kernel's boot id.
    pub boot_id: [u64; 2],
    /// CLOCK_BOOTTIME now, in ns.
    pub epoch_ns: u64,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan {
            table_bytes: 256 << 20,
            value_bytes_max: 1 << 20,
            entry_bytes: 256,
            segment_bytes: None,
            load_percent: 80,
            table_id: 0,
            hash_seed: 0,
            boot_id: [0; 2],
            epoch_ns: 0,
        }
    }
}

/// An entry's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// Number of the segment.
    pub segment: u32,
    /// Word in the segment at which the entry begins.
    pub word: u32,
}

/// A bucket of this table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    first_word: usize,
}

impl Bucket {
    /// The word of the table at which the bucket begins.
    #[inline(always)]
    #[must_use]
    pub const fn word(self) -> usize {
        self.first_word
    }

    /// The word of the table that is slot `index`, taken modulo the slots of a bucket.
    #[inline(always)]
    #[must_use]
    pub const fn slot(self, index: usize) -> usize {
        self.first_word + index % SLOTS
    }
}

/// A checked shape.
#[derive(Debug, Clone, Copy)]
pub struct Geometry {
    identity: Identity,
    hasher: TableHasher,
    bucket_count: u32,
    segment_count: u32,
    segment_words: usize,
    /// See [`locate`](Self::locate).
    segment_reciprocal: u64,
    value_bytes_max: u32,
    segment_headers: usize,
    buckets: usize,
    segments: usize,
    /// One more than the last word at which an entry header has room.
    end: usize,
}

const GENERATIONS: usize = HEADER_BYTES / WORD_BYTES;

impl Geometry {
    /// Lays out a new table.
    ///
    /// # Errors
    /// A table too small for its largest value, with the smallest that would do, or too large.
    pub fn plan(plan: &Plan) -> Result<Geometry, LayoutError> {
        let table_bytes = plan.table_bytes / PAGE * PAGE;
        let segment_min =
            round_up(ENTRIES_PER_SEGMENT_MIN * entry_bytes_max(plan.value_bytes_max) as u64, PAGE);
        let largest = (WORD_BYTES as u64) << POSITION_BITS;
        if plan.table_bytes > largest {
            return Err(LayoutError::TableTooLarge { bytes: plan.table_bytes, largest });
        }
        let segment_bytes = match plan.segment_bytes {
            Some(bytes) => round_up(bytes.min(largest), PAGE),
            None => round_up(table_bytes / SEGMENTS_WANTED, PAGE),
        };
        // The size of the index depends on the number of segments; the largest number that fits
        // wins.
        let segment_bytes =
            segment_bytes.max(segment_min).min((WORD_BYTES as u64) << SEGMENT_WORDS_BITS);
        if segment_bytes < segment_min {
            return Err(LayoutError::ValueBytes { bytes: plan.value_bytes_max as usize });
        }
        let need = |segments: u64| {
            let (bucket_count, fixed) = Self::index(plan, segments, segment_bytes);
            (bucket_count, fixed + segments * segment_bytes)
        };
        let mut segment_count = (table_bytes / segment_bytes).min(1 << SEGMENT_COUNT_BITS);
        while segment_count >= SEGMENTS_MIN && need(segment_count).1 > table_bytes {
            segment_count -= 1;
        }
        if segment_count < SEGMENTS_MIN {
            let smallest = need(SEGMENTS_MIN).1;
            return Err(LayoutError::TableTooSmall { bytes: plan.table_bytes, smallest });
        }
        let bucket_count = need(segment_count).0;
        if bucket_count > u64::from(u32::MAX) {
            let largest = table_bytes / bucket_count * u64::from(u32::MAX) / PAGE * PAGE;
            return Err(LayoutError::TableTooLarge { bytes: plan.table_bytes, largest });
        }
        Geometry::check(Identity {
            table_id: plan.table_id,
            table_bytes,
            segment_bytes,
            segment_count,
            bucket_count,
            value_bytes_max: u64::from(plan.value_bytes_max),
            hash_seed: plan.hash_seed,
            boot_id: plan.boot_id,
            epoch_ns: plan.epoch_ns,
        })
    }

    /// Buckets for `segments` segments, and bytes of all other parts together.
    fn index(plan: &Plan, segments: u64, segment_bytes: u64) -> (u64, u64) {
        let entries = (segments * segment_bytes).div_ceil(u64::from(plan.entry_bytes.max(32)));
        let per_bucket = SLOTS as u64 * u64::from(plan.load_percent.clamp(10, 95));
        let buckets = (entries * 100).div_ceil(per_bucket).max(1);
        let headers = HEADER_BYTES as u64
            + round_up(segments * WORD_BYTES as u64, 64)
            + segments * (SEGMENT_HEADER_WORDS * WORD_BYTES) as u64;
        (buckets, round_up(headers + buckets * 64, PAGE))
    }

    /// Checks the sizes in an identity against all limits.
    ///
    /// # Errors
    /// [`LayoutError::Geometry`] with the impossible figure.
    pub fn check(identity: Identity) -> Result<Geometry, LayoutError> {
        let wrong = |what| Err(LayoutError::Geometry { what });
        let (Ok(segment_count), Ok(bucket_count), Ok(value_bytes_max)) = (
            u32::try_from(identity.segment_count),
            u32::try_from(identity.bucket_count),
            u32::try_from(identity.value_bytes_max),
        ) else {
            return wrong("a count beyond 32 bits");
        };
        if !(SEGMENTS_MIN..=1 << SEGMENT_COUNT_BITS).contains(&identity.segment_count) {
            return wrong("the number of segments");
        }
        if bucket_count == 0 {
            return wrong("no buckets");
        }
        let segment_bytes = identity.segment_bytes;
        if segment_bytes == 0
            || !segment_bytes.is_multiple_of(PAGE)
            || segment_bytes > (WORD_BYTES as u64) << SEGMENT_WORDS_BITS
            || segment_bytes < ENTRIES_PER_SEGMENT_MIN * entry_bytes_max(value_bytes_max) as u64
        {
            return wrong("the size of a segment");
        }
        let generation_words = (segment_count as usize).next_multiple_of(LINE_WORDS);
        let segment_headers = GENERATIONS + generation_words;
        let buckets = segment_headers + segment_count as usize * SEGMENT_HEADER_WORDS;
        let segments =
            (buckets + bucket_count as usize * SLOTS).next_multiple_of(to_usize(PAGE) / WORD_BYTES);
        // At most 2^20 segments of 2^31 bytes and 2^32 buckets of 64: far below 2^64.
        let end = (segments * WORD_BYTES) as u64 + identity.segment_count * segment_bytes;
        if end > identity.table_bytes || !identity.table_bytes.is_multiple_of(PAGE) {
            return wrong("the parts do not fit the table");
        }
        let end_words = segments + to_usize(identity.segment_count * segment_bytes) / WORD_BYTES;
        Ok(Geometry {
            identity,
            hasher: TableHasher::new(identity.hash_seed),
            bucket_count,
            segment_count,
            segment_words: to_usize(segment_bytes) / WORD_BYTES,
            segment_reciprocal: u64::MAX / (segment_bytes / PAGE) + 1,
            value_bytes_max,
            segment_headers,
            buckets,
            segments,
            end: end_words - (ENTRY_HEADER_BYTES / WORD_BYTES - 1),
        })
    }

    /// Loads and checks the geometry of a table of `bytes` bytes (R2).
    ///
    /// # Errors
    /// The reason why the header is unfit: another program's file, another version, damage, wrong
    /// size.
    ///
    /// # Safety
    /// `memory` has `bytes` bytes.
    pub unsafe fn load(memory: &impl Memory, bytes: u64) -> Result<Geometry, LayoutError> {
        // SAFETY: passed on unchanged.
        Geometry::check(unsafe { Identity::load(memory, bytes) }?)
    }

    /// The table's identity.
    #[must_use]
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Hashes keys for this table.
    #[inline(always)]
    #[must_use]
    pub const fn hasher(&self) -> &TableHasher {
        &self.hasher
    }

    /// The number of segments.
    #[inline(always)]
    #[must_use]
    pub const fn segment_count(&self) -> u32 {
        self.segment_count
    }

    /// Words of a segment.
    #[inline(always)]
    #[must_use]
    pub const fn segment_words(&self) -> usize {
        self.segment_words
    }

    /// The number of buckets.
    #[must_use]
    pub const fn bucket_count(&self) -> u32 {
        self.bucket_count
    }

    /// Bytes of the largest value.
    #[inline(always)]
    #[must_use]
    pub const fn value_bytes_max(&self) -> u32 {
        self.value_bytes_max
    }

    /// Bytes of the index.
    #[must_use]
    pub const fn index_bytes(&self) -> u64 {
        self.bucket_count as u64 * 64
    }

    /// Bytes of all segments.
    #[must_use]
    pub const fn log_bytes(&self) -> u64 {
        self.segment_count as u64 * (self.segment_words * WORD_BYTES) as u64
    }

    /// Words of the whole table.
    #[must_use]
    pub const fn words(&self) -> usize {
        to_usize(self.identity.table_bytes) / WORD_BYTES
    }

    /// Bucket `index`, taken modulo their number.
    #[inline(always)]
    #[must_use]
    pub const fn bucket(&self, index: u32) -> Bucket {
        Bucket { first_word: self.buckets + (index % self.bucket_count) as usize * SLOTS }
    }

    /// Whether the table's word `word` is a slot.
    #[inline(always)]
    #[must_use]
    pub const fn is_slot(&self, word: usize) -> bool {
        word.wrapping_sub(self.buckets) < self.bucket_count as usize * SLOTS
    }

    /// The candidate lines of a key.
    #[inline(always)]
    #[must_use]
    pub const fn buckets(&self, hash: KeyHash) -> [Bucket; 2] {
        let [first, second] = hash.buckets(self.bucket_count);
        // Multiply-shift yields numbers below the count, so no remainder is needed.
        [
            Bucket { first_word: self.buckets + first as usize * SLOTS },
            Bucket { first_word: self.buckets + second as usize * SLOTS },
        ]
    }

    /// The table's word that is the log's word `position`; not checked against the log's size.
    #[inline(always)]
    pub(crate) const fn word_at(&self, position: u64) -> usize {
        self.segments + to_usize(position)
    }

    /// The log's word `position` as a word of the table and as a place in an existing segment;
    /// `None` if the log has no room for an entry header there.
    ///
    /// A division by a multiplication (Granlund and Montgomery, "Division by invariant integers
    /// using multiplication", 1994): with `p` pages to a segment and `r = ceil(2^64 / p)`, the
    /// quotient of `x` is the upper half of `x * r` while `x * p < 2^64`; here x < 2^39 and p <
    /// 2^20.
    #[inline(always)]
    #[must_use]
    pub const fn locate(&self, position: u64) -> Option<(usize, Location)> {
        let word = self.word_at(position);
        if word >= self.end {
            return None;
        }
        let page = position / PAGE_WORDS;
        let segment = ((page as u128 * self.segment_reciprocal as u128) >> 64) as u64;
        #[expect(clippy::cast_possible_truncation, reason = "fewer than 2^20 and fewer than 2^28")]
        let location = Location {
            segment: segment as u32,
            word: (position - segment * self.segment_words as u64) as u32,
        };
        Some((word, location))
    }

    /// The word of the log at which `at` lies.
    #[inline(always)]
    #[must_use]
    pub const fn position(&self, at: Location) -> u64 {
        at.segment as u64 * self.segment_words as u64 + at.word as u64
    }

    /// The word of the table at which `at` is; `None` if no entry header fits there.
    #[inline(always)]
    #[must_use]
    pub const fn resolve(&self, at: Location) -> Option<usize> {
        if at.segment < self.segment_count && (at.word as usize) + 3 <= self.segment_words {
            Some(self.segments + at.segment as usize * self.segment_words + at.word as usize)
        } else {
            None
        }
    }

    /// Bytes from the table's start to the end of its first `segments` segments; of all of them,
    /// the whole table.
    #[must_use]
    pub const fn bytes_up_to(&self, segments: u32) -> u64 {
        if segments >= self.segment_count {
            return self.identity.table_bytes;
        }
        ((self.segments + segments as usize * self.segment_words) * WORD_BYTES) as u64
    }

    /// The segments that the word [`USABLE_SEGMENTS`](crate::header::USABLE_SEGMENTS) stands for.
    #[must_use]
    pub const fn usable(&self, word: u64) -> u32 {
        #[expect(clippy::cast_possible_truncation, reason = "below the count, which is a u32")]
        if word == 0 || word > self.segment_count as u64 { self.segment_count } else { word as u32 }
    }

    /// The word with the generation of segment `segment`; `None` if there is no such segment.
    #[inline(always)]
    #[must_use]
    pub const fn generation(&self, segment: u32) -> Option<usize> {
        if segment < self.segment_count { Some(GENERATIONS + segment as usize) } else { None }
    }

    /// The word with the generation of a segment that [`locate`](Self::locate) has returned.
    #[inline(always)]
    pub(crate) const fn generation_at(&self, located: Location) -> usize {
        debug_assert!(located.segment < self.segment_count);
        GENERATIONS + located.segment as usize
    }

    /// The first word of the header of segment `segment`; `None` if there is no such segment.
    #[must_use]
    pub const fn segment_header(&self, segment: u32) -> Option<usize> {
        if segment < self.segment_count {
            Some(self.segment_headers + segment as usize * SEGMENT_HEADER_WORDS)
        } else {
            None
        }
    }
}

const fn round_up(bytes: u64, to: u64) -> u64 {
    bytes.div_ceil(to) * to
}

/// A 64-bit figure as an index; the crate builds only where both have 64 bits.
const fn to_usize(figure: u64) -> usize {
    #[expect(clippy::cast_possible_truncation, reason = "usize has 64 bits: see lib.rs")]
    {
        figure as usize
    }
}
