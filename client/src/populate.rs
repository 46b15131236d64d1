//! How much of a table a process enters into its page table when it attaches, instead of paying for
//! each first touch later.

use crate::deadline::Deadline;
use l1d_wire::mapping::Mapping;
use l1d_wire::populate::{populate_large, populate_range};
use std::ops::Range;

/// A short-lived process touches some hundred large pages, which costs as much as populating some
/// hundred MiB. In a long-lived one the later faults are soon amortised.
const AUTO_BYTES_MAX: usize = 1 << 30;

/// The part of the table that attaching enters into the process's page table. The rest costs page
/// faults on first touch: some microseconds per 64 KiB in small pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Populate {
    /// Only what is in large pages, at less than a microsecond per MiB, up to a GiB, which includes
    /// the index. Right for short-lived processes and as the default.
    #[default]
    Auto,
    /// Also the index if it is in small pages: tens of microseconds per MiB of it.
    Index,
    /// The whole table, in whatever pages. For a process that lives long and in which no read may
    /// fault. A new table may still be getting its memory when the process attaches; that part is
    /// left out, and costs a fault for each page later.
    All,
    /// Nothing.
    Nothing,
}

impl Populate {
    /// Populates the first `usable` bytes of `mapping`, whose index is at `index`, as far as it can
    /// be done by `deadline`. What a kernel cannot do is left out.
    pub(crate) fn carry_out(
        self,
        mapping: &Mapping,
        usable: usize,
        index: Range<usize>,
        deadline: &Deadline,
    ) {
        // Leaves time for the request that attached.
        let deadline = deadline.at_most(deadline.remaining() / 2);
        let until = || !deadline.has_passed();
        match self {
            Populate::Nothing => {}
            Populate::All => populate_range(mapping, 0..usable, until),
            Populate::Auto => populate_large(mapping, usable.min(AUTO_BYTES_MAX), until),
            Populate::Index => {
                populate_large(mapping, usable.min(AUTO_BYTES_MAX), until);
                populate_range(mapping, index, until);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use l1d_wire::mapping::Access;
    use l1d_wire::pages::Pages;
    use std::os::unix::fs::FileExt;
    use std::time::Duration;

    /// A file in memory without large pages.
    fn small_pages(bytes: u64) -> Mapping {
        let file = tempfile::tempfile_in("/dev/shm").unwrap();
        let content = vec![1; usize::try_from(bytes).unwrap()];
        file.write_all_at(&content, 0).unwrap();
        Mapping::of_file(&file, bytes, Access::Read).unwrap()
    }

    #[test]
    fn of_small_pages_only_what_was_asked_for_is_populated() {
        let bytes = 8 << 20;
        let resident = |populate: Populate, usable: usize| {
            let mapping = small_pages(bytes);
            let index = 4096..(2 << 20) + 4096;
            populate.carry_out(&mapping, usable, index, &Deadline::after(NEVER));
            let pages = Pages::of(&mapping).unwrap();
            if pages.large_bytes > 0 {
                println!("this host gives large pages unasked: {pages}");
                return None;
            }
            Some(pages.resident_bytes)
        };
        let Some(auto) = resident(Populate::Auto, 8 << 20) else { return };
        assert!(auto < 1 << 20, "{auto} bytes");
        assert_eq!(resident(Populate::Nothing, 8 << 20), Some(0));
        assert!(((2 << 20)..4 << 20).contains(&resident(Populate::Index, 8 << 20).unwrap()));
        assert_eq!(resident(Populate::All, 8 << 20), Some(bytes));
        // And nothing of what has no memory yet.
        assert_eq!(resident(Populate::All, 3 << 20), Some(3 << 20));
    }

    #[test]
    fn nothing_is_begun_after_the_deadline() {
        let mapping = small_pages(4 << 20);
        Populate::All.carry_out(&mapping, 4 << 20, 0..0, &Deadline::after(Duration::ZERO));
        assert_eq!(Pages::of(&mapping).unwrap().resident_bytes, 0);
    }

    const NEVER: Duration = Duration::from_secs(60);
}
