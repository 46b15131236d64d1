//! Under which name memcached holds a key.

use std::borrow::Cow;
use std::fmt::Write as _;

use sha2::{Digest, Sha256};

/// What memcached allows for a key on the wire, in bytes.
const WIRE_BYTES_MAX: usize = 250;
/// Keys that cannot travel are stored under this and 64 hexadecimal digits.
const HASHED_PREFIX: &[u8] = b"l1d:sha256:";

/// The name under which memcached holds `key`.
///
/// | key | memcached holds it under | other clients |
/// |---|---|---|
/// | at most 250 bytes, none of them a space or a control character | its own bytes | all see it |
/// | other bytes, at most 186 of them | its own bytes, sent in base64 with the `b` flag | those that speak meta or binary commands |
/// | anything longer | `l1d:sha256:` and the SHA-256 of the key in hexadecimal | those that compute the same name |
/// | begins with `l1d:sha256:` | hashed likewise, so that no key can pose as another's hash | as above |
///
/// Redis holds every key under its own bytes.
pub fn memcached_key(key: &[u8]) -> Cow<'_, [u8]> {
    let encoded_bytes = key.len().div_ceil(3) * 4;
    let fits = encoded_bytes <= WIRE_BYTES_MAX && !key.starts_with(HASHED_PREFIX);
    if fits || is_plain(key) {
        return Cow::Borrowed(key);
    }
    let mut name = String::from_utf8_lossy(HASHED_PREFIX).into_owned();
    for byte in Sha256::digest(key) {
        // Writing to a String cannot fail.
        let _ = write!(name, "{byte:02x}");
    }
    Cow::Owned(name.into_bytes())
}

/// Whether memcached holds `key` under its own bytes, and these can stand in a command as they are.
pub fn is_plain(key: &[u8]) -> bool {
    (1..=WIRE_BYTES_MAX).contains(&key.len())
        && key.iter().all(|&byte| byte > b' ' && byte != 0x7f)
        && !key.starts_with(HASHED_PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use memcache::exp::{MetaCommand, MetaOp};
    use proptest::prelude::*;

    #[test]
    fn keys_that_can_travel_keep_their_bytes() {
        for key in [&b"analysis:signals"[..], &[b'x'; 250], b"\xff\x80", b"a b\r\n", &[0; 186]] {
            assert_eq!(memcached_key(key), key);
        }
    }

    #[test]
    fn longer_keys_are_hashed() {
        for key in [&[b'x'; 251][..], &[b' '; 187], &[0xff; 65_000]] {
            let name = memcached_key(key);
            assert_eq!(name.len(), HASHED_PREFIX.len() + 64);
            assert!(name.starts_with(HASHED_PREFIX));
        }
        // sha256sum of 251 times "x".
        assert_eq!(
            memcached_key(&[b'x'; 251]),
            &b"l1d:sha256:90d738c31c5ee1241cbcd2ff3d4aa1257ba5b7d717c545c397d37dc060ecf7ff"[..]
        );
    }

    #[test]
    fn no_key_poses_as_the_hash_of_another() {
        let name = memcached_key(&[b'x'; 251]).into_owned();
        assert_ne!(memcached_key(&name), name);
    }

    proptest! {
        #[test]
        fn every_name_can_be_sent(key in proptest::collection::vec(any::<u8>(), 1..400)) {
            let name = memcached_key(&key).into_owned();
            prop_assert!(MetaCommand::new(MetaOp::Get, name).encode().is_ok());
        }
    }
}
