//! The numbers that entries carry for their rules. A rule's identity is its prefix: it keeps its
//! number while the configuration changes, so its entries stay.
//!
//! What becomes of the entries when another policy comes into force:
//!
//! | rule | its entries |
//! |---|---|
//! | the same, or with a longer `ttl`, a larger `value_bytes_max`, other settings | stay |
//! | with a shorter `ttl`, another `scope` or a smaller `value_bytes_max` | are hidden, by the floor of its number |
//! | removed | are hidden |
//! | new | keys that now belong to it are removed from the rule that they were stored under, by a walk |
//!
//! A number is given to another rule only after its floor was raised.

use l1d_wire::policy::{PolicySet, RULES_MAX, Rule, Scope, rule_name};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

/// A rule as far as the entries stored under it depend on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Numbered {
    pub(super) number: u8,
    prefix: Vec<u8>,
    ttl: Duration,
    is_in_processes: bool,
    value_bytes_max: u32,
}

impl From<&Rule> for Numbered {
    fn from(rule: &Rule) -> Numbered {
        Numbered {
            number: rule.id,
            prefix: rule.prefix.clone(),
            ttl: rule.ttl,
            is_in_processes: rule.scope == Scope::Process,
            value_bytes_max: rule.value_bytes_max,
        }
    }
}

/// How a rule differs from the policy before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleChange {
    /// The rule's prefix.
    pub prefix: Vec<u8>,
    /// What has happened to it.
    pub kind: ChangeKind,
    /// Why its entries are dropped; empty: they stay.
    pub dropped: Vec<&'static str>,
}

impl RuleChange {
    /// A rule that differs in a way that no entry depends on.
    pub(crate) fn kept(prefix: &[u8]) -> RuleChange {
        let kind = ChangeKind::Changed;
        RuleChange { prefix: prefix.to_vec(), kind, dropped: Vec::new() }
    }
}

impl fmt::Display for RuleChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", rule_name(&self.prefix))?;
        match (self.kind, self.dropped.is_empty()) {
            (ChangeKind::New, _) => {
                f.write_str("new; entries of its keys that another rule stored are dropped")
            }
            (ChangeKind::Removed, _) => f.write_str("removed; its entries are dropped"),
            (ChangeKind::Changed, true) => f.write_str("changed; its entries stay"),
            (ChangeKind::Changed, false) => {
                write!(f, "changed; its entries are dropped, because {}", self.dropped.join(", "))
            }
        }
    }
}

/// What happens to a rule when another policy comes into force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// The policy before had no rule with this prefix.
    New,
    /// It is gone.
    Removed,
    /// It has another `ttl`, `scope` or `value_bytes_max`.
    Changed,
}

/// The way from one policy to another.
#[derive(Debug)]
pub(super) struct Renumbering {
    /// The wanted policy, with the numbers that its rules have or get.
    pub(super) policy: PolicySet,
    /// The rules that are the same before and after it. While it is under way, entries may have
    /// been stored under either policy, so only these numbers mean something to a restart.
    pub(super) settled: Vec<Numbered>,
    /// The numbers whose floors are to be raised: all but those of rules whose entries stay.
    pub(super) hidden: Vec<u8>,
    /// Whether entries that stay may have keys of a new rule.
    pub(super) must_walk: bool,
    pub(super) changes: Vec<RuleChange>,
}

/// Plans the way from the rules `before` to the policy `wanted`, whose ids are disregarded.
pub(super) fn renumber(before: &[Numbered], wanted: &PolicySet) -> Renumbering {
    let known: HashMap<&[u8], &Numbered> =
        before.iter().map(|rule| (rule.prefix.as_slice(), rule)).collect();
    let mut free = free_numbers(&known, before, wanted).into_iter();
    let mut rules = Vec::with_capacity(wanted.rules().len());
    let (mut settled, mut kept) = (Vec::new(), [false; RULES_MAX]);
    let (mut changes, mut new) = (Vec::new(), Vec::new());
    for rule in wanted.rules() {
        let former = known.get(rule.prefix.as_slice());
        // There are as many numbers as rules at most, and rule 0 has number 0 in every policy.
        let id = match former {
            Some(former) => former.number,
            None if rule.prefix.is_empty() => 0,
            None => free.next().unwrap_or(u8::MAX),
        };
        let rule = Rule { id, ..rule.clone() };
        let now = Numbered::from(&rule);
        match former {
            Some(former) if **former == now => {
                kept[usize::from(id)] = true;
                settled.push(now);
            }
            Some(former) => {
                let dropped = reasons(former, &now);
                kept[usize::from(id)] = dropped.is_empty();
                changes.push(change(&now, ChangeKind::Changed, dropped));
            }
            None => {
                changes.push(change(&now, ChangeKind::New, Vec::new()));
                new.push(rule.prefix.clone());
            }
        }
        rules.push(rule);
    }
    for rule in before {
        if !wanted.rules().iter().any(|wanted| wanted.prefix == rule.prefix) {
            changes.push(change(rule, ChangeKind::Removed, vec!["the rule was removed"]));
        }
    }
    rules.sort_by_key(|rule| rule.id);
    let stays = |rule: &&Numbered| kept[usize::from(rule.number)];
    let must_walk = before
        .iter()
        .filter(stays)
        .any(|rule| new.iter().any(|prefix| prefix.starts_with(&rule.prefix)));
    let hidden = (0..=u8::MAX).filter(|number| !kept[usize::from(*number)]).collect();
    // The same rules with other, distinct numbers: they pass the same checks.
    let policy = PolicySet::new(rules).unwrap_or_else(|_| wanted.clone());
    Renumbering { policy, settled, hidden, must_walk, changes }
}

/// The numbers for new rules: first those that no rule had, so that the others rest for a while.
fn free_numbers(
    known: &HashMap<&[u8], &Numbered>,
    before: &[Numbered],
    wanted: &PolicySet,
) -> Vec<u8> {
    let mut is_taken = [false; RULES_MAX];
    let mut was_taken = [false; RULES_MAX];
    is_taken[0] = true;
    before.iter().for_each(|rule| was_taken[usize::from(rule.number)] = true);
    for former in wanted.rules().iter().filter_map(|rule| known.get(rule.prefix.as_slice())) {
        is_taken[usize::from(former.number)] = true;
    }
    let mut free: Vec<u8> =
        (0..=u8::MAX).filter(|&number| !is_taken[usize::from(number)]).collect();
    free.sort_by_key(|&number| was_taken[usize::from(number)]);
    free
}

fn change(rule: &Numbered, kind: ChangeKind, dropped: Vec<&'static str>) -> RuleChange {
    RuleChange { prefix: rule.prefix.clone(), kind, dropped }
}

/// Why entries stored under `before` may not stay under `now`.
fn reasons(before: &Numbered, now: &Numbered) -> Vec<&'static str> {
    let mut reasons = Vec::new();
    if now.ttl < before.ttl {
        reasons.push("its ttl is shorter");
    }
    if now.is_in_processes != before.is_in_processes {
        reasons.push("its scope is another");
    }
    if now.value_bytes_max < before.value_bytes_max {
        reasons.push("its value_bytes_max is smaller");
    }
    reasons
}

#[cfg(test)]
mod tests {
    //! The hazards: a number that means another rule to entries that stay, and entries that go
    //! although nothing has changed for them.

    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn policy(rules: &[(&str, Rule)]) -> PolicySet {
        let rules = rules.iter().enumerate().map(|(id, (prefix, rule))| Rule {
            id: u8::try_from(id).unwrap(),
            prefix: prefix.as_bytes().to_vec(),
            ..rule.clone()
        });
        PolicySet::new(rules.collect()).unwrap()
    }

    fn plain(prefixes: &[&'static str]) -> PolicySet {
        let rules = prefixes.iter().map(|prefix| (*prefix, Rule::default()));
        policy(&rules.collect::<Vec<_>>())
    }

    fn numbers(policy: &PolicySet) -> Vec<(String, u8)> {
        let show = |rule: &Rule| (String::from_utf8(rule.prefix.clone()).unwrap(), rule.id);
        policy.rules().iter().map(show).collect()
    }

    fn numbered(policy: &PolicySet) -> Vec<Numbered> {
        policy.rules().iter().map(Numbered::from).collect()
    }

    #[test]
    fn without_rules_before_numbers_are_places_and_everything_is_hidden() {
        let way = renumber(&[], &plain(&["", "b", "a"]));
        assert_eq!(numbers(&way.policy), [("".into(), 0), ("b".into(), 1), ("a".into(), 2)]);
        assert_eq!(way.hidden.len(), RULES_MAX);
        assert!(!way.must_walk && way.settled.is_empty());
    }

    #[test]
    fn another_order_changes_nothing() {
        let before = numbered(&plain(&["", "a", "b", "c"]));
        let way = renumber(&before, &plain(&["", "c", "a", "b"]));
        assert_eq!(way.settled.len(), 4);
        assert!(way.changes.is_empty() && !way.must_walk);
        assert!((0..4).all(|number| !way.hidden.contains(&number)));
        assert_eq!(way.policy.rule(b"c").id, 3);
    }

    #[test]
    fn a_removed_rule_is_hidden_and_its_number_rests_before_others_get_it() {
        let before = numbered(&plain(&["", "a", "b"]));
        let way = renumber(&before, &plain(&["", "b", "n"]));
        assert_eq!(numbers(&way.policy), [("".into(), 0), ("b".into(), 2), ("n".into(), 3)]);
        assert!(way.hidden.contains(&1) && way.hidden.contains(&3) && way.must_walk);
        assert!(!way.hidden.contains(&0) && !way.hidden.contains(&2));
        let kinds: Vec<ChangeKind> = way.changes.iter().map(|change| change.kind).collect();
        assert_eq!(kinds, [ChangeKind::New, ChangeKind::Removed]);
    }

    #[test]
    fn all_rules_can_be_replaced_at_once() {
        let names: Vec<String> = (0..510).map(|n| format!("{n:03}")).collect();
        let rules = |names: &[String]| {
            let rules = std::iter::once("").chain(names.iter().map(String::as_str));
            policy(&rules.map(|prefix| (prefix, Rule::default())).collect::<Vec<_>>())
        };
        let before = numbered(&rules(&names[..255]));
        let way = renumber(&before, &rules(&names[255..]));
        assert_eq!(way.policy.rules().len(), RULES_MAX);
        assert_eq!(way.hidden.len(), 255);
    }

    #[test]
    fn only_what_would_live_too_long_is_dropped() {
        let rule = Rule { ttl: 30 * S, value_bytes_max: 1000, ..Rule::default() };
        let before = numbered(&policy(&[("", Rule::default()), ("a", rule.clone())]));
        let cases: [(Rule, &[&str], bool); 6] = [
            (Rule { ttl: 29 * S, ..rule.clone() }, &["its ttl is shorter"], false),
            (Rule { ttl: 31 * S, ..rule.clone() }, &[], false),
            (Rule { scope: Scope::Process, ..rule.clone() }, &["its scope is another"], false),
            (
                Rule { value_bytes_max: 999, ..rule.clone() },
                &["its value_bytes_max is smaller"],
                false,
            ),
            (Rule { value_bytes_max: 1001, ..rule.clone() }, &[], false),
            (Rule { l2_ttl: S, negative_ttl: S * 9, ..rule.clone() }, &[], true),
        ];
        for (changed, reasons, is_settled) in cases {
            let way = renumber(&before, &policy(&[("", Rule::default()), ("a", changed)]));
            let dropped: Vec<_> =
                way.changes.iter().flat_map(|change| change.dropped.clone()).collect();
            assert_eq!(dropped, reasons);
            assert_eq!(way.hidden.contains(&1), !reasons.is_empty());
            assert_eq!(way.settled.len(), if is_settled { 2 } else { 1 });
        }
    }
}
