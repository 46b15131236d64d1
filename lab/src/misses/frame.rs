//! The frames between a process and the forwarder. Numbers are little-endian.
//!
//! ```text
//! request:  bytes: u32 | kind: u8 | for each key: bytes: u8, key | for a set: the value
//! reply:    bytes: u32 | for each key, in the order in which the tiers reply:
//!                        position: u8 | found: u8 | bytes: u32 | value
//! ```

use super::stream::Stream;
use anyhow::{Context, Result};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Kinds of requests.
pub const GET: u8 = 0;
pub const SET: u8 = 1;
pub const DELETE: u8 = 2;

/// Appends a request.
pub fn request<'a>(
    out: &mut Vec<u8>,
    kind: u8,
    keys: impl Iterator<Item = &'a [u8]>,
    value: &[u8],
) {
    let start = begin(out);
    out.push(kind);
    for key in keys {
        // Keys in this experiment are far shorter than 256 bytes.
        out.push(u8::try_from(key.len()).unwrap_or(u8::MAX));
        out.extend_from_slice(key);
    }
    out.extend_from_slice(value);
    end(out, start);
}

/// Appends the answer for one key to a reply.
pub fn answer(out: &mut Vec<u8>, position: u8, value: Option<&[u8]>) {
    out.push(position);
    out.push(u8::from(value.is_some()));
    let value = value.unwrap_or_default();
    out.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(value);
}

/// Reserves space for a frame's length.
pub fn begin(out: &mut Vec<u8>) -> usize {
    out.extend_from_slice(&[0; 4]);
    out.len()
}

/// Stores the length of the frame that began at `start`.
pub fn end(out: &mut [u8], start: usize) {
    let length = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    if let Some(place) = out.get_mut(start - 4..start) {
        place.copy_from_slice(&length.to_le_bytes());
    }
}

/// Takes a length-prefixed string off a frame.
pub fn take<'a>(frame: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (&length, rest) = frame.split_first()?;
    let (taken, rest) = rest.split_at_checked(usize::from(length))?;
    *frame = rest;
    Some(taken)
}

/// A process's connection to the forwarder.
pub struct Forwarded {
    stream: Stream<UnixStream>,
    request: Vec<u8>,
}

impl Forwarded {
    /// Connects.
    ///
    /// # Errors
    /// Nothing listens there.
    pub fn connect(socket: &Path) -> Result<Forwarded> {
        let stream = UnixStream::connect(socket).context("cannot connect to the forwarder")?;
        Ok(Forwarded { stream: Stream::over(stream), request: Vec::new() })
    }

    /// Sends a request, and returns the values in the order of the keys.
    ///
    /// # Errors
    /// The forwarder has ended, or violates the protocol.
    pub fn ask<'a>(
        &mut self,
        kind: u8,
        keys: impl ExactSizeIterator<Item = &'a [u8]>,
        value: &[u8],
    ) -> Result<Vec<Option<Vec<u8>>>> {
        let mut values = vec![None; keys.len()];
        self.request.clear();
        request(&mut self.request, kind, keys, value);
        self.stream.send(&self.request)?;
        let bytes = number(self.stream.bytes(4)?)?;
        let mut frame = self.stream.bytes(bytes)?;
        while let Some((head, rest)) = frame.split_at_checked(6) {
            let bytes = number(head.get(2..).unwrap_or_default())?;
            let (value, rest) = rest.split_at_checked(bytes).context("a reply is cut short")?;
            let slot = head.first().and_then(|&at| values.get_mut(usize::from(at)));
            *slot.context("a reply for a key that was not asked")? =
                (head.get(1) == Some(&1)).then(|| value.to_vec());
            frame = rest;
        }
        Ok(values)
    }
}

fn number(bytes: &[u8]) -> Result<usize> {
    let bytes = bytes.try_into().context("a frame without a length")?;
    Ok(usize::try_from(u32::from_le_bytes(bytes))?)
}
