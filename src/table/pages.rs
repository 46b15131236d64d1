//! Large pages under the table.
//!
//! A read of a large table waits for address translation as much as for data; pages of 2 MiB save
//! most of that, and a short-lived process faults once instead of for 512 small pages. No mount
//! option is needed: the kernel collapses the pages of any tmpfs file on request, and a process
//! that maps the file at a multiple of 2 MiB benefits. A tmpfs that provides large pages itself
//! (`huge=`) and a hugetlbfs work as well; on the latter, files consist of whole huge pages, which
//! must have been reserved.
//!
//! These calls never tell what was achieved, and some of them fail on kernels that have done it:
//! see [`l1d_wire::pages::Pages`].

use super::file::FileError;
use l1d_wire::mapping::{HUGE_PAGE_BYTES, Mapping, hugetlb_page_bytes};
use l1d_wire::populate::{populate_all, populate_large};
use std::fs;
use std::os::fd::AsFd;
use std::path::Path;

/// Consecutive refusals for lack of memory after which no more large pages are requested.
const REFUSALS_MAX: u32 = 16;

/// Asks the kernel to put a whole new file into large pages, and maps all of it into this process's
/// page table: the kernel clears memory when it is first touched, for which the owner has no time
/// later.
///
/// Touches each place before it collapses it. A large page that fallocate got is not cleared yet; a
/// collapse maps it uncleared, and the next fault clears it with everything written meanwhile (seen
/// on Linux 6.18, on a tmpfs with `huge=always`).
pub(super) fn make_large(mapping: &Mapping) {
    let mut refusals = 0;
    for offset in (0..mapping.bytes() / HUGE_PAGE_BYTES).map(|page| page * HUGE_PAGE_BYTES) {
        if mapping.is_large_at(offset) {
            continue;
        }
        refusals =
            if collapse(mapping, offset) == Err(nix::Error::ENOMEM) { refusals + 1 } else { 0 };
        // Each request makes the kernel search for memory.
        if refusals == REFUSALS_MAX {
            break;
        }
    }
    populate_all(mapping, || true);
}

fn collapse(mapping: &Mapping, offset: usize) -> nix::Result<()> {
    let address = mapping.base().wrapping_add(offset).cast();
    // SAFETY: a range of this process's mapping; the advice moves pages and changes no content.
    let result = unsafe { nix::libc::madvise(address, HUGE_PAGE_BYTES, nix::libc::MADV_COLLAPSE) };
    nix::errno::Errno::result(result).map(drop)
}

/// Maps the large pages of an existing file into this process's page table. Does not collapse the
/// rest, which would stall readers for milliseconds.
pub(super) fn enter_large(mapping: &Mapping) {
    populate_large(mapping, usize::MAX, || true);
}

/// `bytes` rounded up to what a file in this directory has: on a hugetlbfs, whole pages.
pub(super) fn whole_pages(directory: impl AsFd, bytes: u64) -> u64 {
    let page_bytes = hugetlb_page_bytes(directory).map_or(1, |bytes| bytes as u64);
    // A size that overflows 64 bits is refused later.
    bytes.checked_next_multiple_of(page_bytes).unwrap_or(bytes)
}

/// The error for a failed allocation of `bytes` bytes, if the directory is on a hugetlbfs.
pub(super) fn shortage(directory: impl AsFd, path: &Path, bytes: u64) -> Option<FileError> {
    let page_bytes = hugetlb_page_bytes(directory)? as u64;
    let pool = format!("/sys/kernel/mm/hugepages/hugepages-{}kB", page_bytes >> 10);
    let figure = |name: &str| {
        let text = fs::read_to_string(format!("{pool}/{name}")).unwrap_or_default();
        text.trim().parse::<u64>().unwrap_or(0)
    };
    Some(FileError::NoHugePages {
        directory: path.into(),
        page_bytes,
        wanted: bytes.div_ceil(page_bytes),
        // Some of the free pages are reserved for mappings.
        free: figure("free_hugepages").saturating_sub(figure("resv_hugepages")),
        reserved: figure("nr_hugepages"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use l1d_wire::mapping::Access;
    use l1d_wire::pages::Pages;

    #[test]
    fn a_file_in_large_pages_reads_as_before() {
        let place = if Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" };
        let file = tempfile::tempfile_in(place).unwrap();
        let bytes = (4 << 20) + 4096;
        nix::fcntl::posix_fallocate(&file, 0, bytes).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"content", 3 << 20).unwrap();
        let bytes = u64::try_from(bytes).unwrap();
        let mapping = Mapping::of_file(&file, bytes, Access::Write).unwrap();
        make_large(&mapping);
        let pages = Pages::of(&mapping).unwrap();
        println!("{pages}");
        // A kernel may refuse large pages; all is mapped in any case.
        assert_eq!((pages.table_bytes, pages.resident_bytes), (bytes, bytes));
        assert_eq!(mapping.is_large_at(0), pages.large_bytes > 0);
        let mut found = [0; 7];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut found, 3 << 20).unwrap();
        assert_eq!(&found, b"content");
    }

    #[test]
    fn sizes_are_rounded_on_a_hugetlbfs_only() {
        let directory = fs::File::open("/dev").unwrap();
        assert_eq!(whole_pages(&directory, 4097), 4097);
        assert!(shortage(&directory, Path::new("/dev"), 4097).is_none());
    }

    #[test]
    fn a_shortage_says_how_many_pages_to_reserve() {
        let error = FileError::NoHugePages {
            directory: "/mnt/huge".into(),
            page_bytes: 2 << 20,
            wanted: 128,
            free: 28,
            reserved: 40,
        };
        let text = error.to_string();
        assert!(text.contains("a table of 268435456 bytes needs 128 huge pages"), "{text}");
        assert!(text.contains("reserve 140 in all with vm.nr_hugepages"), "{text}");
    }
}
