//! The keys that stand out.

use serde::{Deserialize, Serialize};

/// The answer to [`Request::Keys`](crate::protocol::Request::Keys).
///
/// Hits are an estimate, made from a sample of the reports that clients send: the latest 16,384 that
/// the daemon has kept, some 1,600 a second at most. Sizes are those of entries in up to 65,536
/// buckets of the index, which hold half a million entries at most, spread evenly; keys are in
/// buckets by chance, so these are a fair sample of a larger table.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Keys {
    /// Which keys come first.
    pub by: KeyOrder,
    /// What they begin with.
    pub prefix: String,
    /// The keys.
    pub keys: Vec<KeyFigures>,
    /// Reports in the sample.
    pub sampled_reports: u64,
    /// Hits that these stand for.
    pub sampled_hits: u64,
    /// Seconds since the first of them.
    pub covers_seconds: u64,
    /// Entries that were looked at; by hits, the keys that were.
    pub entries_seen: u64,
    /// Entries in the table.
    pub entries: u64,
}

/// Which keys come first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyOrder {
    /// Those that were hit most, lately.
    #[default]
    Hits,
    /// Those with the largest entries.
    Size,
}

/// A key in L1.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeyFigures {
    /// Its first 256 bytes, as text.
    pub key: String,
    /// The same as hex digits, if they are no text; `null`: they are.
    pub key_hex: Option<String>,
    /// Bytes of the key.
    pub key_bytes: u64,
    /// Estimated hits, in the time that the sample covers.
    pub hits: u64,
    /// These in percent of all hits of that time; `null` without any.
    pub hits_percent: Option<f64>,
    /// Bytes of its value.
    pub value_bytes: u64,
    /// Bytes of its entry, with header, key and padding.
    pub entry_bytes: u64,
    /// Its remaining life in milliseconds; `null`: without end.
    pub ttl_ms: Option<u64>,
    /// It says that the key has no value.
    pub known_absent: bool,
    /// Number of the rule that it was stored under.
    pub policy: u8,
}
