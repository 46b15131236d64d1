//! What the tests do with the tiers: submit a job, wait for its end, look at the outcome.

use std::time::Duration;

use crossbeam::channel::{Receiver, unbounded};
use l1d::tiers::{Done, Fetched, Job, L2Config, L3Config, Tier, Tiers, TiersConfig, Written};

use test_support::servers::{PATIENCE, Server, until};

/// Long enough for a busy machine, where a server is meant to answer.
pub const LONG: Duration = Duration::from_secs(10);
/// Short, where it is meant not to.
pub const SHORT: Duration = Duration::from_millis(60);
pub const HOUR: Duration = Duration::from_secs(3600);

/// The tiers under test and the ends of their jobs.
pub struct Bench {
    pub tiers: Tiers,
    pub dones: Receiver<Done>,
}

impl Bench {
    pub fn new(l2: Option<(String, Duration)>, l3: Option<(String, Duration)>) -> Bench {
        let (sender, dones) = unbounded();
        let config = TiersConfig {
            l2: l2.map(|(address, deadline)| L2Config { address, deadline }),
            l3: l3.map(|(address, deadline)| L3Config {
                url: format!("redis://{address}"),
                deadline,
            }),
        };
        // The receiver may be gone while the thread stops.
        let tiers = Tiers::start(config, move |done| drop(sender.send(done))).unwrap();
        Bench { tiers, dones }
    }

    pub fn both(l2: &Server, l3: &Server) -> Bench {
        Bench::new(Some((l2.address(), LONG)), Some((l3.address(), LONG)))
    }

    pub fn done(&self) -> Done {
        self.dones.recv_timeout(PATIENCE).expect("every job ends")
    }

    pub fn submit_fetch(&self, flight: u64, key: &[u8]) {
        self.tiers.submit(Job::Fetch { flight, key: key.into() }).unwrap();
    }

    pub fn fetch(&self, key: &[u8]) -> Fetched {
        self.submit_fetch(1, key);
        match self.done() {
            Done::Fetched { flight: 1, outcome } => outcome,
            other => panic!("{other:?}"),
        }
    }

    pub fn written(&self) -> Written {
        match self.done() {
            Done::Written { outcome, .. } => outcome,
            other => panic!("{other:?}"),
        }
    }

    pub fn set_job(id: u64, key: &[u8], value: &[u8]) -> Job {
        Job::Set {
            id,
            key: key.into(),
            value: value.into(),
            flags: 0xdead_beef,
            l2_ttl: HOUR,
            l3_ttl: Some(HOUR * 2),
        }
    }

    pub fn set(&self, key: &[u8], value: &[u8]) -> Written {
        self.tiers.submit(Bench::set_job(2, key, value)).unwrap();
        self.written()
    }

    pub fn delete(&self, key: &[u8]) -> Written {
        self.tiers.submit(Job::Delete { id: 3, key: key.into() }).unwrap();
        self.written()
    }

    pub fn fill(&self, key: &[u8], value: &[u8], l2_ttl: Duration) {
        self.tiers
            .submit(Job::Fill { id: 4, key: key.into(), value: value.into(), flags: 9, l2_ttl })
            .unwrap();
        match self.done() {
            Done::Filled { id: 4 } => {}
            other => panic!("{other:?}"),
        }
    }

    /// Asks for keys until the breaker of `tier` is open; panics if it never opens.
    pub fn until_open(&self, tier: Tier) {
        until("the breaker to open", || {
            self.fetch(b"whatever");
            (!self.tiers.available(tier)).then_some(())
        });
    }

    pub fn until_available(&self, tier: Tier) {
        until("the breaker to let requests through", || self.tiers.available(tier).then_some(()));
    }
}

/// Tier, value, flags and remaining life of what was found.
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
