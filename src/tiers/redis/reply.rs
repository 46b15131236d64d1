//! The meaning of Redis's replies.

use redis::{ServerError, Value};

use super::bound;
use crate::tiers::errors::{self, Fault, Kind};
use crate::tiers::health::Failure;
use crate::tiers::request::{Again, Answer};
use crate::tiers::ttl;

/// The reply to EXEC: value and remaining life of each key. `refusal` is the first error among the
/// replies before it.
pub fn transaction_answers(
    keys: usize,
    message: Value,
    refusal: Option<ServerError>,
) -> Result<Vec<Answer>, Failure> {
    let odd = || Failure::broken("unexpected reply to a transaction");
    let mut replies = match message {
        Value::Array(replies) => replies.into_iter(),
        Value::ServerError(error) => return Ok(refused(keys, refusal.unwrap_or(error))),
        _ => return Err(odd()),
    };
    let values = match (replies.next(), keys) {
        (Some(value), 1) => vec![value],
        (Some(Value::Array(values)), _) => values,
        (Some(Value::ServerError(error)), _) => return Ok(refused(keys, error)),
        _ => return Err(odd()),
    };
    if values.len() != keys || replies.len() != keys {
        return Err(odd());
    }
    values
        .into_iter()
        .zip(replies)
        .map(|(value, pttl)| read_answer(value, pttl, keys == 1).ok_or_else(odd))
        .collect()
}

fn read_answer(value: Value, pttl: Value, is_alone: bool) -> Option<Answer> {
    let pttl = match pttl {
        Value::Int(pttl) => pttl,
        Value::ServerError(error) => return Some(refusal(errors::redis(error, true))),
        _ => return None,
    };
    let value = match value {
        Value::Nil if pttl == -2 => return Some(Answer::Miss { absent: true }),
        // MGET says nil for a key of another type, too. GET says what is the matter.
        Value::Nil if !is_alone => return Some(Answer::AskAgain(Again::Alone)),
        Value::Nil => return Some(Answer::Miss { absent: false }),
        Value::BulkString(value) => value,
        Value::SimpleString(value) => value.into_bytes(),
        Value::Okay => b"OK".to_vec(),
        Value::ServerError(error) => return Some(no_value(error)),
        _ => return None,
    };
    Some(Answer::Hit { value: value.into(), flags: 0, remaining: ttl::from_redis_ms(pttl) })
}

/// The error that stands in place of a value.
fn no_value(error: ServerError) -> Answer {
    match error.code() {
        bound::TOO_LARGE => {
            let bytes = error.details().and_then(|bytes| bytes.parse().ok());
            Answer::TooLarge { bytes: bytes.unwrap_or(u64::MAX) }
        }
        bound::LATER => Answer::AskAgain(Again::Alone),
        _ => refusal(errors::redis(error, true)),
    }
}

/// The reply to a bare GET. That a value is there is all that it tells.
pub fn get_answer(message: Value) -> Result<Answer, Failure> {
    match message {
        Value::Nil => Ok(Answer::Miss { absent: true }),
        Value::BulkString(_) | Value::SimpleString(_) | Value::Okay => {
            Ok(Answer::AskAgain(Again::WithLife))
        }
        Value::ServerError(error) => Ok(no_value(error)),
        _ => Err(Failure::broken("unexpected reply to GET")),
    }
}

/// The reply to STRLEN, for a key whose value was too large.
pub fn size_answer(message: Value, value_bytes_max: u64) -> Result<Answer, Failure> {
    match message {
        Value::Int(bytes) => match u64::try_from(bytes) {
            Ok(bytes) if bytes > value_bytes_max => Ok(Answer::TooLarge { bytes }),
            _ => Ok(Answer::AskAgain(Again::WithLife)),
        },
        Value::ServerError(error) => Ok(refusal(errors::redis(error, true))),
        _ => Err(Failure::broken("unexpected reply to STRLEN")),
    }
}

/// The replies to MGET and EXISTS. MGET says nil for a key of another type, too: only if as many
/// keys exist as have a value, the others are known to be absent.
pub fn get_many_answers(
    keys: usize,
    values: Result<Vec<Value>, ServerError>,
    exist: Value,
) -> Result<Vec<Answer>, Failure> {
    let (values, exist) = match (values, exist) {
        (Ok(values), Value::Int(exist)) => (values, usize::try_from(exist).unwrap_or(0)),
        (Err(error), Value::Int(_) | Value::ServerError(_))
        | (Ok(_), Value::ServerError(error)) => {
            return Ok(refused(keys, error));
        }
        _ => return Err(Failure::broken("unexpected reply to EXISTS")),
    };
    let nils = values.iter().filter(|value| matches!(value, Value::Nil)).count();
    let are_absent = keys - nils == exist;
    let answer = |value| match value {
        Value::Nil if are_absent => Ok(Answer::Miss { absent: true }),
        Value::Nil => Ok(Answer::AskAgain(Again::Alone)),
        Value::BulkString(_) | Value::SimpleString(_) | Value::Okay => {
            Ok(Answer::AskAgain(Again::WithLife))
        }
        Value::ServerError(error) => Ok(no_value(error)),
        _ => Err(Failure::broken("unexpected value in the reply to MGET")),
    };
    values.into_iter().map(answer).collect()
}

/// The reply to a write.
pub fn write_answer(reply: Value) -> Answer {
    match reply {
        Value::Okay | Value::Nil => Answer::Stored,
        Value::Int(deleted) => Answer::Deleted { existed: deleted > 0 },
        Value::ServerError(error) => refusal(errors::redis(error, false)),
        other => Answer::Unanswered(format!("unexpected reply of type {}", type_name(&other))),
    }
}

/// The refusal of an exchange that reads `keys` keys: what may be one key's trouble is not the
/// answer for the others (P15).
fn refused(keys: usize, error: ServerError) -> Vec<Answer> {
    let fault = errors::redis(error, true);
    if keys > 1 && fault.may_be_one_keys {
        return vec![Answer::AskAgain(Again::Alone); keys];
    }
    vec![refusal(fault); keys]
}

pub fn refusal(fault: Fault) -> Answer {
    match fault.kind {
        Kind::Request => Answer::Refused(fault.word),
        _ => Answer::Faulty(fault),
    }
}

pub fn type_name(value: &Value) -> &'static str {
    match value {
        Value::BulkString(_) => "string",
        Value::Array(_) => "array",
        _ => "other",
    }
}
