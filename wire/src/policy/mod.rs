//! Key policy: what holds for all keys of one prefix.
//!
//! The daemon reads it from `l1d.toml`, validates it and publishes it to every client at attach, so
//! that all processes of a host agree. The longest matching prefix wins; rule 0 has the empty
//! prefix and holds for every key that no other rule matches.

mod codec;
mod set;
#[cfg(test)]
mod tests;

pub use codec::PolicyError;
pub use set::{PREFIX_BYTES_MAX, PolicySet, RULES_MAX};

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

/// The reaction to a store of record that cannot take a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnWriteError {
    /// An error; L1 stays as it was.
    Refuse,
    /// L1 takes the value all the same; the answer says `degraded`.
    Publish,
}

/// What becomes of client flags, which memcached keeps with a value and Redis does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientFlags {
    /// A set with flags other than 0 through both tiers is refused.
    Refuse,
    /// They are lost in Redis, and what Redis has is never copied to memcached, where other clients
    /// would decode it wrongly.
    NeverFillL2,
    /// Redis holds such a value in a frame, which has the flags.
    Frame,
    /// They are lost in Redis, and a copy in memcached has none either.
    Ignore,
}

/// What happens when a rule's share, or the table, is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evict {
    /// Entries make room for others.
    AsNeeded,
    /// Entries stay, and new keys are refused.
    Never,
}

/// The part of the table that rules with [`Evict::Never`] may take together, in thousandths: their
/// entries are copied when the log is reclaimed, so enough of it must be left to reclaim.
pub const PINNED_PERMILLE_MAX: u16 = 400;

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
    /// Life in L3 of what is written through; `None` keeps it forever.
    pub l3_ttl: Option<Duration>,
    /// How long an absence that L3 confirmed is remembered; zero: not at all.
    pub negative_ttl: Duration,
    /// How far down writes go.
    pub write: WriteMode,
    /// What happens when they cannot.
    pub on_write_error: OnWriteError,
    /// Largest value in bytes.
    pub value_bytes_max: u32,
    /// Most of the table that L1 copies under this rule may take, in thousandths; `None`: all of
    /// it.
    pub share_max_permille: Option<u16>,
    /// What happens when the share is used up. Only the daemon acts on it: it is not encoded, and
    /// clients see the default.
    pub evict: Evict,
    /// Whether memcached holds the keys; otherwise they go to Redis alone. Only the daemon acts on
    /// it: it is not encoded, and clients see the default.
    pub l2: bool,
    /// What becomes of client flags. Only the daemon acts on it: it is not encoded, and clients see
    /// the default.
    pub client_flags: ClientFlags,
}

impl Rule {
    /// What people call it: `[defaults]`, or the rule with its prefix.
    #[must_use]
    pub fn name(&self) -> String {
        rule_name(&self.prefix)
    }

    /// Why a value of `bytes` bytes, more than the rule allows, is refused.
    #[must_use]
    pub fn too_large(&self, bytes: usize) -> String {
        format!(
            "a value of {bytes} bytes is too large: {} allows {}; store less, or raise its \
             value_bytes_max",
            self.name(),
            self.value_bytes_max
        )
    }
}

/// What people call the rule of this prefix; the empty one is that of `[defaults]`.
#[must_use]
pub fn rule_name(prefix: &[u8]) -> String {
    if prefix.is_empty() {
        "[defaults]".to_owned()
    } else {
        format!("rule {}", show_prefix(prefix))
    }
}

/// The prefix in quotes if it is text, else in hexadecimal digits.
#[must_use]
pub fn show_prefix(prefix: &[u8]) -> String {
    match std::str::from_utf8(prefix) {
        Ok(text) => format!("{text:?}"),
        Err(_) => format!("hex {}", prefix.iter().map(|b| format!("{b:02x}")).collect::<String>()),
    }
}

impl Default for Rule {
    /// The rule where nothing is configured: rule 0, scope host, written through, 30 s in L1,
    /// five minutes in L2, forever in L3, absences remembered for a second, values up to 1 MiB, no
    /// limit to their share.
    fn default() -> Rule {
        Rule {
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
            share_max_permille: None,
            evict: Evict::AsNeeded,
            l2: true,
            client_flags: ClientFlags::Refuse,
        }
    }
}
