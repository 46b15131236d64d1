//! The real owner against a model of what its clients may be told and see, in random orders of
//! requests, answers, lost connections, unknown outcomes and restarts (P1-P3, P5, P7, P9, P12, S7,
//! W7). `tests/faults` explores the protocol itself exhaustively.
//!
//! The harness is the store of record: it carries out the owner's jobs in order, keeps those of a
//! lost connection until that has ended, and carries them out late or never.

use super::*;
use proptest::prelude::*;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};
use std::collections::{HashMap, VecDeque};

const KEYS: [&[u8]; 2] = [b"k0", b"k1"];
/// Readers; each has at most one read under way.
const READERS: u64 = 3;

/// One step.
#[derive(Debug, Clone)]
enum Step {
    Get {
        reader: u64,
        key: usize,
    },
    Set {
        key: usize,
    },
    Delete {
        key: usize,
    },
    Flush,
    /// L3 carries out the next job.
    Serve,
    /// L3 cannot answer the next fetch.
    Fail,
    /// The owner hears of the next outcome.
    Land,
    /// The connection breaks; a change that was sent is carried out late, or not at all.
    Break,
    /// L3 carries out a change of a former connection.
    ServeFormer,
    /// The former connection has ended.
    EndFormer,
    /// The owner dies, and the next takes the table over.
    Kill,
}

/// A key as its clients know it. Changes have numbers, in the order in which they were begun; an
/// even one is a set, an odd one a delete.
#[derive(Debug, Clone, Default)]
struct Known {
    /// The last change that was begun.
    begun: u64,
    /// No read that begins now may return an earlier change.
    acknowledged: u64,
}

#[derive(Debug, Clone, Default)]
struct Model {
    keys: [Known; 2],
}

impl ReferenceStateMachine for Model {
    type State = Model;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Model> {
        Just(Model::default()).boxed()
    }

    fn transitions(_: &Model) -> BoxedStrategy<Step> {
        prop_oneof![
            6 => (0..READERS, 0..2_usize).prop_map(|(reader, key)| Step::Get { reader, key }),
            4 => (0..2_usize).prop_map(|key| Step::Set { key }),
            1 => (0..2_usize).prop_map(|key| Step::Delete { key }),
            1 => Just(Step::Flush),
            8 => Just(Step::Serve),
            1 => Just(Step::Fail),
            8 => Just(Step::Land),
            1 => Just(Step::Break),
            1 => Just(Step::ServeFormer),
            1 => Just(Step::EndFormer),
            1 => Just(Step::Kill),
        ]
        .boxed()
    }

    fn apply(mut state: Model, step: &Step) -> Model {
        let change = |known: &mut Known, is_delete: bool| {
            known.begun = (known.begun / 2 + 1) * 2 + u64::from(is_delete);
        };
        match step {
            Step::Set { key } => change(&mut state.keys[*key], false),
            Step::Delete { key } => change(&mut state.keys[*key], true),
            _ => {}
        }
        state
    }
}

/// A job that L3 has, or had over a connection that was lost.
#[derive(Debug)]
struct Former {
    key: usize,
    change: u64,
}

/// The owner, L3, and the readers.
struct Machine {
    scene: Scene,
    /// The last change of each key that L3 has carried out.
    l3: [u64; 2],
    /// Outcomes on their way, in wire order.
    outcomes: VecDeque<TierEvent>,
    former: VecDeque<Former>,
    /// A former connection may have changes left.
    in_doubt: bool,
    epoch: u64,
    known: [Known; 2],
    /// What each writer waits for, by its origin.
    writers: HashMap<Origin, (usize, u64)>,
    next_writer: u64,
    /// The key that each reader asked for, and the least that it may be told.
    readers: HashMap<Origin, (usize, u64)>,
}

fn number(key: &[u8]) -> usize {
    KEYS.iter().position(|other| *other == key).expect("one of the keys")
}

fn bytes(change: u64) -> [u8; 8] {
    change.to_le_bytes()
}

fn change(value: &[u8]) -> u64 {
    u64::from_le_bytes(value.try_into().expect("a value that was set"))
}

impl Machine {
    fn find(&self, flight: u64, key: usize) -> TierEvent {
        let (epoch, is_in_doubt) = (self.epoch, self.in_doubt);
        let found = self.l3[key];
        let outcome = if found == 0 || found % 2 == 1 {
            Fetched::Absent { authoritative: true, tier: Tier::L3, epoch, is_in_doubt }
        } else {
            Fetched::Found {
                tier: Tier::L3,
                value: bytes(found).as_slice().into(),
                flags: 0,
                remaining: None,
                sent_at: Instant::now(),
                epoch,
                is_in_doubt,
            }
        };
        TierEvent::Fetched { flight, outcome }
    }

    /// The change that a job stands for, if it is one.
    fn change_of(&self, job: &Job) -> Option<(u64, Former)> {
        match job {
            Job::Set { id, key, value, .. } => {
                Some((*id, Former { key: number(key), change: change(value) }))
            }
            Job::Delete { id, key, .. } => {
                let key = number(key);
                // The only change of the key that is under way.
                let waiting = self.writers.values().filter(|(of, _)| *of == key);
                let change = waiting.map(|(_, change)| *change).filter(|n| n % 2 == 1).min();
                Some((*id, Former { key, change: change.expect("a delete is under way") }))
            }
            _ => None,
        }
    }

    fn serve(&mut self) {
        let Some(job) = self.scene.script.borrow_mut().jobs.pop_front() else { return };
        if let Some((id, Former { key, change })) = self.change_of(&job) {
            self.l3[key] = change;
            let outcome = if self.in_doubt {
                Written::Unknown { tier: Tier::L3, why: "in doubt".into() }
            } else {
                Written::Applied { existed: true, degraded: false }
            };
            self.outcomes.push_back(TierEvent::Written { id, outcome });
        } else if let Job::Fetch { flight, key, .. } = job {
            let event = self.find(flight, number(&key));
            self.outcomes.push_back(event);
        }
    }

    fn fail(&mut self) {
        let mut script = self.scene.script.borrow_mut();
        if let Some(Job::Fetch { flight, .. }) = script.jobs.front() {
            let outcome = Fetched::Failed { tier: Tier::L3, why: "no answer".into() };
            self.outcomes.push_back(TierEvent::Fetched { flight: *flight, outcome });
            script.jobs.pop_front();
        }
    }

    /// Everything that was sent and not answered: reads fail, the outcome of changes is unknown.
    fn lose(&mut self) {
        let jobs = std::mem::take(&mut self.scene.script.borrow_mut().jobs);
        let unknown = || Written::Unknown { tier: Tier::L3, why: "the connection was lost".into() };
        let failed = || Fetched::Failed { tier: Tier::L3, why: "the connection was lost".into() };
        for event in &mut self.outcomes {
            match event {
                TierEvent::Written { outcome, .. } => {
                    *outcome = unknown();
                    self.in_doubt = true;
                }
                TierEvent::Fetched { outcome, .. } => *outcome = failed(),
                TierEvent::Looked { .. } => {}
            }
        }
        for job in jobs {
            if let Some((id, former)) = self.change_of(&job) {
                self.former.push_back(former);
                self.in_doubt = true;
                self.outcomes.push_back(TierEvent::Written { id, outcome: unknown() });
            } else if let Job::Fetch { flight, .. } = job {
                self.outcomes.push_back(TierEvent::Fetched { flight, outcome: failed() });
            }
        }
        self.epoch += 1;
        self.scene.script.borrow_mut().epoch = self.epoch;
        // The owner hears of the loss at once.
        while !self.outcomes.is_empty() {
            self.land();
        }
    }

    fn land(&mut self) {
        let Some(event) = self.outcomes.pop_front() else { return };
        self.scene.land(event);
        self.hear();
    }

    /// What clients are told.
    fn hear(&mut self) {
        for (origin, payload) in std::mem::take(&mut self.scene.given.0) {
            let answer = Response::decode(&payload).unwrap();
            if let Some((key, least)) = self.readers.remove(&origin) {
                self.assert_legal_read(key, least, &answer);
            } else if let Some((key, change)) = self.writers.remove(&origin)
                && matches!(answer, Response::Stored { .. } | Response::Deleted { .. })
            {
                let known = &mut self.known[key];
                known.acknowledged = known.acknowledged.max(change);
            }
        }
    }

    fn assert_legal_read(&self, key: usize, least: u64, answer: &Response<'_>) {
        let begun = self.known[key].begun;
        match answer {
            Response::Found { value, .. } => {
                let found = change(value);
                assert!((least..=begun).contains(&found), "{found}, legal: {least} to {begun}");
            }
            Response::Absent { .. } => {
                // Some delete that may have come last.
                let is_legal = least == 0 || (least..=begun).any(|change| change % 2 == 1);
                assert!(is_legal, "absent, and {least} was acknowledged");
            }
            Response::Error { .. } | Response::Unknown => {}
            other => panic!("{other:?}"),
        }
    }

    fn kill(self) -> Machine {
        let Machine { scene, mut l3, former, .. } = self;
        let mut sent: Vec<Former> = former.into();
        for job in &scene.script.borrow().jobs {
            if let Job::Set { key, value, .. } = job {
                sent.push(Former { key: number(key), change: change(value) });
            }
        }
        // Half of what was sent is carried out before the next owner has the session ended.
        for Former { key, change } in sent.into_iter().step_by(2) {
            l3[key] = change;
        }
        Machine {
            scene: scene.restarted(),
            l3,
            outcomes: VecDeque::new(),
            former: VecDeque::new(),
            in_doubt: false,
            epoch: 0,
            writers: HashMap::new(),
            readers: HashMap::new(),
            ..self
        }
    }

    fn is_at_rest(&self) -> bool {
        self.scene.script.borrow().jobs.is_empty()
            && self.outcomes.is_empty()
            && self.former.is_empty()
            && !self.in_doubt
    }
}

impl StateMachineTest for Machine {
    type SystemUnderTest = Machine;
    type Reference = Model;

    fn init_test(_: &Model) -> Machine {
        Machine {
            scene: Scene::new(),
            l3: [0; 2],
            outcomes: VecDeque::new(),
            former: VecDeque::new(),
            in_doubt: false,
            epoch: 0,
            known: Default::default(),
            writers: HashMap::new(),
            next_writer: 100,
            readers: HashMap::new(),
        }
    }

    fn apply(mut machine: Machine, model: &Model, step: Step) -> Machine {
        for (known, model) in machine.known.iter_mut().zip(&model.keys) {
            known.begun = model.begun;
        }
        match step {
            Step::Get { reader, key } => {
                let origin = Origin(16 + reader);
                if !machine.readers.contains_key(&origin) {
                    machine.readers.insert(origin, (key, machine.known[key].acknowledged));
                    machine.scene.ask(origin, Request::Get { key: KEYS[key] });
                }
            }
            Step::Set { key } | Step::Delete { key } => {
                let (origin, number) = (Origin(machine.next_writer), machine.known[key].begun);
                machine.next_writer += 1;
                machine.writers.insert(origin, (key, number));
                let value = bytes(number);
                let request = match step {
                    Step::Delete { .. } => Request::Delete { key: KEYS[key] },
                    _ => Request::Set(Set {
                        key: KEYS[key],
                        value: &value,
                        ttl: None,
                        flags: 0,
                        write: Some(WriteMode::Through),
                        reply: true,
                    }),
                };
                machine.scene.ask(origin, request);
            }
            Step::Flush => {
                machine.scene.ask(Origin(1), Request::Flush { prefix: b"" });
            }
            Step::Serve => machine.serve(),
            Step::Fail => machine.fail(),
            Step::Land => machine.land(),
            Step::Break => machine.lose(),
            Step::ServeFormer => {
                if let Some(Former { key, change }) = machine.former.pop_front() {
                    machine.l3[key] = change;
                }
            }
            Step::EndFormer => {
                machine.former.clear();
                machine.in_doubt = false;
            }
            Step::Kill => machine = machine.kill(),
        }
        machine.hear();
        machine
    }

    fn check_invariants(machine: &Machine, _: &Model) {
        for (key, known) in machine.known.iter().enumerate() {
            let now_ns = machine.scene.owner.now_ns();
            let held = machine.scene.owner.tables.current().peek(KEYS[key], now_ns);
            let Some(held) = held else { continue };
            let l3 = machine.l3[key];
            if held.absent {
                let is_gone = l3 == 0 || l3 % 2 == 1;
                assert!(!machine.is_at_rest() || is_gone, "L3 has {l3}");
                continue;
            }
            let shown = change(&held.value);
            assert!(
                (known.acknowledged..=known.begun).contains(&shown),
                "L1 shows {shown} after {} was acknowledged",
                known.acknowledged
            );
            if machine.is_at_rest() {
                assert_eq!(shown, l3, "L1 shows what L3 does not have");
            }
        }
    }
}

prop_state_machine! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn no_order_of_events_shows_anybody_what_it_must_not(sequential 1..80 => Machine);
}
