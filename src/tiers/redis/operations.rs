//! Operations as commands of Redis. What no command does is a script, which Redis carries out as
//! one step.
//!
//! A script uses `pcall`, so that an error of a command inside is the reply, as if the command had
//! been sent by itself. It tells a counter as the string that Redis keeps: a number of Lua has 53
//! bits.

use std::sync::Arc;
use std::time::Duration;

use l1d_wire::protocol::NotChanged;
use redis::{Cmd, Value};

use super::bound;
use super::reply::{refusal, type_name};
use crate::tiers::connection::Asked;
use crate::tiers::errors;
use crate::tiers::request::{Answer, Ask};
use crate::tiers::ttl;
use crate::tiers::{FRAME_MAGIC, Operate, Operated, Operation};

/// Begins with the value in `old`. No command that could be refused follows the one that writes:
/// then nothing has changed where the reply is an error.
macro_rules! script {
    ($body:literal) => {
        concat!(
            "local k=KEYS[1] local old=redis.pcall('GET',k) ",
            "if type(old)=='table' then return old end ",
            "local function done(r,v,ms) if type(r)=='table' and r.err then return r end ",
            "return {'done',v,ms} end ",
            "local function store(v,ms) if ms=='' then return redis.pcall('SET',k,v) end ",
            "return redis.pcall('SET',k,v,'PX',ms) end ",
            $body
        )
    };
}

/// Arguments: the expected value, the new one, its life.
const COMPARE_AND_SET: &str = script!(
    "if old~=ARGV[1] then return {'conflict'} end return done(store(ARGV[2],ARGV[3]),false,-1)"
);
/// Argument: the expected value.
const DELETE_IF: &str = script!(
    "if old~=ARGV[1] then return {'conflict'} end return done(redis.pcall('UNLINK',k),false,-1)"
);
/// Arguments: bytes before the value, bytes after it, most bytes of the result, the first bytes of
/// a frame; empty: there are none. What stands in a frame stays in it, and what becomes like one is
/// put into one (`owner/flags.rs`).
const EXTEND: &str = script!(
    "if not old then return {'absent'} end local m,h=ARGV[4],'' \
     if m~='' and #old>=#m+4 and string.sub(old,1,#m)==m then \
     h=string.sub(old,1,#m+4) old=string.sub(old,#m+5) end \
     local v=ARGV[1]..old..ARGV[2] if #v>tonumber(ARGV[3]) then return {'large',#v} end \
     if m~='' and h=='' and string.sub(v,1,#m)==m then \
     h=m..string.rep(string.char(0),4) end v=h..v \
     local t=redis.pcall('PTTL',k) if type(t)=='table' then return t end \
     return done(redis.pcall('SET',k,v,'KEEPTTL'),v,t)"
);
/// Arguments: what to add, the value to begin with or nothing, its life.
const COUNT: &str = script!(
    "if not old then if ARGV[2]=='' then return {'absent'} end \
     return done(store(ARGV[2],ARGV[3]),ARGV[2],tonumber(ARGV[3]) or -1) end \
     local t=redis.pcall('PTTL',k) if type(t)=='table' then return t end \
     local r=redis.pcall('INCRBY',k,ARGV[1]) \
     if type(r)=='table' then return r end return done(r,redis.call('GET',k),t)"
);
/// Arguments: the life, and whether to tell the value.
const TOUCH: &str = script!(
    "if not old then return {'absent'} end local r if ARGV[1]=='' then r=redis.pcall('PERSIST',k) \
     else r=redis.pcall('PEXPIRE',k,ARGV[1]) end return done(r,ARGV[2]=='1' and old,-1)"
);

/// The command that carries out `operate` on `key`.
pub fn command(key: &[u8], operate: &Operate) -> Cmd {
    let life = operate.ttl.map(ttl::redis_ms).map_or_else(String::new, |ms| ms.to_string());
    let number = |number: Option<i64>| number.map_or_else(String::new, |n| n.to_string());
    match &operate.operation {
        Operation::Add { value, .. } => set(key, value, operate.ttl, "NX"),
        Operation::Replace { value, .. } => set(key, value, operate.ttl, "XX"),
        Operation::CompareAndSet { expected, value, .. } => {
            eval(COMPARE_AND_SET, key, &[expected, value, life.as_bytes()])
        }
        Operation::DeleteIf { expected } => eval(DELETE_IF, key, &[expected]),
        Operation::Append { bytes } => extend(key, b"", bytes, operate),
        Operation::Prepend { bytes } => extend(key, bytes, b"", operate),
        Operation::Count { by, initial } => {
            let (by, initial) = (number(Some(*by)), number(*initial));
            eval(COUNT, key, &[by.as_bytes(), initial.as_bytes(), life.as_bytes()])
        }
        Operation::Touch => eval(TOUCH, key, &[life.as_bytes(), b"0"]),
        Operation::GetAndTouch => eval(TOUCH, key, &[life.as_bytes(), b"1"]),
    }
}

fn set(key: &[u8], value: &[u8], ttl: Option<Duration>, condition: &str) -> Cmd {
    let mut command = super::set(key, value, ttl);
    command.arg(condition);
    command
}

fn extend(key: &[u8], before: &[u8], after: &[u8], operate: &Operate) -> Cmd {
    let bytes_max = operate.value_bytes_max.to_string();
    let frame = if operate.is_framed { &FRAME_MAGIC[..] } else { &[] };
    eval(EXTEND, key, &[before, after, bytes_max.as_bytes(), frame])
}

fn eval(script: &str, key: &[u8], arguments: &[&[u8]]) -> Cmd {
    let mut command = redis::cmd("EVAL");
    command.arg(script).arg(1).arg(key);
    for argument in arguments {
        command.arg(argument);
    }
    command
}

/// The reply to an operation that was asked for.
pub fn answer(asked: Option<&Asked>, message: Value) -> Answer {
    let operation = asked.and_then(|asked| match &asked.request.ask {
        Ask::Operate(operate) => Some(&operate.operation),
        _ => None,
    });
    let unexpected = |kind| Answer::Unanswered(format!("unexpected reply of type {kind}"));
    let operated = match message {
        Value::Okay => Operated::DONE,
        Value::Nil => Operated::NotChanged(match operation {
            Some(Operation::Add { .. }) => NotChanged::Exists,
            _ => NotChanged::Absent,
        }),
        Value::ServerError(error) => return refusal(errors::redis(error, false)),
        Value::Array(parts) => match outcome(parts) {
            Some(operated) => operated,
            None => return unexpected("array"),
        },
        other => return unexpected(type_name(&other)),
    };
    Answer::Operated(operated)
}

/// What a script tells: a word, and for some a value and its remaining life.
fn outcome(parts: Vec<Value>) -> Option<Operated> {
    let mut parts = parts.into_iter();
    let Value::BulkString(word) = parts.next()? else { return None };
    Some(match &*word {
        b"absent" => Operated::NotChanged(NotChanged::Absent),
        b"conflict" => Operated::NotChanged(NotChanged::Conflict),
        b"large" => match parts.next()? {
            Value::Int(bytes) => Operated::TooLarge { bytes: bytes.unsigned_abs() },
            _ => return None,
        },
        b"done" => match (parts.next()?, parts.next()?) {
            (Value::Nil | Value::Boolean(false), _) => Operated::DONE,
            (Value::BulkString(value), Value::Int(ms)) => {
                let value: Arc<[u8]> = value.into();
                let remaining = ttl::from_redis_ms(ms);
                Operated::Done { value: Some(value), flags: 0, remaining }
            }
            (Value::ServerError(error), _) if error.code() == bound::TOO_LARGE => {
                let bytes = error.details().and_then(|bytes| bytes.parse().ok());
                Operated::TooLarge { bytes: bytes.unwrap_or(u64::MAX) }
            }
            _ => return None,
        },
        _ => return None,
    })
}
