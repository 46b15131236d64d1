//! Operations on keys of which a tier has the record: it carries them out, and the owner publishes
//! the result or clears the slot.

use super::{Owner, too_large};
use crate::owner::flags;
use crate::owner::life::{Lives, Record};
use crate::owner::request::{nanos, rule_with};
use crate::owner::response::OwnedResponse;
use crate::owner::write::{Operating, Write};
use crate::tiers::{L2Change, Operate, Operated, Operation, Tier};
use l1d_wire::policy::{ClientFlags, Rule};
use l1d_wire::protocol::{self, ErrorCode, NotChanged};
use shm_layout::entry::expiry_tick;
use std::sync::Arc;
use std::time::Duration;

/// What memcached cannot tell from no life at all.
const SHORT: &str = "memcached counts lives in whole seconds; give one of a second or more";

impl Owner {
    /// Checks an operation on a key of which `record` has the record, and copies its bytes.
    pub(super) fn operating(
        &self,
        operate: &protocol::Operate<'_>,
        rule: &Rule,
        (record, lives): (Record, Lives),
    ) -> Result<Operating, OwnedResponse> {
        use protocol::Operation as Asked;
        let refused = |message: &str| Err(OwnedResponse::error(ErrorCode::Refused, message));
        let has_both = record == Record::L3
            && lives.l2 != L2Change::None
            && self.below.as_ref().is_some_and(|below| below.has(Tier::L2));
        let (operation, version) = match operate.operation {
            Asked::Add { value, flags } => (Operation::Add { value: value.into(), flags }, None),
            Asked::Replace { value, flags } => {
                (Operation::Replace { value: value.into(), flags }, None)
            }
            Asked::CompareAndSet { version, value, flags } => {
                let (expected, value) = (Arc::default(), value.into());
                (Operation::CompareAndSet { expected, value, flags }, Some(version))
            }
            Asked::DeleteIf { version } => {
                (Operation::DeleteIf { expected: Arc::default() }, Some(version))
            }
            Asked::Append { bytes } => (Operation::Append { bytes: bytes.into() }, None),
            Asked::Prepend { bytes } => (Operation::Prepend { bytes: bytes.into() }, None),
            Asked::Count { by, initial } => (Operation::Count { by, initial }, None),
            Asked::Touch => (Operation::Touch, None),
            Asked::GetAndTouch => (Operation::GetAndTouch, None),
        };
        if let Operation::Add { flags, .. }
        | Operation::Replace { flags, .. }
        | Operation::CompareAndSet { flags, .. } = operation
            && has_both
        {
            flags::check(rule, flags)?;
        }
        let ttl = match (record, lives.l2) {
            (Record::L3, _) => lives.l3,
            (_, L2Change::Store(ttl)) => ttl,
            _ => return refused(SHORT),
        };
        Ok(Operating { operation, version, ttl, lives })
    }

    /// The operation as the store of record gets it. `None`: the table has no entry of the version
    /// that it depends on.
    pub(in crate::owner) fn for_record(
        &mut self,
        key: &[u8],
        rule: u8,
        operating: &Operating,
    ) -> Option<Operate> {
        let has_l3 = self.below.as_ref().is_some_and(|below| below.has(Tier::L3));
        let now_ns = self.now_ns();
        let held = operating.version.map(|version| {
            let held = self.tables.get(key, now_ns);
            held.filter(|held| held.version == version && !held.absent)
        });
        let rule = rule_with(&self.policy, rule);
        let stored = |value: Arc<[u8]>, flags| match has_l3 {
            true => flags::to_l3(rule, &value, flags),
            false => value,
        };
        let held = match held {
            Some(None) => return None,
            Some(Some(held)) => stored(held.value.into(), held.flags),
            None => Arc::default(),
        };
        let operation = match operating.operation.clone() {
            Operation::Add { value, flags } => {
                Operation::Add { value: stored(value, flags), flags }
            }
            Operation::Replace { value, flags } => {
                Operation::Replace { value: stored(value, flags), flags }
            }
            Operation::CompareAndSet { value, flags, .. } => {
                let value = stored(value, flags);
                Operation::CompareAndSet { expected: held, value, flags }
            }
            Operation::DeleteIf { .. } => Operation::DeleteIf { expected: held },
            other => other,
        };
        let table_max = self.tables.current().writer().geometry().value_bytes_max();
        let value_bytes_max = table_max.min(rule.value_bytes_max) as usize;
        let is_framed = has_l3 && rule.client_flags == ClientFlags::Frame;
        Some(Operate { operation, ttl: operating.ttl, value_bytes_max, is_framed })
    }

    /// The end of an operation that the store of record has answered.
    pub(in crate::owner) fn operated(
        &mut self,
        write: &Write,
        operating: &Operating,
        (tier, operated, degraded): (Tier, Operated, bool),
    ) -> OwnedResponse {
        self.counters.degraded += u64::from(degraded);
        let (value, flags, remaining) = match operated {
            Operated::Done { value, flags, remaining } => (value, flags, remaining),
            Operated::NotChanged(reason) => return self.not_changed(&write.key, reason),
            Operated::Refused(why) => {
                let message = format!("nothing has changed: {tier} refuses the operation: {why}");
                return OwnedResponse::error(ErrorCode::Refused, message);
            }
            Operated::TooLarge { bytes } => return self.too_large_below(write, operating, bytes),
        };
        let value = value.map(|value| match tier {
            Tier::L2 => (value, flags),
            Tier::L3 => flags::from_l3(rule_with(&self.policy, write.rule), value),
        });
        let l1 = operating.lives.l1;
        let ttl = remaining.map_or(Duration::MAX, |left| left);
        let ttl = ttl.min(rule_with(&self.policy, write.rule).ttl);
        let mut number = None;
        let version = match (&operating.operation, &value) {
            (
                Operation::Add { value, flags }
                | Operation::Replace { value, flags }
                | Operation::CompareAndSet { value, flags, .. },
                _,
            ) => self.publish_or_clear(write, value, *flags, l1),
            (Operation::GetAndTouch, Some((value, flags))) => {
                let version = self.publish_or_clear(write, value, *flags, l1);
                let (value, flags) = (value.clone(), *flags);
                return OwnedResponse::Found { value, flags, version, ttl: l1 };
            }
            (Operation::Count { .. }, Some((value, flags))) => {
                let text = std::str::from_utf8(value).ok();
                number = text.and_then(|text| text.parse().ok());
                self.publish_or_clear(write, value, *flags, ttl)
            }
            (_, Some((value, flags))) => self.publish_or_clear(write, value, *flags, ttl),
            (Operation::Touch, None) => self.shorten(&write.key, l1),
            (_, None) => {
                self.tables.remove(&write.key, self.now_ns());
                0
            }
        };
        // The record has the life asked for, or keeps its own.
        OwnedResponse::Changed { version, number, degraded, life: None }
    }

    /// The record does not hold what the operation needs. A copy that says otherwise is old.
    fn not_changed(&mut self, key: &[u8], reason: NotChanged) -> OwnedResponse {
        let now_ns = self.now_ns();
        let held = self.tables.get(key, now_ns);
        if held.is_some_and(|held| held.absent == (reason == NotChanged::Exists)) {
            self.tables.remove(key, now_ns);
        }
        OwnedResponse::NotChanged { reason }
    }

    fn too_large_below(
        &mut self,
        write: &Write,
        operating: &Operating,
        bytes: u64,
    ) -> OwnedResponse {
        if operating.operation == Operation::GetAndTouch {
            self.tables.remove(&write.key, self.now_ns());
            return too_large(format!(
                "the value has the new life; its {bytes} bytes are more than can be read through \
                 l1d: read it in the tier, or raise value_bytes_max"
            ));
        }
        too_large(format!(
            "nothing has changed: a value of {bytes} bytes is more than its rule or the table \
             allows; store less, or raise value_bytes_max"
        ))
    }

    fn publish_or_clear(&mut self, write: &Write, value: &[u8], flags: u32, ttl: Duration) -> u64 {
        match self.publish(write.rule, &write.key, value, flags, ttl) {
            Ok(version) => version,
            Err(_) => {
                // The record has changed: no reader may go on seeing the old value.
                self.tables.remove(&write.key, self.now_ns());
                0
            }
        }
    }

    /// Ends the life of the copy in L1 no later than in `ttl`; it may be older than the record, and
    /// is not given a longer one. Returns its version.
    fn shorten(&mut self, key: &[u8], ttl: Duration) -> u64 {
        let now_ns = self.now_ns();
        let expiry = expiry_tick(now_ns.saturating_add(nanos(ttl)));
        let Some(held) = self.tables.get(key, now_ns) else { return 0 };
        if held.absent {
            self.tables.remove(key, now_ns);
            return 0;
        }
        if expiry < held.expiry && self.renew(key, &held, expiry).is_err() {
            // A copy is not kept for longer than its record.
            self.tables.remove(key, now_ns);
            return 0;
        }
        held.version
    }
}
