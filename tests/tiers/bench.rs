//! The tiers on their own event loop, driven from a test: submit a job, wait for its end, look at
//! the outcome.

use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded, unbounded};
use l1d::reactor::{Events, Interest, Reactor, Source, Token};
use l1d::tiers::{
    Fetched, Job, L2Change, L2Config, L3Config, Tier, TierEvent, Tiers, TiersConfig, Upstream,
    Written,
};
use l1d_wire::snapshot::TiersStats;
use nix::sys::eventfd::{EfdFlags, EventFd};

use test_support::servers::{PATIENCE, Server, until};

/// A timeout for a server that should answer, long enough for a busy machine.
pub const LONG: Duration = Duration::from_secs(10);
/// A timeout for a server that should not answer.
pub const SHORT: Duration = Duration::from_millis(60);
/// Larger values are not kept.
pub const VALUE_BYTES_MAX: usize = 4 << 20;
pub const HOUR: Duration = Duration::from_secs(3600);

/// A function to run on the loop's thread.
type Command = Box<dyn FnOnce(&mut Upstream) + Send>;

/// The tiers on their loop. Dropping it lets pending jobs end, as a daemon does when it stops.
pub struct Loop {
    commands: Option<Sender<Command>>,
    wake: Arc<EventFd>,
    /// Number of completed waits of the loop.
    turns: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Loop {
    fn start(config: TiersConfig, events: Sender<TierEvent>) -> Loop {
        let (sender, commands) = unbounded::<Command>();
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let wake = Arc::new(EventFd::from_flags(flags).unwrap());
        let woken = Arc::clone(&wake);
        let turns = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&turns);
        let thread =
            std::thread::spawn(move || run(&config, &woken, &commands, (&events, &counter)));
        Loop { commands: Some(sender), wake, turns, thread: Some(thread) }
    }

    fn on_loop<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Upstream) -> T + Send + 'static,
    ) -> T {
        let (sender, result) = bounded(1);
        let command: Command = Box::new(move |tiers| sender.send(act(tiers)).unwrap());
        self.commands.as_ref().unwrap().send(command).unwrap();
        self.wake.write(1).unwrap();
        result.recv_timeout(PATIENCE).expect("the loop turns")
    }

    pub fn submit(&self, job: Job) -> Result<(), Job> {
        self.on_loop(move |tiers| tiers.submit(job))
    }

    /// Submits all jobs in one turn of the loop.
    pub fn submit_all(&self, jobs: Vec<Job>) {
        self.on_loop(move |tiers| jobs.into_iter().for_each(|job| tiers.submit(job).unwrap()));
    }

    /// Number of completed waits of the loop.
    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    pub fn has(&self, tier: Tier) -> bool {
        self.on_loop(move |tiers| tiers.has(tier))
    }

    pub fn available(&self, tier: Tier) -> bool {
        self.on_loop(move |tiers| tiers.available(tier))
    }

    pub fn epoch(&self, tier: Tier) -> u64 {
        self.on_loop(move |tiers| tiers.epoch(tier))
    }

    pub fn is_settled(&self) -> bool {
        self.on_loop(|tiers| !tiers.has_open_changes())
    }

    pub fn stats(&self) -> TiersStats {
        self.on_loop(|tiers| tiers.stats())
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        self.commands = None;
        self.wake.write(1).unwrap();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// Runs the loop until the commands end and every job has ended, or must have by its deadlines.
fn run(
    config: &TiersConfig,
    wake: &EventFd,
    commands: &Receiver<Command>,
    (events, turns): (&Sender<TierEvent>, &AtomicU64),
) {
    let reactor = Rc::new(Reactor::new().unwrap());
    reactor.register(wake.as_fd(), Token::door(0), Interest::READABLE).unwrap();
    let mut tiers = Upstream::new(config, HOUR, &reactor).unwrap();
    let mut ready = Events::with_capacity(16);
    let mut stopped: Option<Instant> = None;
    loop {
        let mut due = tiers.advance(Instant::now());
        while let Some(event) = tiers.next_event() {
            // The test may be over already.
            let _ = events.send(event);
            due = Some(Instant::now());
        }
        if let Some(stopped) = stopped
            && (tiers.jobs() == 0 || stopped.elapsed() > Upstream::grace(config))
        {
            return;
        }
        let timeout = due.map(|due| due.saturating_duration_since(Instant::now()));
        reactor.wait(timeout, &mut ready).unwrap();
        turns.fetch_add(1, Ordering::Relaxed);
        for event in ready.iter() {
            if let Source::Tier(number) = event.source {
                tiers.ready(number, event.readiness);
            }
        }
        let _ = wake.read();
        loop {
            match commands.try_recv() {
                Ok(command) => command(&mut tiers),
                Err(error) => {
                    if error.is_disconnected() {
                        stopped = stopped.or(Some(Instant::now()));
                    }
                    break;
                }
            }
        }
    }
}

/// The tiers under test, and the events of their jobs.
pub struct Bench {
    pub tiers: Loop,
    pub dones: Receiver<TierEvent>,
}

impl Bench {
    pub fn new(l2: Option<(String, Duration)>, l3: Option<(String, Duration)>) -> Bench {
        let (sender, dones) = unbounded();
        let config = TiersConfig {
            l2: l2.map(|(address, deadline)| L2Config { address, deadline }),
            l3: l3.map(|(address, deadline)| L3Config {
                url: format!("redis://{address}"),
                password: None,
                deadline,
            }),
            value_bytes_max: VALUE_BYTES_MAX,
        };
        Bench { tiers: Loop::start(config, sender), dones }
    }

    pub fn both(l2: &Server, l3: &Server) -> Bench {
        Bench::new(Some((l2.address(), LONG)), Some((l3.address(), LONG)))
    }

    pub fn done(&self) -> TierEvent {
        self.dones.recv_timeout(PATIENCE).expect("every job ends")
    }

    pub fn fetch_job(flight: u64, key: &[u8]) -> Job {
        Job::Fetch { flight, key: key.into(), in_l2: true }
    }

    pub fn submit_fetch(&self, flight: u64, key: &[u8]) {
        self.tiers.submit(Bench::fetch_job(flight, key)).unwrap();
    }

    pub fn fetch(&self, key: &[u8]) -> Fetched {
        self.submit_fetch(1, key);
        match self.done() {
            TierEvent::Fetched { flight: 1, outcome } => outcome,
            other => panic!("{other:?}"),
        }
    }

    pub fn written(&self) -> Written {
        match self.done() {
            TierEvent::Written { outcome, .. } => outcome,
            other => panic!("{other:?}"),
        }
    }

    pub fn set_job(id: u64, key: &[u8], value: &[u8]) -> Job {
        Job::Set {
            id,
            key: key.into(),
            value: value.into(),
            l3_value: value.into(),
            flags: 0xdead_beef,
            l2: L2Change::Store(Some(HOUR)),
            l3_ttl: Some(HOUR * 2),
        }
    }

    pub fn set(&self, key: &[u8], value: &[u8]) -> Written {
        self.tiers.submit(Bench::set_job(2, key, value)).unwrap();
        self.written()
    }

    pub fn delete(&self, key: &[u8]) -> Written {
        self.tiers.submit(Job::Delete { id: 3, key: key.into(), in_l2: true }).unwrap();
        self.written()
    }

    /// Submits a fill, and returns when L2 has carried it out, which answers in order.
    pub fn fill(&self, key: &[u8], value: &[u8], l2_ttl: Duration) {
        let job = Job::Fill { key: key.into(), value: value.into(), flags: 9, l2_ttl };
        self.tiers.submit(job).unwrap();
        self.fetch(b"behind the fill");
    }

    /// Asks for keys until the breaker of `tier` is open; panics if it never opens.
    pub fn until_open(&self, tier: Tier) {
        until("the breaker to open", || {
            self.fetch(b"whatever");
            (!self.tiers.available(tier)).then_some(())
        });
    }

    /// Asks for keys until the connection to `tier`, which is silent, was given up for another.
    pub fn until_replaced(&self, tier: Tier) {
        let epoch = self.tiers.epoch(tier);
        until("another connection", || {
            self.fetch(b"whatever");
            (self.tiers.epoch(tier) > epoch).then_some(())
        });
    }

    /// Returns when no change is unanswered and L2 owes nothing.
    pub fn until_settled(&self) {
        until("everything below to be settled", || self.tiers.is_settled().then_some(()));
    }

    pub fn until_available(&self, tier: Tier) {
        until("the breaker to let requests through", || self.tiers.available(tier).then_some(()));
    }
}

/// The tier, value, flags and remaining TTL of a found key.
pub fn found(fetched: Fetched) -> (Tier, Vec<u8>, u32, Option<Duration>) {
    match fetched {
        Fetched::Found { tier, value, flags, remaining, .. } => {
            (tier, value.to_vec(), flags, remaining)
        }
        other => panic!("{other:?}"),
    }
}

pub fn is_absent(fetched: &Fetched, expected: bool) -> bool {
    matches!(fetched, Fetched::Absent { authoritative, .. } if *authoritative == expected)
}

pub fn within(remaining: Option<Duration>, seconds: u64) -> bool {
    let most = Duration::from_secs(seconds);
    remaining.is_some_and(|left| left <= most && left > most.saturating_sub(PATIENCE))
}
