//! The reactor: one epoll instance, with which the doors and the tiers register their sockets.
//!
//! Readiness is level-triggered: a condition that nobody acts on is reported by every wait. So a
//! caller registers interest only in what it acts on at once, and drops it when it has to wait for
//! something else first. A hangup or an error is reported whatever the interest.

mod cores;
mod token;

pub use cores::Cores;
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
}

impl Interest {
    /// Nothing but hangups and errors.
    pub const NONE: Interest = Interest { readable: false, writable: false };
    /// Reads only.
    pub const READABLE: Interest = Interest { readable: true, writable: false };
    /// Reads and writes.
    pub const BOTH: Interest = Interest { readable: true, writable: true };
    /// Writes only.
    pub const WRITABLE: Interest = Interest { readable: false, writable: true };

    fn flags(self) -> EpollFlags {
        let mut flags = EpollFlags::empty();
        flags.set(EpollFlags::EPOLLIN, self.readable);
        flags.set(EpollFlags::EPOLLOUT, self.writable);
        flags
    }
}

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
                hung_up: flags.intersects(EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR),
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
    /// early would be a turn for nothing. `None` waits without limit, zero polls. A signal ends the
    /// wait without events.
    ///
    /// # Errors
    /// Whatever the kernel says; none is expected.
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
        let both = Interest { readable: true, writable: true };
        reactor.modify(&tier, Token::tier(7), both).unwrap();
        assert_eq!(
            readiness(&reactor, Source::Tier(7)),
            Some(Readiness { readable: true, ..writable })
        );

        // Nobody reads: it is reported by each wait until the interest is dropped.
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

    #[test]
    fn a_wait_lasts_at_least_its_timeout() {
        let reactor = Reactor::new().unwrap();
        let timeout = Duration::from_micros(1500);
        let begun = Instant::now();
        reactor.wait(Some(timeout), &mut Events::with_capacity(1)).unwrap();
        assert!(begun.elapsed() >= timeout);
    }
}
