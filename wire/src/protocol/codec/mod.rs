//! The bytes of each message.
//!
//! Numbers are little-endian and of fixed width; a byte string is its length (u32) and its bytes; a
//! duration is whole nanoseconds (u64, the longest life that is told apart is 584 years); an
//! optional field is a byte 0, or a byte 1 and the field. A message is refused unless it is
//! understood to its last byte, with one exception: from version 5 on, an `Attached` may end with its
//! layouts, before the policy's epoch, and fields after that are skipped, because a newer daemon may
//! have added them.

mod operation;
mod request;
mod response;
#[cfg(test)]
mod tests;

use super::frame::{HEADER_BYTES, MANY_KEYS};
use std::time::Duration;

/// Why bytes from a peer are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// A field goes on beyond the end of the message.
    #[error("the message ends inside its {field}; peers of different versions?")]
    Truncated {
        /// The field.
        field: &'static str,
    },
    /// Bytes are left over.
    #[error("{bytes} bytes follow the message's last field; peers of different versions?")]
    Trailing {
        /// How many.
        bytes: usize,
    },
    /// No message has this number.
    #[error("no message is of kind {kind}; peers of different versions?")]
    UnknownKind {
        /// The number.
        kind: u8,
    },
    /// A list is longer than any honest peer's.
    #[error("the message has {count} {field}, the limit is {count_max}; ask for less at once")]
    TooMany {
        /// The field.
        field: &'static str,
        /// How many were announced.
        count: usize,
        /// The limit.
        count_max: usize,
    },
    /// A field has a value that means nothing.
    #[error("the message's {field} has no meaning; peers of different versions?")]
    Meaningless {
        /// The field.
        field: &'static str,
    },
}

/// A message is larger than a frame can tell (4 GiB); nothing was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a message of more than 4 GiB cannot be framed; ask for less at once")]
pub struct EncodeError;

/// Appends one frame whose payload `fields` writes. Leaves `frame` as it was when that fails.
fn encode_frame(
    frame: &mut Vec<u8>,
    kind: u8,
    fields: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let start = frame.len();
    let written = with_length(frame, |frame| {
        frame.push(kind);
        fields(frame)
    });
    if written.is_err() {
        frame.truncate(start);
    }
    written
}

/// Appends what `content` writes, with its length before it.
fn with_length(
    out: &mut Vec<u8>,
    content: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let header = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    let start = out.len();
    content(out)?;
    let length = length_word(out.len() - start)?;
    if let Some(place) = out.get_mut(header..start) {
        place.copy_from_slice(&length);
    }
    Ok(())
}

fn length_word(length: usize) -> Result<[u8; HEADER_BYTES], EncodeError> {
    u32::try_from(length).map(u32::to_le_bytes).map_err(|_| EncodeError)
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), EncodeError> {
    out.extend_from_slice(&length_word(bytes.len())?);
    out.extend_from_slice(bytes);
    Ok(())
}

fn put_number(out: &mut Vec<u8>, number: Option<i64>) {
    out.push(u8::from(number.is_some()));
    out.extend(number.iter().flat_map(|number| number.to_le_bytes()));
}

fn put_duration(out: &mut Vec<u8>, duration: Duration) {
    let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    out.extend_from_slice(&ns.to_le_bytes());
}

/// The rest of a message that is being decoded.
struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn new(payload: &'a [u8]) -> Fields<'a> {
        Fields { rest: payload }
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let (array, rest) =
            self.rest.split_first_chunk::<N>().ok_or(DecodeError::Truncated { field })?;
        self.rest = rest;
        Ok(*array)
    }

    fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.array(field).map(u8::from_le_bytes)
    }

    fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.array(field).map(u32::from_le_bytes)
    }

    fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        self.array(field).map(u64::from_le_bytes)
    }

    fn bool(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        match self.u8(field)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::Meaningless { field }),
        }
    }

    fn duration(&mut self, field: &'static str) -> Result<Duration, DecodeError> {
        self.u64(field).map(Duration::from_nanos)
    }

    fn i64(&mut self, field: &'static str) -> Result<i64, DecodeError> {
        self.array(field).map(i64::from_le_bytes)
    }

    fn option<T>(
        &mut self,
        field: &'static str,
        value: impl FnOnce(&mut Self, &'static str) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        match self.bool(field)? {
            true => value(self, field).map(Some),
            false => Ok(None),
        }
    }

    fn bytes(&mut self, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let length = usize::try_from(self.u32(field)?).unwrap_or(usize::MAX);
        let (bytes, rest) =
            self.rest.split_at_checked(length).ok_or(DecodeError::Truncated { field })?;
        self.rest = rest;
        Ok(bytes)
    }

    fn text(&mut self, field: &'static str) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.bytes(field)?).map_err(|_| DecodeError::Meaningless { field })
    }

    /// A counted list of at most [`MANY_KEYS`] byte strings, each read by `item`.
    fn list<T>(
        &mut self,
        field: &'static str,
        mut item: impl FnMut(&'a [u8]) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let count = usize::try_from(self.u32(field)?).unwrap_or(usize::MAX);
        if count > MANY_KEYS {
            return Err(DecodeError::TooMany { field, count, count_max: MANY_KEYS });
        }
        // Each item takes at least its length word, so a false count cannot make us reserve more
        // than a small multiple of what the peer really sent.
        let mut items = Vec::with_capacity(count.min(self.rest.len() / HEADER_BYTES));
        for _ in 0..count {
            items.push(item(self.bytes(field)?)?);
        }
        Ok(items)
    }

    /// Whether no field is left.
    fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// Skips what a newer peer may have added.
    fn skip_rest(&mut self) {
        self.rest = &[];
    }

    fn end<T>(self, message: T) -> Result<T, DecodeError> {
        match self.rest.len() {
            0 => Ok(message),
            bytes => Err(DecodeError::Trailing { bytes }),
        }
    }
}
