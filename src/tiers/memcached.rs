//! L2: meta commands to one memcached server.
//!
//! The framing of commands and the meaning of responses are the memcache crate's; only the search
//! for the end of a response is ours, because the crate reads from blocking sockets.

use std::time::{Duration, SystemTime};

use memcache::exp::{
    Error, MetaCommand, MetaCommandResult, MetaOp, MetaResponse, ReturnCode, parse_meta_result,
};

use super::connection::{Asked, Protocol};
use super::health::Failure;
use super::key::memcached_key;
use super::request::{Answer, Ask, Request};
use super::ttl;

/// No response line of a meta command is longer: a key in base64 and a few flags.
const LINE_BYTES_MAX: usize = 8 << 10;
/// Memory reserved on the server's word alone for a value; more grows with what arrives.
const VALUE_BYTES_RESERVED: usize = 2 << 20;

/// The meta protocol.
#[derive(Debug, Default)]
pub struct Memcached {
    /// Rises with each command. It travels as the opaque token and comes back with the response, so
    /// that an answer can never be taken for another request's.
    next_opaque: u32,
}

/// A response, or the server's refusal of this one command.
pub type Message = Result<(MetaResponse, Option<Vec<u8>>), String>;

/// A response that has come in part.
#[derive(Debug, Default)]
pub struct Decoder {
    line: Vec<u8>,
    value: Option<Value>,
}

/// A data block of which bytes are missing; `bytes` includes the line end behind it.
#[derive(Debug)]
struct Value {
    response: MetaResponse,
    bytes: Vec<u8>,
    bytes_expected: usize,
}

impl Protocol for Memcached {
    type Message = Message;
    type Shape = u32;
    type Decoder = Decoder;

    fn greet(&self, _: &mut Vec<u8>) -> usize {
        0
    }

    fn probe(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"mn\r\n");
    }

    fn check_session(&self, message: Message) -> Result<(), Failure> {
        match message {
            Ok((response, _)) if response.rc() == ReturnCode::Mn => Ok(()),
            _ => Err(Failure::broken(
                "answers, but not to meta commands; memcached 1.6 or later is needed",
            )),
        }
    }

    fn encode(&mut self, asked: &[Asked], out: &mut Vec<u8>) -> Result<(usize, u32), String> {
        let Some(first) = asked.first() else { return Ok((0, 0)) };
        let opaque = self.next_opaque;
        let before = out.len();
        if let Err(error) = command(&first.request, opaque).encode_into(out) {
            out.truncate(before);
            return Err(format!("cannot encode a request: {error}"));
        }
        self.next_opaque = opaque.wrapping_add(1);
        Ok((1, opaque))
    }

    fn decode(&self, decoder: &mut Decoder, input: &mut &[u8]) -> Result<Option<Message>, Failure> {
        if let Some(value) = &mut decoder.value {
            if !value.take(input) {
                return Ok(None);
            }
            return decoder.value.take().map(Value::finish).transpose();
        }
        let Some(end) = input.iter().position(|&byte| byte == b'\n') else {
            if decoder.line.len() + input.len() > LINE_BYTES_MAX {
                return Err(Failure::broken("a response line without an end"));
            }
            decoder.line.extend_from_slice(std::mem::take(input));
            return Ok(None);
        };
        let (line, rest) = input.split_at(end + 1);
        *input = rest;
        let mut whole = std::mem::take(&mut decoder.line);
        let line = if whole.is_empty() {
            line
        } else {
            whole.extend_from_slice(line);
            &whole
        };
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let response = match MetaResponse::parse_header(line) {
            Ok(response) => response,
            Err(error) => return Ok(Some(Err(refusal(error)?))),
        };
        let Some(bytes) = data_bytes(line) else { return Ok(Some(Ok((response, None)))) };
        let bytes_expected = bytes + 2;
        let bytes = Vec::with_capacity(bytes_expected.min(VALUE_BYTES_RESERVED));
        let mut value = Value { response, bytes, bytes_expected };
        if value.take(input) {
            return value.finish().map(Some);
        }
        decoder.value = Some(value);
        Ok(None)
    }

    fn answer(
        &mut self,
        asked: &[Asked],
        opaque: &mut u32,
        message: Message,
        answers: &mut Vec<Answer>,
    ) -> Result<bool, Failure> {
        let Some(first) = asked.first() else { return Ok(true) };
        answers.push(match message {
            Err(refusal) => Answer::Refused(refusal),
            Ok((response, value)) => {
                let mut result = parse_meta_result(response).map_err(Failure::broken)?;
                result.value = value;
                answer(&first.request, *opaque, result)?
            }
        });
        Ok(true)
    }
}

impl Value {
    /// Takes what is missing out of `input`; `true`: nothing is missing any more.
    fn take(&mut self, input: &mut &[u8]) -> bool {
        let missing = self.bytes_expected - self.bytes.len();
        let (taken, rest) = input.split_at(missing.min(input.len()));
        self.bytes.extend_from_slice(taken);
        *input = rest;
        self.bytes.len() == self.bytes_expected
    }

    fn finish(mut self) -> Result<Message, Failure> {
        if !self.bytes.ends_with(b"\r\n") {
            return Err(Failure::broken("a data block without its line end"));
        }
        self.bytes.truncate(self.bytes_expected - 2);
        Ok(Ok((self.response, Some(self.bytes))))
    }
}

/// Bytes of the data block that follows a response line which the crate has accepted.
fn data_bytes(line: &[u8]) -> Option<usize> {
    let mut tokens = line.split(|&byte| byte == b' ').filter(|token| !token.is_empty());
    (tokens.next()? == b"VA").then(|| std::str::from_utf8(tokens.next()?).ok()?.parse().ok())?
}

fn command(request: &Request, opaque: u32) -> MetaCommand {
    let key = memcached_key(&request.key).into_owned();
    let command = match &request.ask {
        Ask::Get => MetaCommand::new(MetaOp::Get, key).flag("v").flag("t").flag("f"),
        Ask::Set { value, flags, ttl } => store(key, value, *flags, *ttl),
        Ask::Add { value, flags, ttl } => store(key, value, *flags, Some(*ttl)).flag("ME"),
        Ask::Delete => MetaCommand::new(MetaOp::Delete, key),
    };
    command.flag(format!("O{opaque}"))
}

fn store(key: Vec<u8>, value: &[u8], flags: u32, ttl: Option<Duration>) -> MetaCommand {
    let seconds = ttl.map_or(0, |ttl| ttl::memcached_seconds(ttl, SystemTime::now()));
    MetaCommand::new(MetaOp::Set, key)
        .flag(format!("T{seconds}"))
        .flag(format!("F{flags}"))
        .value(value)
}

fn answer(request: &Request, opaque: u32, result: MetaCommandResult) -> Result<Answer, Failure> {
    if result.opaque.as_deref() != Some(opaque.to_string().as_bytes()) {
        return Err(Failure::broken("answers came out of order"));
    }
    match (&request.ask, result.rc) {
        (Ask::Get, ReturnCode::En) => Ok(Answer::Miss { absent: true }),
        // Marked invalid, or a placeholder of a client that is computing the value.
        (Ask::Get, ReturnCode::Va) if result.stale => Ok(Answer::Miss { absent: false }),
        (Ask::Get, ReturnCode::Va) => match result.value {
            Some(value) if value.is_empty() && (result.won || result.busy) => {
                Ok(Answer::Miss { absent: false })
            }
            Some(value) => Ok(Answer::Hit {
                value: value.into(),
                flags: result.client_flags.unwrap_or(0),
                remaining: ttl::from_memcached_seconds(result.ttl),
            }),
            None => Err(Failure::broken("a value without its bytes")),
        },
        (Ask::Set { .. } | Ask::Add { .. }, ReturnCode::Hd) | (Ask::Add { .. }, ReturnCode::Ns) => {
            Ok(Answer::Stored)
        }
        (Ask::Set { .. }, ReturnCode::Ns) => Ok(Answer::Refused("not stored".into())),
        (Ask::Delete, ReturnCode::Hd) => Ok(Answer::Deleted { existed: true }),
        (Ask::Delete, ReturnCode::Nf) => Ok(Answer::Deleted { existed: false }),
        (_, other) => Err(Failure::broken(format!("unexpected answer {other:?}"))),
    }
}

/// The server's refusal of one command, with the connection still in step; any other error line
/// means that the connection cannot be trusted any more.
fn refusal(error: Error) -> Result<String, Failure> {
    match error {
        Error::Server(message) => Ok(message),
        other => Err(Failure::broken(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::connection::testing;
    use super::*;
    use proptest::prelude::*;

    fn decode(pieces: &[&[u8]]) -> Result<Vec<Message>, Failure> {
        testing::decode(&Memcached::default(), pieces)
    }

    const STREAM: &[u8] = b"EN\r\nVA 12 t-1 f7 O1\r\nline\r\nin it\n\r\nHD O2\r\n\
        SERVER_ERROR object too large for cache\r\nVA 0 t5 f0 O3\r\n\r\nMN\r\n";

    proptest! {
        /// The hazard: a response that arrives in pieces is read as another one.
        #[test]
        fn responses_are_the_same_however_they_are_cut(cuts in prop::collection::vec(0..STREAM.len(), 0..9)) {
            let pieces = testing::cut(STREAM, cuts);
            let whole = decode(&[STREAM]).unwrap();
            prop_assert_eq!(whole.len(), 6);
            prop_assert_eq!(whole[1].as_ref().unwrap().1.as_deref(), Some(&b"line\r\nin it\n"[..]));
            prop_assert!(whole[3].is_err());
            prop_assert_eq!(decode(&pieces).unwrap(), whole);
        }

        /// The hazard: a server that talks nonsense ends the daemon.
        #[test]
        fn nonsense_ends_in_an_error_at_worst(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&[&bytes]);
        }
    }

    #[test]
    fn lines_without_an_end_and_lengths_that_lie_are_refused() {
        let line = vec![b'x'; LINE_BYTES_MAX + 1];
        assert!(decode(&[&line]).is_err());
        assert!(decode(&[b"VA 3 f0\r\nabcde"]).is_err(), "no line end behind the value");
        assert!(decode(&[b"VA 99999999999999999999 f0\r\n"]).is_err());
        assert_eq!(decode(&[b"VA 1000000000 f0\r\nabc"]).unwrap(), [], "reserves little ahead");
    }
}
