//! Descriptors that a peer sends unasked (SCM_RIGHTS).
//!
//! Whoever receives or closes a socket in which descriptors wait closes them too, within the system
//! call. The last close of a file can take as long as its sender likes: that of a TCP socket with
//! SO_LINGER waits until the other end, which is the sender's as well, has taken all bytes. The
//! owner must not do that, so it looks before it receives and before it closes. A socket with
//! descriptors in it is left to a thread. Bytes out of band would pass by a look and bring
//! descriptors all the same, so they are taken in line.

use crate::reactor::Reactor;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use std::collections::HashMap;
use std::io::{self, IoSliceMut, Read};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Bytes looked at together before a socket is closed.
const LOOK_BYTES: usize = 4 << 10;

/// The most descriptors that one message brings (SCM_MAX_FD).
const DESCRIPTORS_MAX: usize = 253;

/// Prepares a connection before anything is received from it or it is closed.
///
/// # Errors
/// A look at it would not tell everything.
pub(super) fn prepare(stream: &UnixStream) -> io::Result<()> {
    Ok(setsockopt(stream, sockopt::OobInline, &true)?)
}

/// Receives bytes without blocking.
///
/// # Errors
/// `WouldBlock`, a broken connection, or descriptors among the bytes: `InvalidData`.
pub(super) fn receive(mut stream: &UnixStream, buffer: &mut [u8]) -> io::Result<usize> {
    match look(stream, buffer)? {
        0 => Ok(0),
        // No more than was looked at: what has come since may bring descriptors.
        count => stream.read(buffer.get_mut(..count).unwrap_or_default()),
    }
}

/// The bytes that a receive into `buffer` would bring, without taking them.
fn look(stream: &UnixStream, buffer: &mut [u8]) -> io::Result<usize> {
    let mut room = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    let seen = recvmsg::<()>(stream.as_raw_fd(), &mut room, None, flags)?;
    // There is no room for descriptors, so they stay where they are, and the flag tells of them.
    if seen.flags.contains(MsgFlags::MSG_CTRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "descriptors came with the bytes"));
    }
    Ok(seen.bytes)
}

/// Closes connections, those with descriptors in them in a thread.
#[derive(Debug)]
pub(super) struct Closer<'a> {
    reactor: &'a Reactor,
    /// To the thread, once there is one.
    streams: Option<Sender<(UnixStream, u32)>>,
    /// Connections were left to the thread, or would have been.
    is_used: bool,
    waiting: Arc<Mutex<HashMap<u32, usize>>>,
}

impl<'a> Closer<'a> {
    pub(super) fn new(reactor: &'a Reactor) -> Closer<'a> {
        Closer { reactor, streams: None, is_used: false, waiting: Arc::default() }
    }

    /// Closes the connection of a peer of user `uid`.
    pub(super) fn close(&mut self, stream: UnixStream, uid: u32) {
        if has_descriptors(&stream) {
            tracing::info!(uid, "a peer has sent descriptors, which nobody asked for");
            // Otherwise every wait would report its end until it is closed. One that was never
            // accepted is not registered.
            let _ = self.reactor.deregister(&stream);
            self.leave(stream, uid);
        }
    }

    /// Connections of a user that are not closed yet.
    pub(super) fn count_of(&self, uid: u32) -> usize {
        // Mostly there are none, and no lock need be taken.
        if self.is_used { locked(&self.waiting).get(&uid).copied().unwrap_or(0) } else { 0 }
    }

    /// Connections of all users that are not closed yet; of each user no more than `each_max`, as
    /// many as it may have open, so that one alone cannot keep the others out.
    pub(super) fn count(&self, each_max: usize) -> usize {
        if !self.is_used {
            return 0;
        }
        locked(&self.waiting).values().map(|count| (*count).min(each_max)).sum()
    }

    /// Leaves a connection to the thread, whatever is in it.
    pub(super) fn leave(&mut self, stream: UnixStream, uid: u32) {
        self.is_used = true;
        *locked(&self.waiting).entry(uid).or_default() += 1;
        if self.streams.is_none() {
            self.streams = start(self.waiting.clone()).ok();
        }
        let left = match &self.streams {
            Some(streams) => streams.send((stream, uid)).map_err(|unsent| unsent.0.0),
            None => Err(stream),
        };
        if let Err(stream) = left {
            // Without a thread it stays open, and counted.
            std::mem::forget(stream);
        }
    }
}

/// Starts the thread that closes what it gets. The process ends without waiting for it.
fn start(waiting: Arc<Mutex<HashMap<u32, usize>>>) -> io::Result<Sender<(UnixStream, u32)>> {
    let (sender, streams) = channel::<(UnixStream, u32)>();
    thread::Builder::new().name("l1d-close".into()).spawn(move || {
        for (stream, uid) in streams {
            drop_descriptors(&stream);
            drop(stream);
            let mut waiting = locked(&waiting);
            if let Some(count) = waiting.get_mut(&uid) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    waiting.remove(&uid);
                }
            }
        }
    })?;
    Ok(sender)
}

/// Receives and closes the descriptors that wait in a connection, sockets without lingering.
fn drop_descriptors(stream: &UnixStream) {
    let mut buffer = [0; LOOK_BYTES];
    let mut space = nix::cmsg_space!([RawFd; DESCRIPTORS_MAX]);
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    loop {
        let mut room = [IoSliceMut::new(&mut buffer)];
        let received = recvmsg::<()>(stream.as_raw_fd(), &mut room, Some(&mut space), flags);
        let Ok(message) = received else { return };
        for control in message.cmsgs().into_iter().flatten() {
            let ControlMessageOwned::ScmRights(descriptors) = control else { continue };
            for descriptor in descriptors {
                // SAFETY: the kernel has just given us this descriptor.
                let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
                let off = nix::libc::linger { l_onoff: 0, l_linger: 0 };
                // Fails for what is no socket.
                let _ = setsockopt(&descriptor, sockopt::Linger, &off);
            }
        }
        if message.bytes == 0 {
            return;
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends the connection, and tells whether descriptors wait in it.
fn has_descriptors(stream: &UnixStream) -> bool {
    // From now on nothing more comes.
    let _ = stream.shutdown(Shutdown::Both);
    let mut buffer = [0; LOOK_BYTES];
    loop {
        match receive(stream, &mut buffer) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return true,
            Err(error) if error.raw_os_error() == Some(Errno::EINTR as i32) => {}
            Err(_) => return false,
        }
    }
}
