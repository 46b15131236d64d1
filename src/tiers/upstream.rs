//! The real tiers: what each job asks of which one, and in which order.
//!
//! A fetch asks L2, and then L3 if L2 has no value. While L2 hardly ever has one, because the table
//! holds all that L2 has, a fetch asks both at once and takes one round trip instead of two.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::ConnectionAddr;
use slab::Slab;

use super::config::{check_deadline, parse_address, parse_url};
use super::dial::Endpoint;
use super::jobs::{FetchBoth, Step, fetched};
use super::memcached::Memcached;
use super::redis::Redis;
use super::request::{Answer, Ask, Reply, Request};
use super::server::{PROGRESS_MAX, Replies, Server};
use super::stats::TiersStats;
use super::{FRAME_BYTES, Fetched, Job, Tier, TierEvent, Tiers, TiersConfig, TiersError, Written};
use crate::reactor::{Reactor, Readiness};

/// Jobs under way; more are turned away. As many as the owner can have: a change or fetch that it
/// has taken on is not refused here.
pub const JOBS_MAX: usize = 16_384;
/// Fills are left out while this many requests wait for L2: nobody waits for them.
const FILLS_QUEUED_MAX: usize = 1024;
/// Bytes received at a time.
const SCRATCH_BYTES: usize = 64 << 10;
/// Numbers of L2's descriptors begin at 0, those of L3's here.
const TOKENS_PER_TIER: u64 = 1 << 48;

/// Deadlines that a request can take: one in the queue, then an exchange whose reply goes on
/// arriving.
const GRACE: u32 = 1 + PROGRESS_MAX;

/// If L2 had fewer than one in `HISTORY` of the values lately, both tiers are asked at once. At most
/// that share of the requests reaches L3 in vain.
const HISTORY: u32 = 16;

/// L2 and L3, as configured.
#[derive(Debug)]
pub struct Upstream {
    l2: Option<Server<Memcached>>,
    l3: Option<Server<Redis>>,
    /// Jobs under way, by ticket.
    running: Slab<Step>,
    /// Share of fetches that found a value in L2 lately, in units of 1/65536.
    l2_found_share: u32,
    replies: Replies,
    events: VecDeque<TierEvent>,
    scratch: Vec<u8>,
}

impl Upstream {
    /// Prepares the configured tiers; they connect when they are first asked.
    ///
    /// # Errors
    /// A configuration that cannot be used, or a system without descriptors.
    pub fn new(config: &TiersConfig, reactor: &Rc<Reactor>) -> Result<Upstream, TiersError> {
        let value_bytes_max = config.value_bytes_max;
        let mut l2 = None;
        if let Some(config) = &config.l2 {
            let (host, port) = parse_address(&config.address)?;
            check_deadline(Tier::L2, config.deadline)?;
            let endpoint = Endpoint::Tcp { host, port };
            let registry = (Rc::clone(reactor), 0);
            let protocol = Memcached::new(value_bytes_max);
            l2 = Some(Server::new(Tier::L2, protocol, endpoint, config.deadline, registry)?);
        }
        let mut l3 = None;
        if let Some(config) = &config.l3 {
            check_deadline(Tier::L3, config.deadline)?;
            let server = parse_url(&config.url).map_err(TiersError::Url)?;
            let endpoint = match server.addr() {
                ConnectionAddr::Tcp(host, port) => {
                    Endpoint::Tcp { host: host.clone(), port: *port }
                }
                ConnectionAddr::Unix(path) => Endpoint::Unix(path.clone()),
                other => return Err(TiersError::Url(format!("cannot connect to {other}"))),
            };
            let registry = (Rc::clone(reactor), TOKENS_PER_TIER);
            let protocol = Redis::new(server, (value_bytes_max + FRAME_BYTES) as u64);
            l3 = Some(Server::new(Tier::L3, protocol, endpoint, config.deadline, registry)?);
        }
        Ok(Upstream {
            l2,
            l3,
            running: Slab::new(),
            l2_found_share: 1 << 16,
            replies: Replies::new(),
            events: VecDeque::new(),
            scratch: vec![0; SCRATCH_BYTES],
        })
    }

    /// How long everything that is under way can take at most.
    pub fn grace(config: &TiersConfig) -> Duration {
        let l2 = config.l2.as_ref().map_or(Duration::ZERO, |l2| l2.deadline * GRACE);
        l2 + config.l3.as_ref().map_or(Duration::ZERO, |l3| l3.deadline * GRACE)
    }

    fn ask_l2(&mut self, ticket: Option<usize>, request: Request) {
        if let Some(l2) = &mut self.l2 {
            l2.ask(ticket, request, &mut self.replies);
        }
    }

    fn ask_l3(&mut self, ticket: Option<usize>, request: Request) {
        if let Some(l3) = &mut self.l3 {
            l3.ask(ticket, request, &mut self.replies);
        }
    }

    /// Begins a job. L2 is asked first; an L2 that cannot answer counts as not asked while there is
    /// an L3.
    fn begin(&mut self, job: Job) {
        match job {
            Job::Fetch { flight, key } => {
                let request = Request { key: key.clone(), ask: Ask::Get };
                if self.l2.is_some() && self.l3.is_some() && self.expects_l2_miss() {
                    let ticket = self.running.insert(Step::FetchBoth(FetchBoth::new(flight)));
                    self.ask_l2(Some(ticket), request.clone());
                    self.ask_l3(Some(ticket), request);
                } else if self.l2.is_some() {
                    let ticket = self.running.insert(Step::FetchL2 { flight, key });
                    self.ask_l2(Some(ticket), request);
                } else if self.l3.is_some() {
                    let ticket = self.running.insert(Step::FetchL3 { flight });
                    self.ask_l3(Some(ticket), request);
                } else {
                    let outcome =
                        Fetched::Absent { authoritative: false, tier: Tier::L3, epoch: 0 };
                    self.events.push_back(TierEvent::Fetched { flight, outcome });
                }
            }
            Job::Fill { key, value, flags, l2_ttl: ttl } => {
                let has_room = self.l2.as_ref().is_some_and(|l2| l2.queued() < FILLS_QUEUED_MAX);
                // memcached counts whole seconds; anything less would live on past its end.
                if has_room && ttl >= Duration::from_secs(1) {
                    self.ask_l2(None, Request { key, ask: Ask::Add { value, flags, ttl } });
                }
            }
            Job::Set { id, key, value, l3_value, flags, l2_ttl, l3_ttl } => {
                let to_l3 = Ask::Set { value: l3_value, flags, ttl: l3_ttl };
                let to_l2 = Ask::Set { value, flags, ttl: Some(l2_ttl) };
                self.begin_write(id, &key, to_l3, to_l2);
            }
            Job::Delete { id, key } => self.begin_write(id, &key, Ask::Delete, Ask::Delete),
        }
    }

    /// L3, then L2. Nothing is begun while a tier that it needs is known to be lost.
    fn begin_write(&mut self, id: u64, key: &Arc<[u8]>, to_l3: Ask, to_l2: Ask) {
        for tier in [Tier::L3, Tier::L2] {
            if self.has(tier) && !self.available(tier) {
                let why = match tier {
                    Tier::L2 => self.l2.as_ref().map(|l2| l2.health.refusal()),
                    Tier::L3 => self.l3.as_ref().map(|l3| l3.health.refusal()),
                };
                let why = why.unwrap_or_default();
                let outcome = Written::NotApplied { tier, why };
                return self.events.push_back(TierEvent::Written { id, outcome });
            }
        }
        let to_l2 = Request { key: key.clone(), ask: to_l2 };
        if self.l3.is_some() {
            let ticket = self.running.insert(Step::WriteL3 { id, to_l2 });
            self.ask_l3(Some(ticket), Request { key: key.clone(), ask: to_l3 });
        } else {
            self.write_l2(id, to_l2, false);
        }
    }

    fn write_l2(&mut self, id: u64, to_l2: Request, existed: bool) {
        if self.l2.is_none() {
            return self.written(id, Written::Applied { existed });
        }
        let (key, is_set) = (to_l2.key.clone(), matches!(to_l2.ask, Ask::Set { .. }));
        let ticket = self.running.insert(Step::WriteL2 { id, existed, key, is_set });
        self.ask_l2(Some(ticket), to_l2);
    }

    fn written(&mut self, id: u64, outcome: Written) {
        self.events.push_back(TierEvent::Written { id, outcome });
    }

    /// Takes every reply to the next step of its job. A step may be answered at once, by a tier
    /// that is lost.
    fn settle(&mut self) {
        while let Some((tier, reply)) = self.replies.pop_front() {
            if let Some(ticket) = reply.ticket
                && let Some(Step::FetchBoth(_)) = self.running.get_mut(ticket)
            {
                self.fetched_both(ticket, tier, reply);
                continue;
            }
            let step = reply.ticket.and_then(|ticket| self.running.try_remove(ticket));
            match step {
                None | Some(Step::FetchBoth(_)) => {}
                Some(Step::FetchL2 { flight, key }) => self.fetched_l2(flight, key, reply),
                Some(Step::FetchL3 { flight }) => {
                    let outcome = fetched(tier, reply);
                    self.events.push_back(TierEvent::Fetched { flight, outcome });
                }
                Some(Step::WriteL3 { id, to_l2 }) => self.written_l3(id, to_l2, reply.answer),
                Some(Step::WriteL2 { id, existed, key, is_set }) => {
                    self.written_l2(id, existed, (key, is_set), reply.answer);
                }
                Some(Step::ClearL2 { id, why }) => self.cleared_l2(id, why, &reply.answer),
            }
        }
    }

    fn expects_l2_miss(&self) -> bool {
        self.l2_found_share < (1 << 16) / HISTORY
    }

    fn note_l2(&mut self, answer: &Answer) {
        let found = match answer {
            Answer::Hit { .. } => 1 << 16,
            Answer::Miss { .. } => 0,
            // No answer says nothing.
            _ => return,
        };
        self.l2_found_share = (self.l2_found_share * (HISTORY - 1) + found) / HISTORY;
    }

    fn fetched_both(&mut self, ticket: usize, tier: Tier, reply: Reply) {
        if tier == Tier::L2 {
            self.note_l2(&reply.answer);
        }
        let Some(Step::FetchBoth(fetch)) = self.running.get_mut(ticket) else { return };
        if let Some(outcome) = fetch.take(tier, reply) {
            self.events.push_back(TierEvent::Fetched { flight: fetch.flight, outcome });
        }
        if fetch.replies_left == 0 {
            self.running.try_remove(ticket);
        }
    }

    fn fetched_l2(&mut self, flight: u64, key: Arc<[u8]>, reply: Reply) {
        self.note_l2(&reply.answer);
        if self.l3.is_some() && !matches!(reply.answer, Answer::Hit { .. }) {
            let ticket = self.running.insert(Step::FetchL3 { flight });
            return self.ask_l3(Some(ticket), Request { key, ask: Ask::Get });
        }
        let outcome = fetched(Tier::L2, reply);
        self.events.push_back(TierEvent::Fetched { flight, outcome });
    }

    fn written_l3(&mut self, id: u64, to_l2: Request, answer: Answer) {
        let tier = Tier::L3;
        match answer {
            Answer::Refused(why) | Answer::NotSent(why) => {
                self.written(id, Written::NotApplied { tier, why });
            }
            Answer::Unanswered(why) => self.written(id, Written::Unknown { tier, why }),
            answer => {
                let existed = matches!(answer, Answer::Deleted { existed: true });
                self.write_l2(id, to_l2, existed);
            }
        }
    }

    fn written_l2(
        &mut self,
        id: u64,
        existed: bool,
        (key, is_set): (Arc<[u8]>, bool),
        answer: Answer,
    ) {
        let tier = Tier::L2;
        match answer {
            // An older value must not stay where the new one was refused.
            Answer::Refused(why) if is_set => {
                let ticket = self.running.insert(Step::ClearL2 { id, why });
                self.ask_l2(Some(ticket), Request { key, ask: Ask::Delete });
            }
            Answer::Refused(why) | Answer::NotSent(why) if self.l3.is_none() => {
                self.written(id, Written::NotApplied { tier, why });
            }
            Answer::Refused(why) | Answer::NotSent(why) | Answer::Unanswered(why) => {
                self.written(id, Written::Unknown { tier, why });
            }
            answer => {
                let existed = existed || matches!(answer, Answer::Deleted { existed: true });
                self.written(id, Written::Applied { existed });
            }
        }
    }

    fn cleared_l2(&mut self, id: u64, why: String, answer: &Answer) {
        let tier = Tier::L2;
        let outcome = match answer {
            // Too large for L2, or L2 is full: the value lives in L3 and above.
            Answer::Deleted { .. } if self.l3.is_some() => Written::Applied { existed: false },
            Answer::Deleted { .. } => Written::NotApplied { tier, why },
            _ => {
                let why = "value refused, and the older one could not be deleted".into();
                Written::Unknown { tier, why }
            }
        };
        self.written(id, outcome);
    }
}

impl Tiers for Upstream {
    fn submit(&mut self, job: Job) -> Result<(), Job> {
        if self.running.len() >= JOBS_MAX {
            return Err(job);
        }
        self.begin(job);
        self.settle();
        Ok(())
    }

    fn ready(&mut self, number: u64, readiness: Readiness) {
        let is_l3 = number >= TOKENS_PER_TIER;
        if is_l3 {
            if let Some(l3) = &mut self.l3 {
                l3.ready(number, readiness, &mut self.scratch, &mut self.replies);
            }
        } else if let Some(l2) = &mut self.l2 {
            l2.ready(number, readiness, &mut self.scratch, &mut self.replies);
        }
        self.settle();
    }

    fn advance(&mut self, now: Instant) -> Option<Instant> {
        // L2 first: what it answers at once may be a request for L3.
        let l2 = self.l2.as_mut().and_then(|l2| l2.advance(now, &mut self.replies));
        self.settle();
        let queued = self.l2.as_ref().map_or(0, Server::queued);
        let l3 = self.l3.as_mut().and_then(|l3| l3.advance(now, &mut self.replies));
        self.settle();
        // A job that L3 has ended just now may have asked L2 for something: that is sent in the
        // next turn. What was queued before waits for a reply.
        let is_late = self.l2.as_ref().map_or(0, Server::queued) > queued;
        if is_late { Some(now) } else { [l2, l3].into_iter().flatten().min() }
    }

    fn next_event(&mut self) -> Option<TierEvent> {
        self.events.pop_front()
    }

    fn should_poll(&self, now: Instant) -> bool {
        self.l2.as_ref().is_some_and(|l2| l2.should_poll(now))
            || self.l3.as_ref().is_some_and(|l3| l3.should_poll(now))
    }

    fn jobs(&self) -> usize {
        self.running.len()
    }

    fn has(&self, tier: Tier) -> bool {
        match tier {
            Tier::L2 => self.l2.is_some(),
            Tier::L3 => self.l3.is_some(),
        }
    }

    fn available(&self, tier: Tier) -> bool {
        match tier {
            Tier::L2 => self.l2.as_ref().is_some_and(|l2| l2.health.allows()),
            Tier::L3 => self.l3.as_ref().is_some_and(|l3| l3.health.allows()),
        }
    }

    fn epoch(&self, tier: Tier) -> u64 {
        match tier {
            Tier::L2 => self.l2.as_ref().map_or(0, |l2| l2.health.epoch()),
            Tier::L3 => self.l3.as_ref().map_or(0, |l3| l3.health.epoch()),
        }
    }

    fn stats(&self) -> TiersStats {
        TiersStats {
            l2: self.l2.as_ref().map(|l2| l2.health.stats()),
            l3: self.l3.as_ref().map(|l3| l3.health.stats()),
            jobs_waiting: self.running.len(),
        }
    }
}
