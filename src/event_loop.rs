//! The owner thread's event loop. It blocks in one place, [`Reactor::wait`].

use crate::doors::{Doors, Limits, Service};
use crate::reactor::{Events, Interest, Reactor, Source, Token};
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

/// Events taken from the kernel at a time.
const EVENTS: usize = 256;

/// Why the event loop ended early.
#[derive(Debug, thiserror::Error)]
#[error("the event loop cannot {operation}: {source}; restart the daemon")]
pub struct EventLoopError {
    operation: &'static str,
    source: io::Error,
}

fn cannot(operation: &'static str) -> impl Fn(io::Error) -> EventLoopError {
    move |source| EventLoopError { operation, source }
}

/// Serves until `stop` becomes readable. `wake` is an eventfd by which other threads call for
/// [`Service::woken`].
///
/// # Errors
/// When the kernel refuses what every event loop needs.
pub fn run(
    listener: &UnixListener,
    stop: BorrowedFd<'_>,
    wake: BorrowedFd<'_>,
    service: &mut impl Service,
    limits: Limits,
) -> Result<(), EventLoopError> {
    let reactor = Reactor::new().map_err(cannot("create an epoll instance"))?;
    for (fd, token) in [(stop, Token::STOP), (wake, Token::WAKE)] {
        reactor.register(fd, token, Interest::READABLE).map_err(cannot("watch a descriptor"))?;
    }
    let mut doors =
        Doors::open(listener, &reactor, limits).map_err(cannot("watch the control socket"))?;
    let mut events = Events::with_capacity(EVENTS);
    loop {
        // Work that is due, then whatever its replies and the previous turn's budgets left to do.
        doors.begin_turn();
        let service_due = service.turn(doors.now(), doors.replies());
        doors.serve_connections(&reactor, service);
        let keeps_polling = doors.poll_mailboxes(service);

        // All that this turn asked of the tiers goes out together.
        let tiers_due = service.flush(&reactor, doors.replies());
        service.turned(doors.now().elapsed());

        let timeout = if keeps_polling || doors.has_work() {
            Some(Duration::ZERO)
        } else {
            let deadlines = [service_due, tiers_due, doors.next_deadline()];
            let next = deadlines.into_iter().flatten().min();
            next.map(|next| next.saturating_duration_since(Instant::now()))
        };
        reactor.wait(timeout, &mut events).map_err(cannot("wait for events"))?;
        doors.set_now(Instant::now());

        for event in events.iter() {
            match event.source {
                Source::Stop => {
                    doors.finish();
                    return Ok(());
                }
                Source::Wake => {
                    reset(wake);
                    service.woken(doors.replies());
                }
                Source::Door(door) => doors.ready(door, event.readiness, &reactor),
                Source::Tier(tier) => {
                    service.tier_ready(tier, event.readiness, &reactor, doors.replies());
                }
            }
        }
        doors.serve_connections(&reactor, service);
        doors.drain_reports(service);
        doors.enforce_limits(service);
        doors.resume_accepting(&reactor);
    }
}

/// Resets an eventfd, so that it stays unreadable until it is written again.
fn reset(eventfd: BorrowedFd<'_>) {
    // Fails only if it is at rest already.
    let _ = nix::unistd::read(eventfd, &mut [0; 8]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doors::{Origin, Peer, Replies};
    use crate::reactor::Readiness;
    use l1d_client::protocol::Request;
    use nix::sys::eventfd::{EfdFlags, EventFd};
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc::{Sender, channel};

    const PATIENCE: Duration = Duration::from_secs(30);
    const TIER: u64 = 3;

    #[derive(Debug, PartialEq, Eq)]
    enum Call {
        Turn,
        Ready(u64),
        Flush,
    }

    /// A service with one tier, which it registers in its first turn.
    struct Tiered {
        tier: UnixStream,
        is_registered: bool,
        calls: Sender<Call>,
        flush_interval: Duration,
    }

    impl Service for Tiered {
        fn request(&mut self, _: Origin, _: &Peer, _: Request<'_>, _: &mut dyn Replies) {}

        fn gone(&mut self, _: Origin) {}

        fn woken(&mut self, _: &mut dyn Replies) {}

        fn tier_ready(
            &mut self,
            tier: u64,
            readiness: Readiness,
            _: &Reactor,
            _: &mut dyn Replies,
        ) {
            assert!(readiness.readable);
            self.tier.read_exact(&mut [0]).unwrap();
            self.calls.send(Call::Ready(tier)).unwrap();
        }

        fn flush(&mut self, reactor: &Reactor, _: &mut dyn Replies) -> Option<Instant> {
            if !std::mem::replace(&mut self.is_registered, true) {
                let token = Token::tier(TIER);
                reactor.register(&self.tier, token, Interest::READABLE).unwrap();
            }
            self.calls.send(Call::Flush).unwrap();
            Some(Instant::now() + self.flush_interval)
        }

        fn turn(&mut self, _: Instant, _: &mut dyn Replies) -> Option<Instant> {
            self.calls.send(Call::Turn).unwrap();
            None
        }
    }

    /// Runs the loop with a tier until `script` has got all calls that it wants.
    fn with_tier(
        flush_interval: Duration,
        script: impl FnOnce(&mut dyn FnMut() -> Call, &UnixStream),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("socket")).unwrap();
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let [stop, wake] = [(), ()].map(|()| EventFd::from_flags(flags).unwrap());
        let (tier, server) = UnixStream::pair().unwrap();
        let (sender, calls) = channel();
        let mut service = Tiered { tier, is_registered: false, calls: sender, flush_interval };
        let limits = Limits {
            frame_bytes_max: 1000,
            connections_max: 1,
            connections_per_uid_max: 1,
            buffer_bytes_max: 1000,
            stall: PATIENCE,
            spin: Duration::ZERO,
        };
        std::thread::scope(|scope| {
            let (stop, wake) = (&stop, &wake);
            let looping = scope.spawn(move || {
                run(&listener, stop.as_fd(), wake.as_fd(), &mut service, limits).unwrap();
            });
            script(&mut || calls.recv_timeout(PATIENCE).expect("a call"), &server);
            stop.write(1).unwrap();
            looping.join().unwrap();
        });
    }

    /// The hazard: the loop sleeps before it sends what a tier's answer led to.
    #[test]
    fn a_tier_that_is_ready_is_followed_by_a_flush_before_the_next_wait() {
        with_tier(PATIENCE, |next, mut server: &UnixStream| {
            assert_eq!([next(), next()], [Call::Turn, Call::Flush]);
            for _ in 0..3 {
                server.write_all(b"x").unwrap();
                assert_eq!([next(), next(), next()], [Call::Ready(TIER), Call::Turn, Call::Flush]);
            }
        });
    }

    /// The hazard: a tier that says nothing keeps its requests waiting beyond their deadline.
    #[test]
    fn the_loop_wakes_for_the_deadline_of_a_flush() {
        let interval = Duration::from_millis(20);
        with_tier(interval, |next, _server| {
            let began = Instant::now();
            for turn in 0..4 {
                assert_eq!([next(), next()], [Call::Turn, Call::Flush]);
                assert!(began.elapsed() >= interval * turn);
            }
        });
    }
}
