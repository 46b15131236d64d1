//! What every key has held and when, and a store of record that fails now and then.

use crate::tiers::{Fetched, Job, Operate, Operated, Operation, Tier, TierEvent, Written};
use fuzz_driver::Input;
use l1d_wire::protocol::NotChanged;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// A value, or none.
pub type Value = Option<Vec<u8>>;

/// A value of a key, until the step at which whoever replaced it was answered.
#[derive(Debug)]
struct Period {
    value: Value,
    until: u64,
}

/// A change that is carried out late.
#[derive(Debug)]
struct Late {
    key: Vec<u8>,
    value: Value,
    /// Whoever asked for it was told that its outcome is unknown.
    is_told: bool,
}

/// The history of every key, and what the store of record has still to carry out.
#[derive(Debug, Default)]
pub struct Record {
    periods: BTreeMap<Vec<u8>, Vec<Period>>,
    /// Changes whose outcome was unknown, which are carried out later.
    late: Vec<Late>,
    step: u64,
}

impl Record {
    /// Begins the next step, and returns its number.
    pub fn next_step(&mut self) -> u64 {
        self.step += 1;
        self.step
    }

    /// What the key holds.
    pub fn current(&self, key: &[u8]) -> Value {
        self.periods.get(key).and_then(|periods| periods.last()?.value.clone())
    }

    /// Stores a value, or none. Until [`settle`](Self::settle) the one before is right as well.
    pub fn store(&mut self, key: &[u8], value: Value) {
        let periods = self
            .periods
            .entry(key.to_vec())
            .or_insert_with(|| vec![Period { value: None, until: u64::MAX }]);
        periods.push(Period { value, until: u64::MAX });
    }

    /// Whoever changed the key was answered: earlier values are no longer right.
    pub fn settle(&mut self, key: &[u8]) {
        let late = self.late.iter_mut().filter(|late| late.key == key);
        late.for_each(|late| late.is_told = true);
        let periods = self.periods.get_mut(key).into_iter().flatten();
        let mut earlier: Vec<&mut Period> = periods.collect();
        earlier.pop();
        earlier.iter_mut().for_each(|period| period.until = period.until.min(self.step));
    }

    /// Whether `value` is right for whoever asked at the step `since` and is answered now.
    pub fn is_right(&self, key: &[u8], value: Option<&[u8]>, since: u64) -> bool {
        let Some(periods) = self.periods.get(key) else { return value.is_none() };
        periods.iter().any(|period| period.value.as_deref() == value && period.until >= since)
    }

    /// Carries out what an earlier answer left open.
    pub fn carry_out_late(&mut self) {
        for Late { key, value, is_told } in std::mem::take(&mut self.late) {
            self.store(&key, value);
            if is_told {
                self.settle(&key);
            }
        }
    }

    /// Carries out a job, or fails to. Returns what to report, and the key that has changed.
    pub fn answer(&mut self, job: Job, input: &mut Input<'_>) -> Option<(TierEvent, Arc<[u8]>)> {
        let (tier, why) = (Tier::L3, "no".to_owned());
        let how = input.byte();
        Some(match job {
            Job::Fetch { flight, key, .. } => {
                let is_in_doubt = self.late.iter().any(|late| *late.key == *key);
                let outcome = match (self.current(&key), how % 8) {
                    (_, 7) => Fetched::Failed { tier, why },
                    (Some(value), _) => Fetched::Found {
                        tier,
                        value: value.into(),
                        flags: 0,
                        remaining: None,
                        sent_at: Instant::now(),
                        epoch: 0,
                        is_in_doubt,
                    },
                    (None, _) => {
                        Fetched::Absent { authoritative: true, tier, epoch: 0, is_in_doubt }
                    }
                };
                (TierEvent::Fetched { flight, outcome }, key)
            }
            Job::Set { id, key, l3_value, .. } => {
                let outcome = self.write(&key, Some(l3_value.to_vec()), how);
                (TierEvent::Written { id, outcome }, key)
            }
            Job::Delete { id, key, .. } => {
                let outcome = self.write(&key, None, how);
                (TierEvent::Written { id, outcome }, key)
            }
            Job::Operate { id, key, operate, .. } => {
                let outcome = self.operate(&key, &operate, how);
                (TierEvent::Written { id, outcome }, key)
            }
            Job::Fill { .. } | Job::Look { .. } => return None,
        })
    }

    fn write(&mut self, key: &[u8], value: Value, how: u8) -> Written {
        // Over one connection, what was sent earlier is carried out earlier.
        self.carry_out_late();
        let (tier, why) = (Tier::L3, "no".to_owned());
        match how % 12 {
            0 => Written::NotApplied { tier, why },
            1 => Written::Refused { tier, why },
            2 => Written::Unknown { tier, why },
            3 => {
                self.late.push(Late { key: key.to_vec(), value, is_told: false });
                Written::Unknown { tier, why }
            }
            4 => {
                self.store(key, value);
                Written::Unknown { tier, why }
            }
            5 if value.is_some() => {
                self.store(key, None);
                Written::Removed { tier, why }
            }
            _ => {
                let existed = self.current(key).is_some();
                self.store(key, value);
                Written::Applied { existed, degraded: how >= 128 }
            }
        }
    }

    fn operate(&mut self, key: &[u8], operate: &Operate, how: u8) -> Written {
        self.carry_out_late();
        let (operated, value) = carry_out(&operate.operation, self.current(key));
        let Some(value) = value else {
            return match how % 12 {
                0..5 => self.write(key, self.current(key), how % 12),
                _ => Written::Operated { tier: Tier::L3, operated, degraded: false },
            };
        };
        match how % 12 {
            0..5 => self.write(key, value, how % 12),
            _ => {
                self.store(key, value);
                Written::Operated { tier: Tier::L3, operated, degraded: how >= 128 }
            }
        }
    }
}

/// The answer to an operation on a key that holds `held`, and what the key holds then, if that
/// changes.
pub fn carry_out(operation: &Operation, held: Value) -> (Operated, Option<Value>) {
    let told = |value: Vec<u8>| {
        let told = Some(value.as_slice().into());
        (Operated::Done { value: told, flags: 0, remaining: None }, Some(Some(value)))
    };
    let nothing = |reason| (Operated::NotChanged(reason), None);
    match (operation, held) {
        (Operation::Add { .. }, Some(_)) => nothing(NotChanged::Exists),
        (Operation::Add { value, .. }, None) | (Operation::Replace { value, .. }, Some(_)) => {
            (Operated::DONE, Some(Some(value.to_vec())))
        }
        (Operation::CompareAndSet { expected, value, .. }, Some(held)) if **expected == *held => {
            (Operated::DONE, Some(Some(value.to_vec())))
        }
        (Operation::DeleteIf { expected }, Some(held)) if **expected == *held => {
            (Operated::DONE, Some(None))
        }
        (Operation::CompareAndSet { .. } | Operation::DeleteIf { .. }, _) => {
            nothing(NotChanged::Conflict)
        }
        (Operation::Append { bytes }, Some(held)) => told([&held, &**bytes].concat()),
        (Operation::Prepend { bytes }, Some(held)) => told([&**bytes, &held].concat()),
        (Operation::Count { by, initial }, held) => {
            let number = match (held, initial) {
                (None, None) => return nothing(NotChanged::Absent),
                (None, Some(initial)) => Some(*initial),
                (Some(held), _) => {
                    let text = String::from_utf8_lossy(&held).into_owned();
                    let number = text.parse::<i64>().ok();
                    number
                        .filter(|number| number.to_string() == text)
                        .and_then(|n| n.checked_add(*by))
                }
            };
            match number {
                Some(number) => told(number.to_string().into_bytes()),
                None => (Operated::Refused("no number".to_owned()), None),
            }
        }
        (Operation::Touch, Some(_)) => (Operated::DONE, None),
        (Operation::GetAndTouch, Some(held)) => (told(held).0, None),
        (_, None) => nothing(NotChanged::Absent),
    }
}
