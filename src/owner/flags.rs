//! Client flags, which memcached keeps with a value and Redis does not.
//!
//! Under `client_flags = "frame"`, a value with flags is stored in Redis in a frame:
//!
//! ```text
//!  byte 0             8              12
//!       | 00 'l1d' 00 'flg' | flags, u32 little-endian | the value
//! ```
//!
//! A value without flags is stored as it is, unless it begins like a frame itself: then it gets one,
//! with flags 0. So whatever l1d has stored is read back as it was given.

use super::response::OwnedResponse;
use l1d_wire::policy::{ClientFlags, Rule};
use l1d_wire::protocol::ErrorCode;
use std::sync::Arc;

/// The first bytes of a frame.
const MAGIC: [u8; 8] = crate::tiers::FRAME_MAGIC;
/// Bytes of a frame before the value.
const HEADER_BYTES: usize = crate::tiers::FRAME_BYTES;

/// The bytes that Redis stores for a value with these flags.
pub(super) fn to_l3(rule: &Rule, value: &Arc<[u8]>, flags: u32) -> Arc<[u8]> {
    let is_framed = flags != 0 || value.starts_with(&MAGIC);
    if rule.client_flags != ClientFlags::Frame || !is_framed {
        return value.clone();
    }
    [&MAGIC[..], &flags.to_le_bytes(), value].concat().into()
}

/// The value and the flags that stand in bytes from Redis.
pub(super) fn from_l3(rule: &Rule, stored: Arc<[u8]>) -> (Arc<[u8]>, u32) {
    if rule.client_flags == ClientFlags::Frame
        && let Some((header, value)) = stored.split_first_chunk::<HEADER_BYTES>()
        && let Some(flags) = header.strip_prefix(&MAGIC)
        && let Ok(flags) = flags.try_into()
    {
        return (value.into(), u32::from_le_bytes(flags));
    }
    (stored, 0)
}

/// Refuses flags that would be lost.
///
/// # Errors
/// The answer for the caller.
pub(super) fn check(rule: &Rule, flags: u32) -> Result<(), OwnedResponse> {
    if flags == 0 || rule.client_flags != ClientFlags::Refuse {
        return Ok(());
    }
    let message = format!(
        "a value with client flags ({flags}) would come back from Redis without them; set \
         client_flags of {} to \"frame\", \"never-fill-l2\" or \"ignore\"",
        rule.name(),
    );
    Err(OwnedResponse::error(ErrorCode::Refused, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rule(client_flags: ClientFlags) -> Rule {
        Rule { client_flags, ..Rule::default() }
    }

    proptest! {
        /// The hazard: a value that looks like a frame is read as another one.
        #[test]
        fn what_is_stored_is_read_as_it_was_given(
            value in prop::collection::vec(any::<u8>(), 0..40), frames in 0..3, flags: u32,
            has_flags: bool,
        ) {
            let rule = rule(ClientFlags::Frame);
            let mut value: Arc<[u8]> = value.into();
            for _ in 0..frames {
                value = to_l3(&rule, &value, 7);
            }
            let flags = if has_flags { flags } else { 0 };
            let stored = to_l3(&rule, &value, flags);
            prop_assert_eq!(from_l3(&rule, stored), (value, flags));
        }
    }

    #[test]
    fn the_frame_is_this_byte_for_byte_and_only_where_it_is_needed() {
        let value: Arc<[u8]> = b"value"[..].into();
        let stored = to_l3(&rule(ClientFlags::Frame), &value, 0x0403_0201);
        assert_eq!(*stored, *b"\0l1d\0flg\x01\x02\x03\x04value");
        assert_eq!(to_l3(&rule(ClientFlags::Frame), &value, 0), value);
        for other in [ClientFlags::Refuse, ClientFlags::NeverFillL2, ClientFlags::Ignore] {
            assert_eq!(to_l3(&rule(other), &value, 7), value);
            assert_eq!(from_l3(&rule(other), stored.clone()), (stored.clone(), 0));
        }
        let short: Arc<[u8]> = b"\0l1d\0flg\x01"[..].into();
        assert_eq!(from_l3(&rule(ClientFlags::Frame), short.clone()), (short, 0));
    }
}
