//! Mappings of table files, aligned so that large pages can be used. Not part of the public contract:
//! the daemon maps its table with this too.

use memmap2::{Advice, MmapOptions, MmapRaw};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous};
use std::ffi::c_void;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;

/// The daemon collapses a table into pages of this size; a process has the use of them only where
/// its mapping begins at a multiple of it.
pub const HUGE_PAGE_BYTES: usize = 2 << 20;

/// What may be done with a mapping.
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
    _reserved: MmapRaw,
    base: NonNull<c_void>,
    bytes: NonZeroUsize,
}

// SAFETY: addresses only; nothing is reached through this value but by its unsafe users.
unsafe impl Send for Mapping {}
// SAFETY: as above; `give_back` is an atomic act of the kernel.
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
        let reserved_bytes = bytes.get().checked_add(HUGE_PAGE_BYTES).ok_or_else(impossible)?;
        let reserved =
            MmapRaw::from(MmapOptions::new().len(reserved_bytes).no_reserve_swap().map_anon()?);
        let base =
            reserved.as_mut_ptr().map_addr(|address| address.next_multiple_of(HUGE_PAGE_BYTES));
        let base = NonNull::new(base.cast::<c_void>()).ok_or_else(impossible)?;
        // SAFETY: the range lies in `reserved` (the next multiple is less than one huge page away),
        // which nobody else uses, so that replacing its pages takes nothing from anybody.
        unsafe {
            mmap(
                Some(base.addr()),
                bytes,
                protection,
                MapFlags::MAP_SHARED | MapFlags::MAP_FIXED,
                file,
                0,
            )
        }?;
        // A process that crashes should not write the host's whole cache into its core file. Not
        // essential, so a kernel that will not is no reason to fail.
        let _ = reserved.advise(Advice::DontDump);
        Ok(Mapping { _reserved: reserved, base, bytes })
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

    /// Gives the file's memory back at once and leaves zeros in its place, readable as long as this
    /// value lives: a late reader may still be inside (see [`crate::attachment`]).
    pub(crate) fn give_back(&self) -> io::Result<()> {
        // SAFETY: the range is ours and stays mapped for reading. Its readers expect that its words
        // change under them at any moment.
        unsafe {
            mmap_anonymous(
                Some(self.base.addr()),
                self.bytes,
                ProtFlags::PROT_READ,
                MapFlags::MAP_PRIVATE | MapFlags::MAP_FIXED | MapFlags::MAP_NORESERVE,
            )
        }?;
        Ok(())
    }
}
