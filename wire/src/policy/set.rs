//! The rules of a host, and which one holds for a key.

use super::codec::{self, PolicyError};
use super::{Rule, Scope};
use std::time::Duration;

/// Most rules of a host, rule 0 included: entries carry the number in one byte.
pub const RULES_MAX: usize = 256;

/// Longest prefix of a rule, in bytes.
pub const PREFIX_BYTES_MAX: usize = 255;

/// All rules of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicySet {
    /// In rising order of their ids; never empty.
    rules: Vec<Rule>,
    /// Places in `rules` in the order of the prefixes; the empty one first.
    order: Vec<u8>,
    /// By place: the place of the rule with the longest prefix that this rule's prefix begins
    /// with. The first rule is its own.
    parents: Vec<u8>,
}

impl PolicySet {
    /// Rules in rising order of their ids. The first has id 0 and the empty prefix.
    ///
    /// # Errors
    /// No rules or more than [`RULES_MAX`]; ids that do not rise from 0; a first rule with a
    /// prefix; two rules with the same prefix; a prefix longer than [`PREFIX_BYTES_MAX`]; a share
    /// of nothing or of more than all; a lifetime of 584 years, which the encoding cannot carry.
    pub fn new(rules: Vec<Rule>) -> Result<PolicySet, PolicyError> {
        check(&rules)?;
        let mut order: Vec<u8> = (0..=u8::MAX).take(rules.len()).collect();
        order.sort_by_key(|&place| &rules[usize::from(place)].prefix);
        let prefix = |place: u8| rules[usize::from(place)].prefix.as_slice();
        let mut parents = vec![0; rules.len()];
        for pair in order.windows(2) {
            let (before, place) = (pair[0], pair[1]);
            if prefix(before) == prefix(place) {
                let id = |place: u8| rules[usize::from(place)].id;
                let (first, second) = (id(before.min(place)), id(before.max(place)));
                return Err(PolicyError::SamePrefix { first, second });
            }
            // Whatever this prefix begins with, the one before it is that or begins with it too.
            let mut parent = before;
            while !prefix(place).starts_with(prefix(parent)) {
                parent = parents[usize::from(parent)];
            }
            parents[usize::from(place)] = parent;
        }
        Ok(PolicySet { rules, order, parents })
    }

    /// The rule of `key`: the one with the longest prefix that the key begins with.
    #[must_use]
    pub fn rule(&self, key: &[u8]) -> &Rule {
        // The rule sought is the last in order that is not after the key, or what that one begins
        // with: anything between the two in order begins with the sought prefix.
        //
        // The empty prefix, first in order, is never compared: every write asks for its rule, and a
        // comparison of no bytes at an empty vector's address, which is no address, costs a
        // processor with masked loads hundreds of cycles.
        let prefixes = &self.order[1..];
        let after = prefixes.partition_point(|&at| self.rule_at(at).prefix.as_slice() <= key);
        let Some(&(mut place)) = prefixes[..after].last() else { return &self.rules[0] };
        while place != 0 && !key.starts_with(&self.rule_at(place).prefix) {
            place = self.parents[usize::from(place)];
        }
        self.rule_at(place)
    }

    /// All rules, by id.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The rule with this number.
    #[must_use]
    pub fn by_id(&self, id: u8) -> Option<&Rule> {
        // Its place, unless a rule with a lower id was removed.
        match self.rules.get(usize::from(id)) {
            Some(rule) if rule.id == id => Some(rule),
            _ => {
                let place = self.rules.binary_search_by_key(&id, |rule| rule.id).ok()?;
                self.rules.get(place)
            }
        }
    }

    /// The longest life in L2 under any rule.
    #[must_use]
    pub fn l2_ttl_max(&self) -> Duration {
        self.rules.iter().map(|rule| rule.l2_ttl).max().unwrap_or_default()
    }

    /// Whether any rule keeps its L1 copies in the processes.
    #[must_use]
    pub fn has_process_scope(&self) -> bool {
        self.rules.iter().any(|rule| rule.scope == Scope::Process)
    }

    /// The rules as bytes, without their ids.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(&self.rules)
    }

    /// The rules that [`encode`](Self::encode) made these bytes of, with their places as ids.
    ///
    /// # Errors
    /// Bytes that it cannot have made.
    pub fn decode(bytes: &[u8]) -> Result<PolicySet, PolicyError> {
        PolicySet::new(codec::decode(bytes)?)
    }

    /// Tells sets apart: FNV-1a, 64 bits, of the encoding, followed by the ids if they are not the
    /// rules' places. The same in every build that encodes alike.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut bytes = self.encode();
        let ids = || self.rules.iter().map(|rule| rule.id);
        if ids().ne((0..=u8::MAX).take(self.rules.len())) {
            bytes.extend(ids());
        }
        bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
    }

    /// The rule at a place that is known to be one of ours.
    fn rule_at(&self, place: u8) -> &Rule {
        &self.rules[usize::from(place)]
    }
}

impl Default for PolicySet {
    /// The default rule alone.
    fn default() -> PolicySet {
        PolicySet { rules: vec![Rule::default()], order: vec![0], parents: vec![0] }
    }
}

fn check(rules: &[Rule]) -> Result<(), PolicyError> {
    match rules.first() {
        None => return Err(PolicyError::Count { count: 0 }),
        Some(first) if !first.prefix.is_empty() => return Err(PolicyError::NoDefault),
        Some(_) if rules.len() > RULES_MAX => {
            return Err(PolicyError::Count { count: rules.len() });
        }
        Some(_) => {}
    }
    for (position, rule) in rules.iter().enumerate() {
        let rises = match position.checked_sub(1) {
            Some(before) => rules[before].id < rule.id,
            None => rule.id == 0,
        };
        if !rises {
            return Err(PolicyError::Id { id: rule.id, position });
        }
        if rule.prefix.len() > PREFIX_BYTES_MAX {
            return Err(PolicyError::PrefixTooLong { id: rule.id, bytes: rule.prefix.len() });
        }
        if let Some(permille) = rule.share_max_permille.filter(|share| !(1..=1000).contains(share))
        {
            return Err(PolicyError::Share { id: rule.id, permille });
        }
        let lifetimes = [Some(rule.ttl), Some(rule.l2_ttl), Some(rule.negative_ttl), rule.l3_ttl];
        if lifetimes.into_iter().flatten().any(|ttl| codec::nanoseconds(ttl).is_none()) {
            return Err(PolicyError::TtlTooLong { id: rule.id });
        }
    }
    Ok(())
}
