//! Requests of mailboxes: those in use are looked at in turn, each within its budget, and left alone when
//! it is not worth another look.
//!
//! Requests are taken out a few at a time, and the memory that each will need is asked for before the
//! first of them is handled.

use super::super::peers::Peers;
use super::super::server::Server;
use super::super::{Origin, Peer, Service};
use super::Found;
use l1d_client::protocol::Request;
use shm_layout::mailbox::SHAPE;
use shm_layout::mailbox::ring::Broken;
use std::time::{Duration, Instant};

/// Work that is done for one mailbox before the next one has its turn: keys, and pieces of what does
/// not fit one record. What a large request takes beyond it is taken off the next turns.
const WORK_PER_PASS: usize = 256;
/// Requests whose waits for memory overlap.
const TOGETHER: usize = 8;
/// Mailboxes in which nothing was found between two looks at the clock.
const LOOKS_A_TIME: usize = 4;
/// At most so often reports are taken where there is no request.
const REPORTS_EVERY: Duration = Duration::from_micros(100);
/// Looks at the reports of a mailbox after a sleep.
const REPORTS_AT_ONCE: u128 = 64;
/// How long mailboxes are looked at before sockets are.
const LOOK: Duration = Duration::from_micros(20);

/// What a look at a mailbox came to.
enum Served {
    /// Requests were served; there may be more.
    Some,
    /// There was none; it is worth another look.
    Nothing,
    /// It is left alone until it rings.
    Asleep,
    /// There was none, and its client is gone.
    Over,
}

impl<S: Service> Server<'_, S> {
    /// Serves the mailboxes that are in use. Whether to look at them again without sleeping.
    pub(in crate::doors) fn serve_mailboxes(&mut self) -> bool {
        if self.peers.active(0).is_none() {
            return false;
        }
        let cpu = nix::sched::sched_getcpu().ok().and_then(|cpu| u32::try_from(cpu).ok());
        let begun = Instant::now();
        let mut now = begun;
        let mut looks = 0;
        loop {
            let mut is_idle = true;
            let mut place = 0;
            while let Some(origin) = self.peers.active(place) {
                match self.serve_mailbox(origin, now, cpu) {
                    Ok(Served::Some) => {
                        is_idle = false;
                        place += 1;
                    }
                    Ok(Served::Nothing) => place += 1,
                    Ok(Served::Asleep) => self.peers.deactivate(place),
                    Ok(Served::Over) => {
                        self.close(origin);
                        self.peers.deactivate(place);
                    }
                    Err(Broken) => {
                        self.drop_peer(origin, "it broke the rules of its mailbox");
                        self.peers.deactivate(place);
                    }
                }
            }
            // What holds everybody up is looked after first.
            if self.peers.active(0).is_none() || !self.service.takes_more() {
                return false;
            }
            if is_idle {
                std::hint::spin_loop();
                // A look at the clock takes longer than one at a mailbox.
                looks += place;
                if looks < LOOKS_A_TIME {
                    continue;
                }
                looks = 0;
            }
            now = Instant::now();
            if now.duration_since(begun) >= LOOK {
                return true;
            }
        }
    }

    /// Takes the hit reports of mailboxes in which there may be no requests: those of processes that
    /// only read. One after another, none too often, so that many idle ones cost nothing; several after
    /// a sleep.
    pub(in crate::doors) fn take_reports(&mut self) {
        let since = self.now.duration_since(self.reports_taken);
        let due = since.as_micros() / REPORTS_EVERY.as_micros();
        if due == 0 {
            return;
        }
        self.reports_taken = self.now;
        for _ in 0..due.min(REPORTS_AT_ONCE) {
            let service = &mut self.service;
            let Some(mailbox) = self.peers.next_reporting() else { return };
            mailbox.drain_reports(|hash, times| service.hit(hash, times));
        }
    }

    fn serve_mailbox(
        &mut self,
        origin: Origin,
        now: Instant,
        cpu: Option<u32>,
    ) -> Result<Served, Broken> {
        let served = self.serve_pass(origin);
        // Whether or not the client broke the rules: the next request comes at another time.
        self.service.end();
        let served = served?;
        let spin = self.limits.spin;
        let takes_more = self.service.takes_more();
        let service = &mut self.service;
        let Some(connection) = self.peers.get_mut(origin) else { return Ok(Served::Asleep) };
        let is_leaving = connection.is_leaving;
        let Some(mailbox) = &mut connection.mailbox else { return Ok(Served::Asleep) };
        let in_debt = mailbox.work >= WORK_PER_PASS;
        mailbox.work = mailbox.work.saturating_sub(WORK_PER_PASS);
        if served > 0 {
            mailbox.note_use(now, cpu);
            mailbox.made_room();
            mailbox.drain_reports(|hash, times| service.hit(hash, times));
            return Ok(Served::Some);
        }
        if !takes_more || in_debt {
            return Ok(Served::Nothing);
        }
        mailbox.note_look_in_vain();
        if !is_leaving && mailbox.is_worth_a_look(now, cpu, spin) {
            return Ok(Served::Nothing);
        }
        mailbox.drain_reports(|hash, times| service.hit(hash, times));
        if is_leaving {
            return Ok(Served::Over);
        }
        Ok(if mailbox.may_sleep()? { Served::Asleep } else { Served::Nothing })
    }

    /// As many requests as are there, within the budget. How many.
    fn serve_pass(&mut self, origin: Origin) -> Result<usize, Broken> {
        let mut served = 0;
        while self.service.takes_more() {
            let (some, more) = self.serve_some(origin)?;
            served += some;
            if !more {
                break;
            }
        }
        Ok(served)
    }

    /// Takes a few records out and handles them. How many there were, and whether there may be more for
    /// which the budget has room.
    fn serve_some(&mut self, origin: Origin) -> Result<(usize, bool), Broken> {
        let request_bytes_max = self.limits.frame_bytes_max;
        let Some(connection) = self.peers.get_mut(origin) else { return Ok((0, false)) };
        let peer = connection.peer;
        let Some(mailbox) = &mut connection.mailbox else { return Ok((0, false)) };
        let mut requests = [const { None }; TOGETHER];
        let mut scratch = self.scratch.as_mut_slice();
        let (mut count, mut more, mut has_pieces) = (0, true, false);
        let pieces;
        for request in &mut requests {
            if mailbox.work >= WORK_PER_PASS {
                connection.counted.budgets_used_up += u64::from(mailbox.has_more()?);
                more = false;
                break;
            }
            if scratch.len() < SHAPE.piece_bytes() {
                break;
            }
            let found = mailbox.next(scratch, request_bytes_max)?;
            count += 1;
            let mut take = |lane, payload| {
                let decoded = Request::decode(payload).map_err(|_| Broken)?;
                mailbox.work += connection.counted.count(&decoded, payload.len());
                self.service.expect(&decoded);
                *request = Some((lane, decoded));
                Ok(())
            };
            match found {
                Found::Nothing => {
                    (count, more) = (count - 1, false);
                    break;
                }
                Found::Part => {
                    has_pieces = true;
                    mailbox.work += 1;
                }
                Found::Whole(lane, bytes) => {
                    let (payload, rest) = std::mem::take(&mut scratch).split_at_mut(bytes);
                    scratch = rest;
                    take(lane, payload)?;
                }
                // Its lane may be asked again already, where nobody waits for an answer: that is known
                // when it has been handled.
                Found::Pieces(lane, bytes) => {
                    has_pieces = true;
                    pieces = bytes;
                    take(Some(lane), &pieces)?;
                    break;
                }
            }
        }
        if has_pieces {
            connection.ring();
            self.peers.touch(origin);
        }
        // Waits for memory are worth overlapping where there are several.
        if count > 1 {
            for (_, request) in requests.iter().flatten() {
                self.service.approach(request);
            }
        }
        self.service.begin();
        for (lane, request) in requests.into_iter().flatten() {
            handle(self.service, &mut self.peers, (origin, lane), &peer, request)?;
        }
        Ok((count, more))
    }
}

/// One request of a mailbox.
fn handle(
    service: &mut impl Service,
    peers: &mut Peers,
    (origin, lane): (Origin, Option<u8>),
    peer: &Peer,
    request: Request<'_>,
) -> Result<(), Broken> {
    let is_answered = match &request {
        Request::Set(set) => set.reply,
        Request::Get { .. }
        | Request::GetMany { .. }
        | Request::SetMany { .. }
        | Request::Delete { .. } => true,
        // Everything else goes over the socket.
        _ => return Err(Broken),
    };
    let from = match lane {
        Some(lane) => {
            if !is_answered && let Some(mailbox) = peers.mailbox_mut(origin) {
                mailbox.expect_nothing(lane);
            }
            origin.with_lane(lane)
        }
        None if is_answered => return Err(Broken),
        None => origin,
    };
    service.request(from, peer, request, peers);
    Ok(())
}
