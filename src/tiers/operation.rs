//! Operations: changes of a key that depend on what the store of record holds.

use l1d_wire::protocol::NotChanged;
use std::sync::Arc;
use std::time::Duration;

/// An operation for the store of record.
#[derive(Debug)]
pub struct Operate {
    pub operation: Operation,
    /// Life of what the operation stores or touches; `None`: without end.
    pub ttl: Option<Duration>,
    /// A value that would get more bytes is not stored.
    pub value_bytes_max: usize,
    /// Values of the key may stand in frames.
    pub is_framed: bool,
}

/// What it does. Values are as the store of record keeps them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Store the value, unless there is one.
    Add { value: Arc<[u8]>, flags: u32 },
    /// Store the value, if there is one.
    Replace { value: Arc<[u8]>, flags: u32 },
    /// Store the value in place of `expected`.
    CompareAndSet { expected: Arc<[u8]>, value: Arc<[u8]>, flags: u32 },
    /// Delete the key, if its value is `expected`.
    DeleteIf { expected: Arc<[u8]> },
    /// Put these bytes after the value.
    Append { bytes: Arc<[u8]> },
    /// Put these bytes before the value.
    Prepend { bytes: Arc<[u8]> },
    /// Add to a signed 64-bit decimal.
    Count { by: i64, initial: Option<i64> },
    /// Give the value another life.
    Touch,
    /// The same, and tell the value.
    GetAndTouch,
}

impl Operation {
    /// Bytes of the values that it holds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Operation::Add { value, .. } | Operation::Replace { value, .. } => value.len(),
            Operation::CompareAndSet { expected, value, .. } => expected.len() + value.len(),
            Operation::DeleteIf { expected } => expected.len(),
            Operation::Append { bytes } | Operation::Prepend { bytes } => bytes.len(),
            Operation::Count { .. } | Operation::Touch | Operation::GetAndTouch => 0,
        }
    }
}

/// The answer of the store of record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operated {
    /// Done. `value`: the one that the key has now, with its remaining life, if the server has told
    /// it.
    Done { value: Option<Arc<[u8]>>, flags: u32, remaining: Option<Duration> },
    /// Nothing has changed.
    NotChanged(NotChanged),
    /// Nothing has changed, because the value does not allow the operation.
    Refused(String),
    /// The value is too large to be told, or would be to be stored.
    TooLarge { bytes: u64 },
}

impl Operated {
    /// Done, and the server has told no value.
    pub const DONE: Operated = Operated::Done { value: None, flags: 0, remaining: None };
}
