//! One fixed hash for all rivals: sketches and shards depend on it.

use std::hash::{BuildHasherDefault, DefaultHasher};

/// SipHash with fixed keys.
pub type FixedHasher = BuildHasherDefault<DefaultHasher>;
