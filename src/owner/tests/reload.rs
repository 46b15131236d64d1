//! The hazard: what was on its way when the policy changed lands under the former one, and lives
//! longer than the new one allows, or under the number of a rule that is gone.

use super::*;
use crate::config::Config;
use l1d_wire::policy::Scope;

const HOUR: Duration = Duration::from_secs(3600);
const S: Duration = Duration::from_secs(1);

fn rules(ttl: Duration, scope: Scope, value_bytes_max: u32) -> PolicySet {
    let rule = Rule { ttl, scope, value_bytes_max, ..Rule::default() };
    PolicySet::new(vec![Rule::default(), Rule { id: 1, prefix: b"k".to_vec(), ..rule }]).unwrap()
}

impl Scene {
    /// Brings a policy into force.
    fn reload(&mut self, policy: PolicySet) {
        self.owner.bring_into_force(Config { policy, ..Config::default() }, &mut self.given);
        while !self.owner.tasks.is_empty() {
            self.owner.turn(Instant::now(), &mut self.given);
        }
        assert!(self.given.0.is_empty());
    }

    /// The life that is left of what every process reads.
    fn left(&self) -> Option<Duration> {
        let now_ns = self.owner.now_ns();
        let held = self.owner.tables.current().peek(b"k", now_ns)?;
        assert_eq!(held.policy, self.owner.policy.rule(b"k").id);
        Some(crate::owner::request::remaining(held.expiry, now_ns))
    }
}

/// The policy before, the one after, and the longest life that may be left under it.
fn changes() -> [(PolicySet, PolicySet, Option<Duration>); 5] {
    let long = || rules(HOUR, Scope::Host, 1000);
    [
        (long(), rules(S, Scope::Host, 1000), Some(S + S / 10)),
        (long(), rules(HOUR, Scope::Process, 1000), None),
        (long(), rules(HOUR, Scope::Host, 2), None),
        (long(), PolicySet::default(), Some(31 * S)),
        (PolicySet::default(), rules(S, Scope::Host, 1000), Some(S + S / 10)),
    ]
}

#[test]
fn a_write_under_way_lands_under_the_new_policy() {
    for (before, now, left_max) in changes() {
        let mut scene = Scene::new();
        scene.reload(before);
        scene.set(b"value", WriteMode::Through);
        let write = scene.write();
        scene.reload(now);
        scene.land_write(write);
        scene.told(WRITER);
        let left = scene.left();
        assert_eq!(left.is_some(), left_max.is_some());
        assert!(left <= left_max, "{left:?}");
    }
}

#[test]
fn a_fetch_under_way_lands_under_the_new_policy() {
    for (before, now, left_max) in changes() {
        let mut scene = Scene::new();
        scene.reload(before);
        scene.get(ALICE);
        let flight = scene.flight();
        scene.reload(now);
        scene.land_value(flight, b"value");
        scene.assert_told_value(ALICE, b"value");
        let left = scene.left();
        assert_eq!(left.is_some(), left_max.is_some());
        assert!(left <= left_max, "{left:?}");
    }
}
