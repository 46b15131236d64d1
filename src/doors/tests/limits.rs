//! The hazard: a peer gets in beyond the limits, or under the wrong identity.

use super::*;
use l1d_wire::protocol::{ErrorCode, PROTOCOL_VERSION, Request};
use nix::libc;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use std::fs::File;
use std::io::{IoSliceMut, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

const OTHER_UID: u32 = 61_001;
const OTHER_GID: u32 = 61_002;

/// A connection made by another user; `None` where the test may not become one.
fn connect_as_another(daemon: &Daemon) -> Option<Peer> {
    let path: PathBuf = daemon.socket();
    let connect = move || {
        // SAFETY: system calls without pointers. Without the C library's wrapper they change this
        // thread's ids alone, and the thread ends with this closure.
        let changed = unsafe {
            libc::syscall(libc::SYS_setresgid, OTHER_GID, OTHER_GID, OTHER_GID) == 0
                && libc::syscall(libc::SYS_setresuid, OTHER_UID, OTHER_UID, OTHER_UID) == 0
        };
        changed.then(|| UnixStream::connect(path).unwrap())
    };
    let stream = std::thread::spawn(connect).join().unwrap();
    if stream.is_none() {
        eprintln!("not root: nothing is said about other users");
    }
    stream.map(Peer::over)
}

#[test]
fn peers_are_known_by_what_the_kernel_says() {
    let daemon = Daemon::start(limits());
    let known = Peer::attached(&daemon).known();
    assert_eq!(known["uid"], nix::unistd::getuid().as_raw());
    assert_eq!(known["gid"], nix::unistd::getgid().as_raw());
    assert_eq!(known["pid"], std::process::id());
    if let Some(mut other) = connect_as_another(&daemon) {
        other.attach();
        let known = other.known();
        assert_eq!((&known["uid"], &known["gid"]), (&OTHER_UID.into(), &OTHER_GID.into()));
    }
}

#[test]
fn one_connection_too_many_is_told_so_and_the_next_is_let_in() {
    let daemon = Daemon::start(Limits { connections_max: 3, ..limits() });
    let mut peers: Vec<Peer> = (0..3).map(|_| Peer::attached(&daemon)).collect();
    for _ in 0..3 {
        let mut turned_away = Peer::connect(&daemon);
        turned_away.assert_is_refused(ErrorCode::Busy, "3 connections are open");
    }
    let mut leaving = peers.remove(1);
    let origin = leaving.origin();
    drop(leaving);
    assert_eq!(daemon.hear(), Heard::Gone(origin));
    peers.push(Peer::attached(&daemon));
    peers.iter_mut().for_each(Peer::assert_is_served);
}

#[test]
fn one_user_leaves_room_for_others() {
    let daemon = Daemon::start(Limits { connections_per_uid_max: 2, ..limits() });
    let Some(mut first) = connect_as_another(&daemon) else { return };
    first.attach();
    let origin = first.origin();
    let mut second = connect_as_another(&daemon).unwrap();
    second.attach();
    let mut third = connect_as_another(&daemon).unwrap();
    third.assert_is_refused(ErrorCode::Busy, "user 61001 has 2 connections open");
    // Root is exempt.
    let mut roots: Vec<Peer> = (0..5).map(|_| Peer::attached(&daemon)).collect();
    roots.iter_mut().for_each(Peer::assert_is_served);
    drop(first);
    assert_eq!(daemon.hear(), Heard::Gone(origin));
    connect_as_another(&daemon).unwrap().attach();
    second.assert_is_served();
}

#[test]
fn an_attach_brings_the_table_with_its_first_byte() {
    let daemon = Daemon::start(limits());
    let mut peer = Peer::connect(&daemon);
    peer.send(&Request::Attach { protocol: PROTOCOL_VERSION, mailbox: false });
    let mut byte = [0; 1];
    let mut bytes = [IoSliceMut::new(&mut byte)];
    let mut control = nix::cmsg_space!([i32; 4]);
    let descriptor = peer.stream.as_raw_fd();
    let received =
        recvmsg::<()>(descriptor, &mut bytes, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC);
    let mut descriptors = Vec::new();
    for message in received.unwrap().cmsgs().unwrap() {
        if let ControlMessageOwned::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    assert_eq!(descriptors.len(), 1);
    // SAFETY: the kernel has just created this descriptor for us; nothing else owns it.
    let mut table = File::from(unsafe { OwnedFd::from_raw_fd(descriptors[0]) });
    let mut content = Vec::new();
    table.read_to_end(&mut content).unwrap();
    assert_eq!(content, std::fs::read(daemon.table()).unwrap());
}
