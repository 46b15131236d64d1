//! The clocks of a table.
//!
//! Expiry counts on CLOCK_BOOTTIME, which runs through suspend and never jumps. Linux has no cheap
//! coarse form of it, so readers take CLOCK_MONOTONIC_COARSE and add the word that the owner keeps
//! in the header: what BOOTTIME is ahead of MONOTONIC, less the table's epoch.

use nix::time::{ClockId, clock_gettime};

/// CLOCK_BOOTTIME in ns.
#[must_use]
pub fn boottime_ns() -> u64 {
    read(ClockId::CLOCK_BOOTTIME)
}

/// CLOCK_MONOTONIC in ns.
#[must_use]
pub fn monotonic_ns() -> u64 {
    read(ClockId::CLOCK_MONOTONIC)
}

/// What to add to CLOCK_MONOTONIC for the time since `epoch_ns` on CLOCK_BOOTTIME; wrapping.
#[must_use]
pub fn offset_ns(epoch_ns: u64) -> u64 {
    // Between two readings of one clock the other is known best; the loop outwaits a preemption.
    for _ in 0..8 {
        let before = monotonic_ns();
        let boot = boottime_ns();
        let after = monotonic_ns();
        if after - before < 10_000 {
            return boot.wrapping_sub(before).wrapping_sub(epoch_ns);
        }
    }
    boottime_ns().wrapping_sub(monotonic_ns()).wrapping_sub(epoch_ns)
}

fn read(clock: ClockId) -> u64 {
    // These clocks exist on every Linux that has this program's other needs.
    clock_gettime(clock).map_or(0, |time| {
        let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
        seconds * 1_000_000_000 + u64::try_from(time.tv_nsec()).unwrap_or(0)
    })
}
