//! The end of a table's clock. Expiries are ticks since the table's epoch, and 32 bits of them last
//! for 834 days of one boot. Long before that the entries move to a table with a later epoch, in
//! which the same moments have lower numbers.

use super::Table;
use shm_layout::entry::{NEVER, TICK_BITS};
use shm_layout::{Entry, MemoryMut};

/// From this time on nothing that expires is visible.
pub(super) const END_NS: u64 = (NEVER as u64) << TICK_BITS;
/// A table this old is to be replaced: 417 days remain for that, and for the lives of its entries.
const RENEWED_AFTER_NS: u64 = END_NS / 2;
/// A table's epoch is this long before the table is made: readers' coarse clocks lag, and a time
/// before the epoch would look like the far future, in which everything has expired.
pub(super) const LEAD_NS: u64 = 1_000_000_000;

/// How much later the epoch of a successor is than that of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shift {
    ticks: u32,
}

impl Shift {
    /// To the epoch of a table that is made at `now_ns`, if it is time for one.
    pub(super) fn due(now_ns: u64) -> Option<Shift> {
        let ticks = now_ns.saturating_sub(LEAD_NS) >> TICK_BITS;
        let ticks = u32::try_from(ticks).unwrap_or(NEVER);
        (now_ns >= RENEWED_AFTER_NS).then_some(Shift { ticks })
    }

    /// Between two tables, of which the second may be the successor of the first.
    pub(super) fn between<M: MemoryMut, N: MemoryMut>(from: &Table<M>, to: &Table<N>) -> Shift {
        let epoch = |geometry: &shm_layout::Geometry| geometry.identity().epoch_ns;
        let (from, to) = (epoch(from.writer.geometry()), epoch(to.writer.geometry()));
        let ticks = to.wrapping_sub(from) >> TICK_BITS;
        Shift { ticks: u32::try_from(ticks).unwrap_or(NEVER) }
    }

    /// Both tables have the same epoch.
    pub(super) fn is_none(self) -> bool {
        self.ticks == 0
    }

    /// Whole ticks, so that an entry expires at the same moment in both tables.
    pub(super) fn ns(self) -> u64 {
        u64::from(self.ticks) << TICK_BITS
    }

    /// The successor's number of a moment.
    pub(super) fn time(self, now_ns: u64) -> u64 {
        now_ns.saturating_sub(self.ns())
    }

    /// An entry as the successor stores it.
    pub(super) fn entry<'a>(self, entry: &Entry<'a>) -> Entry<'a> {
        let expiry = match entry.expiry {
            NEVER => NEVER,
            expiry => expiry.saturating_sub(self.ticks),
        };
        Entry { expiry, ..*entry }
    }
}
