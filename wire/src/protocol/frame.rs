//! Frames: how messages are told apart on a byte stream.
//!
//! ```text
//!  0        4                    4 + length
//!  +--------+--------------------+
//!  | length | payload            |   length: u32, little-endian, of the payload alone
//!  +--------+--------------------+
//!             payload[0] is the message's kind, the rest its fields
//! ```

use std::ops::Range;

/// Bytes before each payload.
pub const HEADER_BYTES: usize = 4;

/// A [`super::Response::Many`] ends with the answer that brings its payload to this many bytes, so
/// that one request for many large values makes neither side hold them all at once.
pub const MANY_BYTES: usize = 4 << 20;

/// A [`super::Request::GetMany`] asks for at most this many keys, and a [`super::Request::SetMany`]
/// brings at most this many values.
pub const MANY_KEYS: usize = 1024;

/// Values are added to a [`super::Request::SetMany`] while it has less than this many bytes: of the
/// room that a daemon has beside its largest value.
pub const MANY_SET_BYTES: usize = 512 << 10;

/// The keys of a [`super::Request::GetMany`] have at most this many bytes together.
pub const MANY_KEY_BYTES: usize = 256 << 10;

/// A peer announced a frame that the receiver will not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the peer announced a frame of {bytes} bytes, the limit is {bytes_max}; close the connection"
)]
pub struct FrameTooLong {
    /// Bytes announced.
    pub bytes: usize,
    /// The receiver's limit.
    pub bytes_max: usize,
}

/// Finds the first frame in what has been received so far.
///
/// Returns where its payload lies in `buffer`, or `None` while it is incomplete. The frame ends
/// where the payload ends: what follows belongs to the next one.
///
/// # Errors
///
/// [`FrameTooLong`] as soon as a payload of more than `payload_bytes_max` is announced, before any
/// of it need be held.
pub fn split(
    buffer: &[u8],
    payload_bytes_max: usize,
) -> Result<Option<Range<usize>>, FrameTooLong> {
    let Some(header) = buffer.first_chunk::<HEADER_BYTES>() else {
        return Ok(None);
    };
    // Where usize is narrower than u32, what does not fit is over every limit anyway.
    let bytes = usize::try_from(u32::from_le_bytes(*header)).unwrap_or(usize::MAX);
    if bytes > payload_bytes_max {
        return Err(FrameTooLong { bytes, bytes_max: payload_bytes_max });
    }
    let end = HEADER_BYTES.saturating_add(bytes);
    Ok((buffer.len() >= end).then_some(HEADER_BYTES..end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_found_only_when_all_of_it_is_there() {
        let buffer = [3, 0, 0, 0, 7, 8, 9, 1];
        for received in 0..7 {
            assert_eq!(split(&buffer[..received], 3), Ok(None), "{received} bytes");
        }
        assert_eq!(split(&buffer[..7], 3), Ok(Some(4..7)));
        assert_eq!(split(&buffer, 3), Ok(Some(4..7)));
    }

    #[test]
    fn a_frame_over_the_limit_is_refused_by_its_header_alone() {
        let refused = split(&[4, 0, 0, 0], 3);
        assert_eq!(refused, Err(FrameTooLong { bytes: 4, bytes_max: 3 }));
        assert!(split(&[255; 4], usize::MAX >> 33).is_err());
    }
}
