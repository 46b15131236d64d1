//! The clocks that lives are measured on.

use nix::libc;
use nix::time::{ClockId, clock_gettime};
use std::mem::MaybeUninit;

/// CLOCK_MONOTONIC in ns: read once at attach, to compare with the daemon's.
pub(crate) fn monotonic_ns() -> u64 {
    ns(ClockId::CLOCK_MONOTONIC)
}

/// CLOCK_MONOTONIC_COARSE in ns: a quarter of the price, up to one tick (4 to 10 ms) late.
#[inline(always)]
pub(crate) fn monotonic_coarse_ns() -> u64 {
    // Not through nix: its out-of-line result makes the clock half as expensive again.
    let mut time = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: the pointer is valid for a timespec, which the call fills in when it returns 0.
    let time = unsafe {
        if libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, time.as_mut_ptr()) != 0 {
            return u64::MAX;
        }
        time.assume_init()
    };
    time.tv_sec
        .cast_unsigned()
        .wrapping_mul(1_000_000_000)
        .wrapping_add(time.tv_nsec.cast_unsigned())
}

/// CLOCK_BOOTTIME in ns: runs through suspend.
pub(crate) fn boottime_ns() -> u64 {
    ns(ClockId::CLOCK_BOOTTIME)
}

/// The vDSO answers all three. A clock that cannot be read (no such kernel is known) shows the last
/// moment, so that whatever expires has expired.
#[inline]
fn ns(clock: ClockId) -> u64 {
    let Ok(time) = clock_gettime(clock) else {
        return u64::MAX;
    };
    let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
    let ns = u64::try_from(time.tv_nsec()).unwrap_or(0);
    seconds.wrapping_mul(1_000_000_000).wrapping_add(ns)
}

/// What to add (wrapping) to this process's CLOCK_MONOTONIC to get the daemon's, which differs in
/// another time namespace.
///
/// The daemon read `daemon_ns` between this process's `before_ns` and `after_ns`, so the difference
/// lies in `daemon_ns - after_ns ..= daemon_ns - before_ns`. Where 0 does, the two share one clock
/// (namespaces differ by whole boots, not by a round trip); otherwise the upper end is taken: an
/// entry may then expire early by a round trip, never late.
pub(crate) fn difference_ns(before_ns: u64, after_ns: u64, daemon_ns: u64) -> u64 {
    if (before_ns..=after_ns).contains(&daemon_ns) { 0 } else { daemon_ns.wrapping_sub(before_ns) }
}

#[cfg(test)]
mod tests {
    use super::difference_ns;

    #[test]
    fn one_clock_differs_by_nothing() {
        for daemon in [100, 150, 200] {
            assert_eq!(difference_ns(100, 200, daemon), 0);
        }
    }

    #[test]
    fn another_clock_is_never_taken_for_an_earlier_one() {
        for daemon in [0_u64, 99, 201, 1 << 50] {
            let shown = 100_u64.wrapping_add(difference_ns(100, 200, daemon));
            // Had the daemon read its clock at once, it showed `daemon` when ours showed 100; had
            // it read later, it showed less then.
            assert_eq!(shown, daemon);
        }
    }
}
