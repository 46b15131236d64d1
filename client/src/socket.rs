//! A socket whose descriptor may be taken away: programs that daemonize close every descriptor and
//! use the numbers again.
//!
//! The number alone says nothing then. Before each send, receive and close, the socket is compared
//! with the one that was opened, by device and inode, which no other socket of the host has: one
//! `fstat`. Another thread that replaces descriptors between the check and the call is not noticed.

use nix::errno::Errno;
use nix::sys::stat::fstat;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// A socket that is closed at the end, if its descriptor is still its own.
#[derive(Debug)]
pub(crate) struct Socket {
    descriptor: ManuallyDrop<OwnedFd>,
    /// Device and inode.
    identity: (u64, u64),
}

impl Socket {
    /// Takes a socket that was opened just now.
    pub(crate) fn new(descriptor: OwnedFd) -> Result<Socket, Errno> {
        let identity = identity(&descriptor)?;
        Ok(Socket { descriptor: ManuallyDrop::new(descriptor), identity })
    }

    /// Whether the descriptor still refers to the socket.
    pub(crate) fn is_own(&self) -> bool {
        identity(self) == Ok(self.identity)
    }

    /// The descriptor, for one call. EBADF if it is not the socket's any more.
    pub(crate) fn own(&self) -> Result<RawFd, Errno> {
        if self.is_own() { Ok(self.descriptor.as_raw_fd()) } else { Err(Errno::EBADF) }
    }

    /// Another descriptor of the socket.
    #[cfg(feature = "tokio")]
    pub(crate) fn try_clone(&self) -> std::io::Result<Socket> {
        self.own()?;
        Ok(Socket::new(self.descriptor.try_clone()?)?)
    }
}

fn identity(descriptor: impl AsFd) -> Result<(u64, u64), Errno> {
    fstat(descriptor).map(|found| (found.st_dev, found.st_ino))
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.descriptor.as_raw_fd()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.is_own() {
            // SAFETY: not used after this, because the value is being dropped.
            unsafe { ManuallyDrop::drop(&mut self.descriptor) };
        }
    }
}
