//! Shared memory as aligned 64-bit words, and the only code that touches them.
//!
//! A reader has a read-only mapping that another process may change at any moment. On such memory
//! Rust defines only relaxed atomic loads of up to 8 bytes (the section on read-only memory in
//! `core::sync::atomic`), so a reader uses nothing else: no reference or slice into the table, no
//! acquire load, no read-modify-write. Order comes from fences, which access no memory. Three
//! assembly routines (a tag scan, a copy, a comparison in registers) are outside the language's
//! rules and are audited instead (see `assembly`).

use crate::mailbox::AtomicMemory;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// Bytes of a word.
pub const WORD_BYTES: usize = 8;
/// Words of a cache line.
pub const LINE_WORDS: usize = 8;

/// The number of whole words that `bytes` bytes take.
#[inline(always)]
#[must_use]
#[expect(clippy::manual_div_ceil, reason = "it takes three times the instructions")]
pub const fn words_for(bytes: usize) -> usize {
    (bytes + (WORD_BYTES - 1)) / WORD_BYTES
}

/// Memory that another process may be writing.
///
/// Word indices count from the start of the memory.
pub trait Memory: Clone {
    /// Loads word `index`, relaxed.
    ///
    /// # Safety
    /// `index` is below the number of words of this memory.
    unsafe fn load(&self, index: usize) -> u64;

    /// `fence(Acquire)`: nothing below it is loaded before anything above it.
    fn fence_acquire(&self);

    /// A bit mask of the slots of the bucket at `bucket` that have this tag: bit n is slot n. Only
    /// a hint: the caller loads a slot again before it uses it.
    ///
    /// # Safety
    /// `bucket..bucket + 8` are words of this memory; `bucket` is a multiple of 8.
    #[inline]
    unsafe fn match_tag(&self, bucket: usize, tag: u16) -> u32 {
        let mut mask = 0;
        for slot in 0..8 {
            // SAFETY: the caller vouches for all eight words.
            let word = unsafe { self.load(bucket + slot) };
            mask |= u32::from(crate::slot::SlotWord(word).tag() == tag) << slot;
        }
        mask
    }

    /// Copies `bytes` bytes that begin at word `from` to `to`. They may be torn: the caller uses
    /// them only after it has found the generation unchanged (R6).
    ///
    /// # Safety
    /// `from..from + words_for(bytes)` are words of this memory; `to` is valid for writing `bytes`
    /// bytes and nobody else touches them.
    #[inline]
    unsafe fn copy_out(&self, from: usize, to: *mut u8, bytes: usize) {
        // SAFETY: passed on unchanged.
        unsafe { copy_out_by_words(self, from, to, bytes) }
    }

    /// Whether the bytes that begin at word `from` equal `bytes`. They may be torn, so the result
    /// counts only after the generation has been found unchanged (R6).
    ///
    /// # Safety
    /// `from..from + words_for(bytes.len())` are words of this memory; the last is padded with
    /// zeros.
    #[inline(always)]
    unsafe fn equals(&self, from: usize, bytes: &[u8]) -> bool {
        // SAFETY: passed on unchanged.
        unsafe { equals_by_words(self, from, bytes) }
    }

    /// Prefetches the cache line of word `index`. Never faults, whatever `index` is.
    #[inline]
    fn prefetch(&self, index: usize) {
        let _ = index;
    }
}

/// Memory whose words this process may store, if nobody else writes the same ones.
pub trait MemoryMut: Memory {
    /// Stores word `index`, relaxed.
    ///
    /// # Safety
    /// `index` is below the number of words of this memory, and nobody else writes it.
    unsafe fn store(&self, index: usize, word: u64);

    /// `fence(Release)`: nothing above it is stored after anything below it.
    fn fence_release(&self);

    /// Copies `bytes` to the words that begin at `to`, zero-padded to whole words.
    ///
    /// # Safety
    /// The same as for [`store`](Self::store), for `to..to + words_for(bytes.len())`.
    #[inline]
    unsafe fn copy_in(&self, to: usize, bytes: &[u8]) {
        let (chunks, tail) = bytes.as_chunks::<WORD_BYTES>();
        for (index, chunk) in chunks.iter().enumerate() {
            crate::fault_point!("bytes.word");
            // SAFETY: `index` is below the whole words of `bytes`.
            unsafe { self.store(to + index, u64::from_le_bytes(*chunk)) };
        }
        if !tail.is_empty() {
            crate::fault_point!("bytes.tail");
            // SAFETY: with a tail, `words_for` counts one word beyond the whole ones.
            unsafe { self.store(to + chunks.len(), padded(tail)) };
        }
    }
}

/// The last word of `bytes`, zero-padded; `tail` are its bytes. If there are words before it, one
/// load that ends with `bytes` gets it.
#[inline(always)]
fn last_word(bytes: &[u8], tail: &[u8]) -> u64 {
    match bytes.last_chunk() {
        Some(last) => u64::from_le_bytes(*last) >> (8 * (WORD_BYTES - tail.len())),
        None => padded(tail),
    }
}

/// Up to eight bytes as the low bytes of a word. Uses overlapping loads: a copy of unknown length
/// would be a call, and then a load that spans several smaller stores (a store-forwarding stall).
#[inline(always)]
fn padded(tail: &[u8]) -> u64 {
    let length = tail.len();
    if let (Some(low), Some(high)) = (tail.first_chunk::<4>(), tail.last_chunk::<4>()) {
        let shift = 8 * (length - 4);
        return u64::from(u32::from_le_bytes(*low)) | u64::from(u32::from_le_bytes(*high)) << shift;
    }
    let (Some(low), Some(high)) = (tail.first(), tail.last()) else { return 0 };
    let middle = tail[length / 2];
    u64::from(*low)
        | u64::from(middle) << (8 * (length / 2))
        | u64::from(*high) << (8 * (length - 1))
}

/// Compares with one relaxed load for each word, which the language defines.
#[inline(always)]
unsafe fn equals_by_words<M: Memory>(memory: &M, from: usize, bytes: &[u8]) -> bool {
    let (chunks, tail) = bytes.as_chunks::<WORD_BYTES>();
    for (index, chunk) in chunks.iter().enumerate() {
        // SAFETY: `index` is below the whole words of `bytes`.
        if unsafe { memory.load(from + index) } != u64::from_le_bytes(*chunk) {
            return false;
        }
    }
    // SAFETY: with a tail, `words_for` counts one word beyond the whole ones.
    tail.is_empty() || unsafe { memory.load(from + chunks.len()) } == last_word(bytes, tail)
}

/// Copies with one relaxed load for each word, which the language defines.
#[inline]
unsafe fn copy_out_by_words<M: Memory>(memory: &M, from: usize, to: *mut u8, bytes: usize) {
    let whole = bytes / WORD_BYTES;
    for index in 0..whole {
        // SAFETY: `index` is below the whole words of the source, and `index * 8 + 8 <= bytes`.
        unsafe { to.cast::<u64>().add(index).write_unaligned(memory.load(from + index)) };
    }
    let tail = bytes % WORD_BYTES;
    if tail != 0 {
        // SAFETY: with a tail, the source has one word beyond the whole ones.
        let word = unsafe { memory.load(from + whole) }.to_le_bytes();
        // SAFETY: `tail` bytes remain in the destination after the whole words.
        unsafe { to.add(whole * WORD_BYTES).copy_from_nonoverlapping(word.as_ptr(), tail) };
    }
}

/// A read-only mapping of a table.
#[derive(Debug, Clone, Copy)]
pub struct Mapped {
    base: *const AtomicU64,
}

// SAFETY: the words are atomics, and the caller of `new` vouched that they stay mapped.
unsafe impl Send for Mapped {}
// SAFETY: as above; no method needs exclusive access.
unsafe impl Sync for Mapped {}

impl Mapped {
    /// Memory that begins at `base`.
    ///
    /// # Safety
    /// `base` is aligned to 64 bytes. As many bytes as the geometry says that it is used with stay
    /// mapped for reading as long as this value or a copy of it is used. This process accesses the
    /// memory only through values of this module.
    #[must_use]
    pub const unsafe fn new(base: *const u8) -> Mapped {
        Mapped { base: base.cast() }
    }
}

impl Memory for Mapped {
    #[inline(always)]
    unsafe fn load(&self, index: usize) -> u64 {
        // SAFETY: the word is mapped, aligned (64-byte base, whole words) and only accessed as an
        // AtomicU64 here, as words by the owner, or by the audited routines.
        unsafe { (*self.base.add(index)).load(Ordering::Relaxed) }
    }

    #[inline(always)]
    fn fence_acquire(&self) {
        fence(Ordering::Acquire);
    }

    #[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)))]
    #[inline(always)]
    unsafe fn match_tag(&self, bucket: usize, tag: u16) -> u32 {
        // SAFETY: the caller vouches for the 64 bytes; buckets begin at multiples of 64 bytes.
        unsafe { assembly::match_tag(self.base.add(bucket).cast(), tag) }
    }

    #[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)))]
    #[inline(always)]
    unsafe fn copy_out(&self, from: usize, to: *mut u8, bytes: usize) {
        if bytes < assembly::COPY_BYTES_MIN {
            // SAFETY: passed on unchanged.
            unsafe { copy_out_by_words(self, from, to, bytes) }
        } else {
            // SAFETY: passed on unchanged.
            unsafe { assembly::copy(self.base.add(from).cast(), to, bytes) }
        }
    }

    #[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)))]
    #[inline(always)]
    unsafe fn equals(&self, from: usize, bytes: &[u8]) -> bool {
        if (assembly::EQUALS_BYTES_MIN..=assembly::EQUALS_BYTES_MAX).contains(&bytes.len()) {
            // SAFETY: passed on unchanged.
            unsafe { assembly::equals(self.base.add(from).cast(), bytes) }
        } else {
            // SAFETY: passed on unchanged.
            unsafe { equals_by_words(self, from, bytes) }
        }
    }

    #[inline(always)]
    fn prefetch(&self, index: usize) {
        prefetch(self.base.wrapping_add(index).cast());
    }
}

/// Prefetches the cache line at `address`. Never faults, whatever the address.
#[inline(always)]
pub fn prefetch(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use core::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: a prefetch reads nothing architecturally; any address is allowed.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(address.cast()) };
    }
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    // SAFETY: a prefetch hint never faults and changes no register or memory.
    unsafe {
        core::arch::asm!("prfm pldl1keep, [{0}]", in(reg) address,
            options(nostack, preserves_flags, readonly));
    }
    let _ = address;
}

/// The owner's mapping of a table, or either side's of a mailbox.
#[derive(Debug, Clone, Copy)]
pub struct MappedMut {
    mapped: Mapped,
}

impl MappedMut {
    /// Memory that begins at `base`.
    ///
    /// # Safety
    /// The same as for [`Mapped::new`], mapped for writing too. Of a table, this process is the
    /// only one that writes; of a mailbox, both sides do.
    #[must_use]
    pub const unsafe fn new(base: *mut u8) -> MappedMut {
        // SAFETY: the caller vouches for more than this needs.
        MappedMut { mapped: unsafe { Mapped::new(base) } }
    }

    /// The same memory for reading.
    #[must_use]
    pub const fn reading(&self) -> Mapped {
        self.mapped
    }
}

impl Memory for MappedMut {
    #[inline(always)]
    unsafe fn load(&self, index: usize) -> u64 {
        // SAFETY: passed on unchanged.
        unsafe { self.mapped.load(index) }
    }
    #[inline(always)]
    fn fence_acquire(&self) {
        self.mapped.fence_acquire();
    }
    #[inline(always)]
    unsafe fn match_tag(&self, bucket: usize, tag: u16) -> u32 {
        // SAFETY: passed on unchanged.
        unsafe { self.mapped.match_tag(bucket, tag) }
    }
    #[inline(always)]
    unsafe fn copy_out(&self, from: usize, to: *mut u8, bytes: usize) {
        // SAFETY: passed on unchanged.
        unsafe { self.mapped.copy_out(from, to, bytes) }
    }
    #[inline(always)]
    fn prefetch(&self, index: usize) {
        self.mapped.prefetch(index);
    }
}

impl MemoryMut for MappedMut {
    #[inline(always)]
    unsafe fn store(&self, index: usize, word: u64) {
        // SAFETY: the word is mapped for writing, aligned, and accessed as an atomic by everybody.
        unsafe { (*self.mapped.base.add(index)).store(word, Ordering::Relaxed) }
    }

    #[inline(always)]
    fn fence_release(&self) {
        fence(Ordering::Release);
    }
}

impl MappedMut {
    /// The low half of a word, as a futex.
    ///
    /// # Safety
    /// `index` is below the number of words of this memory. The reference is only passed to the
    /// kernel: all other code accesses the word as a whole.
    #[must_use]
    pub unsafe fn futex(&self, index: usize) -> &AtomicU32 {
        // SAFETY: the word is mapped, aligned to 8 bytes, and its low half comes first.
        unsafe { &*self.mapped.base.add(index).cast::<AtomicU32>() }
    }

    /// The word as an atomic that both sides write.
    ///
    /// # Safety
    /// `index` is below the number of words of this memory.
    #[inline(always)]
    unsafe fn word(&self, index: usize) -> &AtomicU64 {
        // SAFETY: the word is mapped and aligned, and accessed as an atomic by everybody.
        unsafe { &*self.mapped.base.add(index) }
    }
}

impl AtomicMemory for MappedMut {
    #[inline(always)]
    fn fence_seq_cst(&self) {
        fence(Ordering::SeqCst);
    }

    #[inline(always)]
    unsafe fn swap(&self, index: usize, word: u64) -> u64 {
        // SAFETY: passed on unchanged.
        unsafe { self.word(index) }.swap(word, Ordering::AcqRel)
    }

    #[inline(always)]
    unsafe fn compare_exchange(&self, index: usize, old: u64, new: u64) -> bool {
        // SAFETY: passed on unchanged.
        let word = unsafe { self.word(index) };
        word.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    #[inline(always)]
    unsafe fn add(&self, index: usize, number: u64) -> u64 {
        // SAFETY: passed on unchanged.
        unsafe { self.word(index) }.fetch_add(number, Ordering::Relaxed)
    }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
#[path = "assembly_x86_64.rs"]
mod assembly;

#[cfg(all(target_arch = "aarch64", not(miri)))]
#[path = "assembly_aarch64.rs"]
mod assembly;
