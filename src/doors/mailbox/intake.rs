//! Polling of mailboxes: those in use are served in turn, each within its budget and its user's, until
//! polling no longer pays and the client is to send a wakeup instead.

use super::super::{Doors, Origin, Service};
use crate::reactor::Cores;
use shm_layout::mailbox::ring::Broken;
use std::time::{Duration, Instant};

/// Work done for one mailbox before the next one has its turn: keys, and pieces of requests and
/// replies. A large request may exceed it; the excess is taken off the next turns.
pub(super) const WORK_PER_PASS: usize = 256;
/// Empty polls between two readings of the clock, which costs more than a poll.
const POLLS_PER_CLOCK_READ: usize = 4;
/// Mailboxes are polled for this long before the sockets have their turn.
const POLL_TIME: Duration = Duration::from_micros(20);
/// One mailbox without requests has its reports drained in this time.
const DRAIN_INTERVAL: Duration = Duration::from_micros(100);
/// After a sleep, mailboxes without requests that have their reports drained at once.
const DRAINS_MAX: u128 = 64;

/// Passes over one ring before others, and the tiers, have their turn in a stop.
const DRAIN_PASSES: usize = 64;

/// The result of a poll of one mailbox.
enum Poll {
    /// Requests were served; there may be more.
    Served,
    /// There was none, but one is expected soon, or waits for the mailbox's budget.
    Due,
    /// There was none, and none is expected soon.
    Quiet,
    /// There was none, and the client has left.
    Over,
}

impl Doors<'_> {
    /// Serves the mailboxes in use. While nothing is under way at the tiers, and a request is
    /// expected, polls them for a while without a system call.
    pub fn poll_mailboxes(&mut self, service: &mut impl Service, cores: &mut Cores) {
        self.expects_requests = false;
        if self.peers.active(0).is_none() {
            return;
        }
        let cpu = nix::sched::sched_getcpu().ok().and_then(|cpu| u32::try_from(cpu).ok());
        let began = Instant::now();
        let mut now = began;
        let mut empty_polls = 0;
        loop {
            let has_served = self.poll_each(now, cpu, service, cores);
            // If the service is full, whatever it waits for comes first.
            if !self.expects_requests || !service.takes_more() || !service.is_idle() {
                return;
            }
            self.peers.wake_sleepers();
            if !has_served {
                std::hint::spin_loop();
                empty_polls += self.peers.active_count();
                if empty_polls < POLLS_PER_CLOCK_READ {
                    continue;
                }
                empty_polls = 0;
            }
            now = Instant::now();
            if now.duration_since(began) >= POLL_TIME {
                return;
            }
        }
    }

    /// Polls each active mailbox once, but for those of users that have had their share in this round.
    /// Returns whether there were requests.
    fn poll_each(
        &mut self,
        now: Instant,
        cpu: Option<u32>,
        service: &mut impl Service,
        cores: &mut Cores,
    ) -> bool {
        let mut has_served = false;
        self.expects_requests = false;
        let mut place = 0;
        let mut has_left = false;
        self.peers.users.at_mailboxes.begin_turn();
        while let Some(origin) = self.peers.active(place) {
            if self.peers.users.at_mailboxes.any_is_spent() && self.peers.leave_mailbox(origin) {
                has_left = true;
                place += 1;
                continue;
            }
            match self.poll_mailbox(origin, now, cpu, service, cores) {
                Ok(Poll::Served) => {
                    has_served = true;
                    self.expects_requests = true;
                    place += 1;
                }
                Ok(Poll::Due) => {
                    self.expects_requests = true;
                    place += 1;
                }
                Ok(Poll::Quiet) => place += 1,
                Ok(Poll::Over) => {
                    self.close(origin, service);
                    self.peers.deactivate(place);
                }
                Err(Broken) => {
                    self.drop_peer(origin, "it broke the rules of its mailbox", service);
                    self.peers.deactivate(place);
                }
            }
        }
        if has_left {
            self.expects_requests = true;
            self.peers.poll_left_first();
        }
        has_served
    }

    fn poll_mailbox(
        &mut self,
        origin: Origin,
        now: Instant,
        cpu: Option<u32>,
        service: &mut impl Service,
        cores: &mut Cores,
    ) -> Result<Poll, Broken> {
        let served = self.serve_pass(origin, service);
        // Also after an error: what held for this batch does not hold for the next request.
        service.end();
        let (records, work) = served?;
        let Some(connection) = self.peers.get_mut(origin) else { return Ok(Poll::Over) };
        let is_leaving = connection.phase.is_leaving();
        let Some(mailbox) = connection.phase.mailbox_mut() else { return Ok(Poll::Over) };
        let in_debt = mailbox.work >= WORK_PER_PASS;
        mailbox.work = mailbox.work.saturating_sub(WORK_PER_PASS);
        if records > 0 {
            mailbox.note_requests(now);
            // A client that waits for a tier would spin on the core that the tier may need.
            let may_spin = !mailbox.awaits_replies() || cores.has_spare(1, now);
            mailbox.tell_clients(cpu.filter(|_| may_spin));
            mailbox.made_room();
            mailbox.drain_reports(|hash, times| service.hit(hash, times));
            let uid = connection.peer.uid;
            self.peers.users.at_mailboxes.spend(uid, work);
            return Ok(Poll::Served);
        }
        if in_debt {
            return Ok(Poll::Due);
        }
        // The tiers make room, and that ends the wait.
        if !service.takes_more_of(&connection.peer) {
            return Ok(Poll::Quiet);
        }
        mailbox.note_empty_poll();
        if !is_leaving && mailbox.should_poll(now, cpu, self.limits.spin) {
            return Ok(Poll::Due);
        }
        mailbox.drain_reports(|hash, times| service.hit(hash, times));
        Ok(if is_leaving { Poll::Over } else { Poll::Quiet })
    }

    /// Whether a request is expected so soon that polling for it beats sleeping.
    #[must_use]
    pub fn should_poll(&self) -> bool {
        self.expects_requests
    }

    /// Before the loop sleeps: has every client send a wakeup with its next request. Returns
    /// whether the loop may sleep; a request that came meanwhile is served first.
    pub fn ask_for_wakeups(&mut self, service: &mut impl Service) -> bool {
        // The rings are left alone until the tiers have made room.
        if !service.takes_more() {
            return true;
        }
        // The same holds for the rings of a user that has as much under way as it may. They stay
        // active, because no wakeup is asked for.
        let mut place = 0;
        while let Some(origin) = self.peers.active(place) {
            let found = self.peers.get_mut(origin);
            // A client that has left sends no wakeup: it is polled until its ring is empty.
            let (peer, is_leaving) =
                found.map(|connection| (connection.peer, connection.phase.is_leaving())).unzip();
            if peer.is_some_and(|peer| !service.takes_more_of(&peer)) {
                place += 1;
                continue;
            }
            let mailbox = self.peers.mailbox_mut(origin);
            match mailbox.map_or(Ok(true), |mailbox| mailbox.may_sleep()) {
                Ok(true) if is_leaving != Some(true) => self.peers.rest(place),
                Ok(_) => {
                    self.stop_resting();
                    return false;
                }
                Err(Broken) => {
                    self.drop_peer(origin, "it broke the rules of its mailbox", service);
                    self.peers.deactivate(place);
                }
            }
        }
        true
    }

    /// After the loop has slept: polls the mailboxes that were in use before, so that only the
    /// first of their clients sends a wakeup.
    pub fn stop_resting(&mut self) {
        while let Some(origin) = self.peers.take_resting() {
            if let Some(mailbox) = self.peers.mailbox_mut(origin)
                && mailbox.is_in_use(self.now)
            {
                mailbox.stay_awake();
                self.peers.activate(origin);
            }
        }
    }

    /// Serves a mailbox until its ring is empty or its budget is used up. Returns the number of
    /// records, and the work that they were.
    fn serve_pass(
        &mut self,
        origin: Origin,
        service: &mut impl Service,
    ) -> Result<(usize, usize), Broken> {
        let (mut records, mut work) = (0, 0);
        let Some(connection) = self.peers.get_mut(origin) else { return Ok((0, 0)) };
        let peer = connection.peer;
        while service.takes_more_of(&peer) {
            let served = self.serve_batch(origin, service)?;
            records += served.records;
            work += served.work;
            if !served.may_have_more {
                break;
            }
        }
        Ok((records, work))
    }

    /// After [`hang_up`](Doors::hang_up): serves what clients have left in their rings, as far as
    /// the service takes it. Returns whether every ring is empty, and every client learns that
    /// what it sends from here on is not read.
    pub fn drain_rings(&mut self, service: &mut impl Service) -> bool {
        let mut all_empty = true;
        for origin in self.peers.with_mailboxes() {
            match self.drain_ring(origin, service) {
                Ok(is_empty) => all_empty &= is_empty,
                Err(Broken) => {
                    self.drop_peer(origin, "it broke the rules of its mailbox", service);
                }
            }
        }
        all_empty
    }

    fn drain_ring(&mut self, origin: Origin, service: &mut impl Service) -> Result<bool, Broken> {
        let Some(peer) = self.peers.get_mut(origin).map(|connection| connection.peer) else {
            return Ok(true);
        };
        for _ in 0..DRAIN_PASSES {
            let Some(mailbox) = self.peers.mailbox_mut(origin) else { return Ok(true) };
            if mailbox.may_end()? {
                return Ok(true);
            }
            if !service.takes_more_of(&peer) {
                return Ok(false);
            }
            mailbox.work = 0;
            let served = self.serve_pass(origin, service);
            // As in `poll_mailbox`.
            service.end();
            served?;
            if let Some(mailbox) = self.peers.mailbox_mut(origin) {
                mailbox.made_room();
            }
        }
        Ok(false)
    }

    /// Drains the hit reports of mailboxes that may have no requests: those of processes that only
    /// read. One mailbox in each interval, so that many idle ones cost nothing; several after a
    /// sleep.
    pub fn drain_reports(&mut self, service: &mut impl Service) {
        let since = self.now.duration_since(self.reports_drained);
        let due = since.as_micros() / DRAIN_INTERVAL.as_micros();
        if due == 0 {
            return;
        }
        self.reports_drained = self.now;
        // Each of them once at most.
        let drains = due.min(DRAINS_MAX).min(self.peers.mailboxes() as u128);
        for _ in 0..drains {
            let Some(mailbox) = self.peers.next_reporting() else { return };
            mailbox.drain_reports(|hash, times| service.hit(hash, times));
        }
    }
}
