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
use l1d_wire::populate::populate_large;
use nix::errno::Errno;
use nix::fcntl::posix_fallocate;
use nix::sys::statvfs::fstatvfs;
use std::fs;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

/// Consecutive refusals for lack of memory after which no more large pages are requested.
const REFUSALS_MAX: u32 = 16;
/// The least that can be allocated, or more than that.
const SMALL_PAGE_BYTES: usize = 4096;

/// Allocates a table's file, from its beginning on, in large pages where the kernel has them, and
/// maps it into this process's page table: the owner has no time for faults later.
///
/// Of each large page, first one small page is allocated and touched; then the kernel collapses the
/// place, which clears the rest once, and what it refused is allocated in small pages. To allocate
/// all small pages first, and collapse them, clears and copies everything again, which takes five
/// to ten times as long. The touch matters: a large page that fallocate got is not cleared yet; a
/// collapse maps it uncleared, and the next fault clears it with everything written meanwhile (seen
/// on Linux 6.18, on a tmpfs with `huge=always`).
#[derive(Debug)]
pub(super) struct Allocator {
    file: Arc<OwnedFd>,
    mapping: Arc<Mapping>,
    done: usize,
    /// Consecutive refusals for lack of memory.
    refusals: u32,
}

impl Allocator {
    /// For a file, and a writable mapping of it, of which `done` bytes are allocated.
    pub(super) fn new(file: Arc<OwnedFd>, mapping: Arc<Mapping>, done: u64) -> Allocator {
        // The large page that a part ends in was allocated with it.
        let done = usize::try_from(done).unwrap_or(usize::MAX).next_multiple_of(HUGE_PAGE_BYTES);
        Allocator { file, mapping, done, refusals: 0 }
    }

    /// Allocates the file up to byte `end` and further to the end of a large page, while `goes_on`,
    /// which is asked before each large page, says so. Returns whether it did.
    ///
    /// # Errors
    /// What the system says. Takes nothing from a file system that has no room for all of it.
    pub(super) fn allocate(
        &mut self,
        end: u64,
        mut goes_on: impl FnMut() -> bool,
    ) -> Result<bool, Errno> {
        let end = usize::try_from(end).unwrap_or(usize::MAX).min(self.mapping.bytes());
        let missing = end.saturating_sub(self.done) as u64;
        if free_bytes(&*self.file).is_some_and(|free| free < missing) {
            return Err(Errno::ENOSPC);
        }
        while self.done < end {
            if !goes_on() {
                return Ok(false);
            }
            let next = self.done.saturating_add(HUGE_PAGE_BYTES).min(self.mapping.bytes());
            self.allocate_page(self.done..next)?;
            self.done = next;
        }
        Ok(true)
    }

    fn allocate_page(&mut self, page: Range<usize>) -> Result<(), Errno> {
        // Each request for a large page makes the kernel search for memory.
        if page.len() == HUGE_PAGE_BYTES && self.refusals < REFUSALS_MAX {
            let first = page.start..page.start + SMALL_PAGE_BYTES;
            allocate(&self.file, first.clone())?;
            // Not by a load: populating returns an error where that would be a SIGBUS. Before Linux
            // 5.14, which cannot, there is no collapsing either.
            let _ = self.mapping.populate(first);
            let is_refused = collapse(&self.mapping, page.start) == Err(Errno::ENOMEM);
            self.refusals = if is_refused { self.refusals + 1 } else { 0 };
        }
        allocate(&self.file, page.clone())?;
        // Where the kernel cannot do that, the owner has the faults.
        let _ = self.mapping.populate(page);
        Ok(())
    }
}

fn allocate(file: &OwnedFd, range: Range<usize>) -> Result<(), Errno> {
    let [start, bytes] = [range.start, range.len()].map(|n| i64::try_from(n).unwrap_or(i64::MAX));
    posix_fallocate(file, start, bytes)
}

/// Free bytes of a file system; `None`: it has no limit, or other ones.
pub(super) fn free_bytes(file: impl AsFd) -> Option<u64> {
    let figures = fstatvfs(&file).ok().filter(|figures| figures.blocks() > 0)?;
    let is_counted = hugetlb_page_bytes(&file).is_none();
    is_counted.then(|| figures.blocks_available().saturating_mul(figures.fragment_size()))
}

fn collapse(mapping: &Mapping, offset: usize) -> nix::Result<()> {
    let address = mapping.base().wrapping_add(offset).cast();
    // SAFETY: a range of this process's mapping; the advice moves pages and changes no content.
    let result = unsafe { nix::libc::madvise(address, HUGE_PAGE_BYTES, nix::libc::MADV_COLLAPSE) };
    Errno::result(result).map(drop)
}

/// Maps the large pages among the first `usable` bytes of an existing file into this process's page
/// table. Does not collapse the rest, which would stall readers for milliseconds.
pub(super) fn enter_large(mapping: &Mapping, usable: u64) {
    populate_large(mapping, usize::try_from(usable).unwrap_or(usize::MAX), || true);
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
    fn a_file_is_allocated_in_large_pages_and_reads_as_before() {
        let place = if Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" };
        let file = tempfile::tempfile_in(place).unwrap();
        let bytes = (4 << 20) + 4096;
        file.set_len(bytes).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"content", 3 << 20).unwrap();
        let mapping = Arc::new(Mapping::of_file(&file, bytes, Access::Write).unwrap());
        let fd = Arc::new(file.try_clone().unwrap().into());
        let mut allocator = Allocator::new(fd, mapping.clone(), 0);
        // To the end of the large page; nothing after a "no".
        assert_eq!(allocator.allocate(4096, || true), Ok(true));
        let resident = || Pages::of(&mapping).unwrap().resident_bytes;
        assert_eq!(resident(), 2 << 20);
        assert_eq!(allocator.allocate(bytes, || false), Ok(false));
        assert_eq!(resident(), 2 << 20);
        assert_eq!(allocator.allocate(bytes, || true), Ok(true));
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
