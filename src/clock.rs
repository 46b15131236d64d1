//! The clocks of a table.
//!
//! Expiry counts on CLOCK_BOOTTIME, which runs through suspend and never jumps. Linux has no cheap
//! coarse form of it, so readers take CLOCK_MONOTONIC_COARSE and add the word that the owner keeps
//! in the header: what BOOTTIME is ahead of MONOTONIC, less the table's epoch.
//!
//! Both are the clocks of the initial time namespace, wherever this process is: a table outlives its
//! daemon, and the next one may be in another namespace, where a plain BOOTTIME could be earlier and
//! would lengthen the lives of everything that is stored.

use nix::time::{ClockId, clock_gettime};
use std::sync::OnceLock;

/// CLOCK_BOOTTIME in ns.
#[must_use]
pub fn boottime_ns() -> u64 {
    read(ClockId::CLOCK_BOOTTIME).wrapping_sub(offsets().boottime)
}

/// CLOCK_MONOTONIC in ns.
#[must_use]
pub fn monotonic_ns() -> u64 {
    read(ClockId::CLOCK_MONOTONIC).wrapping_sub(offsets().monotonic)
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

/// What the clocks of this process's time namespace are ahead of the initial one's, in ns; wrapping.
#[derive(Debug, Default, PartialEq, Eq)]
struct Offsets {
    monotonic: u64,
    boottime: u64,
}

/// The offsets of a namespace are fixed once a process is in it. Where /proc cannot be read, neither
/// can the boot id, and then no daemon takes over another's table.
fn offsets() -> &'static Offsets {
    static OFFSETS: OnceLock<Offsets> = OnceLock::new();
    OFFSETS.get_or_init(|| {
        let text = std::fs::read_to_string("/proc/self/timens_offsets");
        text.map_or_else(|_| Offsets::default(), |text| Offsets::parse(&text))
    })
}

impl Offsets {
    /// Reads lines of a clock's name, seconds (which may be negative) and nanoseconds.
    fn parse(text: &str) -> Offsets {
        let of = |clock: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(clock))?;
            let mut numbers = line.split_whitespace().map(str::parse::<i64>);
            let (seconds, ns) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
            Some(seconds.wrapping_mul(1_000_000_000).wrapping_add(ns).cast_unsigned())
        };
        let [monotonic, boottime] = ["monotonic", "boottime"].map(|clock| of(clock).unwrap_or(0));
        Offsets { monotonic, boottime }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_read_as_the_kernel_writes_them() {
        let text = "monotonic           0         0\nboottime           -2 500000000\n";
        let behind = 0_u64.wrapping_sub(1_500_000_000);
        assert_eq!(Offsets::parse(text), Offsets { monotonic: 0, boottime: behind });
        for nonsense in ["", "boottime", "boottime 1", "boottime x y\n\n"] {
            assert_eq!(Offsets::parse(nonsense), Offsets::default(), "{nonsense:?}");
        }
    }
}
