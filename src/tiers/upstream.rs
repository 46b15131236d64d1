//! The real tiers: what each job asks of which one, and in which order.
//!
//! | part | file |
//! |---|---|
//! | fetches, fills | `reads` |
//! | changes, debts of L2 | `writes` |
//! | operations | `operations` |

mod operations;
mod reads;
mod writes;

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use l1d_wire::snapshot::TiersStats;
use rapidhash::RapidHashSet;
use redis::ConnectionAddr;
use slab::Slab;

use super::address::{parse_address, parse_url};
use super::config::check_deadline;
use super::debts::Debts;
use super::dial::Endpoint;
use super::inherited::Inherited;
use super::jobs::{Step, fetched};
use super::memcached::Memcached;
use super::redis::{Redis, Session};
use super::request::{Answer, Ask, Request};
use super::server::{PROGRESS_MAX, Replies, Server};
use super::ttl::MOMENT_SECONDS_MIN;
use super::{FRAME_BYTES, Job, L2Change, Tier, TierEvent, Tiers, TiersConfig, TiersError};
use crate::reactor::{Reactor, Readiness};

/// Jobs under way; more are turned away. As many as the owner can have: a change or fetch that it
/// has taken on is not refused here.
pub const JOBS_MAX: usize = 16_384 + 32;
/// Bytes received at a time.
const SCRATCH_BYTES: usize = 64 << 10;
/// Short lives are given to L2 as durations, not as moments: a store that it carries out late lives
/// that much longer.
const LATE_LIFE_MAX: Duration = Duration::from_secs(MOMENT_SECONDS_MIN);
/// Numbers of L2's descriptors begin at 0, those of L3's here.
const TOKENS_PER_TIER: u64 = 1 << 48;

/// Deadlines that a request can take: one in the queue, then an exchange whose reply goes on
/// arriving.
const GRACE: u32 = 1 + PROGRESS_MAX;

/// L2 and L3, as configured.
#[derive(Debug)]
pub struct Upstream {
    l2: Option<Server<Memcached>>,
    l3: Option<Server<Redis>>,
    /// Jobs under way, by ticket.
    running: Slab<Step>,
    /// What L2 owes the store of record; empty if L2 is that itself.
    debts: Debts,
    /// Jobs of our own under way: deletes that L2 owes.
    settling: usize,
    /// Share of fetches that found a value in L2 lately, in units of 1/65536.
    l2_found_share: u32,
    replies: Replies,
    events: VecDeque<TierEvent>,
    scratch: Vec<u8>,
}

impl Upstream {
    /// Prepares the configured tiers; they connect when they are first asked or tried. No value
    /// is stored in L2 for longer than `l2_ttl_max`.
    ///
    /// # Errors
    /// A configuration that cannot be used, or a system without descriptors.
    pub fn new(
        config: &TiersConfig,
        l2_ttl_max: Duration,
        reactor: &Rc<Reactor>,
    ) -> Result<Upstream, TiersError> {
        let value_bytes_max = config.value_bytes_max;
        let mut l2 = None;
        let holds_copies = config.l3.is_some();
        if let Some(config) = &config.l2 {
            let endpoint = parse_address(&config.address).map_err(TiersError::Address)?;
            check_deadline(Tier::L2, config.deadline)?;
            let registry = (Rc::clone(reactor), 0);
            let protocol = Memcached::new(holds_copies, value_bytes_max);
            l2 = Some(Server::new(Tier::L2, protocol, endpoint, config.deadline, registry)?);
        }
        let mut l3 = None;
        if let Some(config) = &config.l3 {
            check_deadline(Tier::L3, config.deadline)?;
            let mut server = parse_url(&config.url).map_err(TiersError::Url)?;
            if let Some(password) = &config.password {
                let settings = server.redis_settings().clone().set_password(password.reveal());
                server = server.set_redis_settings(settings);
            }
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
            settling: 0,
            debts: Debts::new(l2_ttl_max + LATE_LIFE_MAX),
            l2_found_share: 1 << 16,
            replies: Replies::new(),
            events: VecDeque::new(),
            scratch: vec![0; SCRATCH_BYTES],
        })
    }

    /// Has each tier tried by the next [`advance`](Tiers::advance), so that the log says from the
    /// start what is wrong with it. Nothing waits for the outcome.
    pub fn try_once(&mut self) {
        if let Some(l2) = &mut self.l2 {
            l2.try_once();
        }
        if let Some(l3) = &mut self.l3 {
            l3.try_once();
        }
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

    /// Begins a job.
    fn begin(&mut self, job: Job) {
        match job {
            Job::Fetch { flight, key, in_l2 } => self.begin_fetch(flight, key, in_l2),
            Job::Fill { key, value, flags, l2_ttl } => self.fill(key, value, flags, l2_ttl),
            Job::Set { id, key, value, l3_value, flags, l2, l3_ttl } => {
                let to_l3 = Ask::Set { value: l3_value, flags, ttl: l3_ttl };
                let to_l2 = match l2 {
                    L2Change::Store(ttl) => Some(Ask::Set { value, flags, ttl }),
                    L2Change::Delete => Some(Ask::Delete),
                    L2Change::None => None,
                };
                self.begin_write(id, key, to_l3, to_l2);
            }
            Job::Delete { id, key, in_l2 } => {
                self.begin_write(id, key, Ask::Delete, in_l2.then_some(Ask::Delete));
            }
            Job::Look { id, key, tier } => {
                let ticket = self.running.insert(Step::Look { id });
                let request = Request { key, ask: Ask::Get };
                match tier {
                    Tier::L2 => self.ask_l2(Some(ticket), request),
                    Tier::L3 => self.ask_l3(Some(ticket), request),
                }
            }
            Job::Operate { id, key, operate, in_l2 } => {
                self.begin_operate(id, key, operate, in_l2);
            }
        }
    }

    /// Takes every reply to the next step of its job. A step may be answered at once, by a tier
    /// that is lost.
    fn settle(&mut self) {
        self.note_doubtful();
        while let Some((tier, reply)) = self.replies.pop_front() {
            let Some(ticket) = reply.ticket else { continue };
            if let Some(Step::FetchBoth(_)) = self.running.get(ticket) {
                self.fetched_both(ticket, tier, reply);
                continue;
            }
            match self.running.try_remove(ticket) {
                None | Some(Step::FetchBoth(_)) => {}
                Some(Step::FetchL2 { flight, key }) => self.fetched_l2(flight, key, reply),
                Some(Step::FetchL3 { flight }) => {
                    let outcome = fetched(tier, reply);
                    self.events.push_back(TierEvent::Fetched { flight, outcome });
                }
                Some(Step::Look { id }) => {
                    let outcome = fetched(tier, reply);
                    self.events.push_back(TierEvent::Looked { id, tier, outcome });
                }
                Some(Step::WriteL3 { id, key, to_l2 }) => self.written_l3(id, key, to_l2, reply),
                Some(Step::WriteL2(step)) => self.written_l2(step, reply),
                Some(Step::Operate { id, key, in_l2 }) => {
                    self.operated(id, key, (tier, in_l2), reply);
                }
                Some(Step::Examine(examine)) => self.examined(examine, reply),
                Some(Step::Condition { examine, operated }) => {
                    self.conditioned(examine, operated, reply);
                }
                Some(Step::ClearL2 { step, why }) => self.cleared_l2(step, why, &reply),
                Some(Step::Settle { key }) => {
                    self.settling -= 1;
                    // A delete that waited in the queue while its connection was given up can be
                    // carried out before what was sent over that.
                    let is_deleted =
                        matches!(reply.answer, Answer::Deleted { .. }) && !reply.is_in_doubt;
                    self.debts.settled(&key, is_deleted, Instant::now());
                }
            }
        }
    }
}

impl Tiers for Upstream {
    fn submit(&mut self, job: Job) -> Result<(), Job> {
        if self.running.len() >= JOBS_MAX + self.settling {
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
        let debts_due = self.settle_debts(now);
        // L2 first: what it answers at once may be a request for L3.
        let l2 = self.l2.as_mut().and_then(|l2| l2.advance(now, &mut self.replies));
        self.settle();
        let queued = self.l2.as_ref().map_or(0, Server::queued);
        let l3 = self.l3.as_mut().and_then(|l3| l3.advance(now, &mut self.replies));
        self.settle();
        // A job that L3 has ended just now may have asked L2 for something: that is sent in the
        // next turn. What was queued before waits for a reply.
        let is_late = self.l2.as_ref().map_or(0, Server::queued) > queued;
        if is_late { Some(now) } else { [l2, l3, debts_due].into_iter().flatten().min() }
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

    fn has_open_changes(&self) -> bool {
        self.l3.as_ref().is_some_and(Server::has_open_changes)
            || self.l2.as_ref().is_some_and(Server::has_open_changes)
            || !self.debts.is_empty()
    }

    fn l3_session(&self) -> [u64; 2] {
        self.l3.as_ref().map_or([0; 2], Server::session)
    }

    fn allow_l2_ttl(&mut self, l2_ttl: Duration) {
        self.debts.allow_life(l2_ttl + LATE_LIFE_MAX);
    }

    fn take_over(&mut self, l3_session: [u64; 2], inherited: Inherited) {
        match (&mut self.l3, &mut self.l2) {
            (Some(l3), l2) => {
                l3.inherit(Session::from_words(l3_session), inherited);
                if l2.is_some() {
                    self.debts.leave_out(Instant::now());
                }
            }
            (None, Some(l2)) => l2.inherit(None, inherited),
            (None, None) => {}
        }
    }

    fn inherits(&self) -> bool {
        match (&self.l3, &self.l2) {
            (Some(l3), _) => l3.inherits(),
            (None, Some(l2)) => l2.inherits(),
            (None, None) => false,
        }
    }

    fn sent_changes(&self) -> RapidHashSet<Arc<[u8]>> {
        match (&self.l3, &self.l2) {
            (Some(l3), _) => l3.sent_changes(),
            (None, Some(l2)) => l2.sent_changes(),
            (None, None) => RapidHashSet::default(),
        }
    }

    fn stats(&self) -> TiersStats {
        let left_out_for = self.debts.left_out_for(Instant::now());
        TiersStats {
            l2_debts: self.debts.count() as u64,
            l2_left_out_ms: left_out_for.map_or(0, millis),
            l2: self.l2.as_ref().map(Server::stats),
            l3: self.l3.as_ref().map(Server::stats),
            jobs_waiting: self.running.len() as u64,
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
