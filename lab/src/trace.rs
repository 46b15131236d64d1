//! Request traces: one key per line, in request order, plain or xz; either all lines or none have
//! the object's size after the key.

use crate::failure::Failure;
use anyhow::{Context, Result, bail, ensure};
use lzma_rust2::XzReader;
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::path::Path;

/// Magic bytes of an xz file.
const XZ: [u8; 6] = [0xfd, b'7', b'z', b'X', b'Z', 0];
/// Bytes of the longest line: what l1d takes as a key.
const LINE_BYTES_MAX: usize = shm_layout::entry::KEY_BYTES_MAX;
/// Separators between a key and its size.
const SEPARATORS: [u8; 3] = [b' ', b'\t', b','];

/// The requests of a file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// Every key once, in order of first request.
    pub keys: Vec<Box<[u8]>>,
    /// The requests, as positions in `keys`.
    pub requests: Vec<u32>,
    /// Bytes of each object, from its first request; `None` without a size column.
    pub sizes: Option<Vec<u32>>,
}

impl Trace {
    /// Reads a file.
    ///
    /// # Errors
    /// A file that cannot be read or holds no request; an empty line, one of more than 65,000 bytes
    /// or one with a bad size, by its number.
    pub fn read(path: &Path) -> Result<Trace> {
        let error = || {
            Failure::Usage(format!(
                "{} is no trace: one key per line, or a key and its size in bytes; plain or xz",
                path.display()
            ))
        };
        let mut file = File::open(path).with_context(error)?;
        let mut head = Vec::new();
        Read::by_ref(&mut file).take(XZ.len() as u64).read_to_end(&mut head).with_context(error)?;
        file.rewind().with_context(error)?;
        let trace = if head == XZ {
            Trace::parse(BufReader::new(XzReader::new(BufReader::new(file), true)))
        } else {
            Trace::parse(BufReader::new(file))
        };
        trace.with_context(error)
    }

    fn parse(mut lines: impl BufRead) -> Result<Trace> {
        let mut trace = Trace::default();
        let mut positions: HashMap<Box<[u8]>, u32> = HashMap::new();
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            // Two more for a line end of two bytes. A file without line ends must not be read as a
            // whole.
            let limit = LINE_BYTES_MAX as u64 + 2;
            let place = || format!("line {number}");
            if lines.by_ref().take(limit).read_until(b'\n', &mut line).with_context(place)? == 0 {
                break;
            }
            let text = line.strip_suffix(b"\n").unwrap_or(&line);
            let text = text.strip_suffix(b"\r").unwrap_or(text);
            let (key, size) = fields(text).with_context(place)?;
            if trace.requests.is_empty() {
                trace.sizes = size.map(|_| Vec::new());
            }
            let next = u32::try_from(trace.keys.len()).context("too many keys")?;
            let position = match positions.get(key) {
                Some(position) => *position,
                None => {
                    positions.insert(key.into(), next);
                    trace.keys.push(key.into());
                    next
                }
            };
            match (&mut trace.sizes, size) {
                (Some(sizes), Some(size)) if position == next => sizes.push(size),
                (Some(_), Some(_)) | (None, None) => {}
                (Some(_), None) => bail!("line {number} has no size, the lines before it have one"),
                (None, Some(_)) => bail!("line {number} has a size, the lines before it have none"),
            }
            trace.requests.push(position);
        }
        ensure!(!trace.requests.is_empty(), "it holds no request");
        Ok(trace)
    }
}

/// The key, and the size if there is one.
fn fields(line: &[u8]) -> Result<(&[u8], Option<u32>)> {
    ensure!(!line.is_empty(), "it is empty");
    ensure!(line.len() <= LINE_BYTES_MAX, "it is longer than {LINE_BYTES_MAX} bytes");
    let Some(at) = line.iter().rposition(|byte| SEPARATORS.contains(byte)) else {
        return Ok((line, None));
    };
    let (key, size) = (&line[..at], &line[at + 1..]);
    ensure!(!key.is_empty(), "there is no key before the size");
    let text = String::from_utf8_lossy(size);
    let bytes = size.iter().all(u8::is_ascii_digit).then(|| text.parse::<u32>().ok()).flatten();
    match bytes {
        Some(bytes) if bytes > 0 => Ok((key, Some(bytes))),
        _ => bail!(
            "{:?} is no size: whole bytes from 1 to {} behind one blank, tab or comma (a key \
             holds none of these)",
            text.chars().take(40).collect::<String>(),
            u32::MAX
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &[u8]) -> Result<Trace> {
        Trace::parse(text)
    }

    #[test]
    fn plain_and_xz_read_the_same_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let plain = directory.path().join("trace");
        std::fs::write(&plain, "b\na\r\nb\nc").unwrap();
        let trace = Trace::read(&plain).unwrap();
        assert_eq!(trace.requests, [0, 1, 0, 2]);
        assert_eq!(trace.keys.iter().map(|key| &key[..]).collect::<Vec<_>>(), [b"b", b"a", b"c"]);
        // `printf 'b\na\r\nb\nc' | xz`
        let packed = directory.path().join("trace.xz");
        std::fs::write(&packed, XZ_OF_TRACE).unwrap();
        assert_eq!(Trace::read(&packed).unwrap(), trace);
        std::fs::write(&packed, &XZ_OF_TRACE[..XZ_OF_TRACE.len() - 20]).unwrap();
        assert!(Trace::read(&packed).is_err(), "a file that was cut off");
    }

    #[test]
    fn an_object_has_the_size_of_its_first_request() {
        let trace = parse(b"a 5\nb,7\na\t6\nc 4294967295\n").unwrap();
        assert_eq!(trace.requests, [0, 1, 0, 2]);
        assert_eq!(trace.sizes.as_deref(), Some(&[5, 7, u32::MAX][..]));
        assert_eq!(parse(b"a\nb\n").unwrap().sizes, None);
    }

    #[test]
    fn a_bad_line_is_named() {
        let long = [vec![b'k'; 65_000], b"\n".to_vec()].concat();
        assert_eq!(parse(&long).unwrap().keys[0].len(), 65_000);
        let too_long = [b"a\nb\n", &vec![b'k'; 65_001][..], b"\nc\n"].concat();
        let endless = [b"a\nb\n", &vec![b'k'; 1 << 20][..]].concat();
        for (text, line, what) in [
            (&b"a\n\nb\n"[..], "line 2", "empty"),
            (b"a\nb\n\n", "line 3", "empty"),
            (&too_long, "line 3", "longer than 65000"),
            (&endless, "line 3", "longer than 65000"),
            (b"a 1\nb x\n", "line 2", "no size"),
            (b"a 1\nb 0\n", "line 2", "no size"),
            (b"a 1\nb -1\n", "line 2", "no size"),
            (b"a 1\nb +1\n", "line 2", "no size"),
            (b"a 1\nb 4294967296\n", "line 2", "no size"),
            (b"a 1\nb \n", "line 2", "no size"),
            (b"a 1\n 1\n", "line 2", "no key"),
            (b"a 1\nb\n", "line 2", "no size"),
            (b"a\nb 1\n", "line 2", "has a size"),
            (b"", "no request", "no request"),
        ] {
            let error = format!("{:#}", parse(text).expect_err(what));
            assert!(error.contains(line) && error.contains(what), "{what}: {error}");
        }
    }

    #[rustfmt::skip]
    const XZ_OF_TRACE: &[u8] = &[
        253, 55, 122, 88, 90, 0, 0, 4, 230, 214, 180, 70, 2, 0, 33, 1, 22, 0, 0, 0, 116, 47, 229,
        163, 1, 0, 7, 98, 10, 97, 13, 10, 98, 10, 99, 0, 156, 31, 48, 105, 6, 9, 234, 231, 0, 1, 32,
        8, 187, 25, 217, 187, 31, 182, 243, 125, 1, 0, 0, 0, 0, 4, 89, 90,
    ];
}
