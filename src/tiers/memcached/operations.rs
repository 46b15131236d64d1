//! Operations as meta commands.
//!
//! What depends on the bytes of a value takes two: a get, which also tells the server's number for
//! the value, and a change on condition that the number is still the same. Counting is done by the
//! server's own arithmetic, since a store would not keep the life to the second.

use std::sync::Arc;
use std::time::SystemTime;

use l1d_wire::protocol::NotChanged;
use memcache::exp::{MetaCommand, MetaOp, ReturnCode};

use super::header::Header;
use super::store;
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
                .flag(format!("D{}", by.unsigned_abs()))
        }
        _ => return get_unique(key),
    };
    command.flag(format!("C{unique}"))
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
        (_, other) => return Err(Failure::broken(format!("unexpected answer {other:?}"))),
    };
    Ok(Answer::Operated(operated))
}

/// The answer to [`condition`].
pub fn conditioned(code: ReturnCode) -> Result<Answer, Failure> {
    match code {
        ReturnCode::Hd => Ok(Answer::Operated(Operated::DONE)),
        ReturnCode::Ex | ReturnCode::Nf | ReturnCode::Ns => {
            Ok(Answer::Operated(Operated::NotChanged(NotChanged::Conflict)))
        }
        other => Err(Failure::broken(format!("unexpected answer {other:?}"))),
    }
}
