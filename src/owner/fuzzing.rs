//! Target: requests of several clients, with tiers that fail, against a history of what every key
//! has held.
//!
//! An input is steps: a request, or a job that the tiers end in some way, or an answer that reaches
//! the owner. However they interleave: every request is answered once; nobody who asks after a
//! change was answered gets an older value; and the table stays sound.

mod record;

use super::double::{self, DAY, Given, Script};
use super::*;
use crate::table::CheckReport;
use crate::tiers::{Operation as TierOperation, TierEvent};
use fuzz_driver::Input;
use l1d_wire::policy::{Rule, WriteMode};
use l1d_wire::protocol::Operation;
use record::{Record, carry_out};
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

const PEER: Peer = Peer { uid: 0, gid: 0, pid: 1, grant: Grant::ROOT };
/// L3 has the record of the first three, L1 that of the others.
const KEYS: [&[u8]; 6] = [b"t0", b"t1", b"t2", b"l0", b"l1", b"l2"];

thread_local! {
    /// A table is made once, because the system clears its memory.
    static WORLD: RefCell<World> = RefCell::new(World::new());
}

/// Runs the steps, and then everything to its end.
pub fn operations(data: &[u8]) {
    WORLD.with_borrow_mut(|world| {
        world.begin_again();
        let mut input = Input::new(data);
        while !input.is_empty() {
            world.step(&mut input);
            world.check_visible();
        }
        world.end();
        // It takes as long as all else.
        if data.len().is_multiple_of(8) {
            world.check_table();
        }
    });
}

/// What an unanswered request is about.
#[derive(Debug)]
enum Asked {
    Get(usize),
    GetAll,
    /// A change of a key in L1 alone, if that is where its record is.
    Change {
        key: usize,
        to: Effect,
    },
    Reserve(usize),
    /// Nothing of it is checked.
    Other,
}

/// What a change does if it is carried out.
#[derive(Debug)]
enum Effect {
    Store(Option<Vec<u8>>),
    Operate(TierOperation),
}

struct World {
    owner: Owner,
    given: Given,
    script: Rc<RefCell<Script>>,
    record: Record,
    /// Ended by the tiers, and not yet reported.
    ended: VecDeque<(TierEvent, Arc<[u8]>)>,
    asked: BTreeMap<u64, (Asked, u64)>,
    origins: u64,
    /// Of the last answer for each key.
    versions: [u64; KEYS.len()],
    tokens: [u64; KEYS.len()],
    /// Those who have asked for a reservation.
    reserved: Vec<u64>,
    _directory: tempfile::TempDir,
}

impl World {
    fn new() -> World {
        let rule = Rule { ttl: DAY, negative_ttl: DAY, ..Rule::default() };
        let in_l1 = Rule { id: 1, prefix: b"l".into(), write: WriteMode::L1Only, ..rule.clone() };
        let directory = double::directory();
        let (owner, script) = double::owner(&directory, vec![rule, in_l1]);
        World {
            owner,
            given: Given::default(),
            script,
            record: Record::default(),
            ended: VecDeque::new(),
            asked: BTreeMap::new(),
            origins: 16,
            versions: [0; KEYS.len()],
            tokens: [0; KEYS.len()],
            reserved: Vec::new(),
            _directory: directory,
        }
    }

    /// Nothing is stored anywhere.
    fn begin_again(&mut self) {
        self.flush();
        self.record = Record::default();
        (self.versions, self.tokens) = ([0; KEYS.len()], [0; KEYS.len()]);
    }

    fn step(&mut self, input: &mut Input<'_>) {
        self.record.next_step();
        match input.byte() % 16 {
            0..4 => self.end_a_job(input),
            4..8 => self.report(input.below(4)),
            8 => self.record.carry_out_late(),
            _ => self.ask_something(input),
        }
        self.hear();
    }

    /// The tiers end one of their jobs.
    fn end_a_job(&mut self, input: &mut Input<'_>) {
        let jobs = self.script.borrow().jobs.len();
        if jobs == 0 {
            return;
        }
        let job = self.script.borrow_mut().jobs.remove(input.below(jobs.min(4)));
        self.ended.extend(job.and_then(|job| self.record.answer(job, input)));
    }

    /// The owner hears of an ended job.
    fn report(&mut self, which: usize) {
        let Some((event, key)) = self.ended.remove(which % self.ended.len().max(1)) else { return };
        let is_change = matches!(event, TierEvent::Written { .. });
        self.script.borrow_mut().events.push_back(event);
        self.owner.advance_tiers(Instant::now(), &mut self.given);
        if is_change {
            self.record.settle(&key);
        }
    }

    fn ask_something(&mut self, input: &mut Input<'_>) {
        let (kind, key) = (input.byte(), input.below(KEYS.len()));
        let name = KEYS[key];
        let value = match kind % 3 {
            0 => format!("{}", input.byte()).into_bytes(),
            _ => format!("value {} of {key}", self.origins).into_bytes(),
        };
        let store = Asked::Change { key, to: Effect::Store(Some(value.clone())) };
        let set = Set { key: name, value: &value, ttl: None, flags: 0, write: None, reply: true };
        match kind % 13 {
            0..3 => self.ask(Asked::Get(key), Request::Get { key: name }),
            3 => self.ask(Asked::GetAll, Request::GetMany { keys: KEYS.to_vec() }),
            4..6 => self.ask(store, Request::Set(set)),
            6 => {
                let removed = Asked::Change { key, to: Effect::Store(None) };
                self.ask(removed, Request::Delete { key: name });
            }
            7..9 => self.operate(key, input, &value),
            9 => {
                let (lease, waits_for) = (Duration::from_secs(600), 0);
                self.reserved.push(self.origins + 1);
                self.ask(Asked::Reserve(key), Request::Reserve { key: name, lease, waits_for });
            }
            10 => self.ask(store, Request::Fill { token: self.tokens[key], set }),
            11 => {
                let (token, error) = (self.tokens[key], "");
                self.ask(Asked::Other, Request::Abandon { key: name, token, error });
            }
            _ => self.flush(),
        }
    }

    fn operate(&mut self, key: usize, input: &mut Input<'_>, value: &[u8]) {
        let version = if input.byte() < 200 { self.versions[key] } else { 77 };
        let by = i64::from(input.byte()) - 100;
        let bytes = &b"+"[..];
        let (operation, does) = match input.byte() % 9 {
            0 => (
                Operation::Add { value, flags: 0 },
                TierOperation::Add { value: value.into(), flags: 0 },
            ),
            1 => (
                Operation::Replace { value, flags: 0 },
                TierOperation::Replace { value: value.into(), flags: 0 },
            ),
            2 => {
                let expected = self.record.current(KEYS[key]).unwrap_or_default().into();
                let does = TierOperation::CompareAndSet { expected, value: value.into(), flags: 0 };
                (Operation::CompareAndSet { version, value, flags: 0 }, does)
            }
            3 => {
                let expected = self.record.current(KEYS[key]).unwrap_or_default().into();
                (Operation::DeleteIf { version }, TierOperation::DeleteIf { expected })
            }
            4 => (Operation::Append { bytes }, TierOperation::Append { bytes: bytes.into() }),
            5 => (Operation::Prepend { bytes }, TierOperation::Prepend { bytes: bytes.into() }),
            6 => {
                let initial = (by % 2 == 0).then_some(5);
                (Operation::Count { by, initial }, TierOperation::Count { by, initial })
            }
            7 => (Operation::Touch, TierOperation::Touch),
            _ => (Operation::GetAndTouch, TierOperation::GetAndTouch),
        };
        let operate = Operate { key: KEYS[key], operation, ttl: None };
        let asked = Asked::Change { key, to: Effect::Operate(does) };
        self.ask(asked, Request::Operate(operate));
    }

    /// Empties L1: the record of some keys is gone with it.
    fn flush(&mut self) {
        self.ask(Asked::Other, Request::Flush { prefix: b"" });
        self.owner.turn(Instant::now(), &mut self.given);
        for key in &KEYS[3..] {
            self.record.store(key, None);
            self.record.settle(key);
        }
    }

    fn ask(&mut self, asked: Asked, request: Request<'_>) {
        self.origins += 1;
        let since = self.record.next_step();
        self.asked.insert(self.origins, (asked, since));
        self.owner.request(Origin(self.origins), &PEER, request, &mut self.given);
        self.hear();
    }

    /// Checks all answers that were given.
    fn hear(&mut self) {
        for (origin, payload) in std::mem::take(&mut self.given.0) {
            let asked = self.asked.remove(&origin.0);
            let (asked, since) = asked.expect("one answer to each request");
            let answer = Response::decode(&payload).expect("a response");
            self.check(asked, since, &answer);
        }
    }

    fn check(&mut self, asked: Asked, since: u64, answer: &Response<'_>) {
        match (asked, answer) {
            (Asked::GetAll, Response::Many(answers)) => {
                assert_eq!(answers.len(), KEYS.len());
                for (key, answer) in answers.iter().enumerate() {
                    self.check(Asked::Get(key), since, answer);
                }
            }
            (Asked::Get(key) | Asked::Reserve(key), Response::Found { value, version, .. }) => {
                self.assert_right(key, Some(value), since);
                self.versions[key] = *version;
            }
            (Asked::Get(key) | Asked::Reserve(key), Response::Absent { .. }) => {
                self.assert_right(key, None, since);
            }
            (Asked::Reserve(key), Response::Reserved { token } | Response::Loading { token }) => {
                self.tokens[key] = *token;
            }
            (Asked::Change { key, to }, _) => self.check_change(key, to, answer),
            _ => {}
        }
    }

    fn check_change(&mut self, key: usize, to: Effect, answer: &Response<'_>) {
        if let Response::Stored { version, .. } | Response::Changed { version, .. } = answer {
            self.versions[key] = *version;
        }
        // The tiers have stored what the others are about.
        let is_done = matches!(
            answer,
            Response::Stored { .. } | Response::Deleted { .. } | Response::Changed { .. }
        );
        if key < 3 || !is_done {
            return;
        }
        let name = KEYS[key];
        let value = match to {
            Effect::Store(value) => Some(value),
            Effect::Operate(operation) => carry_out(&operation, self.record.current(name)).1,
        };
        if let Some(value) = value {
            self.record.store(name, value);
        }
        self.record.settle(name);
    }

    fn assert_right(&self, key: usize, value: Option<&[u8]>, since: u64) {
        let shown = value.map(String::from_utf8_lossy);
        let (name, record) = (KEYS[key], &self.record);
        assert!(record.is_right(name, value, since), "{key}: {shown:?} is not of {record:#?}");
    }

    /// What every process reads now.
    fn check_visible(&mut self) {
        let (now, now_ns) = (self.record.next_step(), self.owner.now_ns());
        for (key, name) in KEYS.iter().enumerate() {
            let held = self.owner.tables.current().peek(name, now_ns);
            if let Some(held) = held {
                let value = Some(held.value.as_slice()).filter(|_| !held.absent);
                self.assert_right(key, value, now);
            }
        }
    }

    /// Everything that is under way ends, and every request is answered.
    fn end(&mut self) {
        for _ in 0..10_000 {
            if self.script.borrow().jobs.is_empty() && self.ended.is_empty() {
                break;
            }
            // 6: carried out.
            self.end_a_job(&mut Input::new(&[0, 0, 6]));
            self.report(0);
            self.hear();
        }
        // Who waits for a loader goes away, and so do the loaders.
        self.asked.retain(|_, (asked, _)| !matches!(asked, Asked::Reserve(_)));
        for origin in std::mem::take(&mut self.reserved) {
            self.owner.gone(Origin(origin));
        }
        assert!(self.asked.is_empty(), "never answered: {:?}", self.asked);
        assert_eq!(self.owner.writes.count(), 0);
        self.check_visible();
    }

    fn check_table(&mut self) {
        let mut report = CheckReport::default();
        self.owner.tables.check_buckets(0, u32::MAX, &mut report);
        assert_eq!(report.violation_count, 0, "{:?}", report.violations);
    }
}

/// Each kind of request alone, then some that meet.
#[cfg(test)]
pub fn seeds() -> Vec<Vec<u8>> {
    let ask = |kind: u8, key: u8| vec![9, kind, key, 0, 0, 0, 0];
    let end = |how: u8| vec![0, 0, 0, how, 4, 0, 0];
    let mut seeds: Vec<Vec<u8>> = (0..13)
        .flat_map(|kind| [0, 3].map(|key| [ask(kind, key), end(6), ask(0, key), end(6)].concat()))
        .collect();
    for how in 0..8 {
        seeds.push([ask(4, 0), end(6), ask(4, 0), ask(0, 0), end(how), ask(0, 0), end(6)].concat());
    }
    seeds
}
