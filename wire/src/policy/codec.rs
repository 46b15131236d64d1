//! Rules as bytes, for the way from the daemon to its clients. Everything is little-endian:
//!
//! ```text
//!  u8 format = 2 | u8 number of rules - 1 | rule 0 | rule 1 | ...
//!
//!  rule: u8 bytes of the prefix | prefix | u8 scope | u8 write | u8 on_write_error
//!        u64 ttl | u64 l2_ttl | u64 l3_ttl | u64 negative_ttl     in ns; l3_ttl 2^64-1: forever
//!        u32 value_bytes_max | u16 share_max in thousandths; 2^16-1: no limit
//! ```
//!
//! Ids are not encoded: only the daemon uses them. A decoded rule's id is its place.
//!
//! The format belongs to the protocol version: versions 4 and 5 have format 2. A later version with
//! another format still sends format 2 to clients that attach in these.

use super::{OnWriteError, Rule, Scope, WriteMode};
use std::time::Duration;

const FORMAT: u8 = 2;
const UNLIMITED: u16 = u16::MAX;
const FOREVER: u64 = u64::MAX;

/// Why rules make no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// Too many or none.
    #[error("a policy has 1 to {} rules, not {count}", super::RULES_MAX)]
    Count {
        /// How many.
        count: usize,
    },
    /// Rule 0 must match every key.
    #[error("rule 0 holds for all other keys, so its prefix is empty")]
    NoDefault,
    /// Ids rise from 0.
    #[error("rule {position} has id {id}; ids begin with 0 and rise")]
    Id {
        /// The rule's id.
        id: u8,
        /// Its place.
        position: usize,
    },
    /// Two rules would hold for the same keys.
    #[error("rules {first} and {second} have the same prefix; remove one")]
    SamePrefix {
        /// The lower id.
        first: u8,
        /// The higher id.
        second: u8,
    },
    /// More than the encoding carries.
    #[error(
        "the prefix of rule {id} has {bytes} bytes, and at most {} are possible",
        super::PREFIX_BYTES_MAX
    )]
    PrefixTooLong {
        /// The rule.
        id: u8,
        /// Bytes of its prefix.
        bytes: usize,
    },
    /// More than the encoding carries.
    #[error("a lifetime in rule {id} is over 584 years; use none for what is kept forever")]
    TtlTooLong {
        /// The rule.
        id: u8,
    },
    /// A share of nothing, or of more than the table.
    #[error("rule {id} may take {permille} thousandths of the table; a share is 1 to 1000")]
    Share {
        /// The rule.
        id: u8,
        /// Its share.
        permille: u16,
    },
    /// Not what an encoder of this format makes.
    #[error("encoded policy: {what} at byte {at}; the peer does not keep to the protocol")]
    Encoding {
        /// What is wrong.
        what: &'static str,
        /// Where.
        at: usize,
    },
}

/// Nanoseconds as they are encoded; `None` for what does not fit or would mean forever.
pub(super) fn nanoseconds(duration: Duration) -> Option<u64> {
    u64::try_from(duration.as_nanos()).ok().filter(|&ns| ns != FOREVER)
}

/// Of rules that have passed the set's checks.
pub(super) fn encode(rules: &[Rule]) -> Vec<u8> {
    // No rule was let in with a longer one.
    let ns = |ttl: Duration| nanoseconds(ttl).unwrap_or(FOREVER - 1);
    let byte = |count: usize| u8::try_from(count).unwrap_or(u8::MAX);
    let mut out = vec![FORMAT, byte(rules.len() - 1)];
    for rule in rules {
        out.push(byte(rule.prefix.len()));
        out.extend_from_slice(&rule.prefix);
        out.push(match rule.scope {
            Scope::Host => 0,
            Scope::Process => 1,
        });
        out.push(match rule.write {
            WriteMode::Through => 0,
            WriteMode::L1Only => 1,
        });
        out.push(match rule.on_write_error {
            OnWriteError::Refuse => 0,
            OnWriteError::Publish => 1,
        });
        for ttl in
            [ns(rule.ttl), ns(rule.l2_ttl), rule.l3_ttl.map_or(FOREVER, ns), ns(rule.negative_ttl)]
        {
            out.extend_from_slice(&ttl.to_le_bytes());
        }
        out.extend_from_slice(&rule.value_bytes_max.to_le_bytes());
        out.extend_from_slice(&rule.share_max_permille.unwrap_or(UNLIMITED).to_le_bytes());
    }
    out
}

/// The rules, with every length checked but nothing that concerns more than one field.
pub(super) fn decode(bytes: &[u8]) -> Result<Vec<Rule>, PolicyError> {
    let mut reader = Reader { bytes, at: 0 };
    if reader.byte()? != FORMAT {
        return Err(reader.wrong("an unknown format"));
    }
    let last = reader.byte()?;
    let rules = (0..=last).map(|id| reader.rule(id)).collect::<Result<_, _>>()?;
    if reader.at != bytes.len() {
        return Err(PolicyError::Encoding { what: "bytes past the last rule", at: reader.at });
    }
    Ok(rules)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn rule(&mut self, id: u8) -> Result<Rule, PolicyError> {
        let prefix_bytes = usize::from(self.byte()?);
        Ok(Rule {
            id,
            prefix: self.take(prefix_bytes)?.to_vec(),
            scope: self.either(Scope::Host, Scope::Process)?,
            write: self.either(WriteMode::Through, WriteMode::L1Only)?,
            on_write_error: self.either(OnWriteError::Refuse, OnWriteError::Publish)?,
            ttl: self.ttl()?,
            l2_ttl: self.ttl()?,
            l3_ttl: Some(self.u64()?).filter(|&ns| ns != FOREVER).map(Duration::from_nanos),
            negative_ttl: self.ttl()?,
            value_bytes_max: u32::from_le_bytes(self.array()?),
            share_max_permille: Some(u16::from_le_bytes(self.array()?))
                .filter(|&share| share != UNLIMITED),
            ..Rule::default()
        })
    }

    /// One without end is refused by the set's checks.
    fn ttl(&mut self) -> Result<Duration, PolicyError> {
        self.u64().map(Duration::from_nanos)
    }

    fn either<T>(&mut self, zero: T, one: T) -> Result<T, PolicyError> {
        match self.byte()? {
            0 => Ok(zero),
            1 => Ok(one),
            _ => Err(self.wrong("a choice that is neither 0 nor 1")),
        }
    }

    fn byte(&mut self) -> Result<u8, PolicyError> {
        self.array().map(u8::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, PolicyError> {
        self.array().map(u64::from_le_bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PolicyError> {
        let at = self.at;
        let short = PolicyError::Encoding { what: "it ends early", at };
        self.take(N)?.try_into().map_err(|_| short)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], PolicyError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let taken = rest
            .get(..count)
            .ok_or(PolicyError::Encoding { what: "it ends early", at: self.bytes.len() })?;
        self.at += count;
        Ok(taken)
    }

    /// Names the last byte read.
    fn wrong(&self, what: &'static str) -> PolicyError {
        PolicyError::Encoding { what, at: self.at.saturating_sub(1) }
    }
}
