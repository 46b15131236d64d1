//! Commands and replies of memcached and Redis, hand-written: only those that `misses` needs,
//! straight to and from bytes.

use anyhow::{Result, bail, ensure};
use std::io::Write;

/// TTL of a value in memcached, in seconds; the same as l1d's default policy.
const L2_TTL_SECONDS: u32 = 300;
/// TTL of a value in Redis, in ms; the same as the policy of the measured daemon.
pub const L3_TTL_MS: u32 = 3_600_000;

/// A command to memcached.
pub mod l2 {
    use super::{L2_TTL_SECONDS, push};

    /// `mg`, which returns the value.
    pub fn get(out: &mut Vec<u8>, key: &[u8]) {
        push(out, &[b"mg ", key, b" v\r\n"]);
    }

    /// `ms`.
    pub fn set(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
        store(out, key, value, "");
    }

    /// `ms`, unless a value exists.
    pub fn add(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
        store(out, key, value, " ME");
    }

    /// `ms`, without a reply on success.
    pub fn set_quietly(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
        store(out, key, value, " q");
    }

    /// `mn`, whose reply says that all commands before it were carried out.
    pub fn nothing(out: &mut Vec<u8>) {
        push(out, &[b"mn\r\n"]);
    }

    /// `md`.
    pub fn delete(out: &mut Vec<u8>, key: &[u8]) {
        push(out, &[b"md ", key, b"\r\n"]);
    }

    fn store(out: &mut Vec<u8>, key: &[u8], value: &[u8], mode: &str) {
        let rest = format!(" {} T{L2_TTL_SECONDS}{mode}\r\n", value.len());
        push(out, &[b"ms ", key, rest.as_bytes(), value, b"\r\n"]);
    }
}

/// A command to Redis.
pub mod l3 {
    use super::{L3_TTL_MS, push};

    /// GET.
    pub fn get(out: &mut Vec<u8>, key: &[u8]) {
        command(out, &[b"GET", key]);
    }

    /// MGET.
    pub fn get_many(out: &mut Vec<u8>, keys: &[&[u8]]) {
        let words: Vec<&[u8]> = [&b"MGET"[..]].into_iter().chain(keys.iter().copied()).collect();
        command(out, &words);
    }

    /// SET with PX.
    pub fn set(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
        command(out, &[b"SET", key, value, b"PX", L3_TTL_MS.to_string().as_bytes()]);
    }

    /// UNLINK.
    pub fn delete(out: &mut Vec<u8>, key: &[u8]) {
        command(out, &[b"UNLINK", key]);
    }

    fn command(out: &mut Vec<u8>, words: &[&[u8]]) {
        super::line(out, format_args!("*{}", words.len()));
        for word in words {
            super::line(out, format_args!("${}", word.len()));
            push(out, &[word, b"\r\n"]);
        }
    }
}

fn push(out: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        out.extend_from_slice(part);
    }
}

fn line(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing to a vector does not fail.
    let _ = write!(out, "{text}\r\n");
}

/// A tier's reply to one command.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// A value.
    Value(&'a [u8]),
    /// There is no such key.
    Absent,
    /// Stored, deleted, or there was nothing to do.
    Done,
    /// The header of several replies (MGET).
    Many,
}

/// The first reply in `input` and its length; `None` until it is complete.
///
/// # Errors
/// The tier reports an error, or speaks another protocol.
pub fn reply(input: &[u8]) -> Result<Option<(Reply<'_>, usize)>> {
    let Some(end) = input.iter().position(|&byte| byte == b'\n') else { return Ok(None) };
    let line = input.get(..end).unwrap_or_default().trim_ascii_end();
    let start = end + 1;
    let value_bytes = match line {
        [b'V', b'A', b' ', rest @ ..] => number(rest)?,
        b"EN" | b"$-1" => return Ok(Some((Reply::Absent, start))),
        [b'$', rest @ ..] => number(rest)?,
        [b'*', ..] => return Ok(Some((Reply::Many, start))),
        [b'H', b'D', ..] | b"NS" | b"NF" | b"MN" | b"+OK" | [b':', ..] => {
            return Ok(Some((Reply::Done, start)));
        }
        other => bail!("a tier answers {:?}", String::from_utf8_lossy(other)),
    };
    let Some(value) = input.get(start..start + value_bytes) else { return Ok(None) };
    let length = start + value_bytes + 2;
    Ok((input.len() >= length).then_some((Reply::Value(value), length)))
}

fn number(digits: &[u8]) -> Result<usize> {
    let digits = digits.split(|byte| !byte.is_ascii_digit()).next().unwrap_or_default();
    ensure!(!digits.is_empty() && digits.len() < 10, "a tier answers with no length");
    Ok(digits.iter().fold(0, |number, digit| number * 10 + usize::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_found_when_they_are_complete() {
        for (input, wanted) in [
            (&b"VA 3 f0\r\na\r\n\r\nEN\r\n"[..], Some((Reply::Value(b"a\r\n"), 14))),
            (b"$3\r\nabc\r\n", Some((Reply::Value(b"abc"), 9))),
            (b"$3\r\nabc\r", None),
            (b"$-1\r\n", Some((Reply::Absent, 5))),
            (b"EN\r\n", Some((Reply::Absent, 4))),
            (b"HD\r\nHD\r\n", Some((Reply::Done, 4))),
            (b"*2\r\n$-1\r\n", Some((Reply::Many, 4))),
            (b"HD", None),
        ] {
            assert_eq!(reply(input).unwrap(), wanted, "{}", String::from_utf8_lossy(input));
        }
        assert!(reply(b"SERVER_ERROR out of memory\r\n").is_err());
    }
}
