//! The hazard: a slow, silent, broken or greedy peer holds memory, or keeps others waiting.

use super::peer::bytes;
use super::*;
use l1d_wire::protocol::{ErrorCode, PROTOCOL_VERSION, Request, Response, Set};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg, setsockopt, sockopt};
use std::io::{IoSlice, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Instant;

const SHORT: Duration = Duration::from_millis(100);

/// A header that announces this length.
fn header(payload_bytes: u32) -> [u8; 4] {
    payload_bytes.to_le_bytes()
}

#[test]
fn a_frame_that_comes_byte_by_byte_is_served_and_delays_nobody() {
    let daemon = Daemon::start(limits());
    let (mut slow, mut other) = (Peer::attached(&daemon), Peer::attached(&daemon));
    for byte in bytes(&Request::Get { key: b"slowly" }) {
        slow.send_bytes(&[byte]);
        other.assert_is_served();
    }
    assert_eq!(slow.value(), b"slowly");
    slow.assert_is_served();
}

#[test]
fn bytes_that_drip_do_not_put_the_deadline_off() {
    let daemon = Daemon::start(Limits { stall: SHORT, ..limits() });
    let mut drip = Peer::attached(&daemon);
    drip.send_bytes(&header(1000));
    let begun = Instant::now();
    // One byte every few milliseconds, until the daemon hangs up.
    let pace = PollTimeout::from(5_u8);
    while poll(&mut [PollFd::new(drip.stream.as_fd(), PollFlags::POLLIN)], pace) == Ok(0) {
        assert!(begun.elapsed() < NEVER, "one byte at a time keeps a connection open");
        if drip.stream.write_all(b"x").is_err() {
            break;
        }
    }
    drip.assert_is_closed();
}

#[test]
fn a_peer_that_never_attaches_is_closed_and_one_that_is_idle_later_is_not() {
    let daemon = Daemon::start(Limits { stall: SHORT, ..limits() });
    let mut idle = Peer::attached(&daemon);
    let idle_origin = idle.origin();
    for _ in 0..3 {
        Peer::connect(&daemon).assert_is_closed();
        let heard = daemon.hear();
        assert!(matches!(heard, Heard::Gone(origin) if origin != idle_origin), "{heard:?}");
    }
    // The idle one has been silent for three times the deadline.
    idle.assert_is_served();
}

#[test]
fn garbage_is_refused_and_ends_that_connection_only() {
    let daemon = Daemon::start(limits());
    let (mut broken, mut other) = (Peer::attached(&daemon), Peer::attached(&daemon));
    // After garbage, even bytes that decode cannot be trusted to be a request.
    let mut sent = header(6).to_vec();
    sent.extend_from_slice(&[2, 9, 9, 9, 9, 9]);
    sent.extend_from_slice(&bytes(&Request::Get { key: b"k" }));
    broken.send_bytes(&sent);
    broken.assert_is_refused(ErrorCode::Malformed, "ends inside its key");
    other.assert_is_served();
    assert_eq!(daemon.handled(), 1, "what follows garbage is not handled");
}

#[test]
fn an_empty_frame_is_refused() {
    let daemon = Daemon::start(limits());
    let mut broken = Peer::attached(&daemon);
    broken.send_bytes(&header(0));
    broken.assert_is_refused(ErrorCode::Malformed, "ends inside its kind");
}

#[test]
fn an_unknown_command_is_refused() {
    let daemon = Daemon::start(limits());
    let mut newer = Peer::attached(&daemon);
    newer.send_bytes(&header(1));
    newer.send_bytes(&[99]);
    newer.assert_is_refused(ErrorCode::Malformed, "of kind 99");
}

#[test]
fn a_frame_too_long_is_refused_by_its_header_alone() {
    let daemon = Daemon::start(Limits { frame_bytes_max: 1000, ..limits() });
    let mut greedy = Peer::attached(&daemon);
    let longest = vec![b'k'; 1000 - 5];
    assert_eq!(greedy.get(&longest), longest, "the limit itself is allowed");
    greedy.send_bytes(&header(1001));
    greedy.assert_is_refused(ErrorCode::TooLarge, "1001 bytes, the limit is 1000");
    let mut stranger = Peer::connect(&daemon);
    stranger.send_bytes(b"GET / HTTP/1.1\r\n");
    stranger.assert_is_refused(ErrorCode::Malformed, "the limit is 1000");
}

#[test]
fn nothing_is_served_before_an_attach() {
    let daemon = Daemon::start(limits());
    let mut hasty = Peer::connect(&daemon);
    hasty.send(&Request::Get { key: b"k" });
    hasty.assert_is_refused(ErrorCode::Refused, "must be an attach");
    let mut old = Peer::connect(&daemon);
    // The service answers this one without a table.
    old.send(&Request::Attach { protocol: 0, mailbox: false });
    assert!(old.payload().is_some());
    old.assert_is_closed();
    assert_eq!(daemon.handled(), 0);
}

#[test]
fn a_truncated_frame_before_the_end_is_not_a_request() {
    let daemon = Daemon::start(limits());
    let set = Request::Set(Set {
        key: b"half",
        value: b"value",
        ttl: None,
        flags: 0,
        write: None,
        reply: false,
    });
    let whole = bytes(&set);
    for keep_reading in [false, true] {
        for kept in 1..whole.len() {
            let mut peer = Peer::attached(&daemon);
            let origin = peer.origin();
            peer.send_bytes(&whole[..kept]);
            if keep_reading {
                peer.stream.shutdown(Shutdown::Write).unwrap();
                peer.assert_is_closed();
            } else {
                drop(peer);
            }
            assert_eq!(daemon.hear(), Heard::Gone(origin), "after {kept} bytes");
        }
    }
}

#[test]
fn requests_before_the_end_of_the_stream_are_answered() {
    let daemon = Daemon::start(limits());
    let mut peer = Peer::attached(&daemon);
    let origin = peer.origin();
    let mut sent = bytes(&Request::Get { key: b"one" });
    sent.extend_from_slice(&bytes(&Request::Get { key: b"later" }));
    sent.extend_from_slice(&bytes(&Request::Get { key: b"three" }));
    peer.send_bytes(&sent);
    peer.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(daemon.hear(), Heard::Asked(origin, b"later".to_vec()));
    daemon.answer(origin, b"two");
    assert_eq!([peer.value(), peer.value(), peer.value()], [&b"one"[..], b"two", b"three"]);
    peer.assert_is_closed();
    assert_eq!(daemon.hear(), Heard::Gone(origin));
}

#[test]
fn a_flood_without_reading_stops_itself_and_then_ends() {
    let daemon = Daemon::start(Limits { stall: 3 * SHORT, ..limits() });
    let (mut flood, mut other) = (Peer::attached(&daemon), Peer::attached(&daemon));
    let origin = flood.origin();
    let request = bytes(&Request::Get { key: b"bytes 65536" });
    flood.send_bytes(&request.repeat(1000));
    other.assert_is_served();
    assert_eq!(daemon.hear(), Heard::Gone(origin));
    // No more than the socket buffer holds, and a little.
    let answered = daemon.handled() - 1;
    assert!(answered * 65536 < 1 << 20, "{answered} answers for one who does not read");
    assert!(flood.drain() < 1 << 20);
    other.assert_is_served();
}

#[test]
fn a_flood_that_is_read_is_served_to_its_end() {
    let daemon = Daemon::start(limits());
    let flood = Peer::attached(&daemon);
    let mut reader = Peer::over(flood.stream.try_clone().unwrap());
    let mut writer = flood;
    let requests = bytes(&Request::Get { key: b"bytes 5000" }).repeat(5000);
    std::thread::scope(|scope| {
        scope.spawn(move || writer.send_bytes(&requests));
        for _ in 0..5000 {
            assert_eq!(reader.value().len(), 5000);
        }
    });
}

#[test]
fn a_refused_peer_first_gets_all_replies_and_the_reason() {
    let daemon = Daemon::start(limits());
    let mut other = Peer::attached(&daemon);
    // With some of these counts the socket is full when the garbage is decoded.
    for answers in 1..40 {
        let mut peer = Peer::attached(&daemon);
        let mut sent = bytes(&Request::Get { key: b"bytes 15000" }).repeat(answers);
        sent.extend_from_slice(&header(0));
        peer.send_bytes(&sent);
        // Each takes at least one turn, enough to reach the garbage or a full socket.
        (0..20).for_each(|_| other.assert_is_served());
        for _ in 0..answers {
            assert_eq!(peer.value().len(), 15_000);
        }
        peer.assert_is_refused(ErrorCode::Malformed, "ends inside its kind");
    }
}

#[test]
fn memory_is_taken_from_who_has_kept_it_longest() {
    let daemon = Daemon::start(Limits { buffer_bytes_max: 5 << 20, ..limits() });
    let mut witness = Peer::attached(&daemon);
    let mut hoarders = Vec::new();
    for _ in 0..10 {
        let mut peer = Peer::attached(&daemon);
        let origin = peer.origin();
        peer.send(&Request::Get { key: b"bytes 1000000" });
        hoarders.push((origin, peer));
        // Two of its requests may be served in one turn, before that looks at the memory.
        (0..3).for_each(|_| witness.assert_is_served());
    }
    let gone = daemon.unheard();
    assert!(!gone.is_empty() && gone.len() < 10, "{gone:?}");
    let (dropped, kept) = hoarders.split_at_mut(gone.len());
    let first = dropped.iter().map(|(origin, _)| Heard::Gone(*origin));
    assert_eq!(gone, first.collect::<Vec<_>>(), "not those who came first");
    for (_, peer) in kept {
        assert_eq!(peer.value().len(), 1_000_000);
    }
}

#[test]
fn a_daemon_that_was_stopped_itself_holds_it_against_nobody() {
    let daemon = Daemon::start(Limits { stall: Duration::from_secs(1), ..limits() });
    let (mut peer, mut blocker) = (Peer::attached(&daemon), Peer::attached(&daemon));
    let origin = peer.origin();
    let key = vec![b'k'; 600_000];
    let sent = bytes(&Request::Get { key: &key });
    let (before, rest) = sent.split_at(50_000);
    peer.send_bytes(before);
    blocker.assert_is_served();
    blocker.assert_is_served();
    blocker.send(&Request::Get { key: b"block" });
    assert!(matches!(daemon.hear(), Heard::Asked(..)));
    let stopped = Instant::now();
    // More than the socket holds, so some of it arrives only when the daemon goes on.
    let mut writer = Peer::over(peer.stream.try_clone().unwrap());
    std::thread::scope(|scope| {
        scope.spawn(move || writer.send_bytes(rest));
        while stopped.elapsed() < Duration::from_millis(1200) {
            std::thread::park_timeout(Duration::from_millis(1200) - stopped.elapsed());
        }
        daemon.release();
        assert_eq!(peer.value(), key);
    });
    assert!(!daemon.unheard().contains(&Heard::Gone(origin)));
}

/// A socket whose last close waits for its other end, which is the second one, for half a minute.
fn lingering() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (other, _) = listener.accept().unwrap();
    socket.set_nonblocking(true).unwrap();
    while socket.write(&[0; 1 << 16]).is_ok() {}
    socket.set_nonblocking(false).unwrap();
    let linger = nix::libc::linger { l_onoff: 1, l_linger: 30 };
    setsockopt(&socket, sockopt::Linger, &linger).unwrap();
    (socket, other)
}

/// Descriptors that take long to close hold up nobody, in whatever state the connection is, whether
/// they come with bytes in line or out of band; and their connections do not stay counted.
#[test]
fn descriptors_that_take_long_to_close_hold_up_nobody() {
    let daemon = Daemon::start(Limits { connections_max: 4, ..limits() });
    let mut other = Peer::attached(&daemon);
    let mut ends = Vec::new();
    let (in_line, out_of_band) = (MsgFlags::empty(), MsgFlags::MSG_OOB);
    for (is_attached, flags, more) in [
        (false, in_line, &[][..]),
        (true, in_line, &[]),
        (false, out_of_band, &[]),
        (true, out_of_band, &[1]),
    ] {
        let mut peer = connect_when_there_is_room(&daemon);
        if is_attached {
            peer.attach();
        }
        let (socket, end) = lingering();
        let descriptors = [socket.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&descriptors)];
        let bytes = [IoSlice::new(&[1])];
        // Until this process has no other descriptor of the socket, the daemon must not see it.
        other.send(&Request::Get { key: b"block" });
        while !matches!(daemon.hear(), Heard::Asked(..)) {}
        let sent = sendmsg::<()>(peer.stream.as_raw_fd(), &bytes, &rights, flags, None);
        assert!(sent.is_ok() || sent == Err(Errno::EOPNOTSUPP), "{sent:?}");
        peer.send_bytes(more);
        drop(socket);
        ends.push(end);
        daemon.release();
        assert_eq!(other.value(), b"block");
        other.assert_is_served();
        if sent.is_ok() {
            peer.assert_is_closed();
        }
        other.assert_is_served();
    }
    connect_when_there_is_room(&daemon);
}

/// The same at a stop, which closes connections that nothing was read from any more.
#[test]
fn descriptors_that_take_long_to_close_do_not_hold_up_a_stop() {
    let daemon = Daemon::start(limits());
    let (mut peer, mut other) = (Peer::attached(&daemon), Peer::attached(&daemon));
    // Nothing is read from a peer that does not take its replies.
    peer.send(&Request::Get { key: b"bytes 1000000" });
    (0..2).for_each(|_| other.assert_is_served());
    let (socket, _end) = lingering();
    let descriptors = [socket.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&descriptors)];
    let bytes = [IoSlice::new(&[1])];
    sendmsg::<()>(peer.stream.as_raw_fd(), &bytes, &rights, MsgFlags::empty(), None).unwrap();
    drop(socket);
    other.assert_is_served();
    let begun = Instant::now();
    drop(daemon);
    assert!(begun.elapsed() < NEVER / 2, "a stop waits for what its clients have sent");
}

/// A thread closes connections with descriptors; until then they count.
fn connect_when_there_is_room(daemon: &Daemon) -> Peer {
    let begun = Instant::now();
    while begun.elapsed() < NEVER {
        let mut peer = Peer::connect(daemon);
        peer.send(&Request::Attach { protocol: PROTOCOL_VERSION, mailbox: false });
        let payload = peer.payload().expect("an answer");
        if matches!(Response::decode(&payload).unwrap(), Response::Attached(_)) {
            return Peer::connect(daemon);
        }
    }
    panic!("closed connections stay counted");
}
