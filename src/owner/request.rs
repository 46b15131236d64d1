//! Get, set, delete.

use super::Owner;
use super::flags;
use super::flight::{Boarding, Client, FETCHES_OF_USER_MAX};
use super::life::{Lives, Record};
use super::response::{OwnedResponse, Waiter};
use super::write::Change;
use crate::access::Right;
use crate::doors::{Origin, Replies};
use crate::table::{Full, PutError};
use crate::tiers::{Job, L2Change, Tier};
use l1d_wire::policy::{Evict, PolicySet, Rule, Scope, WriteMode};
use l1d_wire::protocol::{ErrorCode, NotChanged, Response, Set};
use shm_layout::entry::{KEY_BYTES_MAX, NEVER, TICK_BITS, expiry_tick};
use shm_layout::{Entry, LayoutError};
use std::sync::Arc;
use std::time::Duration;

impl Owner {
    /// Looks in the table, then joins or begins a flight.
    pub(super) fn get(&mut self, key: &[u8], waiter: Waiter, replies: &mut dyn Replies) {
        self.counters.gets += 1;
        if let Err(answer) = key_fits(key) {
            return self.groups.give(waiter, &answer, replies);
        }
        let now_ns = self.now_ns();
        if let Some(held) = self.tables.get(key, now_ns) {
            self.counters.gets_found_in_table += 1;
            self.policy_hits.hit(held.policy, 1);
            let ttl = remaining(held.expiry, now_ns);
            let answer = if held.absent {
                OwnedResponse::Absent { ttl }
            } else {
                let value = held.value.into();
                OwnedResponse::Found { value, flags: held.flags, version: held.version, ttl }
            };
            return self.groups.give(waiter, &answer, replies);
        }
        let rule = self.policy.rule(key);
        let (rule, scope, in_l2) = (rule.id, rule.scope, rule.l2);
        self.policy_hits.missed(rule);
        if scope == Scope::Host {
            self.tables.missed(key, rule, now_ns);
        }
        if self.below.is_some()
            && let Err(answer) = self.permit(Right::Fetch, key)
        {
            return self.groups.give(waiter, &answer, replies);
        }
        let Some(below) = &mut self.below else {
            return self.groups.give(waiter, &OwnedResponse::Unknown, replies);
        };
        let fetches_max = self.guard.quota().fetches.unwrap_or(FETCHES_OF_USER_MAX);
        let client = self.groups.connection(waiter).map(|origin| Client {
            origin,
            uid: self.guard.peer.uid,
            fetches_max,
        });
        let refused = match self.flights.board(key, rule, waiter, client) {
            Boarding::Joined => return,
            Boarding::Full => Some(waiter),
            Boarding::OverQuota => {
                let answer = self.over_quota("fetches", "fetches_max", fetches_max);
                return self.groups.give(waiter, &answer, replies);
            }
            Boarding::Begun(flight, key) => {
                let sent = below.submit(Job::Fetch { flight, key, in_l2 });
                if sent.is_err() {
                    self.flights.land(flight);
                }
                sent.is_err().then_some(waiter)
            }
        };
        if let Some(waiter) = refused {
            self.groups.give(waiter, &busy("fetches"), replies);
        }
    }

    pub(super) fn get_many(&mut self, keys: &[&[u8]], origin: Origin, replies: &mut dyn Replies) {
        if keys.is_empty() {
            return replies.reply(origin, &Response::Many(Vec::new()));
        }
        let group = self.groups.open(origin, self.guard.peer.uid, keys.len());
        for (index, key) in keys.iter().enumerate() {
            if self.groups.ends_before(group, index) {
                return;
            }
            self.get(key, Waiter::Member { group, index }, replies);
        }
    }

    pub(super) fn set_many(&mut self, sets: &[Set<'_>], origin: Origin, replies: &mut dyn Replies) {
        if sets.is_empty() {
            return replies.reply(origin, &Response::Many(Vec::new()));
        }
        let group = self.groups.open(origin, self.guard.peer.uid, sets.len());
        for (index, set) in sets.iter().enumerate() {
            self.set(set, Waiter::Member { group, index }, replies);
        }
    }

    pub(super) fn set(&mut self, set: &Set<'_>, waiter: Waiter, replies: &mut dyn Replies) {
        if let Err(answer) = self.permit(right_to(set), set.key) {
            return self.groups.give(waiter, &answer, replies);
        }
        self.loads.revoke(set.key);
        self.store(set, waiter, replies);
    }

    /// A set that ends no reservation.
    pub(super) fn store(&mut self, set: &Set<'_>, waiter: Waiter, replies: &mut dyn Replies) {
        self.counters.sets += 1;
        let rule = self.policy.rule(set.key);
        if let Err(answer) = key_fits(set.key).and_then(|()| self.value_fits(set.value.len(), rule))
        {
            return self.groups.give(waiter, &answer, replies);
        }
        let id = rule.id;
        let record = self.record(rule, set.write.unwrap_or(rule.write));
        if set.ttl == Some(Duration::ZERO) {
            return self.remove(set.key, (id, record), true, waiter, replies);
        }
        let lives = Lives::new(rule, set.ttl, record, self.ttl_max);
        if record == Record::L1 {
            self.flights.kill(set.key);
            let answer = match self.publish(id, set.key, set.value, set.flags, lives.l1) {
                Ok(version) => {
                    let life = lives.shortened_in_l1();
                    OwnedResponse::Stored { version, degraded: false, life }
                }
                Err(answer) => answer,
            };
            if matches!(answer, OwnedResponse::Stored { .. }) {
                self.note_change(set.key, self.author);
            }
            return self.groups.give(waiter, &answer, replies);
        }
        let has_both = self
            .below
            .as_ref()
            .is_some_and(|below| [Tier::L2, Tier::L3].into_iter().all(|tier| below.has(tier)));
        if has_both
            && lives.l2 != L2Change::None
            && let Err(answer) = flags::check(rule, set.flags)
        {
            return self.groups.give(waiter, &answer, replies);
        }
        let change = Change::Set { value: set.value.into(), flags: set.flags, lives };
        self.line_up(&set.key.into(), id, change, waiter, replies);
    }

    pub(super) fn delete(&mut self, key: &[u8], origin: Origin, replies: &mut dyn Replies) {
        self.counters.deletes += 1;
        let waiter = Waiter::Origin(origin);
        if let Err(answer) = key_fits(key).and_then(|()| self.permit(Right::Delete, key)) {
            return self.groups.give(waiter, &answer, replies);
        }
        self.loads.revoke(key);
        let rule = self.policy.rule(key);
        let (id, record) = (rule.id, self.record(rule, rule.write));
        self.remove(key, (id, record), false, waiter, replies);
    }

    /// Deletes a key, for a delete or for a set of a value that is not to be kept.
    fn remove(
        &mut self,
        key: &[u8],
        (rule, record): (u8, Record),
        by_set: bool,
        waiter: Waiter,
        replies: &mut dyn Replies,
    ) {
        if record != Record::L1 {
            return self.line_up(&key.into(), rule, Change::Delete { by_set }, waiter, replies);
        }
        self.flights.kill(key);
        let existed = self.tables.remove(key, self.now_ns());
        self.note_change(key, self.author);
        self.groups.give(waiter, &deleted(by_set, existed, false), replies);
    }

    /// Where the record of a key under `rule` is kept that is written in this mode.
    pub(super) fn record(&self, rule: &Rule, mode: WriteMode) -> Record {
        match &self.below {
            Some(below) if mode == WriteMode::Through && below.has(Tier::L3) => Record::L3,
            Some(_) if mode == WriteMode::Through && rule.l2 => Record::L2,
            _ => Record::L1,
        }
    }

    /// Checked before anything is changed: a value that a tier takes and the table refuses would
    /// leave the older one visible.
    pub(super) fn value_fits(&self, bytes: usize, rule: &Rule) -> Result<(), OwnedResponse> {
        let table_max = self.tables.current().writer().geometry().value_bytes_max() as usize;
        let message = if bytes > rule.value_bytes_max as usize {
            rule.too_large(bytes)
        } else if bytes > table_max && rule.scope == Scope::Host {
            format!(
                "a value of {bytes} bytes is too large: the table takes {table_max}; store less, \
                 or raise value_bytes_max of [table]"
            )
        } else {
            return Ok(());
        };
        Err(OwnedResponse::error(ErrorCode::TooLarge, message))
    }

    /// Queues a change after earlier ones of its key, and begins it if it is the first.
    pub(super) fn line_up(
        &mut self,
        key: &Arc<[u8]>,
        rule: u8,
        change: Change,
        waiter: Waiter,
        replies: &mut dyn Replies,
    ) {
        let quota = self.guard.quota();
        if !matches!(waiter, Waiter::Nobody)
            && let Some((limit, most)) = self.writes.exceeds(self.author.uid, quota)
        {
            let answer = self.over_quota("writes", limit, most);
            return self.groups.give(waiter, &answer, replies);
        }
        match self.writes.line_up(key, rule, change, (waiter, self.author)) {
            Ok(true) => self.begin_write(key, replies),
            Ok(false) => {}
            Err(()) => return self.groups.give(waiter, &busy("writes"), replies),
        }
        if let Some((limit, most)) = self.writes.reached(self.author.uid, quota) {
            let peer = self.guard.peer;
            self.count_over_quota(&peer, limit, most);
        }
    }

    /// Sends the first queued change of `key` to the tiers. The old value stays visible: that is
    /// allowed until the new one is acknowledged, and a hot key must not miss (P7).
    pub(super) fn begin_write(&mut self, key: &Arc<[u8]>, replies: &mut dyn Replies) {
        while let Some((id, rule, job)) = self.next_job(key) {
            // P2: every value in flight is older than this write.
            self.flights.kill(key);
            let refusal = match (job, &mut self.below) {
                (Some(job), Some(below)) => {
                    // P22: before the tiers can send the first byte.
                    let place = self.changing.begin(key, rule, &mut self.tables);
                    match below.submit(job) {
                        Ok(()) => return self.writes.noted(key, place),
                        Err(_) => {
                            self.changing.end(place, &mut self.tables);
                            busy("writes")
                        }
                    }
                }
                _ => OwnedResponse::NotChanged { reason: NotChanged::Conflict },
            };
            if let Some(write) = self.writes.end(id) {
                self.groups.give(write.waiter, &refusal, replies);
            }
        }
    }

    /// The number, the rule and the job of the change of `key` that is to begin. No job: it is an operation
    /// on a version that the table does not have.
    fn next_job(&mut self, key: &Arc<[u8]>) -> Option<(u64, u8, Option<Job>)> {
        let write = self.writes.first(key)?;
        let (id, key, rule) = (write.id, key.clone(), write.rule);
        let in_l2 = rule_with(&self.policy, rule).l2;
        let job = match &write.change {
            Change::Set { value, flags, lives } => {
                let policy_rule = rule_with(&self.policy, rule);
                let (value, flags, l2, l3_ttl) = (value.clone(), *flags, lives.l2, lives.l3);
                let l3_value = flags::to_l3(policy_rule, &value, flags);
                Job::Set { id, key, value, l3_value, flags, l2, l3_ttl }
            }
            Change::Delete { .. } => Job::Delete { id, key, in_l2 },
            Change::Operate(operating) => {
                let operating = operating.clone();
                let operate = self.for_record(&key, rule, &operating);
                let operate = operate.map(Arc::new);
                let job = operate.map(|operate| Job::Operate { id, key, operate, in_l2 });
                return Some((id, rule, job));
            }
        };
        Some((id, rule, Some(job)))
    }

    /// Stores a value in L1, if the policy keeps L1 copies in the table.
    pub(super) fn publish(
        &mut self,
        rule: u8,
        key: &[u8],
        value: &[u8],
        flags: u32,
        ttl: Duration,
    ) -> Result<u64, OwnedResponse> {
        let rule = rule_with(&self.policy, rule);
        if rule.scope == Scope::Process {
            return Ok(0);
        }
        if value.len() > rule.value_bytes_max as usize {
            // It was accepted under an earlier policy.
            let message = "the value is too large since the policy was reloaded: store less, or \
                           raise value_bytes_max";
            return Err(OwnedResponse::error(ErrorCode::TooLarge, message));
        }
        let now_ns = self.now_ns();
        let expiry = expiry_tick(now_ns.saturating_add(nanos(ttl)));
        let policy = rule.id;
        let entry = Entry { key, value, flags, policy, expiry, ..Entry::default() };
        self.tables
            .put(&entry, now_ns)
            .map_err(|error| refusal(rule_with(&self.policy, policy), error))
    }
}

/// The right that a set needs: one of a life of zero deletes.
pub(super) fn right_to(set: &Set<'_>) -> Right {
    if set.ttl == Some(Duration::ZERO) { Right::Delete } else { Right::Write }
}

/// The answer to a change that the table does not take.
pub(super) fn refusal(rule: &Rule, error: PutError) -> OwnedResponse {
    let what = match error {
        PutError::Layout(error) => {
            return OwnedResponse::error(ErrorCode::TooLarge, error.to_string());
        }
        PutError::Full(what) => what,
    };
    let name = rule.name();
    let share = f64::from(rule.share_max_permille.unwrap_or_default()) / 10.0;
    let message = match what {
        _ if rule.evict != Evict::Never => format!(
            "no room for a key of {name} beside entries that are never evicted (evict = \"never\" \
             in other rules): try another key, or run l1ctl resize --fit-index"
        ),
        Full::Share => format!(
            "{name} is full (share_max = {share} %; its entries are never evicted): delete keys of \
             it or raise share_max"
        ),
        Full::Table => format!(
            "{name} is full: all rules with evict = \"never\" together hold as much as the table can \
             spare for them: delete keys of them or give the table more memory"
        ),
        Full::Index => format!(
            "{name} is full: the index has no more slots for its entries, which are never evicted: \
             delete keys of it or run l1ctl resize --fit-index"
        ),
    };
    OwnedResponse::error(ErrorCode::Full, message)
}

/// The answer to a change that removed a key.
pub(super) fn deleted(by_set: bool, existed: bool, degraded: bool) -> OwnedResponse {
    match by_set {
        true => OwnedResponse::Stored { version: 0, degraded, life: None },
        false => OwnedResponse::Deleted { existed, degraded },
    }
}

/// The rule with an id from [`PolicySet::rule`]: a rule is looked up once for each flight or write,
/// which then carries its id.
pub(super) fn rule_with(policy: &PolicySet, id: u8) -> &Rule {
    // The fallback is never needed: when rules are removed, flights and writes are renumbered.
    policy.by_id(id).unwrap_or_else(|| policy.rule(b""))
}

pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The remaining TTL of an entry.
pub(super) fn remaining(expiry: u32, now_ns: u64) -> Duration {
    if expiry == NEVER {
        return Duration::MAX;
    }
    Duration::from_nanos((u64::from(expiry) << TICK_BITS).saturating_sub(now_ns))
}

fn busy(what: &str) -> OwnedResponse {
    OwnedResponse::error(ErrorCode::Busy, format!("too many {what} wait already"))
}

pub(super) fn key_fits(key: &[u8]) -> Result<(), OwnedResponse> {
    if (1..=KEY_BYTES_MAX).contains(&key.len()) {
        return Ok(());
    }
    let message = LayoutError::KeyBytes { bytes: key.len() }.to_string();
    Err(OwnedResponse::error(ErrorCode::TooLarge, message))
}
