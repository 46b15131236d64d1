//! Operations as meta commands.
//!
//! What depends on the bytes of a value takes two: a get, which also tells the server's number for
//! the value, and a change on condition that the number is still the same. Counting is done by the
//! server's own arithmetic, since a store would not keep the life to the second.
//!
//! The number is not always that of the value. When memcached 1.6 counts while somebody reads the
//! value, it leaves the old value to the reader and gives that the new value's number
//! (`do_add_delta`): of 310,000 gets beside two counting clients, 1,576 had a number that stood for
//! another value. So the server itself is asked for the sum, and a value that others may count is
//! read until two gets agree ([`needs_two_gets`]).

use std::sync::Arc;
use std::time::SystemTime;

use l1d_wire::protocol::NotChanged;
use memcache::exp::{MetaCommand, MetaOp, ReturnCode};

use super::header::Header;
use super::{store, unexpected};
use crate::tiers::health::Failure;
use crate::tiers::request::Answer;
use crate::tiers::ttl;
use crate::tiers::{Operate, Operated, Operation};

/// Value, remaining life, client flags, and the number of the value.
pub fn get_unique(key: Vec<u8>) -> MetaCommand {
    MetaCommand::new(MetaOp::Get, key).flag("v t f c")
}

/// The command for an operation that does not depend on the bytes of the value; of any other, a get.
pub fn command(key: Vec<u8>, operate: &Operate) -> MetaCommand {
    match &operate.operation {
        Operation::Add { value, flags } => store(key, value, *flags, operate.ttl, false).flag("ME"),
        Operation::Replace { value, flags } => {
            store(key, value, *flags, operate.ttl, false).flag("MR")
        }
        Operation::Touch => touch(key, operate),
        Operation::GetAndTouch => touch(key, operate).flag("v f"),
        _ => get_unique(key),
    }
}

fn touch(key: Vec<u8>, operate: &Operate) -> MetaCommand {
    let life = |ttl| ttl::memcached_seconds(ttl, SystemTime::now(), false);
    MetaCommand::new(MetaOp::Get, key).flag(format!("T{}", operate.ttl.map_or(0, life)))
}

/// The change that an operation makes of the value with this number, or of none.
pub fn condition(key: Vec<u8>, unique: Option<u64>, operate: &Operate) -> MetaCommand {
    let Some(unique) = unique else {
        let initial = match operate.operation {
            Operation::Count { initial: Some(initial), .. } => initial.to_string(),
            _ => String::new(),
        };
        return store(key, initial.as_bytes(), 0, operate.ttl, false).flag("ME");
    };
    let command = match &operate.operation {
        Operation::CompareAndSet { value, flags, .. } => {
            store(key, value, *flags, operate.ttl, false)
        }
        Operation::DeleteIf { .. } => MetaCommand::new(MetaOp::Delete, key),
        Operation::Append { bytes } => {
            MetaCommand::new(MetaOp::Set, key).flag("MA").value(&**bytes)
        }
        Operation::Prepend { bytes } => {
            MetaCommand::new(MetaOp::Set, key).flag("MP").value(&**bytes)
        }
        Operation::Count { by, .. } => {
            let mode = if *by < 0 { "MD" } else { "MI" };
            MetaCommand::new(MetaOp::Arithmetic, key)
                .flag(mode)
                .flag(format!("D{} v", by.unsigned_abs()))
        }
        _ => return get_unique(key),
    };
    command.flag(format!("C{unique}"))
}

/// Whether a single get of `value` and its number does not do for this operation: the value may be
/// older than the number. Two equal ones are true, since the second has found no older value.
pub fn needs_two_gets(operation: &Operation, value: &[u8]) -> bool {
    let number = std::str::from_utf8(value.trim_ascii_end()).ok();
    let number: Option<u64> = number.and_then(|digits| digits.parse().ok());
    match operation {
        // The server tells the sum. Only what it must not go below or above needs the true value.
        Operation::Count { by, .. } => *by < 0 || number.is_none_or(|number| number > 1 << 62),
        _ => number.is_some(),
    }
}

/// The answer to [`get_unique`].
pub fn unique(header: &Header, value: Option<Arc<[u8]>>) -> Result<Answer, Failure> {
    if header.rc == ReturnCode::En {
        return Ok(Answer::Miss { absent: true });
    }
    if header.is_stale || header.is_leased {
        return Ok(Answer::Miss { absent: false });
    }
    match (value, header.unique) {
        (Some(value), Some(unique)) => Ok(Answer::Unique {
            value,
            remaining: ttl::from_memcached_seconds(header.ttl),
            flags: header.client_flags,
            unique,
        }),
        (None, _) => Ok(Answer::TooLarge { bytes: header.data_bytes.unwrap_or(0) as u64 }),
        (_, None) => Err(Failure::broken("a value without its number")),
    }
}

/// The answer to [`command`].
pub fn operated(
    operate: &Operate,
    code: ReturnCode,
    header: &Header,
    value: Option<Arc<[u8]>>,
) -> Result<Answer, Failure> {
    let operated = match (&operate.operation, code) {
        (Operation::GetAndTouch, ReturnCode::Va) => match value {
            Some(value) => Operated::Done {
                value: Some(value),
                flags: header.client_flags,
                remaining: operate.ttl,
            },
            None => Operated::TooLarge { bytes: header.data_bytes.unwrap_or(0) as u64 },
        },
        (_, ReturnCode::Hd) => Operated::DONE,
        (Operation::Add { .. }, ReturnCode::Ns) => Operated::NotChanged(NotChanged::Exists),
        (_, ReturnCode::Ns | ReturnCode::En) => Operated::NotChanged(NotChanged::Absent),
        (_, other) => return Err(unexpected(other)),
    };
    Ok(Answer::Operated(operated))
}

/// The answer to [`condition`].
pub fn conditioned(code: ReturnCode, value: Option<Arc<[u8]>>) -> Result<Answer, Failure> {
    match code {
        // The sum.
        ReturnCode::Va => Ok(Answer::Operated(Operated::Done { value, flags: 0, remaining: None })),
        ReturnCode::Hd => Ok(Answer::Operated(Operated::DONE)),
        ReturnCode::Ex | ReturnCode::Nf | ReturnCode::Ns => {
            Ok(Answer::Operated(Operated::NotChanged(NotChanged::Conflict)))
        }
        other => Err(unexpected(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_the_servers_own() {
        let count = Operate {
            operation: Operation::Count { by: 2, initial: None },
            ttl: None,
            value_bytes_max: 100,
            is_framed: false,
        };
        let command = condition(b"k".to_vec(), Some(7), &count).encode().unwrap();
        assert_eq!(command, b"ma k MI D2 v C7\r\n");
        let value = Some(b"491"[..].into());
        let Ok(Answer::Operated(Operated::Done { value: Some(sum), .. })) =
            conditioned(ReturnCode::Va, value)
        else {
            panic!("no sum")
        };
        assert_eq!(&*sum, b"491");
    }

    #[test]
    fn a_value_that_others_may_count_is_read_twice() {
        let count = |by| Operation::Count { by, initial: None };
        let append = Operation::Append { bytes: b"x"[..].into() };
        assert!(needs_two_gets(&append, b"17") && needs_two_gets(&append, b"17  "));
        assert!(!needs_two_gets(&append, b"17x") && !needs_two_gets(&append, b""));
        assert!(!needs_two_gets(&count(1), b"17"), "the answer has the sum");
        assert!(needs_two_gets(&count(-1), b"17"), "it must not go below zero");
        assert!(needs_two_gets(&count(1), b"9223372036854775806"), "nor above the limit");
    }
}
