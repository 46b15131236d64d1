//! The two routines in assembly for x86-64, on SSE2, which every x86-64 processor has.
//!
//! Both read memory that the owner may be writing. Assembly is outside the language's data-race
//! rules; what makes the results right is the protocol: a nominated slot is loaded again as an
//! atomic, and copied bytes are used only after the generation was found unchanged behind an
//! acquire fence. The processor does not reorder loads with later loads, so the fence, a compiler
//! barrier here, orders these loads as it does the atomic ones. Neither routine may be marked
//! `pure` or `nomem`: the compiler must not merge or move them over a fence.

use core::arch::asm;

/// From here on up the assembly copy beats a relaxed load for each word.
pub const COPY_BYTES_MIN: usize = 128;

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

/// Copies `bytes` bytes. `rep movsb` runs at the speed of the processor's widest moves wherever it
/// announces enhanced or fast short `rep movsb`, and needs neither alignment nor a tail.
///
/// # Safety
/// `from` is mapped for reading and `to` for writing `bytes` bytes; they do not overlap.
#[inline(always)]
pub unsafe fn copy(from: *const u8, to: *mut u8, bytes: usize) {
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
