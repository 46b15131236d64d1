//! Descriptors that nobody asked for: as many as a message takes, and such as take long to close.

use super::stalls::is_healthy;
use crate::attack::{Found, Target};
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg, setsockopt, sockopt};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{IoSlice, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use test_support::posted::Posted;

/// As many as the kernel takes in one message.
const DESCRIPTORS: usize = 253;
/// How long the last close of a socket waits for its other end.
const LINGERS_SECONDS: i32 = 30;

/// The ends that the last close of a lingering socket waits for. The latest are kept.
static OTHER_ENDS: Mutex<VecDeque<TcpStream>> = Mutex::new(VecDeque::new());
const ENDS_KEPT: usize = 200;

pub fn control(target: &Target, found: &mut Found) {
    // With a mailbox, and without a request to attach.
    while target.goes_on() {
        if let Some(posted) = Posted::try_attached(&target.socket) {
            spray(&posted.stream, found);
        }
        if let Ok(stream) = UnixStream::connect(&target.socket) {
            spray(&stream, found);
        }
    }
    tell(&target.socket, found);
}

pub fn status(target: &Target, found: &mut Found) {
    let passes = passes(&target.socket);
    while target.goes_on() {
        if let Ok(stream) = UnixStream::connect(&target.status) {
            spray(&stream, found);
        }
    }
    tell(&target.status, found);
    // Where the kernel does not refuse them, they may hold the status thread up.
    found.expects(passes || is_healthy(target), "the status server does not answer any more");
}

/// Sends descriptors until the socket takes no more.
fn spray(stream: &UnixStream, found: &mut Found) {
    let _ = stream.set_nonblocking(true);
    for flags in [MsgFlags::MSG_OOB, MsgFlags::empty()] {
        if let Ok(lingering) = lingering()
            && send(stream, &[lingering.as_raw_fd()], flags).is_err()
        {
            // It was not sent, so its last close is this process's.
            let off = libc::linger { l_onoff: 0, l_linger: 0 };
            let _ = setsockopt(&lingering, sockopt::Linger, &off);
        }
    }
    let Ok(file) = File::open("/dev/null") else { return };
    let many = vec![file.as_raw_fd(); DESCRIPTORS];
    for _ in 0..10 {
        found.repeats += 1;
        if send(stream, &many, MsgFlags::empty()).is_err() {
            return;
        }
    }
}

fn send(stream: &UnixStream, descriptors: &[RawFd], flags: MsgFlags) -> nix::Result<usize> {
    let (rights, flags) =
        ([ControlMessage::ScmRights(descriptors)], flags | MsgFlags::MSG_NOSIGNAL);
    sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(&[1])], &rights, flags, None)
}

/// A connection to this process with unread bytes: its last close waits.
fn lingering() -> std::io::Result<TcpStream> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut stream = TcpStream::connect(listener.local_addr()?)?;
    let (other, _) = listener.accept()?;
    // Never read.
    let mut ends = OTHER_ENDS.lock().unwrap_or_else(PoisonError::into_inner);
    ends.push_back(other);
    if ends.len() > ENDS_KEPT {
        ends.pop_front();
    }
    drop(ends);
    stream.set_nonblocking(true)?;
    while stream.write(&[0; 1 << 16]).is_ok() {}
    stream.set_nonblocking(false)?;
    let linger = libc::linger { l_onoff: 1, l_linger: LINGERS_SECONDS };
    setsockopt(&stream, sockopt::Linger, &linger)?;
    Ok(stream)
}

/// Whether this kernel passes descriptors on to the daemon.
fn passes(socket: &Path) -> bool {
    let Ok(stream) = UnixStream::connect(socket) else { return true };
    let Ok(file) = File::open("/dev/null") else { return true };
    send(&stream, &[file.as_raw_fd()], MsgFlags::empty()) != Err(Errno::EPERM)
}

/// This kernel can refuse descriptors for a socket.
fn can_refuse() -> bool {
    const SO_PASSRIGHTS: libc::c_int = 83;
    let Ok((socket, _)) = UnixStream::pair() else { return false };
    let (mut value, mut bytes): (libc::c_int, libc::socklen_t) = (0, 4);
    // SAFETY: both places live until the call has returned, and have these sizes.
    let known = unsafe {
        let (value, bytes) = ((&raw mut value).cast(), &raw mut bytes);
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, SO_PASSRIGHTS, value, bytes)
    };
    known == 0
}

fn tell(socket: &Path, found: &mut Found) {
    found.expects(!can_refuse() || !passes(socket), "descriptors reach the daemon");
    let passed = if passes(socket) { "passes them on" } else { "refuses them: EPERM" };
    found.says(format!(
        "{DESCRIPTORS} descriptors in a message, and lingering sockets: the kernel {passed}"
    ));
}
