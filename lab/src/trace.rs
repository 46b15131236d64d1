//! Request traces: one key per line, in request order, plain or xz.

use crate::failure::Failure;
use anyhow::{Context, Result, bail, ensure};
use lzma_rust2::XzReader;
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::path::Path;

/// What an xz file begins with.
const XZ: [u8; 6] = [0xfd, b'7', b'z', b'X', b'Z', 0];

/// memcached takes 250, with the prefix of the run.
const KEY_BYTES_MAX: usize = 200;

/// The requests of a file.
#[derive(Debug, Default)]
pub struct Trace {
    /// Every key once, in order of first request.
    pub keys: Vec<Box<[u8]>>,
    /// The requests, as positions in `keys`.
    pub requests: Vec<u32>,
}

impl Trace {
    /// Reads a file.
    ///
    /// # Errors
    /// A file that cannot be read or holds no request; or a line that is no key: more than 200
    /// bytes, or bytes that are not printable ASCII, as in a line of several columns.
    pub fn read(path: &Path) -> Result<Trace> {
        let error = || {
            Failure::Usage(format!("{} is no trace: one key per line, plain or xz", path.display()))
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

    fn parse(lines: impl BufRead) -> Result<Trace> {
        let mut trace = Trace::default();
        let mut positions: HashMap<Box<[u8]>, u32> = HashMap::new();
        for (number, line) in lines.split(b'\n').enumerate() {
            let line = line.with_context(|| format!("line {}", number + 1))?;
            let key = line.strip_suffix(b"\r").unwrap_or(&line);
            if key.is_empty() {
                continue;
            }
            check(key).with_context(|| format!("line {}", number + 1))?;
            let next = u32::try_from(trace.keys.len()).context("too many keys")?;
            let position = *positions.entry(key.into()).or_insert_with(|| {
                trace.keys.push(key.into());
                next
            });
            trace.requests.push(position);
        }
        ensure!(!trace.requests.is_empty(), "it holds no request");
        Ok(trace)
    }
}

fn check(key: &[u8]) -> Result<()> {
    let bytes = key.len();
    ensure!(bytes <= KEY_BYTES_MAX, "a key of {bytes} bytes; at most {KEY_BYTES_MAX} are taken");
    if let Some(byte) = key.iter().find(|byte| !byte.is_ascii_graphic()) {
        bail!(
            "a key with byte {byte:#04x}; take the column of the key with `cut`, and escape others"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_and_xz_read_the_same_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let plain = directory.path().join("trace");
        std::fs::write(&plain, "b\na\r\nb\n\nc").unwrap();
        let trace = Trace::read(&plain).unwrap();
        assert_eq!(trace.requests, [0, 1, 0, 2]);
        assert_eq!(trace.keys.iter().map(|key| &key[..]).collect::<Vec<_>>(), [b"b", b"a", b"c"]);
        // `printf 'b\na\r\nb\n\nc' | xz`
        let packed = directory.path().join("trace.xz");
        std::fs::write(&packed, XZ_OF_TRACE).unwrap();
        let unpacked = Trace::read(&packed).unwrap();
        assert_eq!((unpacked.requests, unpacked.keys), (trace.requests, trace.keys));
        std::fs::write(&packed, &XZ_OF_TRACE[..XZ_OF_TRACE.len() - 20]).unwrap();
        assert!(Trace::read(&packed).is_err(), "a file that was cut off");
        let refused = |text: &str| {
            std::fs::write(&plain, text).unwrap();
            format!("{:#}", Trace::read(&plain).unwrap_err())
        };
        assert!(refused("\n\n").contains("no request"));
        assert!(refused("a\nb c\n").contains("line 2"), "two columns");
        assert!(refused(&format!("a\n\n{}", "k".repeat(201))).contains("line 3"));
    }

    #[rustfmt::skip]
    const XZ_OF_TRACE: &[u8] = &[253, 55, 122, 88, 90, 0, 0, 4, 230, 214, 180, 70, 2, 0, 33, 1, 22, 0, 0, 0, 116, 47, 229, 163, 1, 0, 8, 98, 10, 97, 13, 10, 98, 10, 10, 99, 0, 0, 0, 0, 81, 154, 215, 175, 189, 182, 181, 122, 0, 1, 33, 9, 108, 24, 197, 213, 31, 182, 243, 125, 1, 0, 0, 0, 0, 4, 89, 90];
}
