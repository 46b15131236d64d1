//! The two routines in assembly for x86-64, on SSE2, which every x86-64 processor has.
//!
//! Both read memory that the owner may be writing. Assembly is outside the language's data-race
//! rules; what makes the results right is the protocol: a nominated slot is loaded again as an
//! atomic, and copied bytes are used only after the generation was found unchanged behind an
//! acquire fence. The processor does not reorder loads with later loads, so the fence, a compiler
//! barrier here, orders these loads as it does the atomic ones. Neither routine may be marked
//! `pure` or `nomem`: the compiler must not merge or move them over a fence.

use core::arch::asm;

/// Fewest bytes that [`copy`] copies: one block.
pub const COPY_BYTES_MIN: usize = 16;
/// Most bytes that are copied in blocks; what `rep movsb` costs to begin is worth more of them.
const BLOCKS_BYTES_MAX: usize = 256;

/// Bit n is set where the upper 16 bits of slot n equal `tag`.
///
/// # Safety
/// `bucket` is aligned to 16 bytes and 64 bytes are mapped there.
#[inline(always)]
pub unsafe fn nominate(bucket: *const u8, tag: u16) -> u32 {
    let mask: u32;
    let wanted = u32::from(tag);
    // SAFETY: four aligned 16-byte loads of mapped memory; registers declared, no stack, no stores.
    unsafe {
        asm!(
            "movd {t}, {wanted:e}",
            "pshufd {t}, {t}, 0",
            // The upper half of each slot word: two slots a load, four a shuffle.
            "movdqa {a}, [{b}]",
            "shufps {a}, [{b} + 16], 0xdd",
            "movdqa {c}, [{b} + 32]",
            "shufps {c}, [{b} + 48], 0xdd",
            "psrld {a}, 16",
            "psrld {c}, 16",
            "pcmpeqd {a}, {t}",
            "pcmpeqd {c}, {t}",
            // Eight lanes of 32 bits to eight bytes to eight bits.
            "packssdw {a}, {c}",
            "packsswb {a}, {a}",
            "pmovmskb {mask:e}, {a}",
            b = in(reg) bucket,
            wanted = in(reg) wanted,
            mask = lateout(reg) mask,
            t = out(xmm_reg) _,
            a = out(xmm_reg) _,
            c = out(xmm_reg) _,
            options(nostack, preserves_flags, readonly),
        );
    }
    mask & 0xff
}

/// Copies `bytes` bytes. Small ones as two or four blocks of 16 that may overlap in the middle; then
/// 64 at a time; above [`BLOCKS_BYTES_MAX`] `rep movsb` runs at the speed of the processor's widest
/// moves wherever it announces enhanced or fast short `rep movsb`, and needs neither alignment nor
/// a tail.
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
    // SAFETY: passed on unchanged.
    unsafe { copy_large(from, to, bytes) }
}

/// Apart, so that the code around a small copy stays short.
unsafe fn copy_large(from: *const u8, to: *mut u8, bytes: usize) {
    if bytes <= BLOCKS_BYTES_MAX {
        let mut at = 0;
        while at < bytes - 64 {
            // SAFETY: `at + 64 < bytes`.
            unsafe { copy_4_blocks(from.add(at), to.add(at), 64) };
            at += 64;
        }
        // SAFETY: the last 64 of more than 64 bytes.
        return unsafe { copy_4_blocks(from.add(bytes - 64), to.add(bytes - 64), 64) };
    }
    // SAFETY: the direction flag is clear by the calling convention; the operands are clobbered as
    // declared and nothing but the destination is written.
    unsafe {
        asm!(
            "rep movsb",
            inout("rcx") bytes => _,
            inout("rdi") to => _,
            inout("rsi") from => _,
            options(nostack, preserves_flags),
        );
    }
}

/// Copies the first and the last 16 of `bytes` bytes.
///
/// # Safety
/// As for [`copy`].
#[inline(always)]
unsafe fn copy_2_blocks(from: *const u8, to: *mut u8, bytes: usize) {
    // SAFETY: loads and stores of 16 bytes inside the two ranges.
    unsafe {
        asm!(
            "movups {a}, [{from}]",
            "movups {b}, [{from} + {bytes} - 16]",
            "movups [{to}], {a}",
            "movups [{to} + {bytes} - 16], {b}",
            from = in(reg) from,
            to = in(reg) to,
            bytes = in(reg) bytes,
            a = out(xmm_reg) _,
            b = out(xmm_reg) _,
            options(nostack, preserves_flags),
        );
    }
}

/// Copies the first and the last 32 of `bytes` bytes.
///
/// # Safety
/// As for [`copy`], and `bytes` is at least 32.
#[inline(always)]
unsafe fn copy_4_blocks(from: *const u8, to: *mut u8, bytes: usize) {
    // SAFETY: loads and stores of 16 bytes inside the two ranges.
    unsafe {
        asm!(
            "movups {a}, [{from}]",
            "movups {b}, [{from} + 16]",
            "movups {c}, [{from} + {bytes} - 32]",
            "movups {d}, [{from} + {bytes} - 16]",
            "movups [{to}], {a}",
            "movups [{to} + 16], {b}",
            "movups [{to} + {bytes} - 32], {c}",
            "movups [{to} + {bytes} - 16], {d}",
            from = in(reg) from,
            to = in(reg) to,
            bytes = in(reg) bytes,
            a = out(xmm_reg) _,
            b = out(xmm_reg) _,
            c = out(xmm_reg) _,
            d = out(xmm_reg) _,
            options(nostack, preserves_flags),
        );
    }
}
