//! The assembly routines for x86-64. They use SSE2, which every x86-64 processor has; copies of 128
//! bytes and more use AVX, and of 256 and more AVX-512, if the processor has it.
//!
//! They read memory that the owner may be writing. Assembly is outside the language's data-race
//! rules; the protocol makes the results right. A matched slot is loaded again as an atomic, and a
//! copy or a comparison counts only if the generation is found unchanged after an acquire fence.
//! The processor does not reorder loads with later loads, so the fence, here a compiler barrier,
//! orders these loads like the atomic ones. No routine may be marked `pure` or `nomem`: the
//! compiler must not merge them or move them across a fence.

// Only to detect the processor's features.
#[cfg(not(any(test, feature = "heap")))]
extern crate std;

use core::arch::asm;
use core::arch::x86_64::{
    __m128i, _mm_and_si128, _mm_cmpeq_epi8, _mm_loadu_si128, _mm_movemask_epi8,
};

/// Fewest bytes that [`copy`] copies: one block.
pub const COPY_BYTES_MIN: usize = 16;
/// Most bytes that are copied in blocks of 16; above, `rep movsb` is worth its startup cost.
const BLOCKS_BYTES_MAX: usize = 256;
const WIDE_BLOCK_BYTES: usize = 32;
/// Fewest bytes that are copied in blocks of 32.
const WIDE_BYTES_MIN: usize = 128;
/// Fewest bytes that are copied in blocks of 64, four at a time.
const WIDEST_BYTES_MIN: usize = 256;
/// Fewest bytes that are copied by `rep movsb` despite AVX, if it is enhanced: it prefetches
/// distant lines, and does not fetch lines that it overwrites as a whole. What fits a core's first
/// cache is copied faster in blocks, unless source and destination happen to be equally aligned.
const STRING_BYTES_MIN: usize = 32 << 10;
const LINE_BYTES: usize = 64;
const PAGE_BYTES: usize = 4096;

/// Bit n is set where the upper 16 bits of slot n equal `tag`.
///
/// # Safety
/// `bucket` is aligned to 16 bytes and 64 bytes are mapped there.
#[inline(always)]
pub unsafe fn match_tag(bucket: *const u8, tag: u16) -> u32 {
    let mask: u32;
    let wanted = u32::from(tag) << 16;
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
            // Now the upper 16 bits of each lane are all ones or all zeros. The packing of eight
            // 32-bit lanes into bytes and then bits keeps only the sign, so the lower bits do not
            // matter.
            "pcmpeqw {a}, {t}",
            "pcmpeqw {c}, {t}",
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

/// Fewest bytes that [`equals`] compares: one block.
pub const EQUALS_BYTES_MIN: usize = 16;
/// Most bytes that it compares: two blocks.
pub const EQUALS_BYTES_MAX: usize = 32;

/// Whether `bytes.len()` bytes at `from` equal `bytes`. Loads them into two registers, as blocks of
/// 16 that may overlap, and compares there. A loop over words takes three times the instructions.
///
/// # Safety
/// As many bytes are mapped for reading at `from`; they are [`EQUALS_BYTES_MIN`] to
/// [`EQUALS_BYTES_MAX`].
#[inline(always)]
pub unsafe fn equals(from: *const u8, bytes: &[u8]) -> bool {
    let (head, tail): (__m128i, __m128i);
    // SAFETY: loads of the first and the last 16 of 16 to 32 bytes.
    unsafe {
        asm!(
            "movups {head}, [{from}]",
            "movups {tail}, [{from} + {bytes} - 16]",
            from = in(reg) from,
            bytes = in(reg) bytes.len(),
            head = out(xmm_reg) head,
            tail = out(xmm_reg) tail,
            options(nostack, preserves_flags, readonly),
        );
    }
    // SAFETY: loads of the same of the slice; SSE2 is part of x86-64.
    unsafe {
        let head = _mm_cmpeq_epi8(head, _mm_loadu_si128(bytes.as_ptr().cast()));
        let rest = bytes.as_ptr().add(bytes.len() - 16);
        let tail = _mm_cmpeq_epi8(tail, _mm_loadu_si128(rest.cast()));
        _mm_movemask_epi8(_mm_and_si128(head, tail)) == 0xffff
    }
}

/// Copies `bytes` bytes. Up to 64 bytes: two or four blocks of 16 that may overlap. More, with AVX:
/// 128 bytes at a time in blocks of 32, with AVX-512 256 at a time in blocks of 64, and by enhanced
/// `rep movsb` from [`STRING_BYTES_MIN`] on. More, without AVX: 64 bytes at a time, and by `rep
/// movsb` above [`BLOCKS_BYTES_MAX`]. By blocks all the same where `rep movsb` is slow.
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

/// Out of line, so that inlined small copies stay short.
#[inline(never)]
unsafe fn copy_large(from: *const u8, to: *mut u8, bytes: usize) {
    let is_string = bytes >= STRING_BYTES_MIN && !is_just_behind(to, from);
    if is_string && std::arch::is_x86_feature_detected!("ermsb") {
        // SAFETY: passed on unchanged.
        return unsafe { copy_string(from, to, bytes) };
    }
    // This part of AVX-512 came with Intel's Ice Lake and AMD's Zen 4. Their predecessors lower the
    // clock for wide registers.
    if bytes >= WIDEST_BYTES_MIN
        && std::arch::is_x86_feature_detected!("avx512vbmi2")
        && std::arch::is_x86_feature_detected!("avx512f")
    {
        // SAFETY: the processor has AVX-512; 256 bytes or more.
        return unsafe { copy_widest(from, to, bytes) };
    }
    if bytes >= WIDE_BYTES_MIN && std::arch::is_x86_feature_detected!("avx") {
        // SAFETY: the processor has AVX; 128 bytes or more.
        return unsafe { copy_wide(from, to, bytes) };
    }
    // SAFETY: passed on unchanged.
    unsafe { copy_narrow(from, to, bytes) }
}

/// Whether `to` is less than a line behind `from`, were both in one page: not the place for `rep
/// movsb`. AMD's Zen 3 then takes its stores for those that its next loads depend on, and takes 16
/// times as long (64 KiB: 23 us instead of 1.4, where blocks of 32 take 1.3; glibc's bug 30994).
#[inline(always)]
fn is_just_behind(to: *const u8, from: *const u8) -> bool {
    let distance = to.addr().wrapping_sub(from.addr()) % PAGE_BYTES;
    distance != 0 && distance < LINE_BYTES
}

/// Copies without AVX; tests call it on processors with AVX, too.
///
/// # Safety
/// The same as for [`copy`], and `bytes` is at least 64.
pub unsafe fn copy_narrow(from: *const u8, to: *mut u8, bytes: usize) {
    if bytes <= BLOCKS_BYTES_MAX || is_just_behind(to, from) {
        let mut at = 0;
        while at < bytes - 64 {
            // SAFETY: `at + 64 < bytes`.
            unsafe { copy_4_blocks(from.add(at), to.add(at), 64) };
            at += 64;
        }
        // SAFETY: the last 64 of more than 64 bytes.
        return unsafe { copy_4_blocks(from.add(bytes - 64), to.add(bytes - 64), 64) };
    }
    // SAFETY: passed on unchanged.
    unsafe { copy_string(from, to, bytes) }
}

/// Copies by `rep movsb`, to whole lines from the second on: it is slower where stores cross lines.
///
/// # Safety
/// The same as for [`copy`], and `bytes` is at least [`LINE_BYTES`].
#[inline]
unsafe fn copy_string(from: *const u8, to: *mut u8, bytes: usize) {
    let head = to.addr().wrapping_neg() % LINE_BYTES;
    // SAFETY: the first 64 of at least as many bytes, and the rest after up to 63 of them.
    let (from, to) = unsafe {
        copy_4_blocks(from, to, LINE_BYTES);
        (from.add(head), to.add(head))
    };
    let bytes = bytes - head;
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
/// The same as for [`copy`].
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
/// The same as for [`copy`], and `bytes` is at least 32.
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

/// Copies in blocks of 32 bytes, four at a time, stored at multiples of 32, as stores that cross
/// lines are slower; the first block and the last four may overlap the others.
///
/// # Safety
/// The same as for [`copy`], on a processor with AVX, and `bytes` is at least [`WIDE_BYTES_MIN`].
#[target_feature(enable = "avx")]
unsafe fn copy_wide(from: *const u8, to: *mut u8, bytes: usize) {
    // SAFETY: the first block of 128 bytes or more.
    unsafe { copy_2_blocks(from, to, WIDE_BLOCK_BYTES) };
    let mut at = to.addr().wrapping_neg() % WIDE_BLOCK_BYTES;
    while at < bytes - WIDE_BYTES_MIN {
        // SAFETY: `at + 128 < bytes`.
        unsafe { copy_4_wide_blocks(from.add(at), to.add(at)) };
        at += WIDE_BYTES_MIN;
    }
    let last = bytes - WIDE_BYTES_MIN;
    // SAFETY: the last 128 of 128 bytes or more; all AVX registers are declared as clobbered.
    unsafe {
        copy_4_wide_blocks(from.add(last), to.add(last));
        // SSE code is slow while the upper halves of the registers are not zero.
        asm!("vzeroupper", out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
            out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _, out("xmm8") _,
            out("xmm9") _, out("xmm10") _, out("xmm11") _, out("xmm12") _, out("xmm13") _,
            out("xmm14") _, out("xmm15") _, options(nostack, nomem, preserves_flags));
    }
}

/// Copies in blocks of 64 bytes, four at a time, stored to whole lines; the first block and the last
/// four may overlap the others. 4 KiB take 27 ns instead of 33 in blocks of 32, 16 KiB 108 instead of
/// 120 (`./dev bench copy`, Intel Xeon, family 6, model 167).
///
/// # Safety
/// The same as for [`copy`], on a processor with AVX-512, and `bytes` is at least
/// [`WIDEST_BYTES_MIN`].
#[target_feature(enable = "avx512f")]
unsafe fn copy_widest(from: *const u8, to: *mut u8, bytes: usize) {
    // SAFETY: the first 64 of 256 bytes or more.
    unsafe { copy_4_blocks(from, to, LINE_BYTES) };
    let mut at = to.addr().wrapping_neg() % LINE_BYTES;
    while at < bytes - WIDEST_BYTES_MIN {
        // SAFETY: `at + 256 < bytes`.
        unsafe { copy_4_lines(from.add(at), to.add(at)) };
        at += WIDEST_BYTES_MIN;
    }
    let last = bytes - WIDEST_BYTES_MIN;
    // SAFETY: the last 256 of 256 bytes or more.
    unsafe { copy_4_lines(from.add(last), to.add(last)) };
}

/// Copies 256 bytes, by registers whose contents do not slow SSE code down.
///
/// # Safety
/// The same as for [`copy_widest`].
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn copy_4_lines(from: *const u8, to: *mut u8) {
    // SAFETY: loads and stores of 64 bytes inside the two ranges.
    unsafe {
        asm!(
            "vmovups zmm16, [{from}]",
            "vmovups zmm17, [{from} + 64]",
            "vmovups zmm18, [{from} + 128]",
            "vmovups zmm19, [{from} + 192]",
            "vmovups [{to}], zmm16",
            "vmovups [{to} + 64], zmm17",
            "vmovups [{to} + 128], zmm18",
            "vmovups [{to} + 192], zmm19",
            from = in(reg) from,
            to = in(reg) to,
            out("zmm16") _,
            out("zmm17") _,
            out("zmm18") _,
            out("zmm19") _,
            options(nostack, preserves_flags),
        );
    }
}

/// Copies 128 bytes.
///
/// # Safety
/// The same as for [`copy_wide`].
#[inline]
#[target_feature(enable = "avx")]
unsafe fn copy_4_wide_blocks(from: *const u8, to: *mut u8) {
    // SAFETY: loads and stores of 32 bytes inside the two ranges.
    unsafe {
        asm!(
            "vmovups {a}, [{from}]",
            "vmovups {b}, [{from} + 32]",
            "vmovups {c}, [{from} + 64]",
            "vmovups {d}, [{from} + 96]",
            "vmovups [{to}], {a}",
            "vmovups [{to} + 32], {b}",
            "vmovups [{to} + 64], {c}",
            "vmovups [{to} + 96], {d}",
            from = in(reg) from,
            to = in(reg) to,
            a = out(ymm_reg) _,
            b = out(ymm_reg) _,
            c = out(ymm_reg) _,
            d = out(ymm_reg) _,
            options(nostack, preserves_flags),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The other tests use the copies that this machine's processor supports.
    #[test]
    fn a_place_just_behind_the_source_in_the_page_is_copied_to_in_blocks() {
        let from: Vec<u8> = (0..80_000_u32).map(|index| (index * 7 % 251) as u8).collect();
        let mut to = vec![0_u8; from.len() + 2 * PAGE_BYTES];
        let level = from.as_ptr().addr().wrapping_sub(to.as_ptr().addr()) % PAGE_BYTES;
        for (distance, is_behind) in
            [(0, false), (1, true), (8, true), (63, true), (64, false), (4095, false)]
        {
            let start = (level + distance) % PAGE_BYTES;
            assert_eq!(
                is_just_behind(to[start..].as_ptr(), from.as_ptr()),
                is_behind,
                "{distance}"
            );
            for bytes in [300, 4999, 32 << 10, (64 << 10) + 77] {
                for copy in [copy_large, copy_narrow] {
                    to.fill(0xaa);
                    // SAFETY: both have more than `bytes` bytes from there on.
                    unsafe { copy(from.as_ptr(), to.as_mut_ptr().add(start), bytes) };
                    assert_eq!(to[start..start + bytes], from[..bytes], "{bytes} at {distance}");
                    let rest = to[..start].iter().chain(&to[start + bytes..]);
                    assert!(rest.copied().all(|byte| byte == 0xaa), "{bytes} at {distance}");
                }
            }
        }
    }

    #[test]
    fn without_avx_all_is_copied_and_nothing_besides() {
        let from: Vec<u8> = (0..5000_u32).map(|index| (index * 7 % 251) as u8).collect();
        for bytes in (64..=700).chain([4095, 4096, 4999]) {
            for shift in [0, 1, 8, 15] {
                let mut to = vec![0xaa; bytes + 32];
                // SAFETY: `from` has `bytes` bytes, and `to` as many after `shift`.
                unsafe { copy_narrow(from.as_ptr(), to.as_mut_ptr().add(shift), bytes) };
                assert_eq!(to[shift..shift + bytes], from[..bytes], "{bytes} to {shift}");
                assert!(to[..shift].iter().chain(&to[shift + bytes..]).all(|byte| *byte == 0xaa));
            }
        }
    }
}
