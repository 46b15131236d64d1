//! Operations: changes of a key that depend on what it holds.
//!
//! Where L1 has the record, the owner looks, decides and publishes within one request. Only the
//! owner changes the table, so operations are linearizable. Otherwise the record decides.

mod below;

use super::Owner;
use super::life::{Lives, Record};
use super::request::{key_fits, nanos, refusal, remaining};
use super::response::{OwnedResponse, Waiter};
use super::write::Change;
use crate::access::Right;
use crate::doors::Replies;
use crate::table::{Held, PutError};
use l1d_wire::policy::Scope;
use l1d_wire::protocol::{ErrorCode, NotChanged, Operate, Operation};
use shm_layout::Entry;
use shm_layout::entry::expiry_tick;
use std::borrow::Cow;
use std::time::Duration;

/// What an operation makes of a key.
#[derive(Debug, PartialEq, Eq)]
enum Effect<'a> {
    Nothing(NotChanged),
    Store { value: Cow<'a, [u8]>, flags: u32, keeps_life: bool, number: Option<i64> },
    Delete,
    Touch,
}

impl Owner {
    pub(super) fn operate(
        &mut self,
        operate: &Operate<'_>,
        waiter: Waiter,
        replies: &mut dyn Replies,
    ) {
        self.counters.operations += 1;
        let rule = self.policy.rule(operate.key);
        let (id, scope, record) = (rule.id, rule.scope, self.record(rule, rule.write));
        let new_value = match operate.operation {
            Operation::Add { value, .. }
            | Operation::Replace { value, .. }
            | Operation::CompareAndSet { value, .. } => value,
            Operation::Append { bytes } | Operation::Prepend { bytes } => bytes,
            _ => &[],
        };
        let accepted = key_fits(operate.key)
            .and_then(|()| self.value_fits(new_value.len(), rule))
            .and_then(|()| has_life(operate))
            .and_then(|()| self.permit_operation(operate));
        if let Err(answer) = accepted {
            return self.groups.give(waiter, &answer, replies);
        }
        self.loads.revoke(operate.key);
        let rule = self.policy.rule(operate.key);
        let lives = Lives::new(rule, operate.ttl, record, self.ttl_max);
        let answer = match record {
            Record::L1 if scope == Scope::Process => Err(no_record()),
            Record::L1 => self.operate_in_table(operate, id, &lives),
            _ => match self.operating(operate, rule, (record, lives)) {
                Ok(operating) => {
                    let change = Change::Operate(operating);
                    return self.line_up(&operate.key.into(), id, change, waiter, replies);
                }
                Err(answer) => Err(answer),
            },
        };
        let (Ok(answer) | Err(answer)) = answer;
        if answer.is_change() {
            self.note_change(operate.key, self.author);
        }
        self.groups.give(waiter, &answer, replies);
    }

    /// An operation that answers with what the key holds reads it, too.
    fn permit_operation(&mut self, operate: &Operate<'_>) -> Result<(), OwnedResponse> {
        let (right, reads) = match operate.operation {
            Operation::DeleteIf { .. } => (Right::Delete, false),
            Operation::GetAndTouch | Operation::Count { .. } => (Right::Write, true),
            _ => (Right::Write, false),
        };
        self.permit(right, operate.key)?;
        if reads && self.below.is_some() { self.permit(Right::Fetch, operate.key) } else { Ok(()) }
    }

    fn operate_in_table(
        &mut self,
        operate: &Operate<'_>,
        rule: u8,
        lives: &Lives,
    ) -> Result<OwnedResponse, OwnedResponse> {
        let (key, now_ns) = (operate.key, self.now_ns());
        let held = self.tables.get(key, now_ns).filter(|held| !held.absent);
        let effect = decide(&operate.operation, held.as_ref())?;
        let new_expiry = expiry_tick(now_ns.saturating_add(nanos(lives.l1)));
        let changed = |version, number, life| OwnedResponse::Changed {
            version,
            number,
            degraded: false,
            life,
        };
        match (effect, &held) {
            (Effect::Nothing(reason), _) => Ok(OwnedResponse::NotChanged { reason }),
            (Effect::Store { value, flags, keeps_life, number }, held) => {
                self.value_fits(value.len(), self.policy.rule(key))?;
                let kept = held.as_ref().filter(|_| keeps_life).map(|held| held.expiry);
                let expiry = kept.unwrap_or(new_expiry);
                let value = &*value;
                let entry = Entry { key, value, flags, policy: rule, expiry, ..Entry::default() };
                self.flights.kill(key);
                let put = self.tables.put(&entry, now_ns);
                let version = put.map_err(|error| refusal(self.policy.rule(key), error))?;
                let life = kept.map_or_else(|| lives.shortened_in_l1(), |_| None);
                Ok(changed(version, number, life))
            }
            (Effect::Delete, _) => {
                self.flights.kill(key);
                self.tables.remove(key, now_ns);
                Ok(changed(0, None, None))
            }
            (Effect::Touch, None) => Ok(OwnedResponse::NotChanged { reason: NotChanged::Absent }),
            (Effect::Touch, Some(held)) => {
                let renewed = self.renew(key, held, new_expiry);
                renewed.map_err(|error| refusal(self.policy.rule(key), error))?;
                if operate.operation != Operation::GetAndTouch {
                    return Ok(changed(held.version, None, lives.shortened_in_l1()));
                }
                let (value, ttl) = (held.value.as_slice().into(), remaining(new_expiry, now_ns));
                let (flags, version) = (held.flags, held.version);
                Ok(OwnedResponse::Found { value, flags, version, ttl })
            }
        }
    }

    /// Gives the entry of `key` another life, and leaves it as it is otherwise.
    ///
    /// # Errors
    /// The table has no room for it; the entry is as it was.
    fn renew(&mut self, key: &[u8], held: &Held, expiry: u32) -> Result<(), PutError> {
        let Held { value, flags, version, policy, .. } = held;
        let (flags, version, policy) = (*flags, *version, *policy);
        let entry = Entry { key, value, flags, version, policy, expiry, ..Entry::default() };
        self.tables.renew(&entry, self.now_ns())
    }
}

/// What `operation` makes of a key that holds `held`.
///
/// # Errors
/// The answer to an operation that the value does not allow.
fn decide<'a>(operation: &Operation<'a>, held: Option<&Held>) -> Result<Effect<'a>, OwnedResponse> {
    let store = |value, flags| Effect::Store {
        value: Cow::Borrowed(value),
        flags,
        keeps_life: false,
        number: None,
    };
    let is_version = |version| held.is_some_and(|held| held.version == version);
    let longer = |first: &[u8], second: &[u8], flags| Effect::Store {
        value: Cow::Owned([first, second].concat()),
        flags,
        keeps_life: true,
        number: None,
    };
    Ok(match (*operation, held) {
        (Operation::Add { .. }, Some(_)) => Effect::Nothing(NotChanged::Exists),
        (Operation::Add { value, flags }, None)
        | (Operation::Replace { value, flags }, Some(_)) => store(value, flags),
        (Operation::CompareAndSet { version, value, flags }, _) if is_version(version) => {
            store(value, flags)
        }
        (Operation::DeleteIf { version }, _) if is_version(version) => Effect::Delete,
        (Operation::CompareAndSet { .. } | Operation::DeleteIf { .. }, _) => {
            Effect::Nothing(NotChanged::Conflict)
        }
        (Operation::Append { bytes }, Some(held)) => longer(&held.value, bytes, held.flags),
        (Operation::Prepend { bytes }, Some(held)) => longer(bytes, &held.value, held.flags),
        (Operation::Count { by, initial }, held) => {
            let (number, flags) = match (held, initial) {
                (Some(held), _) => (counted(&held.value, by)?, held.flags),
                (None, Some(initial)) => (initial, 0),
                (None, None) => return Ok(Effect::Nothing(NotChanged::Absent)),
            };
            Effect::Store {
                value: Cow::Owned(itoa::Buffer::new().format(number).as_bytes().to_vec()),
                flags,
                keeps_life: true,
                number: Some(number),
            }
        }
        (Operation::Touch | Operation::GetAndTouch, Some(_)) => Effect::Touch,
        (
            Operation::Replace { .. }
            | Operation::Append { .. }
            | Operation::Prepend { .. }
            | Operation::Touch
            | Operation::GetAndTouch,
            None,
        ) => Effect::Nothing(NotChanged::Absent),
    })
}

/// The counter in `value` after `by` was added.
fn counted(value: &[u8], by: i64) -> Result<i64, OwnedResponse> {
    let refused = |what: &str| OwnedResponse::error(ErrorCode::Refused, what);
    let text = std::str::from_utf8(value).ok();
    // Written otherwise, as with a plus or with zeros before it, it is no counter for Redis either.
    let is_canonical = |number: &i64| Some(itoa::Buffer::new().format(*number)) == text;
    let number = text.and_then(|text| text.parse().ok()).filter(is_canonical);
    let number = number.ok_or_else(|| {
        refused(
            "nothing has changed: the key's value is not a number (a signed 64-bit decimal); set \
             one, or use another key",
        )
    })?;
    i64::checked_add(number, by).ok_or_else(|| {
        refused(
            "nothing has changed: the result would not fit a signed 64-bit number; set another \
             number first, or use another key",
        )
    })
}

/// An operation stores something, or gives it a life.
fn has_life(operate: &Operate<'_>) -> Result<(), OwnedResponse> {
    if operate.ttl != Some(Duration::ZERO) {
        return Ok(());
    }
    let message = "a life of zero keeps nothing; give a longer one, or delete the key";
    Err(OwnedResponse::error(ErrorCode::Refused, message))
}

fn no_record() -> OwnedResponse {
    let message = "a key of process scope that is not kept in a tier has no record that operations \
                   could be carried out on; give its rule scope = \"host\"";
    OwnedResponse::error(ErrorCode::Refused, message)
}

fn too_large(message: String) -> OwnedResponse {
    OwnedResponse::error(ErrorCode::TooLarge, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(value: &[u8]) -> Held {
        Held {
            value: value.to_vec(),
            flags: 7,
            version: 3,
            expiry: 99,
            policy: 0,
            absent: false,
            segment: 0,
            entry_bytes: 0,
        }
    }

    #[test]
    fn each_operation_asks_for_what_it_needs() {
        use NotChanged::{Absent, Conflict, Exists};
        let (value, flags) = (&b"v"[..], 0);
        let cases: [(Operation<'_>, Option<NotChanged>, Option<NotChanged>); 10] = [
            (Operation::Add { value, flags }, None, Some(Exists)),
            (Operation::Replace { value, flags }, Some(Absent), None),
            (Operation::CompareAndSet { version: 3, value, flags }, Some(Conflict), None),
            (Operation::CompareAndSet { version: 2, value, flags }, Some(Conflict), Some(Conflict)),
            (Operation::DeleteIf { version: 3 }, Some(Conflict), None),
            (Operation::DeleteIf { version: 0 }, Some(Conflict), Some(Conflict)),
            (Operation::Append { bytes: value }, Some(Absent), None),
            (Operation::Prepend { bytes: value }, Some(Absent), None),
            (Operation::Count { by: 1, initial: None }, Some(Absent), None),
            (Operation::Touch, Some(Absent), None),
        ];
        let reason = |operation: &Operation<'_>, held: Option<&Held>| match decide(operation, held)
            .unwrap()
        {
            Effect::Nothing(reason) => Some(reason),
            _ => None,
        };
        for (operation, absent, present) in cases {
            assert_eq!(reason(&operation, None), absent, "{operation:?}");
            assert_eq!(reason(&operation, Some(&held(b"1"))), present, "{operation:?}");
        }
    }

    #[test]
    fn a_counter_is_a_signed_64_bit_decimal_and_nothing_else() {
        let count = |value: &str, by| counted(value.as_bytes(), by).ok();
        assert_eq!(count("0", -5), Some(-5));
        assert_eq!(count("-5", 6), Some(1));
        assert_eq!(count("9223372036854775806", 1), Some(i64::MAX));
        assert_eq!(count("-9223372036854775808", i64::MAX), Some(-1));
        for (value, by) in [("9223372036854775807", 1), ("-9223372036854775808", -1)] {
            assert_eq!(count(value, by), None, "overflow of {value}");
        }
        for value in ["", "+1", "01", "-0", " 1", "1 ", "1.0", "x", "9223372036854775808"] {
            assert_eq!(count(value, 1), None, "{value:?}");
        }
    }
}
