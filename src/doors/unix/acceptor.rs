//! Accepts connections, or turns them away.

use super::super::peers::Peers;
use super::super::{Limits, Origin, Peer, Service};
use super::rights::{self, Closer};
use crate::access::Grant;
use crate::reactor::{Interest, Reactor, Token};
use l1d_wire::protocol::{ErrorCode, Response};
use l1d_wire::words;
use nix::errno::Errno;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

/// The listener's number among the doors; connections have the others.
pub(in crate::doors) const LISTENER: u64 = 0;

/// Connections accepted in one turn.
const ACCEPTS_PER_TURN: usize = 16;
/// How long accepting pauses when new connections cannot even be told that there is no room.
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(in crate::doors) struct Acceptor<'a> {
    listener: &'a UnixListener,
    /// A spare descriptor, for when the process has no other left: closing it makes room to accept
    /// a connection, send the reason, and close it. Left in the backlog, that connection would keep
    /// the listener readable.
    reserve: Option<File>,
    /// While accepting is paused: when it resumes.
    resumes_at: Option<Instant>,
    /// Connections are being turned away, and the log says so already.
    is_turning_away: bool,
    closer: Closer<'a>,
}

impl<'a> Acceptor<'a> {
    pub(in crate::doors) fn new(
        listener: &'a UnixListener,
        reactor: &'a Reactor,
    ) -> io::Result<Acceptor<'a>> {
        listener.set_nonblocking(true)?;
        reactor.register(listener, Token::door(LISTENER), Interest::READABLE)?;
        let reserve = Some(spare_descriptor()?);
        Ok(Acceptor {
            listener,
            reserve,
            resumes_at: None,
            is_turning_away: false,
            closer: Closer::new(reactor),
        })
    }

    /// When [`resume`](Self::resume) wants to be called.
    pub(in crate::doors) fn resumes_at(&self) -> Option<Instant> {
        self.resumes_at
    }

    /// Accepts again if the pause is over.
    pub(in crate::doors) fn resume(&mut self, reactor: &Reactor, now: Instant) {
        if self.resumes_at.is_some_and(|resumes_at| resumes_at <= now) {
            let watched = self.watch(reactor, Interest::READABLE);
            self.resumes_at = watched.is_err().then(|| now + PAUSE);
        }
    }

    /// Accepts no more.
    pub(in crate::doors) fn stop(&mut self, reactor: &Reactor) {
        self.resumes_at = None;
        // Fails if it is not watched, which is as good.
        let _ = reactor.deregister(self.listener);
    }

    /// Closes a connection of a peer of user `uid`.
    pub(in crate::doors) fn close(&mut self, stream: UnixStream, uid: u32) {
        self.closer.close(stream, uid);
    }

    /// Accepts waiting connections, within the turn's budget.
    pub(in crate::doors) fn accept(
        &mut self,
        peers: &mut Peers,
        (reactor, service): (&Reactor, &mut impl Service),
        limits: &Limits,
        now: Instant,
    ) {
        // As many are being closed as may be open: all are of peers that hold the daemon up.
        if self.closer.count(limits.connections_per_uid_max) >= limits.connections_max {
            return self.pause(reactor, &io::ErrorKind::ResourceBusy.into(), now);
        }
        for _ in 0..ACCEPTS_PER_TURN {
            match self.listener.accept() {
                Ok((stream, _)) => self.welcome(stream, peers, (reactor, service), limits),
                Err(error) => match Errno::from_raw(error.raw_os_error().unwrap_or(0)) {
                    Errno::EAGAIN => return,
                    Errno::EINTR | Errno::ECONNABORTED => {}
                    Errno::EMFILE | Errno::ENFILE if self.turn_one_away() => {}
                    _ => return self.pause(reactor, &error, now),
                },
            }
        }
    }

    fn welcome(
        &mut self,
        stream: UnixStream,
        peers: &mut Peers,
        (reactor, service): (&Reactor, &mut impl Service),
        limits: &Limits,
    ) {
        // Without credentials there is no user to count it for.
        let Ok(credentials) = getsockopt(&stream, PeerCredentials) else {
            return self.closer.leave(stream, u32::MAX);
        };
        let (uid, gid, pid) = (credentials.uid(), credentials.gid(), credentials.pid());
        if rights::prepare(&stream).is_err() {
            return self.closer.leave(stream, uid);
        }
        if stream.set_nonblocking(true).is_err() {
            return self.close(stream, uid);
        }
        let peer = Peer { uid, gid, pid, grant: Grant::NOBODY };
        let (grant, quota) = match service.admit(&peer, stream.as_fd()) {
            Ok(admitted) => admitted,
            // The service logs it, and who it was.
            Err(message) => return self.refuse(stream, uid, (ErrorCode::Denied, &message)),
        };
        let peer = Peer { grant, ..peer };
        let all = peers.count() + self.closer.count(limits.connections_per_uid_max);
        let own = peers.count_of(peer.uid) + self.closer.count_of(peer.uid);
        if all >= limits.connections_max {
            let message = format!(
                "{all} connections are open, as many as this daemon allows; close some, or raise \
                 clients_max"
            );
            return self.turn_away(stream, peer.uid, &message);
        }
        let own_max = quota.connections.unwrap_or(limits.connections_per_uid_max);
        if peer.uid != 0 && own >= own_max {
            let setting = match quota.connections {
                None => "clients_max",
                Some(_) => "connections_max of [limits] or of its [[access]] rule",
            };
            let message = format!(
                "user {} has {own} connections open, as many as this daemon allows one user; close \
                 some, or raise {setting}",
                peer.uid
            );
            service.reached_quota(&peer, "connections_max", own_max);
            return self.turn_away(stream, peer.uid, &message);
        }
        self.is_turning_away = false;
        let origin = peers.insert(stream, peer, quota);
        if !is_watched(peers, reactor, origin)
            && let Some(connection) = peers.remove(origin)
        {
            self.close(connection.stream, peer.uid);
        }
    }

    /// Uses the spare descriptor to turn one waiting connection away. Returns whether that worked.
    fn turn_one_away(&mut self) -> bool {
        if self.reserve.take().is_none() {
            return false;
        }
        if let Ok((stream, _)) = self.listener.accept() {
            let message =
                "the daemon has no descriptor left; raise its limit on open files (LimitNOFILE=)";
            let uid = getsockopt(&stream, PeerCredentials).map_or(u32::MAX, |peer| peer.uid());
            match rights::prepare(&stream) {
                Ok(()) => self.turn_away(stream, uid, message),
                Err(_) => self.closer.leave(stream, uid),
            }
        }
        self.reserve = spare_descriptor().ok();
        self.reserve.is_some()
    }

    /// Turns a connection away, and says so in the log once.
    fn turn_away(&mut self, stream: UnixStream, uid: u32, message: &str) {
        if !std::mem::replace(&mut self.is_turning_away, true) {
            tracing::warn!("connections are turned away: {message}");
        }
        self.refuse(stream, uid, (ErrorCode::Busy, message));
    }

    /// Sends the reason and closes. The empty send buffer has room for it.
    fn refuse(&mut self, stream: UnixStream, uid: u32, (code, message): (ErrorCode, &str)) {
        let mut frame = Vec::new();
        let response = Response::Error { code, message };
        if response.encode(&mut frame).is_ok() && stream.set_nonblocking(true).is_ok() {
            // Fails if the peer is gone, which then needs no reason.
            let _ = io::Write::write(&mut &stream, &frame);
        }
        self.close(stream, uid);
    }

    /// Stops accepting for a moment: the loop must not spin on a listener that stays readable.
    fn pause(&mut self, reactor: &Reactor, error: &io::Error, now: Instant) {
        let error = words::of(error);
        tracing::warn!(
            error,
            "cannot accept connections; trying again soon: raise the limit on open files \
             (LimitNOFILE=) if it stays"
        );
        if self.reserve.is_none() {
            self.reserve = spare_descriptor().ok();
        }
        if self.watch(reactor, Interest::NONE).is_ok() {
            self.resumes_at = Some(now + PAUSE);
        }
    }

    fn watch(&self, reactor: &Reactor, interest: Interest) -> io::Result<()> {
        reactor.modify(self.listener, Token::door(LISTENER), interest)
    }
}

fn is_watched(peers: &mut Peers, reactor: &Reactor, origin: Origin) -> bool {
    peers.get_mut(origin).is_some_and(|connection| {
        let interest = connection.watched;
        reactor.register(&connection.stream, Token::door(origin.0), interest).is_ok()
    })
}

fn spare_descriptor() -> io::Result<File> {
    File::open("/dev/null")
}
