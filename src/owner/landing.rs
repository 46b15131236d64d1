//! Results of the tiers: fills, answers to waiters, ends of writes.

use super::Owner;
use super::changes::Author;
use super::flags;
use super::flight::Flight;
use super::request::{deleted, nanos, rule_with};
use super::response::OwnedResponse;
use super::write::{Change, Write};
use crate::doors::{Replies, Service};
use crate::tiers::{Fetched, Job, L2Change, Tier, TierEvent, Written};
use l1d_wire::policy::{ClientFlags, OnWriteError, Scope};
use l1d_wire::protocol::ErrorCode;
use l1d_wire::snapshot::Cause;
use shm_layout::Entry;
use shm_layout::entry::expiry_tick;
use std::sync::Arc;
use std::time::Duration;

/// A shorter TTL in L1 is not worth an entry.
const TTL_MIN: Duration = Duration::from_millis(50);

impl Owner {
    /// Handles all pending events of the tiers. Returns whether there was one.
    pub(super) fn land_all(&mut self, replies: &mut dyn Replies) -> bool {
        let mut any = false;
        while let Some(below) = &mut self.below
            && let Some(event) = below.next_event()
        {
            if !any {
                // One reading of the clock for all that arrived together.
                self.begin();
                any = true;
            }
            self.landed(event, replies);
        }
        self.end();
        any
    }

    fn landed(&mut self, event: TierEvent, replies: &mut dyn Replies) {
        match event {
            TierEvent::Fetched { flight, outcome } => {
                let Some(flight) = self.flights.land(flight) else { return };
                let tier = outcome.tier();
                let answer = self.fetched(&flight, outcome);
                match answer {
                    OwnedResponse::Found { version: 1.., .. } => {
                        self.note_change(&flight.key, Author::tier(tier));
                    }
                    OwnedResponse::Absent { ttl } if !ttl.is_zero() => {
                        self.note_change(&flight.key, Author::absence());
                    }
                    _ => {}
                }
                for waiter in flight.waiters() {
                    self.groups.give(waiter, &answer, replies);
                }
            }
            TierEvent::Written { id, outcome } => {
                let Some(write) = self.writes.end(id) else { return };
                let is_unknown = matches!(outcome, Written::Unknown { .. });
                let lost = match outcome {
                    Written::Unknown { .. } => Some(Cause::UnknownOutcome),
                    Written::Removed { .. } => Some(Cause::RefusedValue),
                    _ => None,
                };
                let answer = self.written(&write, outcome);
                if let Some(place) = write.place {
                    // P22: L1 has what the writer is about to be told.
                    if is_unknown {
                        self.changing.doubt(place, &write.key, &mut self.tables);
                    } else {
                        self.changing.end(place, &mut self.tables);
                    }
                }
                if answer.is_change() {
                    self.note_change(&write.key, write.author);
                } else if let Some(cause) = lost {
                    self.note_change(&write.key, write.author.with(cause));
                }
                // A fetch that began while the write was in progress may have read either value.
                self.flights.kill(&write.key);
                self.groups.give(write.waiter, &answer, replies);
                // Whether that was a fill or a change after one.
                if !self.writes.is_changing(&write.key) {
                    self.loads.ended(&write.key);
                }
                self.begin_write(&write.key, replies);
            }
            TierEvent::Looked { id, tier, outcome } => self.looked(id, (tier, outcome), replies),
        }
    }

    /// P3, P12: a fetched value is kept only if nothing has invalidated it, and if the tier had no
    /// earlier change of the key left to carry out when it was asked.
    fn may_keep(&self, flight: &Flight, tier: Tier, epoch: u64, is_in_doubt: bool) -> bool {
        let same_epoch = self.below.as_ref().is_some_and(|below| below.epoch(tier) == epoch);
        flight.alive && same_epoch && !is_in_doubt && !self.writes.is_changing(&flight.key)
    }

    fn fetched(&mut self, flight: &Flight, outcome: Fetched) -> OwnedResponse {
        match outcome {
            Fetched::Found { tier, value, flags, remaining, sent_at, epoch, is_in_doubt } => {
                let keep = self.may_keep(flight, tier, epoch, is_in_doubt);
                let rule = rule_with(&self.policy, flight.rule);
                let (value, flags) = match tier {
                    Tier::L2 => (value, flags),
                    Tier::L3 => flags::from_l3(rule, value),
                };
                // P8: never longer than the tier's TTL, counted from the time of the request.
                let remaining = remaining.map(|left| left.saturating_sub(sent_at.elapsed()));
                let answer = self.found(flight, value, flags, remaining, keep);
                if tier == Tier::L3 && keep && matches!(answer, OwnedResponse::Found { .. }) {
                    self.fill_l2(flight, &answer, remaining);
                }
                answer
            }
            Fetched::Absent { authoritative, tier, epoch, is_in_doubt } => {
                if !authoritative {
                    return OwnedResponse::Unknown;
                }
                let keep = self.may_keep(flight, tier, epoch, is_in_doubt);
                let ttl = if keep {
                    self.remember_absence(flight.rule, &flight.key)
                } else {
                    Duration::ZERO
                };
                OwnedResponse::Absent { ttl }
            }
            Fetched::TooLarge { bytes, .. } => self.too_large(bytes),
            Fetched::Refused { tier, why } => OwnedResponse::error(
                ErrorCode::Refused,
                format!("{tier} refuses to read the key: {why}"),
            ),
            Fetched::Failed { tier, why } => OwnedResponse::error(
                ErrorCode::TierFailed,
                format!("the key is not in L1, and {tier} gave no value: {why}"),
            ),
        }
    }

    /// Keeps a value from a tier if allowed, and makes the answer.
    fn found(
        &mut self,
        flight: &Flight,
        value: Arc<[u8]>,
        flags: u32,
        remaining: Option<Duration>,
        keep: bool,
    ) -> OwnedResponse {
        let rule = rule_with(&self.policy, flight.rule);
        let table_max = self.tables.current().writer().geometry().value_bytes_max() as usize;
        if value.len() > table_max.max(rule.value_bytes_max as usize) {
            return self.too_large(value.len() as u64);
        }
        let fits = value.len() <= table_max.min(rule.value_bytes_max as usize);
        let ttl = remaining.map_or(rule.ttl, |left| left.min(rule.ttl));
        let ttl = self.shortened(ttl);
        if !keep {
            self.counters.fills_prevented += 1;
            return OwnedResponse::Found { value, flags, version: 0, ttl: Duration::ZERO };
        }
        if !fits || ttl < TTL_MIN {
            return OwnedResponse::Found { value, flags, version: 0, ttl: Duration::ZERO };
        }
        match self.publish(flight.rule, &flight.key, &value, flags, ttl) {
            Ok(version) => {
                self.counters.fills += 1;
                OwnedResponse::Found { value, flags, version, ttl }
            }
            // The reader gets it all the same.
            Err(_) => OwnedResponse::Found { value, flags, version: 0, ttl: Duration::ZERO },
        }
    }

    fn too_large(&self, bytes: u64) -> OwnedResponse {
        let table_max = self.tables.current().writer().geometry().value_bytes_max();
        let message = format!(
            "the value in the tiers has {bytes} bytes, and the table takes {table_max}; read it \
             there, or raise value_bytes_max of [table]"
        );
        OwnedResponse::error(ErrorCode::TooLarge, message)
    }

    /// P8: shortens by up to a tenth, so that entries filled together do not expire together.
    fn shortened(&mut self, ttl: Duration) -> Duration {
        // xorshift64*: any distribution will do.
        self.jitter ^= self.jitter >> 12;
        self.jitter ^= self.jitter << 25;
        self.jitter ^= self.jitter >> 27;
        let share = (self.jitter.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) & 0xffff;
        let less = u128::from(share) * ttl.as_nanos() / 10 / 0xffff;
        ttl.saturating_sub(Duration::from_nanos(u64::try_from(less).unwrap_or(0)))
    }

    /// Copies a value of L3 to L2. It cannot overtake a later change of the key: L2 carries out
    /// requests in the order of their submission.
    fn fill_l2(&mut self, flight: &Flight, answer: &OwnedResponse, remaining: Option<Duration>) {
        let OwnedResponse::Found { value, flags, .. } = answer else { return };
        let rule = rule_with(&self.policy, flight.rule);
        if !rule.l2 || rule.client_flags == ClientFlags::NeverFillL2 {
            return;
        }
        let l2_ttl = remaining.map_or(rule.l2_ttl, |left| left.min(rule.l2_ttl));
        if let Some(below) = &mut self.below
            && below.available(Tier::L2)
        {
            let (key, value) = (flight.key.clone(), value.clone());
            // A rejected fill only costs the next host a lookup in L3.
            let _ = below.submit(Job::Fill { key, value, flags: *flags, l2_ttl });
        }
    }

    /// P9. Returns for how long the absence is remembered.
    fn remember_absence(&mut self, rule: u8, key: &[u8]) -> Duration {
        let rule = rule_with(&self.policy, rule);
        let ttl = rule.negative_ttl;
        if ttl < TTL_MIN || rule.scope == Scope::Process {
            return ttl;
        }
        let policy = rule.id;
        let now_ns = self.now_ns();
        let expiry = expiry_tick(now_ns.saturating_add(nanos(ttl)));
        let entry = Entry { key, absent: true, policy, expiry, ..Entry::default() };
        match self.tables.put(&entry, now_ns) {
            Ok(_) => ttl,
            Err(_) => Duration::ZERO,
        }
    }

    /// The end of a write: acknowledged only after its slot store (W7).
    fn written(&mut self, write: &Write, outcome: Written) -> OwnedResponse {
        // The store of record decides an operation: what it would have done is not known.
        let publish = !matches!(write.change, Change::Operate(_))
            && rule_with(&self.policy, write.rule).on_write_error == OnWriteError::Publish;
        match outcome {
            Written::Applied { existed, degraded } => self.apply(write, (existed, true), degraded),
            Written::Operated { tier, operated, degraded } => match &write.change {
                Change::Operate(operating) => {
                    self.operated(write, operating, (tier, operated, degraded))
                }
                _ => OwnedResponse::error(ErrorCode::Internal, "an answer to another change"),
            },
            Written::NotApplied { .. } | Written::Unknown { .. } if publish => {
                self.apply(write, (false, false), true)
            }
            Written::NotApplied { tier, why } => {
                self.counters.refused += 1;
                let message = format!("nothing has changed: {tier} did not take the write: {why}");
                OwnedResponse::error(ErrorCode::TierFailed, message)
            }
            Written::Refused { tier, why } => {
                self.counters.refused += 1;
                let message = format!("nothing has changed: {tier} refuses the write: {why}");
                OwnedResponse::error(ErrorCode::Refused, message)
            }
            Written::Removed { tier, why } => {
                self.counters.refused += 1;
                self.tables.remove(&write.key, self.now_ns());
                let message = format!(
                    "{tier} refuses the value: {why}; the key's former value is gone as well: store \
                     another"
                );
                OwnedResponse::error(ErrorCode::Refused, message)
            }
            Written::Unknown { tier, why } => {
                self.counters.unknown_outcomes += 1;
                self.tables.remove(&write.key, self.now_ns());
                // The client adds what to do.
                let message = format!("{tier} may or may not take the write: {why}");
                OwnedResponse::error(ErrorCode::UnknownOutcome, message)
            }
        }
    }

    /// Brings L1 up to date with a change, which the store of record has taken if `is_recorded`.
    fn apply(
        &mut self,
        write: &Write,
        (existed, is_recorded): (bool, bool),
        degraded: bool,
    ) -> OwnedResponse {
        self.counters.degraded += u64::from(degraded);
        match &write.change {
            Change::Set { value, flags, lives } => {
                let ttl = lives.l1;
                let has_l3 = self.below.as_ref().is_some_and(|below| below.has(Tier::L3));
                // memcached keeps nothing that is short-lived.
                let is_recorded = is_recorded && (has_l3 || lives.l2 != L2Change::Delete);
                let life = if is_recorded { None } else { lives.shortened_in_l1() };
                match self.publish(write.rule, &write.key, value, *flags, ttl) {
                    Ok(version) => OwnedResponse::Stored { version, degraded, life },
                    Err(_) => {
                        // The tiers have the new value: no reader may go on seeing the old one.
                        self.tables.remove(&write.key, self.now_ns());
                        OwnedResponse::Stored { version: 0, degraded, life }
                    }
                }
            }
            Change::Operate(_) => {
                OwnedResponse::error(ErrorCode::Internal, "an answer to another change")
            }
            Change::Delete { by_set } => {
                let existed = self.tables.remove(&write.key, self.now_ns()) || existed;
                if degraded {
                    // A tier still has it: L1 keeps reporting its absence for a while.
                    self.remember_absence(write.rule, &write.key);
                }
                deleted(*by_set, existed, degraded)
            }
        }
    }
}
