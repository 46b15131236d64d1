//! Operations: changes of one key that depend on what it holds.

use std::time::Duration;

/// An operation on a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operate<'a> {
    /// The key.
    pub key: &'a [u8],
    /// What to do with it.
    pub operation: Operation<'a>,
    /// Life of the value that the operation stores, or of the one that it touches; `None`: by
    /// policy. What keeps the value's life ([`Operation::keeps_life`]) ignores it.
    pub ttl: Option<Duration>,
}

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation<'a> {
    /// Store the value, unless there is one.
    Add {
        /// The value.
        value: &'a [u8],
        /// Client flags.
        flags: u32,
    },
    /// Store the value, if there is one.
    Replace {
        /// The value.
        value: &'a [u8],
        /// Client flags.
        flags: u32,
    },
    /// Store the value, if the key's entry still has this version.
    CompareAndSet {
        /// The version.
        version: u64,
        /// The value.
        value: &'a [u8],
        /// Client flags.
        flags: u32,
    },
    /// Delete the key, if its entry still has this version.
    DeleteIf {
        /// The version.
        version: u64,
    },
    /// Put these bytes after the value. Its flags and its life stay.
    Append {
        /// The bytes.
        bytes: &'a [u8],
    },
    /// Put these bytes before the value. Its flags and its life stay.
    Prepend {
        /// The bytes.
        bytes: &'a [u8],
    },
    /// Add a number to the value, a signed 64-bit decimal. Its flags and its life stay.
    Count {
        /// The number.
        by: i64,
        /// The value to store where there is none; `None`: that is [`NotChanged::Absent`].
        initial: Option<i64>,
    },
    /// Give the value another life.
    Touch,
    /// The same, and answer with the value.
    GetAndTouch,
}

/// Why an operation has changed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum NotChanged {
    /// The key has a value.
    Exists = 1,
    /// The key has no value.
    Absent = 2,
    /// The key's value is another one than that of the version, or none, or the table has no entry
    /// of that version any more.
    Conflict = 3,
}

impl Operation<'_> {
    /// Whether an existing value keeps its life.
    #[must_use]
    pub fn keeps_life(&self) -> bool {
        matches!(
            self,
            Operation::Append { .. } | Operation::Prepend { .. } | Operation::Count { .. }
        )
    }
}
