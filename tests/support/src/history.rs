//! The history of a key, and which reads it allows: the rules that every test of wrong values
//! shares.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// The changes of one key by its only writer, numbered from 1 in the order in which they were
/// begun. All zero before the first one. It may lie in memory that several processes share: a
/// process that is killed between two steps leaves a change that was begun and not acknowledged.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Key {
    begun: AtomicU64,
    acknowledged: AtomicU64,
    /// The last delete that was begun.
    delete_begun: AtomicU64,
}

/// A read in progress.
#[derive(Debug, Clone, Copy)]
#[must_use = "a read is judged when it has ended"]
pub struct Read {
    acknowledged: u64,
}

/// Why a read is illegal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// A later change had been acknowledged before the read began.
    Older { acknowledged: u64, found: u64 },
    /// No value, although one had been acknowledged before the read began, and no later delete was
    /// begun.
    Missing { acknowledged: u64 },
    /// A change that was not begun when the read ended.
    NeverWritten { begun: u64, found: u64 },
}

impl Key {
    /// The next change begins. Called before its request is sent. Returns its number.
    pub fn begin(&self, is_delete: bool) -> u64 {
        let change = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        if is_delete {
            self.delete_begun.store(change, Ordering::SeqCst);
        }
        change
    }

    /// The change was acknowledged.
    pub fn acknowledge(&self, change: u64) {
        self.acknowledged.fetch_max(change, Ordering::SeqCst);
    }

    /// The last acknowledged change, and whether a delete was begun since.
    pub fn acknowledged(&self) -> (u64, bool) {
        let change = self.acknowledged.load(Ordering::SeqCst);
        (change, self.delete_begun.load(Ordering::SeqCst) >= change)
    }

    /// Every change that was begun is acknowledged.
    pub fn is_settled(&self) -> bool {
        self.acknowledged.load(Ordering::SeqCst) == self.begun.load(Ordering::SeqCst)
    }

    /// A read begins. Called before anything of the key is loaded.
    pub fn read(&self) -> Read {
        Read { acknowledged: self.acknowledged.load(Ordering::SeqCst) }
    }

    /// The read has ended with the value of change `found`, or with none.
    ///
    /// # Errors
    /// It is illegal.
    pub fn judge(&self, read: Read, found: Option<u64>) -> Result<(), Wrong> {
        let Read { acknowledged } = read;
        let Some(found) = found else {
            let delete = self.delete_begun.load(Ordering::SeqCst);
            let is_legal = acknowledged == 0 || delete >= acknowledged;
            return if is_legal { Ok(()) } else { Err(Wrong::Missing { acknowledged }) };
        };
        let begun = self.begun.load(Ordering::SeqCst);
        if found < acknowledged {
            return Err(Wrong::Older { acknowledged, found });
        }
        if found > begun {
            return Err(Wrong::NeverWritten { begun, found });
        }
        Ok(())
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wrong::Older { acknowledged, found } => {
                write!(f, "change {acknowledged} was acknowledged, then {found} was read")
            }
            Wrong::Missing { acknowledged } => {
                write!(f, "change {acknowledged} was acknowledged, then nothing was read")
            }
            Wrong::NeverWritten { begun, found } => {
                write!(f, "change {found} was read, and only {begun} were begun")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_may_return_what_was_acknowledged_before_it_and_all_that_was_begun_since() {
        let key = Key::default();
        assert_eq!(key.judge(key.read(), None), Ok(()));
        let first = key.begin(false);
        let early = key.read();
        assert_eq!(key.judge(early, Some(first)), Ok(()));
        key.acknowledge(first);
        let read = key.read();
        let second = key.begin(false);
        key.acknowledge(second);
        for found in [first, second] {
            assert_eq!(key.judge(read, Some(found)), Ok(()));
        }
        assert_eq!(key.judge(early, None), Ok(()), "it began before the first acknowledgement");
    }

    #[test]
    fn older_unwritten_and_missing_values_are_told_apart() {
        let key = Key::default();
        for _ in 0..2 {
            key.acknowledge(key.begin(false));
        }
        let read = key.read();
        let older = Wrong::Older { acknowledged: 2, found: 1 };
        assert_eq!(key.judge(read, Some(1)), Err(older));
        let unwritten = Wrong::NeverWritten { begun: 2, found: 3 };
        assert_eq!(key.judge(read, Some(3)), Err(unwritten));
        assert_eq!(key.judge(read, None), Err(Wrong::Missing { acknowledged: 2 }));
        key.begin(true);
        assert_eq!(key.judge(read, None), Ok(()), "a delete has begun");
        assert!(!key.is_settled());
    }
}
