//! The memory of a mailbox, verified before it is trusted.

use memmap2::{Advice, MmapOptions, MmapRaw};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::stat::fstat;
use shm_layout::MappedMut;
use shm_layout::mailbox::{Mailbox, SHAPE};
use std::io;
use std::os::fd::OwnedFd;

/// Why a mailbox cannot be used.
#[derive(Debug)]
pub(crate) enum NoMailbox {
    /// The reason not to trust it.
    Untrusted(String),
    /// The system refuses the mapping.
    System(io::Error),
}

/// Maps the mailbox in `file`, which the daemon claims to have `bytes` bytes.
pub(super) fn map(file: &OwnedFd, bytes: u64) -> Result<(Mailbox<MappedMut>, MmapRaw), NoMailbox> {
    check(file, bytes).map_err(NoMailbox::Untrusted)?;
    let mapping = MmapOptions::new().len(SHAPE.bytes()).map_raw(file).map_err(NoMailbox::System)?;
    // A child has a mailbox of its own (R9); with this one it would write into its parent's
    // requests. Not essential, because nothing in the child refers to it.
    let _ = mapping.advise(Advice::DontFork);
    let _ = mapping.advise(Advice::DontDump);
    // SAFETY: page-aligned, and mapped as long as the mapping lives, which the caller keeps beside
    // it; the file cannot shrink.
    let memory = unsafe { MappedMut::new(mapping.as_mut_ptr()) };
    // SAFETY: the mapping has the bytes of this shape.
    Ok((unsafe { Mailbox::new(memory, SHAPE) }, mapping))
}

/// The reason not to trust `file`, if there is one.
fn check(file: &OwnedFd, bytes: u64) -> Result<(), String> {
    if bytes != SHAPE.bytes() as u64 {
        let right = SHAPE.bytes();
        return Err(format!("its mailbox is said to have {bytes} bytes, not {right}"));
    }
    let found = fstat(file)
        .map_err(|errno| format!("the size of its mailbox cannot be read: {}", errno.desc()))?;
    if u64::try_from(found.st_size) != Ok(bytes) {
        return Err(format!("its mailbox has {} bytes, not {bytes}", found.st_size));
    }
    let seals = fcntl(file, FcntlArg::F_GET_SEALS)
        .map_err(|errno| format!("the seals of its mailbox cannot be read: {}", errno.desc()))?;
    if !SealFlag::from_bits_truncate(seals).contains(SealFlag::F_SEAL_SHRINK) {
        return Err("its mailbox can shrink, because it is not sealed".to_owned());
    }
    Ok(())
}
