//! What to change.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A change that would help, as the figures say.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Advice {
    /// What to change: `more-memory`, if twice the memory would bring two points of hit ratio;
    /// `less-memory`, if half of it would cost half a point at most; `share-max`, if one rule takes
    /// half of the table for a twentieth of the hits while others are evicted; `index`, if entries
    /// are evicted because the index is too small for them.
    pub kind: String,
    /// The same for people.
    pub sentence: String,
    /// The figures in the sentence, by name.
    pub figures: BTreeMap<String, f64>,
}
