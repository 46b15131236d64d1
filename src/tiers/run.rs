//! The tiers' thread: what each job asks of which tier, and in which order.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::AcqRel};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::task::spawn_local;

use super::health::Health;
use super::memcached::Memcached;
use super::redis::Redis;
use super::redis_connection::Connector;
use super::stage::{Answer, Ask, Request, Stage};
use super::stats::Figures;
use super::{Done, Fetched, Job, Tier, Written};

/// Jobs taken from the channel at once.
const JOBS_AT_ONCE: usize = 256;

/// What the thread needs of L2.
pub struct L2 {
    pub address: String,
    pub deadline: Duration,
    pub figures: Arc<Figures>,
}

/// What the thread needs of L3.
pub struct L3 {
    pub server: ::redis::ConnectionInfo,
    pub deadline: Duration,
    pub figures: Arc<Figures>,
}

struct Shared {
    l2: Option<Rc<Stage<Memcached>>>,
    l3: Option<Rc<Stage<Redis>>>,
    done: Box<dyn Fn(Done)>,
    waiting: Arc<AtomicUsize>,
    finished: Notify,
}

/// Runs jobs until the channel is closed, then waits for those in progress, at most `grace`.
pub async fn run(
    l2: Option<L2>,
    l3: Option<L3>,
    mut jobs: mpsc::UnboundedReceiver<Job>,
    waiting: Arc<AtomicUsize>,
    done: Box<dyn Fn(Done)>,
    grace: Duration,
) {
    let l2 = l2.map(|l2| {
        let health = Rc::new(Health::new(Tier::L2, l2.figures));
        Stage::start(Memcached::new(l2.address, Rc::clone(&health)), health, l2.deadline)
    });
    let l3 = l3.map(|l3| {
        let health = Rc::new(Health::new(Tier::L3, l3.figures));
        let connector = Connector::new(l3.server, l3.deadline);
        Stage::start(Redis::new(connector, Rc::clone(&health)), health, l3.deadline)
    });
    let shared = Rc::new(Shared { l2, l3, done, waiting, finished: Notify::new() });
    let mut batch = Vec::with_capacity(JOBS_AT_ONCE);
    while jobs.recv_many(&mut batch, JOBS_AT_ONCE).await > 0 {
        for job in batch.drain(..) {
            spawn_local(Rc::clone(&shared).carry_out(job));
        }
    }
    let all_finished = async {
        while shared.waiting.load(std::sync::atomic::Ordering::Acquire) > 0 {
            shared.finished.notified().await;
        }
    };
    // Past the grace time nobody is left who would want the rest.
    let _ = tokio::time::timeout(grace, all_finished).await;
}

impl Shared {
    async fn carry_out(self: Rc<Self>, job: Job) {
        let done = match job {
            Job::Fetch { flight, key } => Done::Fetched { flight, outcome: self.fetch(key).await },
            Job::Fill { id, key, value, flags, l2_ttl } => {
                self.fill(key, value, flags, l2_ttl).await;
                Done::Filled { id }
            }
            Job::Set { id, key, value, flags, l2_ttl, l3_ttl } => {
                let to_l3 = Ask::Set { value: Arc::clone(&value), flags, ttl: l3_ttl };
                let to_l2 = Ask::Set { value, flags, ttl: Some(l2_ttl) };
                Done::Written { id, outcome: self.write(key, to_l3, to_l2).await }
            }
            Job::Delete { id, key } => {
                Done::Written { id, outcome: self.write(key, Ask::Delete, Ask::Delete).await }
            }
        };
        self.waiting.fetch_sub(1, AcqRel);
        (self.done)(done);
        self.finished.notify_one();
    }

    /// L2, then L3. An L2 that cannot answer counts as not asked while there is an L3.
    async fn fetch(&self, key: Arc<[u8]>) -> Fetched {
        let mut outcome = Fetched::Absent { authoritative: false, epoch: 0 };
        if let Some(l2) = &self.l2 {
            let reply = l2.ask(Request { key: Arc::clone(&key), ask: Ask::Get }).await;
            outcome = fetched(Tier::L2, reply);
            if matches!(outcome, Fetched::Found { .. }) {
                return outcome;
            }
        }
        if let Some(l3) = &self.l3 {
            let reply = l3.ask(Request { key, ask: Ask::Get }).await;
            outcome = fetched(Tier::L3, reply);
        }
        outcome
    }

    async fn fill(&self, key: Arc<[u8]>, value: Arc<[u8]>, flags: u32, ttl: Duration) {
        // memcached counts whole seconds; anything less would live on past its end.
        if let Some(l2) = self.l2.as_ref().filter(|_| ttl >= Duration::from_secs(1)) {
            l2.ask(Request { key, ask: Ask::Add { value, flags, ttl } }).await;
        }
    }

    /// L3, then L2. Nothing is begun while a tier that it needs is known to be lost.
    async fn write(&self, key: Arc<[u8]>, to_l3: Ask, to_l2: Ask) -> Written {
        let lost = |tier| Written::NotApplied { tier, why: "circuit breaker is open".into() };
        if self.l3.as_ref().is_some_and(|l3| !l3.allows()) {
            return lost(Tier::L3);
        }
        if self.l2.as_ref().is_some_and(|l2| !l2.allows()) {
            return lost(Tier::L2);
        }
        let mut existed = false;
        if let Some(l3) = &self.l3 {
            let tier = Tier::L3;
            match l3.ask(Request { key: Arc::clone(&key), ask: to_l3 }).await.answer {
                Answer::Deleted { existed: here } => existed |= here,
                Answer::Refused(why) | Answer::NotSent(why) => {
                    return Written::NotApplied { tier, why };
                }
                Answer::Unanswered(why) => return Written::Unknown { tier, why },
                Answer::Stored | Answer::Hit { .. } | Answer::Miss { .. } => {}
            }
        }
        if let Some(l2) = &self.l2 {
            let tier = Tier::L2;
            let is_set = matches!(to_l2, Ask::Set { .. });
            let alone = self.l3.is_none();
            match l2.ask(Request { key, ask: to_l2 }).await.answer {
                Answer::Deleted { existed: here } => existed |= here,
                // The value is too large for L2, or L2 is full: it lives in L3 and above, and L2
                // has no older one.
                Answer::Refused(_) if is_set && !alone => {}
                Answer::Refused(why) | Answer::NotSent(why) if alone => {
                    return Written::NotApplied { tier, why };
                }
                Answer::Refused(why) | Answer::NotSent(why) | Answer::Unanswered(why) => {
                    return Written::Unknown { tier, why };
                }
                Answer::Stored | Answer::Hit { .. } | Answer::Miss { .. } => {}
            }
        }
        Written::Applied { existed }
    }
}

/// What a tier's reply to a read means for the flight.
fn fetched(tier: Tier, reply: super::stage::Reply) -> Fetched {
    match reply.answer {
        Answer::Hit { value, flags, remaining } => Fetched::Found {
            tier,
            value,
            flags,
            remaining,
            sent_at: reply.sent_at,
            epoch: reply.epoch,
        },
        // Only a nil of L3 is an absence to remember (P9).
        Answer::Miss { absent } => {
            Fetched::Absent { authoritative: absent && tier == Tier::L3, epoch: reply.epoch }
        }
        Answer::Refused(why) | Answer::NotSent(why) | Answer::Unanswered(why) => {
            Fetched::Failed { tier, why }
        }
        Answer::Stored | Answer::Deleted { .. } => {
            Fetched::Failed { tier, why: "answered something else".into() }
        }
    }
}
