//! Fetches and fills.
//!
//! A fetch asks L2, and then L3 if L2 has no value. While L2 hardly ever has one, because the table
//! holds all that L2 has, a fetch asks both at once and takes one round trip instead of two. L2 is
//! left out for keys that it owes a delete.

use std::sync::Arc;
use std::time::Duration;

use super::Upstream;
use crate::tiers::jobs::{FetchBoth, Step, fetched};
use crate::tiers::request::{Answer, Ask, Reply, Request};
use crate::tiers::{Fetched, Tier, TierEvent};

/// If L2 had fewer than one in `HISTORY` of the values lately, both tiers are asked at once. At
/// most that share of the requests reaches L3 in vain.
const HISTORY: u32 = 16;
/// Fills are left out while this many requests wait for L2: nobody waits for them.
const FILLS_QUEUED_MAX: usize = 1024;

impl Upstream {
    /// An L2 that cannot answer counts as not asked while there is an L3.
    pub(super) fn begin_fetch(&mut self, flight: u64, key: Arc<[u8]>, in_l2: bool) {
        let asks_l2 = self.l2.is_some() && in_l2 && !self.debts.holds(&key);
        let request = Request { key: key.clone(), ask: Ask::Get };
        if asks_l2 && self.l3.is_some() && self.expects_l2_miss() {
            let ticket = self.running.insert(Step::FetchBoth(FetchBoth::new(flight, key)));
            self.ask_l2(Some(ticket), request.clone());
            self.ask_l3(Some(ticket), request);
        } else if asks_l2 {
            let ticket = self.running.insert(Step::FetchL2 { flight, key });
            self.ask_l2(Some(ticket), request);
        } else if self.l3.is_some() {
            let ticket = self.running.insert(Step::FetchL3 { flight });
            self.ask_l3(Some(ticket), request);
        } else {
            let outcome = Fetched::Absent {
                authoritative: false,
                tier: Tier::L3,
                epoch: 0,
                is_in_doubt: false,
            };
            self.events.push_back(TierEvent::Fetched { flight, outcome });
        }
    }

    /// Copies a value of L3 to L2.
    pub(super) fn fill(&mut self, key: Arc<[u8]>, value: Arc<[u8]>, flags: u32, ttl: Duration) {
        let has_room = self.l2.as_ref().is_some_and(|l2| l2.queued() < FILLS_QUEUED_MAX);
        // memcached counts whole seconds; anything less would live on past its end.
        if has_room && ttl >= Duration::from_secs(1) && !self.debts.holds(&key) {
            self.ask_l2(None, Request { key, ask: Ask::Add { value, flags, ttl } });
        }
    }

    pub(super) fn fetched_both(&mut self, ticket: usize, tier: Tier, mut reply: Reply) {
        let Some(Step::FetchBoth(fetch)) = self.running.get_mut(ticket) else { return };
        if tier == Tier::L2 {
            if self.debts.holds(&fetch.key) {
                // The delete came to be owed while L2 was being asked.
                reply.answer = Answer::Miss { absent: false };
            }
            note(&mut self.l2_found_share, &reply.answer);
        }
        if let Some(outcome) = fetch.take(tier, reply) {
            self.events.push_back(TierEvent::Fetched { flight: fetch.flight, outcome });
        }
        if fetch.replies_left == 0 {
            self.running.try_remove(ticket);
        }
    }

    pub(super) fn fetched_l2(&mut self, flight: u64, key: Arc<[u8]>, reply: Reply) {
        note(&mut self.l2_found_share, &reply.answer);
        let is_found = matches!(reply.answer, Answer::Hit { .. }) && !self.debts.holds(&key);
        if self.l3.is_some() && !is_found {
            let ticket = self.running.insert(Step::FetchL3 { flight });
            return self.ask_l3(Some(ticket), Request { key, ask: Ask::Get });
        }
        let outcome = fetched(Tier::L2, reply);
        self.events.push_back(TierEvent::Fetched { flight, outcome });
    }

    fn expects_l2_miss(&self) -> bool {
        self.l2_found_share < (1 << 16) / HISTORY
    }
}

/// Notes in `share` whether L2 had the value.
fn note(share: &mut u32, answer: &Answer) {
    let found = match answer {
        Answer::Hit { .. } => 1 << 16,
        Answer::Miss { .. } => 0,
        // No answer says nothing.
        _ => return,
    };
    *share = (*share * (HISTORY - 1) + found) / HISTORY;
}
