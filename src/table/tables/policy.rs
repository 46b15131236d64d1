//! Bringing another policy into force, at start and by a reload, while readers go on.

use super::{Successor, Tables, successor};
use crate::table::numbers::{Numbered, RuleChange, renumber};
use crate::table::numbers_file::NumbersFile;
use l1d_wire::policy::PolicySet;
use shm_layout::{MappedMut, Writer, fault_point};

/// Distinguishes the fingerprint of a change under way from those of policies.
const UNDER_WAY: u64 = 0x5452_414e_5349_5431;
/// The fingerprint of no file and no policy.
const UNKNOWN: u64 = 0;
/// Buckets that are walked at a time before there are clients.
const BUCKETS: u32 = 4096;

/// How another policy has come into force, or is about to.
#[derive(Debug, Default)]
pub struct PolicyChange {
    /// The rules that differ.
    pub rules: Vec<RuleChange>,
    /// [`Tables::walk_policy`] is to be called from bucket 0 on to the end.
    pub must_walk: bool,
}

/// A policy found at start.
#[derive(Debug, Default)]
pub struct Adopted {
    /// How it differs from the one before.
    pub rules: Vec<RuleChange>,
    /// Visible entries removed because another rule holds for their keys now.
    pub moved: u64,
    /// The numbers of the entries' rules were not known, so all were dropped.
    pub dropped_all: bool,
}

impl Tables {
    /// The policy in force, with the numbers of its rules.
    #[must_use]
    pub fn policy(&self) -> &PolicySet {
        &self.policy
    }

    /// Its epoch in the table.
    #[must_use]
    pub fn policy_epoch(&self) -> u64 {
        self.current().writer().policy_epoch()
    }

    /// How the policy at the start differs from the one that the table was left under.
    #[must_use]
    pub fn adopted(&self) -> &Adopted {
        &self.adopted
    }

    /// Begins to bring `wanted` into force: hides what may not stay, and gives its rules numbers.
    /// From now on, entries are to be stored under [`policy`](Self::policy) as it is then. If
    /// the index must be walked, [`settle_policy`](Self::settle_policy) comes after that.
    pub fn begin_policy(&mut self, wanted: &PolicySet) -> PolicyChange {
        let before: Vec<Numbered> = self.policy.rules().iter().map(Numbered::from).collect();
        self.change_policy(&before, wanted)
    }

    /// Tells clients that the policy in force is another one.
    pub fn announce_policy(&mut self) {
        let epoch = self.policy_epoch() + 1;
        for writer in self.writers() {
            fault_point!("announce.epoch");
            writer.set_policy_epoch(epoch);
        }
    }

    /// Removes the keys in `count` buckets from `start` on that now belong to another rule than the
    /// one that they were stored under. Returns the number of visible ones, and the bucket to
    /// continue with. During a move: once more, in the successor, after the end.
    pub fn walk_policy(
        &mut self,
        in_successor: bool,
        start: u32,
        count: u32,
    ) -> (u64, Option<u32>) {
        let policy = &self.policy;
        if in_successor {
            let Some(Successor::Filling { opened, .. }) = &mut self.successor else {
                return (0, None);
            };
            return (0, opened.table.remove_misplaced(policy, start, count, |_| ()).1);
        }
        let advisor = &mut self.advisor;
        let table = &mut self.current.table;
        table.remove_misplaced(policy, start, count, |hash| advisor.removed(hash))
    }

    /// Nothing in the table depends on the policy before any more: keeps the numbers for the next
    /// daemon.
    pub fn settle_policy(&mut self) {
        let rules = self.policy.rules().iter().map(Numbered::from).collect();
        let fingerprint = self.policy.fingerprint();
        self.write_numbers(rules, fingerprint);
        self.set_fingerprint(fingerprint);
    }

    /// The policy of a table that an earlier daemon has left.
    pub(super) fn adopt_policy(&mut self, wanted: &PolicySet) {
        let writer = self.current().writer();
        let fingerprint = writer.policy_fingerprint();
        let table_id = writer.geometry().identity().table_id;
        let last_instance = self.current().instance().wrapping_sub(1);
        let file = NumbersFile::read(&self.directory)
            .filter(|file| file.holds_for(table_id, fingerprint, last_instance));
        let before = match file {
            Some(file) => file.rules,
            // Without a file, numbers are places.
            None if fingerprint == wanted.fingerprint() => {
                wanted.rules().iter().map(Numbered::from).collect()
            }
            None => {
                self.adopted.dropped_all = true;
                Vec::new()
            }
        };
        let change = self.change_policy(&before, wanted);
        if self.policy.fingerprint() != fingerprint {
            self.announce_policy();
        }
        // Clients wait until this has ended. Those that only read the table see the keys of a new
        // rule under the one that they were stored under for as long.
        let mut next = change.must_walk.then_some(0);
        while let Some(bucket) = next {
            let (removed, bucket) = self.walk_policy(false, bucket, BUCKETS);
            self.adopted.moved += removed;
            next = bucket;
        }
        if !self.adopted.dropped_all {
            self.adopted.rules = change.rules;
        }
        self.settle_policy();
    }

    /// The steps 1 to 3 of [`NumbersFile`]'s, but for the walk.
    fn change_policy(&mut self, before: &[Numbered], wanted: &PolicySet) -> PolicyChange {
        let way = renumber(before, wanted);
        if !way.changes.is_empty() {
            let now = self.current().writer().policy_fingerprint();
            let under_way = now.rotate_left(32) ^ way.policy.fingerprint() ^ UNDER_WAY;
            let is_written = self.write_numbers(way.settled, under_way);
            self.set_fingerprint(if is_written { under_way } else { UNKNOWN });
        }
        self.hide_rules(&way.hidden);
        self.policy = way.policy;
        PolicyChange { rules: way.changes, must_walk: way.must_walk }
    }

    /// Hides what the table holds under the rules with these numbers.
    pub fn hide_rules(&mut self, rules: &[u8]) {
        let floor = self.current().next_version();
        self.current.table.hide_policies(rules, floor);
        if let Some(successor) = self.filling() {
            successor.hide_policies(rules, floor);
        }
    }

    /// Also to be called when a successor begins to be filled, with what was written last.
    pub(super) fn rewrite_numbers(&mut self) -> bool {
        let numbers = &mut self.numbers;
        numbers.tables = [Some(&self.current.table), successor(&self.successor)]
            .into_iter()
            .flatten()
            .map(|table| table.writer().geometry().identity().table_id)
            .collect();
        numbers.write(&self.directory)
    }

    fn write_numbers(&mut self, rules: Vec<Numbered>, fingerprint: u64) -> bool {
        let before = self.current().writer().policy_fingerprint();
        let instance = self.current().instance();
        self.numbers = NumbersFile { tables: Vec::new(), instance, before, fingerprint, rules };
        self.rewrite_numbers()
    }

    fn set_fingerprint(&mut self, fingerprint: u64) {
        for writer in self.writers() {
            fault_point!("settle.fingerprint");
            writer.set_policy_fingerprint(fingerprint);
        }
    }

    /// Of the table in force and of the one that is being filled.
    pub(super) fn writers(&self) -> impl Iterator<Item = &Writer<MappedMut>> {
        [Some(&self.current.table), successor(&self.successor)]
            .into_iter()
            .flatten()
            .map(|table| table.writer())
    }
}

#[cfg(test)]
mod tests {
    //! The hazard: a daemon killed while another policy comes into force leaves entries under
    //! numbers that its successor takes for those of other rules, or for older ones of the same.

    use super::*;
    use crate::table::FileOptions;
    use l1d_wire::policy::Rule;
    use shm_layout::entry::NEVER;
    use shm_layout::{Entry, Plan};
    use std::path::Path;
    use std::time::Duration;

    fn policy(rules: &[(&str, u64)]) -> PolicySet {
        let rules = rules.iter().enumerate().map(|(id, (prefix, seconds))| Rule {
            id: u8::try_from(id).unwrap(),
            prefix: prefix.as_bytes().to_vec(),
            ttl: Duration::from_secs(*seconds),
            ..Rule::default()
        });
        PolicySet::new(rules.collect()).unwrap()
    }

    fn open(directory: &Path, policy: &PolicySet) -> Tables {
        Tables::open(FileOptions {
            directory: directory.to_owned(),
            plan: Plan { table_bytes: 5 << 20, value_bytes_max: 1000, ..Plan::default() },
            mode: 0o600,
            group: None,
            policy: policy.clone(),
            keeps_index: false,
        })
        .unwrap()
    }

    fn put(tables: &mut Tables, keys: &[&str]) {
        for key in keys {
            let policy = tables.policy().rule(key.as_bytes()).id;
            let entry = Entry {
                key: key.as_bytes(),
                value: b"v",
                policy,
                expiry: NEVER,
                ..Entry::default()
            };
            tables.put(&entry, 0).unwrap();
        }
    }

    fn kept<'a>(tables: &Tables, keys: &[&'a str]) -> Vec<&'a str> {
        let is_kept = |key: &&str| tables.current().contains(key.as_bytes(), 0);
        keys.iter().copied().filter(is_kept).collect()
    }

    const KEYS: [&str; 5] = ["1", "a:1", "a:x:1", "n:1", "t:1"];

    #[test]
    fn after_a_kill_in_the_middle_only_entries_of_unchanged_rules_are_left() {
        let former = policy(&[("", 9), ("a:", 9), ("a:x:", 9), ("t:", 5)]);
        let wanted = policy(&[("", 9), ("t:", 10), ("n:", 9), ("a:", 9)]);
        for next in [&former, &wanted] {
            let directory = tempfile::tempdir().unwrap();
            let mut tables = open(directory.path(), &former);
            put(&mut tables, &KEYS);
            let change = tables.begin_policy(&wanted);
            assert!(change.must_walk);
            // "a:x:1" goes under "a:", and "t:1" may live for longer than before.
            put(&mut tables, &KEYS);
            drop(tables);
            let mut tables = open(directory.path(), next);
            assert_eq!(kept(&tables, &KEYS)[..2], ["1", "a:1"]);
            let others = if next == &former { [].as_slice() } else { &["a:x:1"] };
            assert_eq!(&kept(&tables, &KEYS)[2..], others);
            put(&mut tables, &KEYS);
            drop(tables);
            assert_eq!(kept(&open(directory.path(), next), &KEYS), KEYS);
        }
    }

    #[test]
    fn a_kill_between_the_file_and_the_header_loses_nothing_that_may_stay() {
        let former = policy(&[("", 9), ("a:", 9)]);
        let wanted = policy(&[("", 9), ("n:", 9), ("a:", 9)]);
        for is_settled in [false, true] {
            let directory = tempfile::tempdir().unwrap();
            let mut tables = open(directory.path(), &former);
            put(&mut tables, &KEYS);
            let fingerprint = tables.current().writer().policy_fingerprint();
            tables.begin_policy(&wanted);
            let under_way = tables.current().writer().policy_fingerprint();
            assert_ne!(fingerprint, under_way);
            if is_settled {
                assert!(tables.walk_policy(false, 0, u32::MAX).1.is_none());
                tables.settle_policy();
            }
            let before = if is_settled { under_way } else { fingerprint };
            tables.current().writer().set_policy_fingerprint(before);
            drop(tables);
            let tables = open(directory.path(), &wanted);
            assert_eq!(kept(&tables, &KEYS), ["1", "a:1", "a:x:1", "t:1"]);
        }
    }

    #[test]
    fn a_daemon_that_does_not_know_the_file_makes_it_count_for_nothing() {
        let former = policy(&[("", 9), ("a:", 9), ("n:", 9)]);
        let wanted = policy(&[("", 9), ("n:", 9), ("a:", 9)]);
        let directory = tempfile::tempdir().unwrap();
        let mut tables = open(directory.path(), &former);
        tables.begin_policy(&wanted);
        tables.settle_policy();
        // It numbers rules by their places.
        tables.current().writer().set_policy_fingerprint(wanted.fingerprint());
        let entry =
            Entry { key: b"n:1", value: b"v", policy: 1, expiry: NEVER, ..Entry::default() };
        tables.put(&entry, 0).unwrap();
        drop(tables);
        let tables = open(directory.path(), &wanted);
        assert_eq!(tables.policy().rule(b"n:1").id, 1);
        assert_eq!(kept(&tables, &KEYS), ["n:1"]);
    }
}
