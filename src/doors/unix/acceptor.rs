//! Who is let in.

use super::super::peers::Peers;
use super::super::{Limits, Origin, Peer};
use l1d_client::protocol::{ErrorCode, Response};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use std::fs::File;
use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

/// The listener's number in epoll.
pub(in crate::doors) const LISTENER: u64 = 0;

/// Connections accepted in one turn.
const ACCEPTS_PER_TURN: usize = 16;
/// How long new connections wait when they cannot even be told that there is no room.
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(in crate::doors) struct Acceptor<'a> {
    listener: &'a UnixListener,
    /// Given up for a moment when descriptors run out: to accept a connection, say so, and close it.
    /// Otherwise it would wait in the backlog, and the listener stay readable for ever.
    reserve: Option<File>,
    /// When to listen again.
    again: Option<Instant>,
    /// So that a flood is logged once.
    is_turning_away: bool,
}

impl<'a> Acceptor<'a> {
    pub(in crate::doors) fn new(listener: &'a UnixListener) -> io::Result<Acceptor<'a>> {
        listener.set_nonblocking(true)?;
        let reserve = Some(spare_descriptor()?);
        Ok(Acceptor { listener, reserve, again: None, is_turning_away: false })
    }

    /// When to call [`resume`](Self::resume).
    pub(in crate::doors) fn next_wanted(&self) -> Option<Instant> {
        self.again
    }

    /// Listens again if it is time.
    pub(in crate::doors) fn resume(&mut self, epoll: &Epoll, now: Instant) {
        if self.again.is_some_and(|again| again <= now) {
            let watched = self.watch(epoll, EpollFlags::EPOLLIN);
            self.again = watched.is_err().then(|| now + PAUSE);
        }
    }

    /// Accepts who waits, within the turn's budget.
    pub(in crate::doors) fn accept(
        &mut self,
        peers: &mut Peers,
        epoll: &Epoll,
        limits: &Limits,
        now: Instant,
    ) {
        for _ in 0..ACCEPTS_PER_TURN {
            match self.listener.accept() {
                Ok((stream, _)) => self.welcome(stream, peers, epoll, limits),
                Err(error) => match Errno::from_raw(error.raw_os_error().unwrap_or(0)) {
                    Errno::EAGAIN => return,
                    Errno::EINTR | Errno::ECONNABORTED => {}
                    Errno::EMFILE | Errno::ENFILE if self.turn_one_away() => {}
                    _ => return self.pause(epoll, &error, now),
                },
            }
        }
    }

    fn welcome(&mut self, stream: UnixStream, peers: &mut Peers, epoll: &Epoll, limits: &Limits) {
        // A connection about which the kernel can tell nothing is nobody's.
        let Ok(credentials) = getsockopt(&stream, PeerCredentials) else { return };
        if stream.set_nonblocking(true).is_err() {
            return;
        }
        let peer = Peer { uid: credentials.uid(), gid: credentials.gid(), pid: credentials.pid() };
        let (all, own) = (peers.count(), peers.count_of(peer.uid));
        if all >= limits.connections_max {
            let message = format!(
                "{all} connections are open, as many as this daemon allows; close some, or raise clients_max"
            );
            return self.turn_away(&stream, &message);
        }
        if peer.uid != 0 && own >= limits.connections_per_uid_max {
            let message = format!(
                "user {} has {own} connections open, as many as this daemon allows one user; close \
                 some, or raise clients_max",
                peer.uid
            );
            return self.turn_away(&stream, &message);
        }
        self.is_turning_away = false;
        let origin = peers.insert(stream, peer);
        if !is_watched(peers, epoll, origin) {
            peers.remove(origin);
        }
    }

    /// Makes room for one descriptor, and uses it to tell one who waits that there is none. Returns
    /// whether that worked.
    fn turn_one_away(&mut self) -> bool {
        if self.reserve.take().is_none() {
            return false;
        }
        if let Ok((stream, _)) = self.listener.accept() {
            let message = "the daemon has no descriptor left; raise its limit of open files";
            self.turn_away(&stream, message);
        }
        self.reserve = spare_descriptor().ok();
        self.reserve.is_some()
    }

    /// Says why, as far as the socket's empty buffer takes it at once, which it does.
    fn turn_away(&mut self, stream: &UnixStream, message: &str) {
        if !std::mem::replace(&mut self.is_turning_away, true) {
            tracing::warn!("connections are turned away: {message}");
        }
        let mut frame = Vec::new();
        let response = Response::Error { code: ErrorCode::Busy, message };
        if response.encode(&mut frame).is_ok() && stream.set_nonblocking(true).is_ok() {
            // A peer that has gone already misses nothing.
            let _ = io::Write::write(&mut &*stream, &frame);
        }
    }

    /// Lets who waits wait in the backlog for a moment: the loop must not spin on a listener that
    /// stays readable.
    fn pause(&mut self, epoll: &Epoll, error: &io::Error, now: Instant) {
        tracing::warn!(%error, "cannot accept connections; trying again soon");
        if self.reserve.is_none() {
            self.reserve = spare_descriptor().ok();
        }
        if self.watch(epoll, EpollFlags::empty()).is_ok() {
            self.again = Some(now + PAUSE);
        }
    }

    fn watch(&self, epoll: &Epoll, flags: EpollFlags) -> nix::Result<()> {
        epoll.modify(self.listener, &mut EpollEvent::new(flags, LISTENER))
    }
}

fn is_watched(peers: &mut Peers, epoll: &Epoll, origin: Origin) -> bool {
    peers.get_mut(origin).is_some_and(|connection| {
        let event = EpollEvent::new(connection.watched, origin.0);
        epoll.add(&connection.stream, event).is_ok()
    })
}

fn spare_descriptor() -> io::Result<File> {
    File::open("/dev/null")
}
