//! One hash for all rivals, the same in every run: sketches and shards depend on it.

use std::hash::{BuildHasherDefault, DefaultHasher};

/// SipHash with fixed keys.
pub type FixedHasher = BuildHasherDefault<DefaultHasher>;
