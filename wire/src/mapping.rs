//! Mappings of table files, aligned so that the kernel can back them with large pages.

use memmap2::{Advice, MmapOptions, MmapRaw};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::statfs::{HUGETLBFS_MAGIC, fstatfs};
use shm_layout::memory::WORD_BYTES;
use shm_layout::{Mapped, Memory};
use std::ffi::c_void;
use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::os::fd::AsFd;
use std::ptr::NonNull;

/// The size of pages that the daemon collapses a table into. A process benefits from them only if
/// its mapping starts at a multiple of this size.
pub const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Access that a mapping gives to the file's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading.
    Read,
    /// Reading and writing.
    Write,
}

/// A table file, mapped for as long as this value lives.
#[derive(Debug)]
pub struct Mapping {
    /// Owns the whole range of addresses, with the slack that alignment costs (addresses, not
    /// memory).
    reserved: MmapRaw,
    base: NonNull<c_void>,
    bytes: NonZeroUsize,
    /// Bytes that are mapped: of a hugetlbfs file, whole pages.
    mapped_bytes: NonZeroUsize,
    access: Access,
}

// SAFETY: addresses only; nothing is reached through this value but by its unsafe users.
unsafe impl Send for Mapping {}
// SAFETY: as above; the kernel carries out `give_back` atomically.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `bytes` bytes of `file`, which has that many and never shrinks.
    ///
    /// # Errors
    /// What the system says, or a size that addresses cannot have.
    pub fn of_file(file: impl AsFd, bytes: u64, access: Access) -> io::Result<Mapping> {
        let protection = match access {
            Access::Read => ProtFlags::PROT_READ,
            Access::Write => ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
        };
        let impossible = || io::Error::other("a table of an impossible size");
        let bytes =
            usize::try_from(bytes).ok().and_then(NonZeroUsize::new).ok_or_else(impossible)?;
        // The kernel maps whole pages of a hugetlbfs file, however few bytes it is asked for.
        let unit = hugetlb_page_bytes(&file).unwrap_or(1);
        let alignment = unit.max(HUGE_PAGE_BYTES);
        let mapped_bytes = bytes.get().checked_next_multiple_of(unit).and_then(NonZeroUsize::new);
        let mapped_bytes = mapped_bytes.ok_or_else(impossible)?;
        let reserved_bytes = mapped_bytes.get().checked_add(alignment).ok_or_else(impossible)?;
        let reserved =
            MmapRaw::from(MmapOptions::new().len(reserved_bytes).no_reserve_swap().map_anon()?);
        let base = reserved.as_mut_ptr().map_addr(|address| address.next_multiple_of(alignment));
        let base = NonNull::new(base.cast::<c_void>()).ok_or_else(impossible)?;
        // SAFETY: the range lies in `reserved` (the next multiple is less than `alignment` away,
        // and no more than `mapped_bytes` are mapped), which nobody else uses, so that replacing
        // its pages takes nothing from anybody.
        unsafe {
            mmap(
                Some(base.addr()),
                mapped_bytes,
                protection,
                MapFlags::MAP_SHARED | MapFlags::MAP_FIXED,
                file,
                0,
            )
        }?;
        // A process that crashes should not write the host's whole cache into its core file. Not
        // essential, so a kernel that will not is no reason to fail.
        let _ = reserved.advise(Advice::DontDump);
        Ok(Mapping { reserved, base, bytes, mapped_bytes, access })
    }

    /// The first byte, aligned to 2 MiB. To be written only with [`Access::Write`].
    #[must_use]
    pub fn base(&self) -> *mut u8 {
        self.base.as_ptr().cast()
    }

    /// Its size.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.get()
    }

    /// Enters the pages of a range of the mapping into this process's page table. Costs about one
    /// fault for each large page, or for every few small ones.
    ///
    /// # Errors
    /// What the system says: before Linux 5.14 it cannot.
    pub fn populate(&self, range: Range<usize>) -> io::Result<()> {
        let slack = self.base.as_ptr().addr() - self.reserved.as_ptr().addr();
        let range = range.start.min(self.bytes())..range.end.min(self.bytes());
        self.reserved.advise_range(Advice::PopulateRead, slack + range.start, range.len())
    }

    /// Whether a large page maps the memory at `offset` in this process: touching one word of it
    /// then saves the fault on another word a megabyte away. Costs a fault or two.
    #[must_use]
    pub fn is_large_at(&self, offset: usize) -> bool {
        let first = offset / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
        if first.saturating_add(HUGE_PAGE_BYTES) > self.bytes() {
            return false;
        }
        // SAFETY: page-aligned, and mapped as long as `self` lives.
        let memory = unsafe { Mapped::new(self.base()) };
        // SAFETY: both words lie in the large page at `first`, all of which is mapped.
        let touch = |offset: usize| unsafe { memory.load((first + offset) / WORD_BYTES) };
        touch(0);
        let before = faults();
        // The kernel maps up to 64 KiB of small pages around a fault, unless it is told otherwise.
        touch(HUGE_PAGE_BYTES / 2);
        before.is_some() && before == faults()
    }

    /// Gives the file's memory back at once and leaves zeros in its place, readable for as long as
    /// this value lives: a late reader may still be inside.
    ///
    /// # Errors
    /// What the system says, and any mapping with [`Access::Write`]: its writers rely on being able
    /// to write.
    pub fn give_back(&self) -> io::Result<()> {
        if self.access == Access::Write {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // SAFETY: the range is ours and stays mapped for reading. Its readers expect that its words
        // change under them at any moment.
        unsafe {
            mmap_anonymous(
                Some(self.base.addr()),
                self.mapped_bytes,
                ProtFlags::PROT_READ,
                MapFlags::MAP_PRIVATE | MapFlags::MAP_FIXED | MapFlags::MAP_NORESERVE,
            )
        }?;
        Ok(())
    }
}

/// Bytes of the pages that a hugetlbfs file is made of; `None`: it is on another file system.
#[must_use]
pub fn hugetlb_page_bytes(file: impl AsFd) -> Option<usize> {
    let found = fstatfs(file).ok()?;
    let bytes = usize::try_from(found.block_size()).ok()?;
    (found.filesystem_type() == HUGETLBFS_MAGIC && bytes.is_power_of_two()).then_some(bytes)
}

/// Page faults of this thread so far.
fn faults() -> Option<i64> {
    getrusage(UsageWho::RUSAGE_THREAD).ok().map(|usage| usage.minor_page_faults())
}
