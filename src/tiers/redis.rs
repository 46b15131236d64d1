//! L3: commands to one Redis server.
//!
//! Commands are packed and replies parsed by the redis crate. Redis keeps no client flags; a value
//! that was read from it has flags 0.
//!
//! A value and its remaining life must belong together: if another client stored the key between
//! the two commands, the old value would get the new one's life. So they are read in one
//! transaction. Most keys that reach L3 are absent, though, and an absent key has no life to ask
//! for: while that holds, a key is asked for by a bare `GET`, one command instead of four, several
//! keys by `MGET` and `EXISTS`, and a key that turns out to be there is asked for once more, in a
//! transaction.

use std::io::{self, Read};
use std::time::Duration;

use redis::{Cmd, ConnectionInfo, Parser, Pipeline, RedisError, ServerError, Value};

use super::connection::{Asked, Ending, Introduction, Protocol};
use super::health::Failure;
use super::request::{Answer, Ask, Request};
use super::ttl;

/// The oldest major version that is supported.
const VERSION_MIN: u32 = 6;
/// Keys of one transaction.
const TRANSACTION_KEYS_MAX: usize = 128;
/// Reads of the recent past that decide how the next ones are asked: one in `HISTORY`
/// found is the limit for bare `GET`s.
const HISTORY: u32 = 16;

/// The RESP protocol.
#[derive(Debug)]
pub struct Redis {
    server: ConnectionInfo,
    /// Share of reads that found a value lately, in units of 1/65536.
    found_share: u32,
}

/// How an exchange is answered.
#[derive(Debug)]
pub enum Shape {
    /// By one reply to `GET`.
    Get,
    /// By the reply to `MGET`, here once it has come, then by that to `EXISTS`.
    GetMany(Option<Option<Vec<Value>>>),
    /// By one reply to a write.
    Write,
    /// By replies to MULTI and to each command inside, then by EXEC's, which has all values.
    Transaction { replies_left: usize, refusal: Option<String> },
}

/// The bytes of a reply that has come in part are the parser's.
#[derive(Default)]
pub struct Decoder {
    parser: Parser,
}

/// Who a connection is at the server.
#[derive(Debug, Default)]
pub struct Session {
    /// Greetings answered.
    answered: usize,
    /// The server's number for this connection, which it never gives out again.
    client: Option<u64>,
    /// What identifies the server since its start: half of its random identity.
    server: Option<u64>,
}

impl Session {
    /// Server and client; zeros if they are not known.
    pub fn words(&self) -> [u64; 2] {
        [self.server.unwrap_or(0), self.client.unwrap_or(0)]
    }

    /// The session with these words.
    pub fn from_words([server, client]: [u64; 2]) -> Option<Session> {
        let known = server != 0 && client != 0;
        known.then_some(Session { answered: 0, client: Some(client), server: Some(server) })
    }
}

impl Redis {
    pub fn new(server: ConnectionInfo) -> Redis {
        Redis { server, found_share: 1 << 15 }
    }

    /// The commands that open a session as configured.
    fn session_commands(&self) -> Vec<Cmd> {
        let settings = self.server.redis_settings();
        let mut commands = Vec::new();
        let credentials = settings.password().map(|password| (settings.username(), password));
        if settings.protocol().supports_resp3() {
            let mut hello = redis::cmd("HELLO");
            hello.arg(3);
            if let Some((username, password)) = credentials {
                hello.arg("AUTH").arg(username.unwrap_or("default")).arg(password);
            }
            commands.push(hello);
        } else if let Some((username, password)) = credentials {
            let mut auth = redis::cmd("AUTH");
            if let Some(username) = username {
                auth.arg(username);
            }
            auth.arg(password);
            commands.push(auth);
        }
        if settings.db() != 0 {
            let mut select = redis::cmd("SELECT");
            select.arg(settings.db());
            commands.push(select);
        }
        commands
    }

    fn note_read(&mut self, answer: &Answer) {
        let found = match answer {
            Answer::Hit { .. } | Answer::AskAgain => 1 << 16,
            _ => 0,
        };
        self.found_share = (self.found_share * (HISTORY - 1) + found) / HISTORY;
    }

    fn expects_absence(&self) -> bool {
        self.found_share < (1 << 16) / HISTORY
    }
}

impl Protocol for Redis {
    type Message = Value;
    type Shape = Shape;
    type Decoder = Decoder;
    type Session = Session;

    fn greet(&self, out: &mut Vec<u8>) -> usize {
        let mut commands = self.session_commands();
        // Who we are there, so that the next connection can end this one (P12).
        let mut id = redis::cmd("CLIENT");
        id.arg("ID");
        let mut info = redis::cmd("INFO");
        info.arg("server");
        commands.extend([id, info]);
        for command in &commands {
            command.write_packed_command(out);
        }
        commands.len()
    }

    fn greeted(&self, session: &mut Session, message: Value) -> Result<(), Failure> {
        session.answered += 1;
        if session.answered <= self.session_commands().len() {
            return self.check_probe(message);
        }
        match message {
            Value::Int(id) => session.client = u64::try_from(id).ok(),
            Value::BulkString(info) => session.server = run_id(&String::from_utf8_lossy(&info)),
            Value::VerbatimString { text, .. } => session.server = run_id(&text),
            // Not permitted, or not known to what stands between.
            _ => {}
        }
        Ok(())
    }

    fn end_session(&self, own: &Session, former: &Session, out: &mut Vec<u8>) -> Ending {
        let (Some(own), Some(server), Some(id)) = (own.server, former.server, former.client) else {
            return Ending::Impossible;
        };
        // Another server counts its clients anew, and so does this one after a restart.
        if own != server {
            return Ending::OtherServer;
        }
        redis::cmd("CLIENT").arg("KILL").arg("ID").arg(id).write_packed_command(out);
        Ending::Asked
    }

    fn has_ended(&self, message: &Value) -> bool {
        // The number of sessions that were ended; none where it had ended by itself.
        matches!(message, Value::Int(_))
    }

    fn probe(&self, out: &mut Vec<u8>) {
        redis::cmd("PING").write_packed_command(out);
    }

    fn check_probe(&self, message: Value) -> Result<(), Failure> {
        match message {
            Value::ServerError(error) => Err(Failure::broken(error_text(error))),
            _ => Ok(()),
        }
    }

    fn introduce(&self, out: &mut Vec<u8>) {
        redis::cmd("INFO").write_packed_command(out);
    }

    fn introduced(&self, message: Value) -> Result<Introduction, Failure> {
        match message {
            Value::BulkString(text) => Ok(introduction(&String::from_utf8_lossy(&text))),
            Value::VerbatimString { text, .. } => Ok(introduction(&text)),
            // A user who may not ask for this may still read and write.
            Value::ServerError(error) if error.code() == "NOPERM" => Ok(Introduction::default()),
            other => self.check_probe(other).map(|()| Introduction::default()),
        }
    }

    fn encode(
        &mut self,
        asked: &[Asked],
        value_bytes: usize,
        out: &mut Vec<u8>,
    ) -> Result<(usize, Shape), String> {
        let Some(first) = asked.first() else { return Ok((0, Shape::Write)) };
        if !first.request.ask.is_read() {
            write_command(&first.request).write_packed_command(out);
            return Ok((1, Shape::Write));
        }
        let reads = asked.iter().take_while(|asked| asked.request.ask.is_read());
        if self.expects_absence() && !first.is_again {
            let keys: Vec<&[u8]> = reads
                .take_while(|asked| !asked.is_again)
                .map(|asked| &*asked.request.key)
                .take(transaction_keys(value_bytes))
                .collect();
            if let [key] = *keys {
                redis::cmd("GET").arg(key).write_packed_command(out);
                return Ok((1, Shape::Get));
            }
            redis::cmd("MGET").arg(&keys).write_packed_command(out);
            redis::cmd("EXISTS").arg(&keys).write_packed_command(out);
            return Ok((keys.len(), Shape::GetMany(None)));
        }
        let keys: Vec<&[u8]> =
            reads.map(|asked| &*asked.request.key).take(transaction_keys(value_bytes)).collect();
        out.extend_from_slice(&transaction(&keys).get_packed_pipeline());
        // MULTI, MGET, a PTTL for each key, EXEC.
        Ok((keys.len(), Shape::Transaction { replies_left: keys.len() + 3, refusal: None }))
    }

    fn decode(&self, decoder: &mut Decoder, input: &mut &[u8]) -> Result<Option<Value>, Failure> {
        loop {
            let mut source = Source { input: &mut *input, is_exhausted: false };
            return match decoder.parser.parse_value(&mut source) {
                // Later uses of a connection may subscribe; nothing here did.
                Ok(Value::Push { .. }) => continue,
                Ok(value) => Ok(Some(value)),
                Err(_) if source.is_exhausted => Ok(None),
                Err(error) => Err(Failure::broken(error)),
            };
        }
    }

    fn answer(
        &mut self,
        asked: &[Asked],
        shape: &mut Shape,
        message: Value,
        answers: &mut Vec<Answer>,
    ) -> Result<bool, Failure> {
        match shape {
            Shape::Write => answers.push(write_answer(message)),
            Shape::Get => answers.push(get_answer(message)?),
            Shape::GetMany(values @ None) => {
                *values = Some(match message {
                    Value::Array(values) if values.len() == asked.len() => Some(values),
                    Value::ServerError(_) => None,
                    _ => return Err(Failure::broken("unexpected reply to MGET")),
                });
                return Ok(false);
            }
            Shape::GetMany(Some(values)) => {
                answers.extend(get_many_answers(asked.len(), values.take(), message)?);
            }
            Shape::Transaction { replies_left, refusal } => {
                *replies_left -= 1;
                if *replies_left > 0 {
                    if let Value::ServerError(error) = message {
                        refusal.get_or_insert_with(|| error_text(error));
                    }
                    return Ok(false);
                }
                answers.extend(transaction_answers(asked.len(), message, refusal.take())?);
            }
        }
        if !matches!(shape, Shape::Write) {
            for answer in answers.iter() {
                self.note_read(answer);
            }
        }
        Ok(true)
    }
}

/// The server's identity in its `INFO`: random, made at each start.
fn run_id(info: &str) -> Option<u64> {
    let id = info.lines().find_map(|line| line.strip_prefix("run_id:"))?;
    // 40 hexadecimal digits.
    u64::from_str_radix(id.get(..16)?, 16).ok()
}

/// Received bytes as the parser wants them. At their end the parser keeps its state and the bytes
/// of the reply that has begun.
struct Source<'a, 'b> {
    input: &'a mut &'b [u8],
    is_exhausted: bool,
}

impl Read for Source<'_, '_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() {
            self.is_exhausted = true;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.input.read(to)
    }
}

/// Keys that may share a transaction so that its reply is of a moderate size.
fn transaction_keys(value_bytes: usize) -> usize {
    const REPLY_BYTES: usize = 1 << 20;
    (REPLY_BYTES / value_bytes.max(1)).clamp(1, TRANSACTION_KEYS_MAX)
}

fn transaction(keys: &[&[u8]]) -> Pipeline {
    let mut pipeline = Pipeline::with_capacity(1 + keys.len());
    let mut mget = redis::cmd("MGET");
    for key in keys {
        mget.arg(key);
    }
    pipeline.atomic().add_command(mget);
    for key in keys {
        pipeline.cmd("PTTL").arg(key);
    }
    pipeline
}

fn transaction_answers(
    keys: usize,
    message: Value,
    refusal: Option<String>,
) -> Result<Vec<Answer>, Failure> {
    let odd = || Failure::broken("unexpected reply to MULTI, MGET, PTTL, EXEC");
    let replies = match message {
        Value::Array(replies) => replies,
        Value::ServerError(error) => {
            let why = refusal.unwrap_or_else(|| error_text(error));
            return Ok(vec![Answer::Refused(why); keys]);
        }
        _ => return Err(odd()),
    };
    let mut replies = replies.into_iter();
    let values = match replies.next() {
        Some(Value::Array(values)) => values,
        Some(Value::ServerError(error)) => {
            return Ok(vec![Answer::Refused(error_text(error)); keys]);
        }
        _ => return Err(odd()),
    };
    if values.len() != keys || replies.len() != keys {
        return Err(odd());
    }
    values
        .into_iter()
        .zip(replies)
        .map(|(value, pttl)| read_answer(value, &pttl).ok_or_else(odd))
        .collect()
}

fn read_answer(value: Value, pttl: &Value) -> Option<Answer> {
    let Value::Int(pttl) = *pttl else { return None };
    let value = match value {
        // MGET says nil for a key of another type, too; PTTL tells them apart.
        Value::Nil => return Some(Answer::Miss { absent: pttl == -2 }),
        Value::BulkString(value) => value,
        Value::SimpleString(value) => value.into_bytes(),
        _ => return None,
    };
    Some(Answer::Hit { value: value.into(), flags: 0, remaining: ttl::from_redis_ms(pttl) })
}

/// The reply to a bare GET. That a value is there is all that it tells.
fn get_answer(message: Value) -> Result<Answer, Failure> {
    match message {
        Value::Nil => Ok(Answer::Miss { absent: true }),
        Value::BulkString(_) | Value::SimpleString(_) | Value::Okay => Ok(Answer::AskAgain),
        Value::ServerError(error) if error.code() == "WRONGTYPE" => {
            Ok(Answer::Miss { absent: false })
        }
        Value::ServerError(error) => Ok(Answer::Refused(error_text(error))),
        _ => Err(Failure::broken("unexpected reply to GET")),
    }
}

/// The replies to MGET and EXISTS. MGET says nil for a key of another type, too: only if as many
/// keys exist as have a value, the others are known to be absent.
fn get_many_answers(
    keys: usize,
    values: Option<Vec<Value>>,
    exist: Value,
) -> Result<Vec<Answer>, Failure> {
    let (values, exist) = match (values, exist) {
        (Some(values), Value::Int(exist)) => (values, usize::try_from(exist).unwrap_or(0)),
        // Because of one of the keys, perhaps.
        (None, Value::Int(_) | Value::ServerError(_)) | (Some(_), Value::ServerError(_)) => {
            return Ok(vec![Answer::AskAgain; keys]);
        }
        _ => return Err(Failure::broken("unexpected reply to EXISTS")),
    };
    let nils = values.iter().filter(|value| matches!(value, Value::Nil)).count();
    let absent = keys - nils == exist;
    let answer = |value| match value {
        Value::Nil => Ok(Answer::Miss { absent }),
        Value::BulkString(_) | Value::SimpleString(_) | Value::Okay => Ok(Answer::AskAgain),
        _ => Err(Failure::broken("unexpected value in the reply to MGET")),
    };
    values.into_iter().map(answer).collect()
}

fn write_command(request: &Request) -> Cmd {
    let key: &[u8] = &request.key;
    match &request.ask {
        Ask::Set { value, ttl, .. } => set(key, value, *ttl),
        Ask::Add { value, ttl, .. } => {
            let mut command = set(key, value, Some(*ttl));
            command.arg("NX");
            command
        }
        Ask::Get => {
            let mut command = redis::cmd("GET");
            command.arg(key);
            command
        }
        Ask::Delete => {
            // Another thread of the server frees the memory: a large value blocks nobody.
            let mut command = redis::cmd("UNLINK");
            command.arg(key);
            command
        }
    }
}

fn set(key: &[u8], value: &[u8], ttl: Option<Duration>) -> Cmd {
    let mut command = redis::cmd("SET");
    command.arg(key).arg(value);
    if let Some(ttl) = ttl {
        command.arg("PX").arg(ttl::redis_ms(ttl));
    }
    command
}

fn write_answer(reply: Value) -> Answer {
    match reply {
        Value::Okay | Value::Nil => Answer::Stored,
        Value::Int(deleted) => Answer::Deleted { existed: deleted > 0 },
        Value::ServerError(error) => Answer::Refused(error_text(error)),
        other => Answer::Unanswered(format!("unexpected reply of type {}", type_name(&other))),
    }
}

/// What INFO says of the server.
fn introduction(info: &str) -> Introduction {
    let field = |name: &str| {
        info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    };
    let version = field("redis_version");
    let major = version.and_then(|version| version.split('.').next()?.parse::<u32>().ok());
    let problem = if major.is_some_and(|major| major < VERSION_MIN) {
        Some(format!("Redis {VERSION_MIN} or later is needed"))
    } else if field("role") == Some("slave") {
        Some("it is a replica, which refuses writes; configure the address of its master".into())
    } else {
        None
    };
    Introduction { version: version.map(str::to_owned), problem }
}

fn error_text(error: ServerError) -> String {
    RedisError::from(error).to_string()
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::BulkString(_) => "string",
        Value::Array(_) => "array",
        _ => "other",
    }
}

#[cfg(test)]
mod tests;
