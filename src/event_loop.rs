//! The owner thread's event loop. It blocks in one place, [`Reactor::wait`].

use crate::doors::{Doors, Limits, Replies, Service};
use crate::manager::ServiceManager;
use crate::reactor::{Cores, Events, Interest, Reactor, Source, Token};
use crate::signals::{Signal, Signals};
use l1d_wire::words;
use std::io;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

/// Events taken from the kernel at a time: more than a user has connections by default, so that a
/// crowd that is left for later hides nobody else's.
const EVENTS: usize = 1024;

/// How long a stop serves requests that clients have left, if no tier takes longer.
const DRAIN_TIME: Duration = Duration::from_secs(1);
/// How often a stop looks at rings that are not empty and sockets that are full.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// Why the event loop ended early.
#[derive(Debug, thiserror::Error)]
#[error("the event loop cannot {operation}: {}; restart the daemon", words::of(source))]
pub struct EventLoopError {
    operation: &'static str,
    source: io::Error,
}

fn cannot(operation: &'static str) -> impl Fn(io::Error) -> EventLoopError {
    move |source| EventLoopError { operation, source }
}

/// Serves until [`Signal::Stop`]; then serves what has been sent, and lets pending work at the tiers
/// end, for `grace` or a second. The tiers have registered with `reactor`, too.
///
/// # Errors
/// When the kernel refuses a call that every event loop needs.
pub fn run(
    reactor: &Reactor,
    listener: &UnixListener,
    signals: &impl Signals,
    service: &mut impl Service,
    manager: &mut ServiceManager,
    limits: Limits,
) -> Result<(), EventLoopError> {
    let grace = limits.grace;
    reactor
        .register(signals.descriptor(), Token::SIGNALS, Interest::READABLE)
        .map_err(cannot("watch a descriptor"))?;
    let doors =
        Doors::open(listener, reactor, limits).map_err(cannot("watch the control socket"))?;
    let events = Events::with_capacity(EVENTS);
    let mut turns =
        EventLoop { reactor, doors, signals, service, manager, events, cores: Cores::new() };
    while turns.turn()? {}
    // A further signal changes nothing.
    reactor.deregister(signals.descriptor()).map_err(cannot("forget a descriptor"))?;
    // First: a manager that knows waits for as long as it takes, without signs of life.
    turns.manager.stopping();
    turns.finish(grace)
}

/// The parts that a turn goes through.
struct EventLoop<'a, S, N> {
    reactor: &'a Reactor,
    doors: Doors<'a>,
    signals: &'a N,
    service: &'a mut S,
    manager: &'a mut ServiceManager,
    events: Events,
    cores: Cores,
}

impl<S: Service, N: Signals> EventLoop<'_, S, N> {
    /// One turn: work that is due, requests, the tiers, the wait, and its events. Returns whether
    /// to continue.
    fn turn(&mut self) -> Result<bool, EventLoopError> {
        let EventLoop { reactor, doors, service, manager, cores, .. } = self;
        doors.begin_turn();
        let service_due = service.turn(doors.now(), doors.replies());
        doors.serve_connections(reactor, *service);
        doors.poll_mailboxes(*service, cores);

        // All that this turn asks of the tiers goes out together.
        let tiers_due = service.advance_tiers(doors.now(), doors.replies());
        doors.wake_sleepers();
        service.turned(doors.now().elapsed());
        manager.turned(doors.now(), service.reloads());

        let manager_due = manager.next_deadline(doors.now());
        let deadlines = [service_due, tiers_due, doors.next_deadline(), manager_due];
        let timeout = self.timeout(deadlines.into_iter().flatten().min());
        self.wait(timeout)?;
        let goes_on = self.dispatch();

        let EventLoop { reactor, doors, service, .. } = self;
        doors.serve_connections(reactor, *service);
        doors.drain_reports(*service);
        doors.enforce_limits(*service);
        doors.resume_accepting(reactor);
        Ok(goes_on)
    }

    /// How long to sleep: not at all while something is to be done, or is expected so soon that
    /// polling beats sleeping.
    fn timeout(&mut self, deadline: Option<Instant>) -> Option<Duration> {
        let EventLoop { doors, service, cores, .. } = self;
        let now = Instant::now();
        let expects = doors.should_poll() && service.is_idle();
        let may_expect = doors.should_poll() || service.should_poll(now);
        let polls = doors.has_work() || expects || (may_expect && cores.has_spare(0, now));
        // Clients that are not polled are asked for a wakeup, unless they have sent a request
        // meanwhile.
        if polls || !doors.ask_for_wakeups(*service) {
            return Some(Duration::ZERO);
        }
        deadline.map(|deadline| deadline.saturating_duration_since(now))
    }

    fn wait(&mut self, timeout: Option<Duration>) -> Result<(), EventLoopError> {
        self.reactor.wait(timeout, &mut self.events).map_err(cannot("wait for events"))?;
        self.doors.set_now(Instant::now());
        self.doors.stop_resting();
        Ok(())
    }

    /// Hands each event to whom it concerns. Returns `false` when the daemon is to stop.
    fn dispatch(&mut self) -> bool {
        let EventLoop { reactor, doors, signals, service, events, .. } = self;
        let mut goes_on = true;
        for event in events.iter() {
            match event.source {
                Source::Signals => goes_on &= !stops(*signals, *service, doors.replies()),
                Source::Config => service.config_ready(doors.replies()),
                Source::Door(door) => doors.ready(door, event.readiness, reactor, *service),
                Source::Tier(tier) => service.tier_ready(tier, event.readiness, doors.replies()),
            }
        }
        goes_on
    }

    /// Serves what is in the rings, lets nobody send more, and returns when the tiers have answered
    /// and the replies are sent, or must have been by their deadlines.
    fn finish(&mut self, grace: Duration) -> Result<(), EventLoopError> {
        let end = Instant::now() + grace.max(DRAIN_TIME);
        self.doors.hang_up(self.reactor);
        loop {
            let EventLoop { doors, service, .. } = self;
            let drained = doors.drain_rings(*service);
            let due = service.advance_tiers(Instant::now(), doors.replies());
            doors.wake_sleepers();
            let sent = doors.finish();
            let now = Instant::now();
            if drained && sent && service.is_idle() {
                return Ok(());
            }
            if now >= end {
                tracing::warn!(
                    "stopping with requests unread, unanswered or not taken by their clients, who \
                     are told that the daemon has ended"
                );
                return Ok(());
            }
            let mut until = due.map_or(end, |due| due.min(end));
            if !drained || !sent {
                until = until.min(now + LOOK_AGAIN);
            }
            let EventLoop { reactor, doors, service, events, .. } = self;
            // Not `self.wait`: mailboxes do not return to being polled.
            let wait = until.saturating_duration_since(now);
            reactor.wait(Some(wait), events).map_err(cannot("wait for events"))?;
            for event in events.iter() {
                if let Source::Tier(tier) = event.source {
                    service.tier_ready(tier, event.readiness, doors.replies());
                }
            }
        }
    }
}

/// Acts on the signals that have arrived. Returns whether one of them is to stop the daemon.
fn stops(signals: &impl Signals, service: &mut impl Service, replies: &mut dyn Replies) -> bool {
    while let Some(signal) = signals.next() {
        match signal {
            Signal::Stop => return true,
            Signal::Reload => service.reload(replies),
            Signal::Ignored(name) => tracing::info!("{name} has no meaning here; ignored"),
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doors::{Origin, Peer};
    use crate::reactor::Readiness;
    use l1d_wire::protocol::Request;
    use nix::sys::eventfd::{EfdFlags, EventFd};
    use std::io::{Read, Write};
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

    /// A service with one tier.
    struct Tiered {
        tier: UnixStream,
        calls: Sender<Call>,
        flush_interval: Duration,
        /// Replies that the tier owes.
        owed: u32,
    }

    impl Service for Tiered {
        fn request(&mut self, _: Origin, _: &Peer, _: Request<'_>, _: &mut dyn Replies) {}

        fn gone(&mut self, _: Origin) {}

        fn tier_ready(&mut self, tier: u64, readiness: Readiness, _: &mut dyn Replies) {
            assert!(readiness.readable);
            self.tier.read_exact(&mut [0]).unwrap();
            self.owed = self.owed.saturating_sub(1);
            self.calls.send(Call::Ready(tier)).unwrap();
        }

        fn advance_tiers(&mut self, _: Instant, _: &mut dyn Replies) -> Option<Instant> {
            self.calls.send(Call::Flush).unwrap();
            Some(Instant::now() + self.flush_interval)
        }

        fn is_idle(&self) -> bool {
            self.owed == 0
        }

        fn turn(&mut self, _: Instant, _: &mut dyn Replies) -> Option<Instant> {
            self.calls.send(Call::Turn).unwrap();
            None
        }
    }

    /// Runs the loop with a tier until `script` has got all calls that it wants, then stops it.
    fn with_tier(
        flush_interval: Duration,
        script: impl FnOnce(&mut dyn FnMut() -> Call, &UnixStream),
    ) {
        with_owing_tier(flush_interval, 0, |next, server, _stop| script(next, server));
    }

    /// The same with a tier that owes this many replies when the loop begins. `script` may stop it.
    fn with_owing_tier(
        flush_interval: Duration,
        owed: u32,
        script: impl FnOnce(&mut dyn FnMut() -> Call, &UnixStream, &EventFd),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("socket")).unwrap();
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let stop = EventFd::from_flags(flags).unwrap();
        let (tier, server) = UnixStream::pair().unwrap();
        let (sender, calls) = channel();
        let mut service = Tiered { tier, calls: sender, flush_interval, owed };
        let limits = Limits {
            frame_bytes_max: 1000,
            connections_max: 1,
            connections_per_uid_max: 1,
            buffer_bytes_per_uid_max: 1 << 20,
            buffer_bytes_max: 1000,
            stall: PATIENCE,
            spin: Duration::ZERO,
            grace: PATIENCE,
        };
        std::thread::scope(|scope| {
            let stop = &stop;
            let looping = scope.spawn(move || {
                let reactor = Reactor::new().unwrap();
                reactor.register(&service.tier, Token::tier(TIER), Interest::READABLE).unwrap();
                let mut manager = ServiceManager::none();
                run(&reactor, &listener, stop, &mut service, &mut manager, limits).unwrap();
            });
            script(&mut || calls.recv_timeout(PATIENCE).expect("a call"), &server, stop);
            stop.write(1).unwrap();
            looping.join().unwrap();
        });
    }

    /// The hazard: the loop sleeps before it sends what follows from a tier's answer.
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

    /// The hazard: a write that was taken on is dropped by a stop, or a stop hangs.
    #[test]
    fn a_stop_waits_for_the_replies_that_a_tier_owes() {
        with_owing_tier(PATIENCE, 2, |next, mut server: &UnixStream, stop| {
            assert_eq!([next(), next()], [Call::Turn, Call::Flush]);
            stop.write(1).unwrap();
            // No turn any more, but the tier is served.
            assert_eq!(next(), Call::Flush);
            for _ in 0..2 {
                server.write_all(b"x").unwrap();
                assert_eq!([next(), next()], [Call::Ready(TIER), Call::Flush]);
            }
        });
    }
}
