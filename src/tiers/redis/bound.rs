//! Bounds what a reply of Redis may bring, before the parser buffers it.
//!
//! Redis sends what a key holds, up to 512 MB, and `MGET` sends it for every key. The parser keeps a
//! reply until its last byte has come. So lengths are read here, on the way to the parser: a string
//! that is too large is skipped as it arrives, and the parser finds an error in its place.
//!
//! | string | the parser gets |
//! |---|---|
//! | of more than `value_bytes_max` bytes | `-L1DTOOLARGE <bytes>` |
//! | that would take the strings of one reply over [`REPLY_BYTES_MAX`], and is not the first | `-L1DLATER` |

use std::io::{self, Read};

/// Bytes of the strings of one reply, unless its first string alone has more.
pub const REPLY_BYTES_MAX: u64 = 4 << 20;
/// Code of the error in place of a string that is too large.
pub const TOO_LARGE: &str = "L1DTOOLARGE";
/// Code of the error in place of a string that must be asked for by itself.
pub const LATER: &str = "L1DLATER";
/// Any line with a length is shorter.
const HEADER_BYTES_MAX: usize = 32;

/// Where the bytes that arrive stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A line begins.
    Start,
    /// A line begins as none does.
    Nonsense,
    /// In a line that has no length.
    Plain,
    /// In a line with a length, which is collected.
    Header,
    /// The collected line goes to the parser from this byte on, then comes this many bytes to pass
    /// or to skip.
    Emit { sent: usize, then: u64, is_skipped: bool },
    /// In a string, with this many bytes left.
    Payload(u64),
    /// In a string that is left out.
    Skipped(u64),
}

/// Follows a stream of replies.
#[derive(Debug)]
pub struct Bound {
    state: State,
    line: Vec<u8>,
    /// Elements of the current reply that have not come; 0 between replies.
    elements: u64,
    /// Bytes of this reply's strings so far.
    bytes: u64,
}

impl Default for Bound {
    fn default() -> Bound {
        Bound { state: State::Start, line: Vec::new(), elements: 1, bytes: 0 }
    }
}

/// Received bytes as the parser wants them. At their end the parser keeps its state and the bytes
/// of the reply that has begun.
pub struct Source<'a, 'b> {
    pub input: &'a mut &'b [u8],
    pub bound: &'a mut Bound,
    pub value_bytes_max: u64,
    pub is_exhausted: bool,
}

impl Read for Source<'_, '_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(room) = to.get_mut(filled..).filter(|room| !room.is_empty()) {
            match self.bound.step(self.input, room, self.value_bytes_max) {
                Some(count) => filled += count,
                None => break,
            }
        }
        // The parser would swallow this byte, if it is the last that has come, and wait for more.
        if filled == 0 && self.bound.state == State::Nonsense {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if filled == 0 && !to.is_empty() {
            self.is_exhausted = true;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(filled)
    }
}

impl Bound {
    /// Takes some bytes out of `input` and gives some to the parser. `None`: `input` is consumed.
    fn step(&mut self, input: &mut &[u8], to: &mut [u8], value_bytes_max: u64) -> Option<usize> {
        match self.state {
            State::Emit { sent, then, is_skipped } => {
                let count = copy(&mut self.line.get(sent..).unwrap_or_default(), to);
                if sent + count < self.line.len() {
                    self.state = State::Emit { sent: sent + count, then, is_skipped };
                    return Some(count);
                }
                self.line.clear();
                self.state = match (then, is_skipped) {
                    (0, _) => State::Start,
                    (_, false) => State::Payload(then),
                    (_, true) => State::Skipped(then),
                };
                Some(count)
            }
            State::Start => {
                self.state = match input.first()? {
                    b'$' | b'=' | b'!' | b'*' | b'~' | b'>' | b'%' | b'|' => State::Header,
                    b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(' => State::Plain,
                    _ => State::Nonsense,
                };
                Some(0)
            }
            State::Nonsense => None,
            State::Plain => {
                let line = line_bytes(input)?;
                let is_whole = input.get(line - 1) == Some(&b'\n') && line <= to.len();
                let count = copy(input, to.get_mut(..line.min(to.len()))?);
                if is_whole {
                    self.state = State::Start;
                    self.take_element(0);
                }
                Some(count)
            }
            State::Header => {
                let line = line_bytes(input)?;
                let (taken, rest) = input.split_at(line);
                self.line.extend_from_slice(taken);
                *input = rest;
                if self.line.ends_with(b"\n") {
                    self.header(value_bytes_max);
                } else if self.line.len() > HEADER_BYTES_MAX {
                    // The parser says what is wrong with it.
                    self.state = State::Emit { sent: 0, then: 0, is_skipped: false };
                }
                Some(0)
            }
            State::Payload(left) => {
                let most = usize::try_from(left).unwrap_or(usize::MAX).min(to.len());
                let count = copy(input, to.get_mut(..most)?);
                self.state = after(left, count, State::Payload);
                (count > 0).then_some(count)
            }
            State::Skipped(left) => {
                let count = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                *input = input.get(count..).unwrap_or_default();
                self.state = after(left, count, State::Skipped);
                (count > 0).then_some(0)
            }
        }
    }

    /// A line with a length is complete.
    fn header(&mut self, value_bytes_max: u64) {
        let kind = self.line.first().copied().unwrap_or(0);
        let number = self.line.get(1..).and_then(|digits| str::from_utf8(digits).ok());
        // As the parser reads it, blanks included. Negative: nil. It refuses all else that is no number.
        let length = number.and_then(|digits| digits.trim().parse::<u64>().ok());
        let is_string = matches!(kind, b'$' | b'=' | b'!');
        let (then, children) = match (length, kind) {
            (None, _) => (0, 0),
            (Some(bytes), _) if is_string => (bytes.saturating_add(2), 0),
            (Some(pairs), b'%') => (0, pairs.saturating_mul(2)),
            // Attributes stand before the element that they belong to.
            (Some(pairs), b'|') => (0, pairs.saturating_mul(2).saturating_add(1)),
            (Some(elements), _) => (0, elements),
        };
        let bytes = then.saturating_sub(2);
        let mut is_skipped = false;
        if bytes > value_bytes_max {
            is_skipped = true;
            self.line = format!("-{TOO_LARGE} {bytes}\r\n").into_bytes();
        } else if self.bytes > 0 && self.bytes + bytes > REPLY_BYTES_MAX {
            is_skipped = true;
            self.line = format!("-{LATER} {bytes}\r\n").into_bytes();
        } else {
            self.bytes += bytes;
        }
        self.take_element(children);
        self.state = State::Emit { sent: 0, then, is_skipped };
    }

    /// An element has come, or has begun, with `children` of its own.
    fn take_element(&mut self, children: u64) {
        self.elements = (self.elements - 1).saturating_add(children);
        if self.elements == 0 {
            self.elements = 1;
            self.bytes = 0;
        }
    }
}

/// Bytes of `input` up to the end of the line, or all of them; `None`: there are none.
fn line_bytes(input: &[u8]) -> Option<usize> {
    let end = input.iter().position(|&byte| byte == b'\n').map_or(input.len(), |at| at + 1);
    (end > 0).then_some(end)
}

fn copy(from: &mut &[u8], to: &mut [u8]) -> usize {
    let count = from.len().min(to.len());
    let (taken, rest) = from.split_at(count);
    if let Some(to) = to.get_mut(..count) {
        to.copy_from_slice(taken);
    }
    *from = rest;
    count
}

fn after(left: u64, count: usize, state: fn(u64) -> State) -> State {
    match left - count as u64 {
        0 => State::Start,
        left => state(left),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAX: u64 = 100;

    /// The stream as the parser gets it, when it arrives in these pieces and is read in portions of
    /// `portion` bytes.
    fn filtered(pieces: &[&[u8]], portion: usize) -> Vec<u8> {
        let (mut bound, mut out) = (Bound::default(), Vec::new());
        let mut to = vec![0; portion];
        for mut piece in pieces.iter().copied() {
            let mut source = Source {
                input: &mut piece,
                bound: &mut bound,
                value_bytes_max: MAX,
                is_exhausted: false,
            };
            while let Ok(count) = source.read(&mut to) {
                out.extend_from_slice(&to[..count]);
            }
            assert!(piece.is_empty() || bound.state == State::Nonsense);
        }
        out
    }

    fn string(bytes: usize) -> Vec<u8> {
        // Of what a string holds, nothing may be taken for the protocol.
        let value: Vec<u8> =
            b"\r\n$500\r\n*3\r\n-ERR\r\n".iter().copied().cycle().take(bytes).collect();
        [format!("${bytes}\r\n").as_bytes(), &value, b"\r\n"].concat()
    }

    fn stream() -> Vec<u8> {
        let small = [&b"+OK\r\n*3\r\n"[..], &string(100), b"$-1\r\n", &string(0)].concat();
        let nested = b"*2\r\n*1\r\n:5\r\n%1\r\n+a\r\n_\r\n|1\r\n+b\r\n+c\r\n:7\r\n";
        [&small[..], nested, b"-ERR no\r\n", b"*0\r\n*-1\r\n"].concat()
    }

    proptest! {
        #[test]
        fn replies_within_the_bounds_pass_however_they_are_cut(
            cuts in prop::collection::vec(0..stream().len(), 0..9), portion in 1_usize..60
        ) {
            let stream = stream();
            let pieces = super::super::super::connection::testing::cut(&stream, cuts);
            prop_assert_eq!(filtered(&pieces, portion), stream);
        }

        #[test]
        fn a_string_that_is_too_large_is_an_error_in_its_place(
            cut in 0_usize..250, portion in 1_usize..60
        ) {
            let stream = [&b"*3\r\n$1\r\na\r\n"[..], &string(200), b":-1\r\n+OK\r\n"].concat();
            let (head, tail) = stream.split_at(cut.min(stream.len()));
            let expected = b"*3\r\n$1\r\na\r\n-L1DTOOLARGE 200\r\n:-1\r\n+OK\r\n";
            prop_assert_eq!(filtered(&[head, tail], portion), expected);
        }

        /// The hazard: an overflow, or an endless loop.
        #[test]
        fn nonsense_passes_somehow(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            filtered(&[&bytes], 7);
        }
    }

    #[test]
    fn a_length_between_blanks_counts() {
        let value = [b'v'; 200];
        for header in ["$ 200\r\n", "$200 \r\n", "$\t200\r\n", "$+200\r\n"] {
            let input = [header.as_bytes(), &value, b"\r\n+OK\r\n"].concat();
            assert_eq!(filtered(&[&input], 300), b"-L1DTOOLARGE 200\r\n+OK\r\n", "{header:?}");
        }
    }

    #[test]
    fn the_strings_of_one_reply_are_bounded_together_and_the_next_reply_begins_afresh() {
        let half = usize::try_from(REPLY_BYTES_MAX / 2).unwrap() + 1;
        let input = [&b"*2\r\n"[..], &string(half), &string(half), &string(half)].concat();
        let mut bound = Bound::default();
        let mut rest = &input[..];
        let mut source = Source {
            input: &mut rest,
            bound: &mut bound,
            value_bytes_max: REPLY_BYTES_MAX * 2,
            is_exhausted: false,
        };
        let mut out = Vec::new();
        assert!(source.read_to_end(&mut out).is_err());
        let later = format!("-{LATER} {half}\r\n");
        assert_eq!(out.len(), input.len() - string(half).len() + later.len());
        assert!(out.ends_with(&string(half)));
    }
}
