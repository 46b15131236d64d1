//! The memory of a mailbox.

use memmap2::{Advice, MmapOptions, MmapRaw};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::ftruncate;
use rustix::fs::{MemfdFlags, memfd_create};
use shm_layout::mailbox::SHAPE;
use std::io;
use std::os::fd::OwnedFd;

/// Memory for a mailbox of [`SHAPE`], and its descriptor. It can neither grow nor shrink, and no
/// other process can open it.
///
/// # Errors
/// When the system has no such memory, or no descriptor.
pub(super) fn create() -> io::Result<(MmapRaw, OwnedFd)> {
    // The kernel's call, because the C library has it from glibc 2.27 on only.
    let file = memfd_create("l1d-mailbox", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    fchmod(&file, Mode::S_IRUSR | Mode::S_IWUSR)?;
    let bytes = SHAPE.bytes();
    ftruncate(&file, i64::try_from(bytes).map_err(io::Error::other)?)?;
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    let mapping = MmapOptions::new().len(bytes).map_raw(&file)?;
    // A file without a name is dumped by default, and this one holds keys and values. Not
    // essential, so a kernel that refuses is no reason to fail.
    let _ = mapping.advise(Advice::DontDump);
    Ok((mapping, file))
}
