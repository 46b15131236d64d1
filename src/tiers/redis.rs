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
//!
//! Keys that share an exchange share nothing else (P15). An exchange that fails as a whole is asked
//! again key by key, and what one reply brings is bounded (`bound`).

mod bound;
mod operations;
mod reply;

use std::time::Duration;

use redis::{Cmd, ConnectionInfo, Parser, Pipeline, ServerError, Value};

use bound::{Bound, Source};
use reply::{get_answer, get_many_answers, size_answer, transaction_answers, write_answer};

use super::connection::{Asked, Ending, Introduction, Protocol};
use super::errors;
use super::health::Failure;
use super::request::{Again, Answer, Ask, Request};
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
    /// Larger values are not kept.
    value_bytes_max: u64,
    /// Share of reads that found a value lately, in units of 1/65536.
    found_share: u32,
}

/// How an exchange is answered.
#[derive(Debug)]
pub enum Shape {
    /// By one reply to `GET`.
    Get,
    /// By the reply to `MGET`, here once it has come, then by that to `EXISTS`.
    GetMany(Option<Result<Vec<Value>, ServerError>>),
    /// By one reply to `STRLEN`.
    Size,
    /// By one reply to a write.
    Write,
    /// By one reply to an operation.
    Operation,
    /// By replies to MULTI and to each command inside, then by EXEC's, which has all values.
    Transaction { replies_left: usize, refusal: Option<ServerError> },
}

/// The bytes of a reply that has come in part are the parser's.
#[derive(Default)]
pub struct Decoder {
    bound: Bound,
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
    /// Speaks to `server`. Values of more than `value_bytes_max` bytes are not kept.
    pub fn new(server: ConnectionInfo, value_bytes_max: u64) -> Redis {
        Redis { server, value_bytes_max, found_share: 1 << 15 }
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
            Answer::Hit { .. } | Answer::AskAgain(Again::WithLife) => 1 << 16,
            Answer::Miss { .. } => 0,
            _ => return,
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
            Value::ServerError(error) => Err(Failure::of(&errors::redis_session(error))),
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
        if let Ask::Operate(operate) = &first.request.ask {
            operations::command(&first.request.key, operate).write_packed_command(out);
            return Ok((1, Shape::Operation));
        }
        if !first.request.ask.is_read() {
            write_command(&first.request).write_packed_command(out);
            return Ok((1, Shape::Write));
        }
        if first.again == Some(Again::Size) {
            redis::cmd("STRLEN").arg(&*first.request.key).write_packed_command(out);
            return Ok((1, Shape::Size));
        }
        let is_bare = self.expects_absence() && first.again.is_none();
        let keys_max = match first.again {
            Some(Again::Alone) => 1,
            _ => transaction_keys(value_bytes),
        };
        let may_share = |asked: &&Asked| match asked.again {
            None => true,
            Some(Again::WithLife) => !is_bare,
            Some(Again::Alone | Again::Size) => keys_max == 1,
        };
        let keys: Vec<&[u8]> = asked
            .iter()
            .take_while(|asked| asked.request.ask.is_read())
            .take_while(may_share)
            .map(|asked| &*asked.request.key)
            .take(keys_max)
            .collect();
        if !is_bare {
            out.extend_from_slice(&transaction(&keys).get_packed_pipeline());
            // MULTI, the values, a PTTL for each key, EXEC.
            let replies_left = keys.len() + 3;
            return Ok((keys.len(), Shape::Transaction { replies_left, refusal: None }));
        }
        if let [key] = *keys {
            redis::cmd("GET").arg(key).write_packed_command(out);
            return Ok((1, Shape::Get));
        }
        redis::cmd("MGET").arg(&keys).write_packed_command(out);
        redis::cmd("EXISTS").arg(&keys).write_packed_command(out);
        Ok((keys.len(), Shape::GetMany(None)))
    }

    fn decode(&self, decoder: &mut Decoder, input: &mut &[u8]) -> Result<Option<Value>, Failure> {
        loop {
            let mut source = Source {
                input: &mut *input,
                bound: &mut decoder.bound,
                value_bytes_max: self.value_bytes_max,
                is_exhausted: false,
            };
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
            Shape::Operation => answers.push(operations::answer(asked.first(), message)),
            Shape::Get => answers.push(get_answer(message)?),
            Shape::Size => answers.push(size_answer(message, self.value_bytes_max)?),
            Shape::GetMany(values @ None) => {
                *values = Some(match message {
                    Value::Array(values) if values.len() == asked.len() => Ok(values),
                    Value::ServerError(error) => Err(error),
                    _ => return Err(Failure::broken("unexpected reply to MGET")),
                });
                return Ok(false);
            }
            Shape::GetMany(Some(values)) => {
                let values = std::mem::replace(values, Ok(Vec::new()));
                answers.extend(get_many_answers(asked.len(), values, message)?);
            }
            Shape::Transaction { replies_left, refusal } => {
                *replies_left -= 1;
                if *replies_left > 0 {
                    if let Value::ServerError(error) = message {
                        refusal.get_or_insert(error);
                    }
                    return Ok(false);
                }
                answers.extend(transaction_answers(asked.len(), message, refusal.take())?);
            }
        }
        if !matches!(shape, Shape::Write | Shape::Operation) {
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

/// Keys that may share a transaction so that its reply is of a moderate size.
fn transaction_keys(value_bytes: usize) -> usize {
    const REPLY_BYTES: usize = 1 << 20;
    (REPLY_BYTES / value_bytes.max(1)).clamp(1, TRANSACTION_KEYS_MAX)
}

fn transaction(keys: &[&[u8]]) -> Pipeline {
    let mut pipeline = Pipeline::with_capacity(1 + keys.len());
    let mut values = redis::cmd(if keys.len() == 1 { "GET" } else { "MGET" });
    values.arg(keys);
    pipeline.atomic().add_command(values);
    for key in keys {
        pipeline.cmd("PTTL").arg(key);
    }
    pipeline
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
        // The others are memcached's, or have commands of their own.
        Ask::Get | Ask::GetUnique | Ask::Operate(_) | Ask::Condition { .. } => {
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

#[cfg(test)]
mod tests;
