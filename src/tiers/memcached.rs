//! L2: meta commands to one memcached server.
//!
//! The framing of commands and the meaning of responses are the memcache crate's. Ours are the
//! search for the end of a response, because the crate reads from blocking sockets, and the
//! shortest way for what nearly every command and response looks like.
//!
//! Gets that wait together are one exchange of quiet commands: the server answers only those that
//! hit, and a no-op behind them tells that it has come to their end. A miss costs neither side a
//! response.

mod header;
mod operations;

pub use operations::needs_two_gets;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use memcache::exp::{Error, MetaCommand, MetaOp, ReturnCode};

use header::Header;

use super::connection::{Asked, Ending, Protocol};
use super::errors::{self, Fault, Kind};
use super::health::Failure;
use super::key::{is_plain, memcached_key};
use super::request::{Again, Answer, Ask, Request};
use super::ttl;

/// No response line of a meta command is longer: a key in base64 and a few flags.
const LINE_BYTES_MAX: usize = 8 << 10;
/// The server answers it when it has answered everything before.
const NO_OP: &[u8] = b"mn\r\n";
/// Memory reserved on the server's word alone for a value; more grows with what arrives.
const VALUE_BYTES_RESERVED: usize = 2 << 20;

/// The flags of a get: value, remaining life, client flags. The crate copies them as one token.
const GET_FLAGS: &str = "v t f";
/// The same, and no response to a miss.
const GET_FLAGS_QUIET: &str = "v t f q";
/// Gets from which on an exchange of quiet commands pays for its no-op.
const QUIET_GETS_MIN: usize = 3;
/// Gets of one exchange.
const QUIET_GETS_MAX: usize = 64;
/// Bytes of values expected in one exchange, going by their recent size. The first answer waits for
/// the last one.
const QUIET_BYTES_MAX: usize = 64 << 10;
/// Bytes of values kept until an exchange is complete. If there are more, the rest is asked for
/// value by value.
const KEPT_BYTES_MAX: usize = 4 << 20;

/// The meta protocol.
#[derive(Debug)]
pub struct Memcached {
    /// Larger values are not kept.
    value_bytes_max: usize,
    /// Rises with each command. It travels as the opaque token and comes back with the response, so
    /// that an answer can never be taken for another request's.
    next_opaque: u32,
    /// The server holds copies of a store of record. Their expiry is a moment, so that a store that
    /// is carried out late does not live longer (P12).
    holds_copies: bool,
}

/// How an exchange is answered.
#[derive(Debug)]
pub enum Shape {
    /// By the response with this opaque token.
    One(u32),
    /// By a response for each get that hits, or is refused, and the no-op's.
    Quiet(QuietGets),
}

/// The responses to an exchange of quiet gets.
#[derive(Debug)]
pub struct QuietGets {
    /// Opaque token of the first get; those of the others follow.
    first: u32,
    /// The answers that have come.
    answers: Vec<Option<Answer>>,
    /// Bytes of the values among them.
    bytes: usize,
    /// There was an error response, which does not tell what it answers.
    is_refused: bool,
}

/// A response, or the server's refusal of this one command. A value that is too large is left out.
pub type Message = Result<(Header, Option<Arc<[u8]>>), Fault>;

/// A response that has come in part.
#[derive(Debug, Default)]
pub struct Decoder {
    line: Vec<u8>,
    value: Option<Value>,
}

/// A data block of which bytes are missing, its line end included.
#[derive(Debug)]
struct Value {
    header: Header,
    bytes: Vec<u8>,
    missing: usize,
    /// It is too large: its bytes are dropped as they arrive.
    is_skipped: bool,
}

impl Protocol for Memcached {
    type Message = Message;
    type Shape = Shape;
    type Decoder = Decoder;
    type Session = ();

    /// A server that does not know meta commands would carry out the lines of a value as commands:
    /// it is asked before it gets one.
    fn greet(&self, out: &mut Vec<u8>) -> usize {
        out.extend_from_slice(NO_OP);
        1
    }

    fn greeted(&self, (): &mut (), message: Message) -> Result<(), Failure> {
        self.check_probe(message)
    }

    fn end_session(&self, (): &(), (): &(), _: &mut Vec<u8>) -> Ending {
        Ending::Impossible
    }

    fn has_ended(&self, _: &Message) -> bool {
        false
    }

    fn probe(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(NO_OP);
    }

    fn check_probe(&self, message: Message) -> Result<(), Failure> {
        match message {
            Ok((header, _)) if header.rc == ReturnCode::Mn => Ok(()),
            Ok(_) => Err(Failure::broken("unexpected answer to a no-op")),
            Err(fault) => Err(Failure::of(&fault)),
        }
    }

    fn encode(
        &mut self,
        asked: &[Asked],
        value_bytes: usize,
        out: &mut Vec<u8>,
    ) -> Result<(usize, Shape), String> {
        let gets_max = (QUIET_BYTES_MAX / value_bytes.max(1)).min(QUIET_GETS_MAX);
        let may_share =
            |asked: &&Asked| matches!(asked.request.ask, Ask::Get) && asked.again.is_none();
        let gets = asked.iter().take_while(may_share).take(gets_max);
        let count = gets.clone().count();
        if count >= QUIET_GETS_MIN {
            let (first, before) = (self.next_opaque, out.len());
            if gets.clone().all(|asked| self.encode_get(&asked.request, true, out).is_ok()) {
                out.extend_from_slice(NO_OP);
                let answers = vec![None; count];
                let gets = QuietGets { first, answers, bytes: 0, is_refused: false };
                return Ok((count, Shape::Quiet(gets)));
            }
            // The one that cannot be sent is refused when it is the first.
            out.truncate(before);
        }
        let opaque = self.next_opaque;
        match asked.first() {
            Some(first) if matches!(first.request.ask, Ask::Get) => {
                self.encode_get(&first.request, false, out)?;
            }
            Some(first) => {
                let command = command(&first.request, opaque, self.holds_copies);
                self.encode_command(&command, out)?;
            }
            None => {}
        }
        Ok((1, Shape::One(opaque)))
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
        let header = match Header::parse(line) {
            Ok(header) => header,
            Err(error) => return Ok(Some(Err(refusal(error)?))),
        };
        let Some(bytes) = header.data_bytes else { return Ok(Some(Ok((header, None)))) };
        if bytes <= self.value_bytes_max
            && let Some((value, rest)) = input.split_at_checked(bytes)
            && let Some(rest) = rest.strip_prefix(b"\r\n")
        {
            *input = rest;
            return Ok(Some(Ok((header, Some(value.into())))));
        }
        let is_skipped = bytes > self.value_bytes_max;
        let missing = bytes + 2;
        let reserved = if is_skipped { 0 } else { missing.min(VALUE_BYTES_RESERVED) };
        let bytes = Vec::with_capacity(reserved);
        let mut value = Value { header, bytes, missing, is_skipped };
        if value.take(input) {
            return value.finish().map(Some);
        }
        decoder.value = Some(value);
        Ok(None)
    }

    fn answer(
        &mut self,
        asked: &[Asked],
        shape: &mut Shape,
        message: Message,
        answers: &mut Vec<Answer>,
    ) -> Result<bool, Failure> {
        let Some(first) = asked.first() else { return Ok(true) };
        match shape {
            Shape::One(opaque) => answers.push(match message {
                Err(fault) => refused(fault),
                Ok((header, _)) if header.opaque != Some(*opaque) => return Err(out_of_order()),
                Ok((header, value)) => answer(&first.request, &header, value)?,
            }),
            Shape::Quiet(gets) => {
                if !gets.take(asked, message)? {
                    return Ok(false);
                }
                answers.extend(gets.finish());
            }
        }
        Ok(true)
    }
}

impl Memcached {
    /// The protocol with a server that holds copies of a store of record, or is one itself. Values of
    /// more than `value_bytes_max` bytes are not kept.
    pub fn new(holds_copies: bool, value_bytes_max: usize) -> Memcached {
        Memcached { next_opaque: 0, holds_copies, value_bytes_max }
    }

    /// Appends a get for value, remaining life and client flags.
    ///
    /// Nearly all keys stand in the line as they are. It is written here, as the crate's command
    /// takes eight allocations and two looks at each byte of the key: a quarter of what the daemon
    /// did for a miss.
    fn encode_get(
        &mut self,
        request: &Request,
        is_quiet: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), String> {
        let flags = if is_quiet { GET_FLAGS_QUIET } else { GET_FLAGS };
        let opaque = self.next_opaque;
        if !is_plain(&request.key) {
            let key = memcached_key(&request.key).into_owned();
            let flags = format!("{flags} O{opaque}");
            return self.encode_command(&MetaCommand::new(MetaOp::Get, key).flag(flags), out);
        }
        self.next_opaque = opaque.wrapping_add(1);
        out.extend_from_slice(b"mg ");
        out.extend_from_slice(&request.key);
        out.push(b' ');
        out.extend_from_slice(flags.as_bytes());
        out.extend_from_slice(b" O");
        out.extend_from_slice(itoa::Buffer::new().format(opaque).as_bytes());
        out.extend_from_slice(b"\r\n");
        Ok(())
    }

    /// Appends the command that carries the next opaque token, or nothing.
    fn encode_command(&mut self, command: &MetaCommand, out: &mut Vec<u8>) -> Result<(), String> {
        let before = out.len();
        if let Err(error) = command.encode_into(out) {
            out.truncate(before);
            return Err(format!("the request cannot be sent to memcached: {error}"));
        }
        self.next_opaque = self.next_opaque.wrapping_add(1);
        Ok(())
    }
}

impl QuietGets {
    /// Takes one response. `true`: it was the no-op's.
    fn take(&mut self, asked: &[Asked], message: Message) -> Result<bool, Failure> {
        let (header, value) = match message {
            Ok((header, _)) if header.rc == ReturnCode::Mn => return Ok(true),
            Ok(response) => response,
            Err(_) => {
                self.is_refused = true;
                return Ok(false);
            }
        };
        let index = header.opaque.map(|opaque| opaque.wrapping_sub(self.first) as usize);
        let place = index.and_then(|index| Some((self.answers.get_mut(index)?, asked.get(index)?)));
        let Some((place @ None, asked)) = place else { return Err(out_of_order()) };
        let answer = answer(&asked.request, &header, value)?;
        if let Answer::Hit { value, .. } = &answer {
            self.bytes += value.len();
        }
        let is_too_much = self.bytes > KEPT_BYTES_MAX && matches!(answer, Answer::Hit { .. });
        *place = Some(if is_too_much { Answer::AskAgain(Again::Alone) } else { answer });
        Ok(false)
    }

    /// All answers: the server had nothing to say to a get that missed.
    fn finish(&mut self) -> impl Iterator<Item = Answer> {
        let silent = match self.is_refused {
            false => Answer::Miss { absent: true },
            true => Answer::AskAgain(Again::Alone),
        };
        let answers = std::mem::take(&mut self.answers).into_iter();
        answers.map(move |answer| answer.unwrap_or_else(|| silent.clone()))
    }
}

impl Value {
    /// Takes what is missing out of `input`; `true`: nothing is missing any more.
    fn take(&mut self, input: &mut &[u8]) -> bool {
        let (taken, rest) = input.split_at(self.missing.min(input.len()));
        if !self.is_skipped {
            self.bytes.extend_from_slice(taken);
        }
        self.missing -= taken.len();
        *input = rest;
        self.missing == 0
    }

    fn finish(mut self) -> Result<Message, Failure> {
        if self.is_skipped {
            return Ok(Ok((self.header, None)));
        }
        if !self.bytes.ends_with(b"\r\n") {
            return Err(Failure::broken("a data block without its line end"));
        }
        self.bytes.truncate(self.bytes.len() - 2);
        Ok(Ok((self.header, Some(self.bytes.into()))))
    }
}

fn command(request: &Request, opaque: u32, is_copy: bool) -> MetaCommand {
    let key = memcached_key(&request.key).into_owned();
    let command = match &request.ask {
        Ask::Get => MetaCommand::new(MetaOp::Get, key).flag(GET_FLAGS),
        Ask::Set { value, flags, ttl } => store(key, value, *flags, *ttl, is_copy),
        Ask::Add { value, flags, ttl } => store(key, value, *flags, Some(*ttl), is_copy).flag("ME"),
        Ask::Delete => MetaCommand::new(MetaOp::Delete, key),
        Ask::GetUnique => operations::get_unique(key),
        Ask::Operate(operate) => operations::command(key, operate),
        Ask::Condition { unique, operate } => operations::condition(key, *unique, operate),
    };
    command.flag(format!("O{opaque}"))
}

fn store(
    key: Vec<u8>,
    value: &[u8],
    flags: u32,
    ttl: Option<Duration>,
    is_copy: bool,
) -> MetaCommand {
    let seconds = ttl.map_or(0, |ttl| ttl::memcached_seconds(ttl, SystemTime::now(), is_copy));
    MetaCommand::new(MetaOp::Set, key)
        .flag(format!("T{seconds}"))
        .flag(format!("F{flags}"))
        .value(value)
}

fn out_of_order() -> Failure {
    Failure::broken("answers came out of order")
}

/// An answer that the request cannot have, as it stood on the wire.
fn unexpected(code: ReturnCode) -> Failure {
    Failure::broken(format!("unexpected answer {}", format!("{code:?}").to_uppercase()))
}

fn answer(request: &Request, header: &Header, value: Option<Arc<[u8]>>) -> Result<Answer, Failure> {
    match (&request.ask, header.rc) {
        (Ask::Get, ReturnCode::En) => Ok(Answer::Miss { absent: true }),
        // Marked invalid, or a placeholder of a client that is computing the value.
        (Ask::Get, ReturnCode::Va) if header.is_stale => Ok(Answer::Miss { absent: false }),
        (Ask::Get, ReturnCode::Va) => match value {
            Some(value) if value.is_empty() && header.is_leased => {
                Ok(Answer::Miss { absent: false })
            }
            Some(value) => Ok(Answer::Hit {
                value,
                flags: header.client_flags,
                remaining: ttl::from_memcached_seconds(header.ttl),
            }),
            None => match header.data_bytes {
                Some(bytes) => Ok(Answer::TooLarge { bytes: bytes as u64 }),
                None => Err(Failure::broken("a value without its bytes")),
            },
        },
        (Ask::Set { .. } | Ask::Add { .. }, ReturnCode::Hd) | (Ask::Add { .. }, ReturnCode::Ns) => {
            Ok(Answer::Stored)
        }
        (Ask::Set { .. }, ReturnCode::Ns) => Ok(Answer::Refused("not stored".into())),
        (Ask::Delete, ReturnCode::Hd) => Ok(Answer::Deleted { existed: true }),
        (Ask::Delete, ReturnCode::Nf) => Ok(Answer::Deleted { existed: false }),
        (Ask::GetUnique, ReturnCode::En | ReturnCode::Va) => operations::unique(header, value),
        (Ask::Operate(operate), code) => operations::operated(operate, code, header, value),
        (Ask::Condition { .. }, code) => operations::conditioned(code, value),
        (_, other) => Err(unexpected(other)),
    }
}

/// The server's refusal of one command, with the connection still in step; after any other error
/// line the connection cannot be trusted any more.
fn refusal(error: Error) -> Result<Fault, Failure> {
    match error {
        Error::Server(message) => Ok(errors::memcached(message)),
        Error::Rejected(message) if message == "ERROR" || message == "unauthenticated" => {
            Err(Failure::of(&errors::memcached_session(&message)))
        }
        other => Err(Failure::broken(other)),
    }
}

fn refused(fault: Fault) -> Answer {
    match fault.kind {
        Kind::Request => Answer::Refused(fault.word),
        _ => Answer::Faulty(fault),
    }
}

#[cfg(test)]
mod tests;
