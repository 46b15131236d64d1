//! Operations: the store of record carries them out (P14), and L2 deletes its copy.
//!
//! Redis does each in one step. memcached needs two where the bytes of the value matter: it is asked
//! for the value, then for a change on condition that the value is still the same. If others change
//! it in between, a comparison has failed; anything else is tried again.

use std::sync::Arc;
use std::time::Instant;

use l1d_wire::protocol::NotChanged;

use super::Upstream;
use super::writes::in_doubt;
use crate::tiers::jobs::{Examine, NOT_ASKED, Step, Taken};
use crate::tiers::memcached;
use crate::tiers::request::{Answer, Ask, Reply, Request};
use crate::tiers::{Operate, Operated, Operation, Tier, Written};

/// How often a value may change under an operation before that is given up.
const CONFLICTS_MAX: u32 = 100;

/// What an operation makes of a value.
enum Next {
    Over(Operated),
    /// This, if the value is still the same.
    Then(Operated),
}

impl Upstream {
    pub(super) fn begin_operate(
        &mut self,
        id: u64,
        key: Arc<[u8]>,
        operate: Arc<Operate>,
        in_l2: bool,
    ) {
        let is_one_step = matches!(
            operate.operation,
            Operation::Add { .. }
                | Operation::Replace { .. }
                | Operation::Touch
                | Operation::GetAndTouch
        );
        if self.l3.is_none() && !is_one_step {
            return self.examine(Examine { id, key, operate, conflicts: 0, seen: None });
        }
        let ticket = self.running.insert(Step::Operate { id, key: key.clone(), in_l2 });
        let request = Request { key, ask: Ask::Operate(operate) };
        match self.l3 {
            Some(_) => self.ask_l3(Some(ticket), request),
            None => self.ask_l2(Some(ticket), request),
        }
    }

    /// The store of record has answered an operation, or not.
    pub(super) fn operated(
        &mut self,
        id: u64,
        key: Arc<[u8]>,
        (tier, in_l2): (Tier, bool),
        reply: Reply,
    ) {
        let has_copy = tier == Tier::L3 && self.l2.is_some() && in_l2;
        let operated = match reply.answer {
            Answer::NotSent(why) => {
                return self.written(id, Written::NotApplied { tier, why });
            }
            Answer::Refused(why) => Operated::Refused(why),
            Answer::Operated(operated) if reply.is_in_doubt && is_change(&operated) => {
                return self.unknown(id, (&key, has_copy), tier, in_doubt());
            }
            Answer::Operated(Operated::Done { value, flags, remaining }) => {
                let remaining = remaining.map(|left| left.saturating_sub(reply.sent_at.elapsed()));
                Operated::Done { value, flags, remaining }
            }
            Answer::Operated(operated) => operated,
            Answer::Unanswered(why) => return self.unknown(id, (&key, has_copy), tier, why),
            _ => {
                return self.unknown(id, (&key, has_copy), tier, NOT_ASKED.into());
            }
        };
        // Where the record does not hold what was expected, the copy may be to blame.
        let is_suspect = match &operated {
            Operated::NotChanged(reason) => *reason != NotChanged::Exists,
            other => is_change(other),
        };
        if has_copy && is_suspect {
            return self.write_l2(id, key, Some(Ask::Delete), Taken::Operation(operated));
        }
        self.written(id, Written::Operated { tier, operated, degraded: false });
    }

    fn unknown(&mut self, id: u64, (key, has_copy): (&Arc<[u8]>, bool), tier: Tier, why: String) {
        if has_copy {
            self.debts.owe(key, Instant::now());
        }
        self.written(id, Written::Unknown { tier, why });
    }

    fn examine(&mut self, examine: Examine) {
        let key = examine.key.clone();
        let ticket = self.running.insert(Step::Examine(examine));
        self.ask_l2(Some(ticket), Request { key, ask: Ask::GetUnique });
    }

    /// memcached has told the value.
    pub(super) fn examined(&mut self, mut examine: Examine, reply: Reply) {
        let (tier, id) = (Tier::L2, examine.id);
        let (next, unique) = match reply.answer {
            Answer::Unique { value, unique, .. }
                if memcached::needs_two_gets(&examine.operate.operation, &value)
                    && examine
                        .seen
                        .as_ref()
                        .is_none_or(|seen| *seen != (value.clone(), unique)) =>
            {
                let is_first = examine.seen.replace((value, unique)).is_none();
                examine.conflicts += u32::from(!is_first);
                return match examine.conflicts {
                    conflicts if conflicts > CONFLICTS_MAX => self.written(id, too_many_changes()),
                    _ => self.examine(examine),
                };
            }
            Answer::Unique { value, flags, remaining, unique } => {
                let remaining = remaining.map(|left| left.saturating_sub(reply.sent_at.elapsed()));
                let kept = |value| Operated::Done { value: Some(value), flags, remaining };
                (next(&examine.operate, &value, kept), Some(unique))
            }
            Answer::Miss { absent: true } => (next_of_none(&examine.operate), None),
            Answer::Miss { absent: false } => {
                let why = "another client is computing the value: try again later".to_owned();
                (Next::Over(Operated::Refused(why)), None)
            }
            Answer::TooLarge { bytes } => (Next::Over(Operated::TooLarge { bytes }), None),
            Answer::Refused(why) => (Next::Over(Operated::Refused(why)), None),
            Answer::NotSent(why) | Answer::Unanswered(why) => {
                return self.written(id, Written::NotApplied { tier, why });
            }
            _ => {
                let why = NOT_ASKED.into();
                return self.written(id, Written::NotApplied { tier, why });
            }
        };
        match (next, unique) {
            // Disabled there, as by `memcached -C`.
            (Next::Then(_), Some(0)) => {
                let why = "start memcached with CAS (without -C) for this operation".to_owned();
                let operated = Operated::Refused(why);
                self.written(id, Written::Operated { tier, operated, degraded: false });
            }
            (Next::Over(operated), _) => {
                self.written(id, Written::Operated { tier, operated, degraded: false });
            }
            (Next::Then(operated), unique) => {
                let (key, operate) = (examine.key.clone(), examine.operate.clone());
                let ticket = self.running.insert(Step::Condition { examine, operated });
                self.ask_l2(Some(ticket), Request { key, ask: Ask::Condition { unique, operate } });
            }
        }
    }

    /// memcached has answered the change.
    pub(super) fn conditioned(&mut self, mut examine: Examine, done: Operated, reply: Reply) {
        let (tier, id) = (Tier::L2, examine.id);
        let is_comparison = matches!(
            examine.operate.operation,
            Operation::CompareAndSet { .. } | Operation::DeleteIf { .. }
        );
        let outcome = match reply.answer {
            Answer::Operated(Operated::Done { .. }) if reply.is_in_doubt => {
                Written::Unknown { tier, why: in_doubt() }
            }
            Answer::Operated(Operated::Done { value, .. }) => {
                let operated = match (done, value) {
                    // The server's own sum.
                    (Operated::Done { flags, remaining, .. }, Some(value)) => {
                        Operated::Done { value: Some(value), flags, remaining }
                    }
                    (done, _) => done,
                };
                Written::Operated { tier, operated, degraded: false }
            }
            Answer::Operated(operated) if is_comparison => {
                Written::Operated { tier, operated, degraded: false }
            }
            Answer::Operated(_) if examine.conflicts < CONFLICTS_MAX => {
                examine.conflicts += 1;
                examine.seen = None;
                return self.examine(examine);
            }
            Answer::Operated(_) => too_many_changes(),
            Answer::Refused(why) => Written::Refused { tier, why },
            Answer::NotSent(why) => Written::NotApplied { tier, why },
            Answer::Unanswered(why) => Written::Unknown { tier, why },
            _ => Written::Unknown { tier, why: NOT_ASKED.into() },
        };
        self.written(id, outcome);
    }
}

fn too_many_changes() -> Written {
    let why = "others change the key all the time: try again later".into();
    Written::NotApplied { tier: Tier::L2, why }
}

/// Whether something was changed.
fn is_change(operated: &Operated) -> bool {
    matches!(operated, Operated::Done { .. } | Operated::TooLarge { .. })
}

/// What an operation that depends on the value makes of `value`. `kept` makes the outcome of one
/// that keeps the life.
fn next(operate: &Operate, value: &[u8], kept: impl Fn(Arc<[u8]>) -> Operated) -> Next {
    let longer = |longer: Vec<u8>| match longer.len() {
        bytes if bytes > operate.value_bytes_max => {
            Next::Over(Operated::TooLarge { bytes: bytes as u64 })
        }
        _ => Next::Then(kept(longer.into())),
    };
    match &operate.operation {
        Operation::CompareAndSet { expected, .. } | Operation::DeleteIf { expected } => {
            match **expected == *value {
                true => Next::Then(Operated::DONE),
                false => Next::Over(Operated::NotChanged(NotChanged::Conflict)),
            }
        }
        Operation::Append { bytes } => longer([value, bytes].concat()),
        Operation::Prepend { bytes } => longer([bytes, value].concat()),
        Operation::Count { by, .. } => match counted(value, *by) {
            Ok(number) => Next::Then(kept(number.to_string().into_bytes().into())),
            Err(why) => Next::Over(Operated::Refused(why.into())),
        },
        // One step.
        _ => Next::Over(Operated::DONE),
    }
}

fn next_of_none(operate: &Operate) -> Next {
    match operate.operation {
        Operation::Count { initial: Some(initial), .. } => match initial < 0 {
            true => Next::Over(Operated::Refused(NEGATIVE.into())),
            false => Next::Then(Operated::Done {
                value: Some(initial.to_string().into_bytes().into()),
                flags: 0,
                remaining: operate.ttl,
            }),
        },
        Operation::CompareAndSet { .. } | Operation::DeleteIf { .. } => {
            Next::Over(Operated::NotChanged(NotChanged::Conflict))
        }
        _ => Next::Over(Operated::NotChanged(NotChanged::Absent)),
    }
}

const NEGATIVE: &str = "memcached's counters are never negative: begin with a larger number, or \
                        subtract less";

/// The counter in `value` after `by` was added. memcached leaves spaces after one that became
/// shorter.
fn counted(value: &[u8], by: i64) -> Result<i64, &'static str> {
    let digits = value.trim_ascii_end();
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(digits).ok().filter(|_| is_number);
    let number: i64 = number.and_then(|digits| digits.parse().ok()).ok_or(
        "the value is not a number (an unsigned decimal that fits a signed 64-bit number); set \
         one, or use another key",
    )?;
    let sum = number.checked_add(by).ok_or(
        "the result would not fit a signed 64-bit number; set another number first, or use another \
         key",
    )?;
    if sum < 0 { Err(NEGATIVE) } else { Ok(sum) }
}
