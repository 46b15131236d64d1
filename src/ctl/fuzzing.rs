//! The texts that `l1ctl` reads, for the fuzz targets.

use super::key;
use l1d_client::Lifetime;

/// A key in hexadecimal digits.
pub(crate) fn hex_key(text: &str) -> Option<Vec<u8>> {
    key::bytes(text, true).ok()
}

/// A life.
pub(crate) fn lifetime(text: &str) -> Option<Lifetime> {
    key::lifetime(text).ok()
}
