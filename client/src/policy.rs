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

/// All rules of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicySet {
    rules: Vec<Rule>,
}

// STUB, to be replaced as a whole by the real policy: no bytes are the default rule, any others are
// the prefix of keys of process scope. Nothing of the daemon's policy is understood.
impl PolicySet {
    /// STUB.
    pub fn decode(bytes: &[u8]) -> Result<PolicySet, String> {
        let rule = |prefix: &[u8], scope| Rule {
            id: 0,
            prefix: prefix.to_vec(),
            scope,
            ttl: Duration::from_secs(30),
            l2_ttl: Duration::from_secs(30),
            l3_ttl: None,
            negative_ttl: Duration::ZERO,
            write: WriteMode::Through,
            on_write_error: OnWriteError::Refuse,
            value_bytes_max: 4 << 20,
        };
        let mut rules = vec![rule(b"", Scope::Host)];
        if !bytes.is_empty() {
            rules.push(rule(bytes, Scope::Process));
        }
        Ok(PolicySet { rules })
    }
    /// STUB.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }
    /// STUB.
    pub fn rule(&self, key: &[u8]) -> &Rule {
        let mut last_first = self.rules.iter().rev();
        last_first.find(|rule| key.starts_with(&rule.prefix)).unwrap_or(&self.rules[0])
    }
}
