//! Key policy: what holds for all keys of one prefix.
//!
//! The daemon reads it from `l1d.toml`, validates it and publishes it to every client at attach, so
//! that all processes of a host agree. The longest matching prefix wins; rule 0 has the empty
//! prefix and holds for every key that no other rule matches.

use std::time::Duration;

/// Where the L1 copy of a key lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// In the shared table, seen by every process of the host.
    Host,
    /// In a small cache of each process.
    Process,
}

/// How far down a write goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteMode {
    /// L3, then L2, then L1.
    Through,
    /// L1 only.
    L1Only,
}

/// What a write does when a tier below cannot take it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnWriteError {
    /// An error; L1 stays as it was.
    Refuse,
    /// L1 takes the value all the same; the answer says `degraded`.
    Publish,
}

/// The rule of one prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The number that entries carry. Rule 0 is the default rule.
    pub id: u8,
    /// Keys that begin with these bytes.
    pub prefix: Vec<u8>,
    /// Where the L1 copy lives.
    pub scope: Scope,
    /// Longest life of an L1 copy.
    pub ttl: Duration,
    /// Life in L2 of what is written through.
    pub l2_ttl: Duration,
    /// Life in L3 of what is written through; `None` keeps it for ever.
    pub l3_ttl: Option<Duration>,
    /// How long an absence that L3 confirmed is remembered; zero: not at all.
    pub negative_ttl: Duration,
    /// How far down writes go.
    pub write: WriteMode,
    /// What happens when they cannot.
    pub on_write_error: OnWriteError,
    /// Largest value in bytes.
    pub value_bytes_max: u32,
}

/// Most rules of a set: an entry's header names its rule in one byte.
pub const RULES_MAX: usize = 256;
/// Longest prefix.
pub const PREFIX_BYTES_MAX: usize = 1024;

/// Why rules do not make a policy, or bytes do not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// No rules, or too many.
    #[error("a policy has 1 to {RULES_MAX} rules, not {0}")]
    Count(usize),
    /// The first rule must match every key.
    #[error("the first rule must have the empty prefix")]
    Default,
    /// Rules are numbered from 0 on.
    #[error("rule {0} does not have its place as its number")]
    Number(usize),
    /// Two rules for the same keys.
    #[error("two rules have the prefix {0:?}; keep one of them")]
    Twice(String),
    /// A prefix that is too long.
    #[error("a prefix of {0} bytes; prefixes have at most {PREFIX_BYTES_MAX}")]
    Prefix(usize),
    /// Bytes that no policy encodes to.
    #[error(
        "the policy's bytes make no sense at byte {0}; run the client and the daemon of one release"
    )]
    Encoding(usize),
}

/// All rules of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicySet {
    /// Rule `id` stands at place `id`.
    rules: Vec<Rule>,
    /// Numbers of the rules but the first, the longest prefix first.
    longest_first: Vec<u8>,
}

impl PolicySet {
    /// A policy of these rules: the first has the empty prefix, each has its place as its number.
    ///
    /// # Errors
    /// Rules that do not make a policy.
    pub fn new(rules: Vec<Rule>) -> Result<PolicySet, PolicyError> {
        if rules.is_empty() || rules.len() > RULES_MAX {
            return Err(PolicyError::Count(rules.len()));
        }
        if !rules[0].prefix.is_empty() {
            return Err(PolicyError::Default);
        }
        let mut longest_first = Vec::with_capacity(rules.len());
        for (number, rule) in rules.iter().enumerate() {
            if usize::from(rule.id) != number {
                return Err(PolicyError::Number(number));
            }
            if rule.prefix.len() > PREFIX_BYTES_MAX {
                return Err(PolicyError::Prefix(rule.prefix.len()));
            }
            if rules[..number].iter().any(|other| other.prefix == rule.prefix) {
                let prefix = String::from_utf8_lossy(&rule.prefix).into_owned();
                return Err(PolicyError::Twice(prefix));
            }
            if number > 0 {
                longest_first.push(rule.id);
            }
        }
        longest_first.sort_by_key(|id| std::cmp::Reverse(rules[usize::from(*id)].prefix.len()));
        Ok(PolicySet { rules, longest_first })
    }

    /// The rules, by number.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The rule with this number.
    #[must_use]
    pub fn by_id(&self, id: u8) -> Option<&Rule> {
        self.rules.get(usize::from(id))
    }

    /// The rule that holds for `key`: the one with the longest prefix.
    #[must_use]
    pub fn rule(&self, key: &[u8]) -> &Rule {
        let longest = self.longest_first.iter().map(|id| &self.rules[usize::from(*id)]);
        longest.into_iter().find(|rule| key.starts_with(&rule.prefix)).unwrap_or(&self.rules[0])
    }

    /// The bytes by which the daemon publishes the policy: for each rule its fields in the order of
    /// [`Rule`], little-endian, the prefix behind its length, durations in milliseconds.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for rule in &self.rules {
            let length = u16::try_from(rule.prefix.len()).unwrap_or(u16::MAX);
            bytes.push(rule.id);
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(&rule.prefix);
            bytes.push(u8::from(rule.scope == Scope::Process));
            let forever = rule.l3_ttl.map_or(u64::MAX, millis);
            for ms in [millis(rule.ttl), millis(rule.l2_ttl), forever, millis(rule.negative_ttl)] {
                bytes.extend_from_slice(&ms.to_le_bytes());
            }
            bytes.push(u8::from(rule.write == WriteMode::L1Only));
            bytes.push(u8::from(rule.on_write_error == OnWriteError::Publish));
            bytes.extend_from_slice(&rule.value_bytes_max.to_le_bytes());
        }
        bytes
    }

    /// The policy that encodes to `bytes`.
    ///
    /// # Errors
    /// Bytes that no policy encodes to.
    pub fn decode(bytes: &[u8]) -> Result<PolicySet, PolicyError> {
        let mut rules = Vec::new();
        let mut input = Input { bytes, at: 0 };
        while input.at < bytes.len() {
            let id = input.byte()?;
            let length = u16::from_le_bytes(input.array()?);
            let prefix = input.take(usize::from(length))?.to_vec();
            let scope = if input.flag()? { Scope::Process } else { Scope::Host };
            let [ttl, l2_ttl, l3_ttl, negative_ttl] =
                [input.u64()?, input.u64()?, input.u64()?, input.u64()?];
            let write = if input.flag()? { WriteMode::L1Only } else { WriteMode::Through };
            let on_write_error =
                if input.flag()? { OnWriteError::Publish } else { OnWriteError::Refuse };
            rules.push(Rule {
                id,
                prefix,
                scope,
                ttl: Duration::from_millis(ttl),
                l2_ttl: Duration::from_millis(l2_ttl),
                l3_ttl: (l3_ttl != u64::MAX).then(|| Duration::from_millis(l3_ttl)),
                negative_ttl: Duration::from_millis(negative_ttl),
                write,
                on_write_error,
                value_bytes_max: u32::from_le_bytes(input.array()?),
            });
            if rules.len() > RULES_MAX {
                return Err(PolicyError::Count(rules.len()));
            }
        }
        PolicySet::new(rules)
    }

    /// Tells policies apart: FNV-1a over the encoding.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        self.encode().iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
            (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
    }
}

impl Default for PolicySet {
    /// One rule for every key: host scope, 30 s in L1, 5 min in L2, for ever in L3, an absence
    /// remembered for 1 s, writes through and refused when a tier is down, values up to 1 MiB.
    fn default() -> PolicySet {
        let rule = Rule {
            id: 0,
            prefix: Vec::new(),
            scope: Scope::Host,
            ttl: Duration::from_secs(30),
            l2_ttl: Duration::from_secs(300),
            l3_ttl: None,
            negative_ttl: Duration::from_secs(1),
            write: WriteMode::Through,
            on_write_error: OnWriteError::Refuse,
            value_bytes_max: 1 << 20,
        };
        PolicySet { rules: vec![rule], longest_first: Vec::new() }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX - 1)
}

struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], PolicyError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let taken = rest.get(..count).ok_or(PolicyError::Encoding(self.at))?;
        self.at += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PolicyError> {
        let at = self.at;
        self.take(N)?.try_into().map_err(|_| PolicyError::Encoding(at))
    }

    fn byte(&mut self) -> Result<u8, PolicyError> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, PolicyError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn flag(&mut self) -> Result<bool, PolicyError> {
        let at = self.at;
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(PolicyError::Encoding(at)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rules(prefixes: &[&str]) -> Vec<Rule> {
        let plain = PolicySet::default().rules[0].clone();
        prefixes
            .iter()
            .enumerate()
            .map(|(id, prefix)| Rule {
                id: u8::try_from(id).unwrap(),
                prefix: prefix.as_bytes().to_vec(),
                ..plain.clone()
            })
            .collect()
    }

    #[test]
    fn the_longest_prefix_wins() {
        let set = PolicySet::new(rules(&["", "analysis:", "analysis:signals", "a"])).unwrap();
        assert_eq!(set.rule(b"analysis:signals:BTC").id, 2);
        assert_eq!(set.rule(b"analysis:other").id, 1);
        assert_eq!(set.rule(b"apple").id, 3);
        assert_eq!(set.rule(b"market:BTC").id, 0);
    }

    #[test]
    fn what_is_no_policy_is_refused() {
        assert_eq!(PolicySet::new(Vec::new()), Err(PolicyError::Count(0)));
        assert_eq!(PolicySet::new(rules(&["a:"])), Err(PolicyError::Default));
        let twice = PolicySet::new(rules(&["", "a:", "a:"]));
        assert_eq!(twice, Err(PolicyError::Twice("a:".into())));
        let mut wrong = rules(&["", "a:"]);
        wrong[1].id = 0;
        assert_eq!(PolicySet::new(wrong), Err(PolicyError::Number(1)));
    }

    proptest! {
        #[test]
        fn a_policy_survives_its_encoding(
            ttls in prop::collection::vec((1u64..1 << 40, any::<bool>(), any::<u32>()), 1..20)
        ) {
            let prefixes: Vec<String> = (0..ttls.len()).map(|n| "x".repeat(n)).collect();
            let prefixes: Vec<&str> = prefixes.iter().map(String::as_str).collect();
            let mut rules = rules(&prefixes);
            for (rule, (ttl, flag, max)) in rules.iter_mut().zip(&ttls) {
                rule.ttl = Duration::from_millis(*ttl);
                rule.l3_ttl = flag.then_some(rule.ttl);
                rule.scope = if *flag { Scope::Process } else { Scope::Host };
                rule.value_bytes_max = *max;
            }
            let set = PolicySet::new(rules).unwrap();
            prop_assert_eq!(PolicySet::decode(&set.encode()), Ok(set.clone()));
            let bytes = set.encode();
            for end in 1..bytes.len() {
                let cut = PolicySet::decode(&bytes[..end]);
                prop_assert!(cut.is_err() || cut.unwrap().rules().len() < set.rules().len());
            }
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = PolicySet::decode(&bytes);
        }
    }
}
