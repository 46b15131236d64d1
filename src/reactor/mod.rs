//! The reactor: one epoll instance, with which the doors and the tiers register their sockets.
//!
//! Readiness is level-triggered: a condition that nobody acts on is reported by every wait. So a
//! caller registers interest only in what it acts on at once, and drops it when it has to wait for
//! something else first. A hangup or an error is reported whatever the interest. The exception is
//! [`Interest::WAKEUPS`].

mod cores;
mod halt;
mod token;

pub use cores::Cores;
pub use halt::halts_at_once;
pub use token::{Source, Token};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

/// An epoll instance. A descriptor leaves it when it is closed, if it has no duplicate.
#[derive(Debug)]
pub struct Reactor {
    epoll: Epoll,
}

/// The conditions that a descriptor is watched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interest {
    /// Something can be read: data, a connection, or the end of the stream.
    pub readable: bool,
    /// Something can be written.
    pub writable: bool,
    /// Edge-triggered: each arrival is reported once, whether it is read or not.
    pub edges: bool,
}

impl Interest {
    /// Nothing but hangups and errors.
    pub const NONE: Interest = Interest::new(false, false);
    /// Reads only.
    pub const READABLE: Interest = Interest::new(true, false);
    /// Reads and writes.
    pub const BOTH: Interest = Interest::new(true, true);
    /// Writes only.
    pub const WRITABLE: Interest = Interest::new(false, true);
    /// Bytes that carry no information but their arrival: they need not be read each time, which
    /// saves a system call a wakeup. The end of the stream is reported as a hangup.
    pub const WAKEUPS: Interest = Interest { edges: true, ..Interest::READABLE };

    const fn new(readable: bool, writable: bool) -> Interest {
        Interest { readable, writable, edges: false }
    }

    fn flags(self) -> EpollFlags {
        let mut flags = EpollFlags::empty();
        flags.set(EpollFlags::EPOLLIN, self.readable);
        flags.set(EpollFlags::EPOLLOUT, self.writable);
        flags.set(EpollFlags::EPOLLET | EpollFlags::EPOLLRDHUP, self.edges);
        flags
    }
}

/// Of these, `EPOLLRDHUP` is reported for [`Interest::WAKEUPS`] only.
const HANGUPS: EpollFlags =
    EpollFlags::EPOLLHUP.union(EpollFlags::EPOLLERR).union(EpollFlags::EPOLLRDHUP);

/// The conditions that hold for a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readiness {
    /// A read will not block.
    pub readable: bool,
    /// A write will not block.
    pub writable: bool,
    /// The peer has closed both directions, or the connection is broken. Data that arrived before
    /// can still be read.
    pub hung_up: bool,
}

/// The readiness of one descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// The registration that it belongs to.
    pub source: Source,
    /// The conditions that hold.
    pub readiness: Readiness,
}

/// The buffer that events arrive in.
#[derive(Debug)]
pub struct Events {
    buffer: Vec<EpollEvent>,
    count: usize,
}

impl Events {
    /// Room for `capacity` events in one wait; the others come with the next one.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Events {
        Events { buffer: vec![EpollEvent::empty(); capacity], count: 0 }
    }

    /// The events of the last wait.
    pub fn iter(&self) -> impl Iterator<Item = Event> {
        self.buffer.iter().take(self.count).map(|event| {
            let flags = event.events();
            let readiness = Readiness {
                readable: flags.contains(EpollFlags::EPOLLIN),
                writable: flags.contains(EpollFlags::EPOLLOUT),
                hung_up: flags.intersects(HANGUPS),
            };
            Event { source: Token::from_bits(event.data()).source(), readiness }
        })
    }
}

impl Reactor {
    /// A reactor without registrations.
    ///
    /// # Errors
    /// When the system has no descriptor for it.
    pub fn new() -> io::Result<Reactor> {
        Ok(Reactor { epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)? })
    }

    /// Watches `fd`; its events carry `token`.
    ///
    /// # Errors
    /// When it is registered already, or the system's limit of watches is reached.
    pub fn register(&self, fd: impl AsFd, token: Token, interest: Interest) -> io::Result<()> {
        Ok(self.epoll.add(fd, EpollEvent::new(interest.flags(), token.bits()))?)
    }

    /// Changes what a registered descriptor is watched for.
    ///
    /// # Errors
    /// When it is not registered.
    pub fn modify(&self, fd: impl AsFd, token: Token, interest: Interest) -> io::Result<()> {
        Ok(self.epoll.modify(fd, &mut EpollEvent::new(interest.flags(), token.bits()))?)
    }

    /// Watches `fd` no longer. Needed only if it stays open.
    ///
    /// # Errors
    /// When it is not registered.
    pub fn deregister(&self, fd: impl AsFd) -> io::Result<()> {
        Ok(self.epoll.delete(fd)?)
    }

    /// Waits until something is ready or `timeout` has passed, rounded up to milliseconds: waking
    /// early would be a useless turn. `None` waits without limit, zero polls. A signal ends the
    /// wait without events.
    ///
    /// # Errors
    /// Errors of the kernel; none is expected.
    pub fn wait(&self, timeout: Option<Duration>, events: &mut Events) -> io::Result<()> {
        let timeout = timeout.map_or(EpollTimeout::NONE, |timeout| {
            let ms = timeout.as_nanos().div_ceil(1_000_000);
            let ms = i32::try_from(ms).unwrap_or(i32::MAX);
            EpollTimeout::try_from(ms).unwrap_or(EpollTimeout::MAX)
        });
        events.count = match self.epoll.wait(&mut events.buffer, timeout) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(error) => return Err(error.into()),
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::time::Instant;

    fn poll(reactor: &Reactor) -> Vec<Event> {
        let mut events = Events::with_capacity(8);
        reactor.wait(Some(Duration::ZERO), &mut events).unwrap();
        events.iter().collect()
    }

    fn readiness(reactor: &Reactor, source: Source) -> Option<Readiness> {
        poll(reactor).iter().find(|event| event.source == source).map(|event| event.readiness)
    }

    /// The hazard: one side gets the other's events, or events outside its interest.
    #[test]
    fn doors_and_tiers_get_events_of_their_own_sockets_within_their_interest() {
        let reactor = Reactor::new().unwrap();
        let (door, mut client) = UnixStream::pair().unwrap();
        let (tier, mut server) = UnixStream::pair().unwrap();
        reactor.register(&door, Token::door(7), Interest::READABLE).unwrap();
        reactor.register(&tier, Token::tier(7), Interest::WRITABLE).unwrap();
        let writable = Readiness { readable: false, writable: true, hung_up: false };
        let event = Event { source: Source::Tier(7), readiness: writable };
        assert_eq!(poll(&reactor), [event]);

        client.write_all(b"x").unwrap();
        server.write_all(b"x").unwrap();
        let readable = Readiness { readable: true, writable: false, hung_up: false };
        assert_eq!(readiness(&reactor, Source::Door(7)), Some(readable));
        assert_eq!(readiness(&reactor, Source::Tier(7)), Some(writable));
        reactor.modify(&tier, Token::tier(7), Interest::BOTH).unwrap();
        assert_eq!(
            readiness(&reactor, Source::Tier(7)),
            Some(Readiness { readable: true, ..writable })
        );

        // Nothing reads it, so each wait reports it until the interest is dropped.
        assert_eq!(readiness(&reactor, Source::Door(7)), Some(readable));
        reactor.modify(&door, Token::door(7), Interest::NONE).unwrap();
        assert_eq!(readiness(&reactor, Source::Door(7)), None);
        drop(client);
        let hung_up = Readiness { readable: false, writable: false, hung_up: true };
        assert_eq!(readiness(&reactor, Source::Door(7)), Some(hung_up));
        (&door).read_exact(&mut [0]).unwrap();

        reactor.deregister(&door).unwrap();
        drop(tier);
        assert_eq!(poll(&reactor), []);
    }

    /// The hazard: an unread wakeup hides the next one, or is reported forever.
    #[test]
    fn each_wakeup_is_reported_once_without_being_read() {
        let reactor = Reactor::new().unwrap();
        let (door, mut client) = UnixStream::pair().unwrap();
        reactor.register(&door, Token::door(7), Interest::READABLE).unwrap();
        client.write_all(b"x").unwrap();
        let readable = Readiness { readable: true, writable: false, hung_up: false };
        reactor.modify(&door, Token::door(7), Interest::WAKEUPS).unwrap();
        for _ in 0..3 {
            assert_eq!(readiness(&reactor, Source::Door(7)), Some(readable));
            assert_eq!(readiness(&reactor, Source::Door(7)), None);
            client.write_all(b"x").unwrap();
        }
        client.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(readiness(&reactor, Source::Door(7)).unwrap().hung_up);
    }

    #[test]
    fn a_wait_lasts_at_least_its_timeout() {
        let reactor = Reactor::new().unwrap();
        let timeout = Duration::from_micros(1500);
        let begun = Instant::now();
        reactor.wait(Some(timeout), &mut Events::with_capacity(1)).unwrap();
        assert!(begun.elapsed() >= timeout);
    }
}
