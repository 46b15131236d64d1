//! The hazard: a value that a fetch read before a set, delete or flush lands after it, and every
//! process reads the old value until it expires (P1 to P3, P7, P10).
//!
//! A real table file and scripted tiers: the test sees the jobs and answers them when and as it
//! likes.

mod changing;
mod flushes;
mod machine;
mod many;
mod reload;

use super::double::{self, Given, Script};
use super::*;
use crate::tiers::{Fetched, Job, Tier, TierEvent, Written};
use l1d_wire::policy::{OnWriteError, Rule, WriteMode};
use l1d_wire::protocol::Set;
use std::cell::RefCell;
use std::rc::Rc;

const PEER: Peer = Peer { uid: 0, gid: 0, pid: 1, grant: Grant::ROOT };
const ALICE: Origin = Origin(16);
const BOB: Origin = Origin(17);
const WRITER: Origin = Origin(18);

struct Scene {
    owner: Owner,
    given: Given,
    script: Rc<RefCell<Script>>,
    directory: tempfile::TempDir,
}

impl Scene {
    fn new() -> Scene {
        Scene::with(Rule::default())
    }

    fn with(rule: Rule) -> Scene {
        Scene::over(double::directory(), rule)
    }

    /// The next owner of the same table.
    fn restarted(self) -> Scene {
        let Scene { owner, directory, .. } = self;
        drop(owner);
        Scene::over(directory, Rule::default())
    }

    fn over(directory: tempfile::TempDir, rule: Rule) -> Scene {
        let (owner, script) = double::owner(&directory, vec![rule]);
        Scene { owner, given: Given::default(), script, directory }
    }

    fn ask(&mut self, origin: Origin, request: Request<'_>) {
        self.owner.request(origin, &PEER, request, &mut self.given);
    }

    fn get(&mut self, origin: Origin) {
        self.ask(origin, Request::Get { key: b"k" });
    }

    fn set(&mut self, value: &[u8], write: WriteMode) {
        self.ask(
            WRITER,
            Request::Set(Set {
                key: b"k",
                value,
                ttl: None,
                flags: 0,
                write: Some(write),
                reply: true,
            }),
        );
    }

    fn job(&self) -> Job {
        self.script.borrow_mut().jobs.pop_front().expect("a job for the tiers")
    }

    /// The next flight that the tiers are asked for.
    fn flight(&self) -> u64 {
        match self.job() {
            Job::Fetch { flight, .. } => flight,
            other => panic!("{other:?} instead of a fetch"),
        }
    }

    /// The next write that the tiers are asked for.
    fn write(&self) -> u64 {
        match self.job() {
            Job::Set { id, .. } | Job::Delete { id, .. } => id,
            other => panic!("{other:?} instead of a write"),
        }
    }

    /// The next value that L2 is filled with.
    fn fill(&self) -> Vec<u8> {
        match self.job() {
            Job::Fill { value, .. } => value.to_vec(),
            other => panic!("{other:?} instead of a fill"),
        }
    }

    fn land(&mut self, event: TierEvent) {
        self.script.borrow_mut().events.push_back(event);
        self.owner.advance_tiers(Instant::now(), &mut self.given);
    }

    fn land_value(&mut self, flight: u64, value: &[u8]) {
        self.land_value_of_epoch(flight, value, 0);
    }

    fn land_value_of_epoch(&mut self, flight: u64, value: &[u8], epoch: u64) {
        self.land_found(flight, value, epoch, false);
    }

    fn land_doubtful_value(&mut self, flight: u64, value: &[u8]) {
        self.land_found(flight, value, 0, true);
    }

    fn land_found(&mut self, flight: u64, value: &[u8], epoch: u64, is_in_doubt: bool) {
        let outcome = Fetched::Found {
            tier: Tier::L3,
            value: value.into(),
            flags: 0,
            remaining: None,
            sent_at: Instant::now(),
            epoch,
            is_in_doubt,
        };
        self.land(TierEvent::Fetched { flight, outcome });
    }

    fn land_write(&mut self, id: u64) {
        self.land(TierEvent::Written {
            id,
            outcome: Written::Applied { existed: true, degraded: false },
        });
    }

    /// The answer to `origin`; asserts that no other origin got one.
    fn told(&mut self, origin: Origin) -> Vec<u8> {
        let given = std::mem::take(&mut self.given.0);
        let [(told, payload)] = given.as_slice() else { panic!("{} answers", given.len()) };
        assert_eq!(*told, origin);
        payload.clone()
    }

    fn assert_told_value(&mut self, origin: Origin, expected: &[u8]) {
        let payload = self.told(origin);
        match Response::decode(&payload).unwrap() {
            Response::Found { value, .. } => assert_eq!(value, expected),
            other => panic!("{other:?}"),
        }
    }

    /// The value that every process reads.
    fn visible(&mut self) -> Option<Vec<u8>> {
        let now_ns = self.owner.now_ns();
        self.owner.tables.current().peek(b"k", now_ns).map(|held| held.value.to_vec())
    }

    /// Asserts that the tiers have no job that the test has not seen.
    fn assert_no_other_job(&mut self) {
        assert!(self.script.borrow().jobs.is_empty(), "{:?}", self.script.borrow().jobs);
    }
}

#[test]
fn one_fetch_answers_all_who_miss_a_key() {
    let mut scene = Scene::new();
    for number in 100..200 {
        scene.get(Origin(number));
    }
    scene.ask(Origin(200), Request::GetMany { keys: vec![b"k"; 10] });
    let flight = scene.flight();
    scene.assert_no_other_job();
    assert!(scene.given.0.is_empty());
    scene.land_value(flight, b"v");
    let given = std::mem::take(&mut scene.given.0);
    assert_eq!(given.len(), 101);
    for (number, (origin, payload)) in (100..).zip(&given) {
        assert_eq!(*origin, Origin(number));
        match Response::decode(payload).unwrap() {
            Response::Found { value, .. } => assert_eq!(value, b"v"),
            Response::Many(answers) => assert_eq!(answers.len(), 10),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(scene.visible().as_deref(), Some(&b"v"[..]));
    assert_eq!(scene.fill(), b"v", "L2 gets what L3 had");
    scene.get(ALICE);
    scene.assert_told_value(ALICE, b"v");
    scene.assert_no_other_job();
}

#[test]
fn a_fetch_older_than_a_set_through_the_tiers_does_not_land() {
    let mut scene = Scene::new();
    scene.get(ALICE);
    let flight = scene.flight();
    scene.set(b"new", WriteMode::Through);
    let write = scene.write();
    scene.land_write(write);
    scene.told(WRITER);
    scene.land_value(flight, b"old");
    // Alice asked before the set: only for her the old value is a correct answer.
    scene.assert_told_value(ALICE, b"old");
    assert_eq!(scene.visible().as_deref(), Some(&b"new"[..]));
}

#[test]
fn a_fetch_older_than_a_delete_through_the_tiers_does_not_land() {
    let mut scene = Scene::new();
    scene.get(ALICE);
    let flight = scene.flight();
    scene.ask(WRITER, Request::Delete { key: b"k" });
    let write = scene.write();
    scene.land_write(write);
    scene.told(WRITER);
    scene.land_value(flight, b"old");
    scene.assert_told_value(ALICE, b"old");
    assert_eq!(scene.visible(), None);
}

#[test]
fn a_fetch_older_than_a_set_of_l1_does_not_land() {
    let mut scene = Scene::new();
    scene.get(ALICE);
    let flight = scene.flight();
    scene.set(b"new", WriteMode::L1Only);
    scene.told(WRITER);
    scene.land_value(flight, b"old");
    scene.assert_told_value(ALICE, b"old");
    assert_eq!(scene.visible().as_deref(), Some(&b"new"[..]));
}

#[test]
fn a_fetch_older_than_a_delete_of_l1_does_not_land() {
    let mut scene = Scene::with(Rule { write: WriteMode::L1Only, ..Rule::default() });
    scene.get(ALICE);
    let flight = scene.flight();
    scene.ask(WRITER, Request::Delete { key: b"k" });
    scene.told(WRITER);
    scene.land_value(flight, b"old");
    scene.assert_told_value(ALICE, b"old");
    assert_eq!(scene.visible(), None);
}

#[test]
fn a_fetch_older_than_a_flush_does_not_land() {
    for prefix in [&b""[..], b"k"] {
        let mut scene = Scene::new();
        scene.get(ALICE);
        let flight = scene.flight();
        scene.ask(WRITER, Request::Flush { prefix });
        while scene.given.0.is_empty() {
            scene.owner.turn(Instant::now(), &mut scene.given);
        }
        scene.told(WRITER);
        scene.land_value(flight, b"old");
        scene.assert_told_value(ALICE, b"old");
        assert_eq!(scene.visible(), None, "flushed: {prefix:?}");
    }
}

#[test]
fn a_fetch_begun_while_a_write_is_under_way_does_not_land() {
    // It may have read either value, whether it lands before or after the write.
    for lands_first in [true, false] {
        let mut scene = Scene::new();
        scene.set(b"new", WriteMode::Through);
        let write = scene.write();
        scene.get(ALICE);
        let flight = scene.flight();
        if lands_first {
            scene.land_value(flight, b"old");
            scene.assert_told_value(ALICE, b"old");
            assert_eq!(scene.visible(), None);
        }
        scene.land_write(write);
        scene.told(WRITER);
        if !lands_first {
            scene.land_value(flight, b"old");
            scene.assert_told_value(ALICE, b"old");
        }
        assert_eq!(scene.visible().as_deref(), Some(&b"new"[..]));
    }
}

#[test]
fn no_fetch_lands_while_a_write_may_still_be_carried_out_below() {
    let mut scene = Scene::new();
    scene.set(b"before", WriteMode::L1Only);
    scene.told(WRITER);
    scene.set(b"new", WriteMode::Through);
    let write = scene.write();
    let outcome = Written::Unknown { tier: Tier::L3, why: "no answer".into() };
    scene.land(TierEvent::Written { id: write, outcome });
    scene.told(WRITER);
    assert_eq!(scene.visible(), None, "neither value may be served");
    scene.get(ALICE);
    let flight = scene.flight();
    scene.land_doubtful_value(flight, b"either");
    scene.assert_told_value(ALICE, b"either");
    assert_eq!(scene.visible(), None);
    // The tier tells when nothing is left to be carried out.
    scene.get(ALICE);
    let flight = scene.flight();
    scene.land_value(flight, b"sure");
    assert_eq!(scene.visible().as_deref(), Some(&b"sure"[..]));
}

#[test]
fn a_fetch_over_a_connection_that_was_lost_meanwhile_does_not_land() {
    let mut scene = Scene::new();
    for (epoch, visible) in [(1, None), (0, Some(b"v".to_vec()))] {
        scene.get(ALICE);
        let flight = scene.flight();
        scene.land_value_of_epoch(flight, b"v", epoch);
        scene.assert_told_value(ALICE, b"v");
        assert_eq!(scene.visible(), visible, "epoch {epoch}");
    }
}

#[test]
fn who_asks_after_an_invalidation_gets_nothing_older() {
    let mut scene = Scene::with(Rule { write: WriteMode::L1Only, ..Rule::default() });
    scene.get(ALICE);
    let old = scene.flight();
    scene.ask(WRITER, Request::Delete { key: b"k" });
    scene.told(WRITER);
    scene.get(BOB);
    let new = scene.flight();
    assert_ne!(old, new);
    scene.land_value(old, b"old");
    scene.assert_told_value(ALICE, b"old");
    // The old flight removed only its own record: this request joins Bob's flight.
    scene.get(WRITER);
    scene.assert_no_other_job();
    scene.land_value(new, b"new");
    assert_eq!(scene.given.0.len(), 2);
    assert_eq!(scene.visible().as_deref(), Some(&b"new"[..]));
}

#[test]
fn who_asks_while_a_write_is_under_way_does_not_join_an_older_fetch() {
    let mut scene = Scene::new();
    scene.get(ALICE);
    let old = scene.flight();
    scene.ask(WRITER, Request::Delete { key: b"k" });
    scene.write();
    scene.get(BOB);
    let new = scene.flight();
    scene.land_value(old, b"old");
    scene.assert_told_value(ALICE, b"old");
    scene.land_value(new, b"new");
    scene.assert_told_value(BOB, b"new");
}

#[test]
fn an_absence_older_than_a_set_is_not_remembered() {
    let mut scene = Scene::new();
    scene.get(ALICE);
    let flight = scene.flight();
    scene.set(b"new", WriteMode::Through);
    let write = scene.write();
    scene.land_write(write);
    scene.told(WRITER);
    let outcome =
        Fetched::Absent { authoritative: true, tier: Tier::L3, epoch: 0, is_in_doubt: false };
    scene.land(TierEvent::Fetched { flight, outcome });
    let payload = scene.told(ALICE);
    assert_eq!(Response::decode(&payload), Ok(Response::Absent { ttl: Duration::ZERO }));
    scene.get(BOB);
    scene.assert_told_value(BOB, b"new");
}

#[test]
fn a_set_is_acknowledged_only_when_it_is_visible() {
    let mut scene = Scene::new();
    scene.set(b"one", WriteMode::Through);
    scene.set(b"two", WriteMode::Through);
    let first = scene.write();
    assert!(scene.given.0.is_empty());
    scene.assert_no_other_job();
    scene.land_write(first);
    scene.told(WRITER);
    assert_eq!(scene.visible().as_deref(), Some(&b"one"[..]));
    let second = scene.write();
    scene.land_write(second);
    scene.told(WRITER);
    assert_eq!(scene.visible().as_deref(), Some(&b"two"[..]));
}
