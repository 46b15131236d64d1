//! Where a key stands, and why: from the table, the last changes, and the tiers.

use super::request::{remaining, rule_with};
use super::{Owner, admin, flags};
use crate::config::rule_json;
use crate::doors::{Origin, Replies};
use crate::tiers::{Fetched, Job, Tier};
use l1d_wire::snapshot::{Explanation, InTable, InTier, Load};
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Questions to the tiers under way; more explanations are given without these.
pub(super) const LOOKS_MAX: usize = 32;
/// How long an explanation waits for the tiers. Whoever asks may do so because a tier is slow.
const WAIT: Duration = Duration::from_millis(500);

/// Explanations that wait for the tiers.
#[derive(Debug, Default)]
pub(super) struct Explaining {
    waiting: Vec<Waiting>,
    next: u64,
    /// Questions that the tiers have not answered, also those that nobody waits for any more.
    looks: usize,
}

#[derive(Debug)]
struct Waiting {
    id: u64,
    origin: Origin,
    key: Arc<[u8]>,
    /// When it is given, whether the tiers have answered or not.
    until: Instant,
    missing: Vec<Tier>,
    l2: Option<Fetched>,
    l3: Option<Fetched>,
}

impl Explaining {
    /// Forgets those of a client that has gone.
    pub(super) fn gone(&mut self, origin: Origin) {
        self.waiting.retain(|waiting| waiting.origin != origin);
    }
}

impl Owner {
    /// Asks the tiers, without keeping what they hold, and answers when they have, or soon in any
    /// case.
    pub(super) fn explain(&mut self, key: &[u8], origin: Origin, replies: &mut dyn Replies) {
        let key: Arc<[u8]> = key.into();
        self.explaining.next += 1;
        let (id, until) = (self.explaining.next, Instant::now() + WAIT);
        let mut waiting =
            Waiting { id, origin, key, until, missing: Vec::new(), l2: None, l3: None };
        let uses_l2 = self.policy.rule(&waiting.key).l2;
        if let Some(below) = &mut self.below
            && super::request::key_fits(&waiting.key).is_ok()
            && self.explaining.looks + 2 <= LOOKS_MAX
        {
            for tier in [Tier::L2, Tier::L3] {
                if below.has(tier) && (tier == Tier::L3 || uses_l2) {
                    let job = Job::Look { id, key: waiting.key.clone(), tier };
                    if below.submit(job).is_ok() {
                        waiting.missing.push(tier);
                        self.explaining.looks += 1;
                    }
                }
            }
        }
        if waiting.missing.is_empty() {
            return self.explained(&waiting, replies);
        }
        self.explaining.waiting.push(waiting);
    }

    /// A tier has answered.
    pub(super) fn looked(
        &mut self,
        id: u64,
        (tier, outcome): (Tier, Fetched),
        replies: &mut dyn Replies,
    ) {
        self.explaining.looks = self.explaining.looks.saturating_sub(1);
        let all = &mut self.explaining.waiting;
        let Some(place) = all.iter().position(|waiting| waiting.id == id) else { return };
        let waiting = &mut all[place];
        waiting.missing.retain(|missing| *missing != tier);
        match tier {
            Tier::L2 => waiting.l2 = Some(outcome),
            Tier::L3 => waiting.l3 = Some(outcome),
        }
        if waiting.missing.is_empty() {
            let waiting = all.swap_remove(place);
            self.explained(&waiting, replies);
        }
    }

    /// Gives the explanations that have waited long enough. Returns when the next will have.
    pub(super) fn explain_without(
        &mut self,
        now: Instant,
        replies: &mut dyn Replies,
    ) -> Option<Instant> {
        while let Some(place) = self.explaining.waiting.iter().position(|it| it.until <= now) {
            let mut waiting = self.explaining.waiting.swap_remove(place);
            for tier in std::mem::take(&mut waiting.missing) {
                let why = format!("no answer within {} ms", WAIT.as_millis());
                let outcome = Some(Fetched::Failed { tier, why });
                match tier {
                    Tier::L2 => waiting.l2 = outcome,
                    Tier::L3 => waiting.l3 = outcome,
                }
            }
            self.explained(&waiting, replies);
        }
        self.explaining.waiting.iter().map(|waiting| waiting.until).min()
    }

    fn explained(&self, waiting: &Waiting, replies: &mut dyn Replies) {
        let (key, now_ns) = (&*waiting.key, self.now_ns());
        let hash = self.tables.current().hash(key);
        let rule = self.policy.rule(key);
        let held = self.tables.current().peek(key, now_ns);
        let value = held.as_ref().map(|held| if held.absent { &[][..] } else { &held.value });
        let is_absent = held.as_ref().is_some_and(|held| held.absent);
        let in_tier = |outcome: &Option<Fetched>| {
            outcome.as_ref().map(|outcome| {
                in_tier(outcome, (value, is_absent), |stored| {
                    flags::from_l3(rule_with(&self.policy, rule.id), stored).0
                })
            })
        };
        let explanation = Explanation {
            in_table: held.as_ref().map(|held| InTable {
                version: held.version,
                value_bytes: held.value.len() as u64,
                entry_bytes: held.entry_bytes as u64,
                flags: held.flags,
                known_absent: held.absent,
                ttl_ms: millis(remaining(held.expiry, now_ns)),
                stored_under_policy: held.policy,
                segment: held.segment,
            }),
            l2: in_tier(&waiting.l2),
            l3: in_tier(&waiting.l3),
            last_change: self.changes.last(key, self.boottime_ns()),
            flight_waiters: self.flights.waiters(key) as u64,
            write_under_way: self.writes.is_changing(key),
            load: self.loads.told(key).map(|told_to_wait| Load { told_to_wait }),
            has_tiers: self.below.is_some(),
        };
        let mut answer = json!(explanation);
        answer["key"] = String::from_utf8_lossy(key).into();
        answer["key_bytes"] = key.len().into();
        answer["policy"] = rule_json(rule);
        answer["policy_reasons"] = self.rule_reasons(key);
        answer["hash"] = format!("{:016x}", hash.0).into();
        let buckets = self.tables.current().writer().geometry().bucket_count();
        answer["buckets"] = json!(hash.buckets(buckets));
        admin::reply_json(waiting.origin, &answer, replies);
    }
}

/// What a tier holds of a key, beside `value` in L1.
fn in_tier(
    outcome: &Fetched,
    (value, is_absent): (Option<&[u8]>, bool),
    from_l3: impl Fn(Arc<[u8]>) -> Arc<[u8]>,
) -> InTier {
    match outcome {
        Fetched::Found { tier, value: stored, remaining, .. } => {
            let stored = match tier {
                Tier::L2 => stored.clone(),
                Tier::L3 => from_l3(stored.clone()),
            };
            InTier {
                found: Some(true),
                value_bytes: Some(stored.len() as u64),
                ttl_ms: remaining.and_then(millis),
                same_as_l1: value.map(|value| !is_absent && value == &*stored),
                why: None,
            }
        }
        Fetched::Absent { .. } => InTier { found: Some(false), ..InTier::default() },
        Fetched::TooLarge { bytes, .. } => InTier {
            found: Some(true),
            value_bytes: Some(*bytes),
            same_as_l1: value.map(|_| false),
            why: Some("too large to be read".to_owned()),
            ttl_ms: None,
        },
        Fetched::Refused { why, .. } | Fetched::Failed { why, .. } => {
            InTier { why: Some(why.clone()), ..InTier::default() }
        }
    }
}

/// Milliseconds; `None`: without end.
fn millis(duration: Duration) -> Option<u64> {
    u64::try_from(duration.as_millis()).ok()
}
