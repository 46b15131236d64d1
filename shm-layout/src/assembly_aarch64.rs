//! The assembly routines for aarch64. They use Advanced SIMD (NEON), which every aarch64 processor
//! that runs Linux has.
//!
//! They read memory that the owner may be writing; `assembly_x86_64.rs` says why that is right.
//! Unlike x86-64, this processor may reorder loads. The acquire fence after them is a `dmb ishld`,
//! which orders every earlier load, of whatever width, before everything that follows.

use core::arch::aarch64::{uint8x16_t, vandq_u8, vceqq_u8, vld1q_u8, vminvq_u8};
use core::arch::asm;

/// Fewest bytes that [`copy`] copies: one block.
pub const COPY_BYTES_MIN: usize = 16;

/// Bit n is set where the upper 16 bits of slot n equal `tag`.
///
/// # Safety
/// `bucket` is aligned to 16 bytes and 64 bytes are mapped there.
#[inline(always)]
pub unsafe fn match_tag(bucket: *const u8, tag: u16) -> u32 {
    let mask: u32;
    // SAFETY: two aligned loads of 32 bytes of mapped memory; registers declared, no stack, no
    // stores.
    unsafe {
        asm!(
            "ldp {a:q}, {c:q}, [{bucket}]",
            "ldp {d:q}, {e:q}, [{bucket}, 32]",
            "dup {t:v}.8h, {tag:w}",
            // The upper half of each of eight slot words, then the upper half of that.
            "uzp2 {a:v}.4s, {a:v}.4s, {c:v}.4s",
            "uzp2 {d:v}.4s, {d:v}.4s, {e:v}.4s",
            "uzp2 {a:v}.8h, {a:v}.8h, {d:v}.8h",
            "cmeq {a:v}.8h, {a:v}.8h, {t:v}.8h",
            // Narrow eight 16-bit lanes to bytes, keep a different bit of each, and add them up.
            "xtn {a:v}.8b, {a:v}.8h",
            "fmov {t:d}, {bits}",
            "and {a:v}.8b, {a:v}.8b, {t:v}.8b",
            "addv {a:b}, {a:v}.8b",
            "umov {mask:w}, {a:v}.b[0]",
            bucket = in(reg) bucket,
            tag = in(reg) u32::from(tag),
            bits = in(reg) 0x8040_2010_0804_0201_u64,
            mask = lateout(reg) mask,
            a = out(vreg) _,
            c = out(vreg) _,
            d = out(vreg) _,
            e = out(vreg) _,
            t = out(vreg) _,
            options(nostack, preserves_flags, readonly),
        );
    }
    mask
}

/// Fewest bytes that [`equals`] compares: one block.
pub const EQUALS_BYTES_MIN: usize = 16;
/// Most bytes that it compares: two blocks.
pub const EQUALS_BYTES_MAX: usize = 32;

/// Whether `bytes.len()` bytes at `from` equal `bytes`. Loads them into two registers, as blocks of
/// 16 that may overlap, and compares there.
///
/// # Safety
/// As many bytes are mapped for reading at `from`; they are [`EQUALS_BYTES_MIN`] to
/// [`EQUALS_BYTES_MAX`].
#[inline(always)]
pub unsafe fn equals(from: *const u8, bytes: &[u8]) -> bool {
    let (head, tail): (uint8x16_t, uint8x16_t);
    let rest = bytes.len() - 16;
    // SAFETY: loads of the first and the last 16 of 16 to 32 bytes.
    unsafe {
        asm!(
            "ldr {head:q}, [{from}]",
            "ldr {tail:q}, [{from}, {rest}]",
            from = in(reg) from,
            rest = in(reg) rest,
            head = out(vreg) head,
            tail = out(vreg) tail,
            options(nostack, preserves_flags, readonly),
        );
    }
    // SAFETY: loads of the same of the slice; NEON is there, as for all of this file.
    unsafe {
        let head = vceqq_u8(head, vld1q_u8(bytes.as_ptr()));
        let tail = vceqq_u8(tail, vld1q_u8(bytes.as_ptr().add(rest)));
        vminvq_u8(vandq_u8(head, tail)) == u8::MAX
    }
}

/// Copies `bytes` bytes: up to 64 as two or four blocks of 16 that may overlap, more as blocks of
/// 64, of which the last may overlap the one before.
///
/// # Safety
/// `from` is mapped for reading and `to` for writing `bytes` bytes; they do not overlap;
/// `bytes` is at least [`COPY_BYTES_MIN`].
#[inline(always)]
pub unsafe fn copy(from: *const u8, to: *mut u8, bytes: usize) {
    if bytes <= 32 {
        // SAFETY: the first and the last 16 of 16 to 32 bytes.
        return unsafe { copy_2_blocks(from, to, bytes) };
    }
    if bytes <= 64 {
        // SAFETY: the first and the last 32 of 33 to 64 bytes.
        return unsafe { copy_4_blocks(from, to, bytes) };
    }
    // SAFETY: passed on unchanged; more than 64.
    unsafe { copy_large(from, to, bytes) }
}

/// Out of line, so that inlined small copies stay short.
///
/// # Safety
/// The same as for [`copy`], and `bytes` is at least 64.
#[inline(never)]
unsafe fn copy_large(from: *const u8, to: *mut u8, bytes: usize) {
    let mut at = 0;
    while at < bytes - 64 {
        // SAFETY: `at + 64 < bytes`.
        unsafe { copy_4_blocks(from.add(at), to.add(at), 64) };
        at += 64;
    }
    // SAFETY: the last 64 of 64 bytes or more.
    unsafe { copy_4_blocks(from.add(bytes - 64), to.add(bytes - 64), 64) };
}

/// Copies the first and the last 16 of `bytes` bytes.
///
/// # Safety
/// The same as for [`copy`].
#[inline(always)]
unsafe fn copy_2_blocks(from: *const u8, to: *mut u8, bytes: usize) {
    // SAFETY: loads and stores of 16 bytes inside the two ranges.
    unsafe {
        asm!(
            "ldr {a:q}, [{from}]",
            "ldr {b:q}, [{from}, {last}]",
            "str {a:q}, [{to}]",
            "str {b:q}, [{to}, {last}]",
            from = in(reg) from,
            to = in(reg) to,
            last = in(reg) bytes - 16,
            a = out(vreg) _,
            b = out(vreg) _,
            options(nostack, preserves_flags),
        );
    }
}

/// Copies the first and the last 32 of `bytes` bytes.
///
/// # Safety
/// The same as for [`copy`], and `bytes` is at least 32.
#[inline(always)]
unsafe fn copy_4_blocks(from: *const u8, to: *mut u8, bytes: usize) {
    // SAFETY: loads and stores of 32 bytes inside the two ranges.
    unsafe {
        asm!(
            "ldp {a:q}, {b:q}, [{from}]",
            "ldp {c:q}, {d:q}, [{from_last}]",
            "stp {a:q}, {b:q}, [{to}]",
            "stp {c:q}, {d:q}, [{to_last}]",
            from = in(reg) from,
            from_last = in(reg) from.add(bytes - 32),
            to = in(reg) to,
            to_last = in(reg) to.add(bytes - 32),
            a = out(vreg) _,
            b = out(vreg) _,
            c = out(vreg) _,
            d = out(vreg) _,
            options(nostack, preserves_flags),
        );
    }
}
