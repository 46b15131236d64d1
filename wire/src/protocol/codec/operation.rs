//! Operations as bytes.

use super::{DecodeError, EncodeError, Fields, put_bytes, put_duration, put_number};
use crate::protocol::{NotChanged, Operate, Operation};

const ADD: u8 = 1;
const REPLACE: u8 = 2;
const COMPARE_AND_SET: u8 = 3;
const DELETE_IF: u8 = 4;
const APPEND: u8 = 5;
const PREPEND: u8 = 6;
const COUNT: u8 = 7;
const TOUCH: u8 = 8;
const GET_AND_TOUCH: u8 = 9;

pub(super) fn put_operate(out: &mut Vec<u8>, operate: &Operate<'_>) -> Result<(), EncodeError> {
    put_bytes(out, operate.key)?;
    out.push(u8::from(operate.ttl.is_some()));
    if let Some(ttl) = operate.ttl {
        put_duration(out, ttl);
    }
    match operate.operation {
        Operation::Add { value, flags } => put_value(out, ADD, None, (value, flags)),
        Operation::Replace { value, flags } => put_value(out, REPLACE, None, (value, flags)),
        Operation::CompareAndSet { version, value, flags } => {
            put_value(out, COMPARE_AND_SET, Some(version), (value, flags))
        }
        Operation::DeleteIf { version } => {
            out.push(DELETE_IF);
            out.extend_from_slice(&version.to_le_bytes());
            Ok(())
        }
        Operation::Append { bytes } => {
            out.push(APPEND);
            put_bytes(out, bytes)
        }
        Operation::Prepend { bytes } => {
            out.push(PREPEND);
            put_bytes(out, bytes)
        }
        Operation::Count { by, initial } => {
            out.push(COUNT);
            out.extend_from_slice(&by.to_le_bytes());
            put_number(out, initial);
            Ok(())
        }
        Operation::Touch => {
            out.push(TOUCH);
            Ok(())
        }
        Operation::GetAndTouch => {
            out.push(GET_AND_TOUCH);
            Ok(())
        }
    }
}

fn put_value(
    out: &mut Vec<u8>,
    kind: u8,
    version: Option<u64>,
    (value, flags): (&[u8], u32),
) -> Result<(), EncodeError> {
    out.push(kind);
    out.extend(version.iter().flat_map(|version| version.to_le_bytes()));
    put_bytes(out, value)?;
    out.extend_from_slice(&flags.to_le_bytes());
    Ok(())
}

pub(super) fn take_operate<'a>(fields: &mut Fields<'a>) -> Result<Operate<'a>, DecodeError> {
    let key = fields.bytes("key")?;
    let ttl = fields.option("TTL", Fields::duration)?;
    let operation = match fields.u8("operation")? {
        ADD => Operation::Add { value: fields.bytes("value")?, flags: fields.u32("flags")? },
        REPLACE => {
            Operation::Replace { value: fields.bytes("value")?, flags: fields.u32("flags")? }
        }
        COMPARE_AND_SET => Operation::CompareAndSet {
            version: fields.u64("version")?,
            value: fields.bytes("value")?,
            flags: fields.u32("flags")?,
        },
        DELETE_IF => Operation::DeleteIf { version: fields.u64("version")? },
        APPEND => Operation::Append { bytes: fields.bytes("bytes")? },
        PREPEND => Operation::Prepend { bytes: fields.bytes("bytes")? },
        COUNT => Operation::Count {
            by: fields.i64("number")?,
            initial: fields.option("initial value", Fields::i64)?,
        },
        TOUCH => Operation::Touch,
        GET_AND_TOUCH => Operation::GetAndTouch,
        _ => return Err(DecodeError::Meaningless { field: "operation" }),
    };
    Ok(Operate { key, operation, ttl })
}

pub(super) fn reason_word(reason: NotChanged) -> u8 {
    reason as u8
}

pub(super) fn reason_of(word: u8) -> Result<NotChanged, DecodeError> {
    match word {
        1 => Ok(NotChanged::Exists),
        2 => Ok(NotChanged::Absent),
        3 => Ok(NotChanged::Conflict),
        _ => Err(DecodeError::Meaningless { field: "reason" }),
    }
}
