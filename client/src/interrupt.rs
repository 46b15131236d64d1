//! Ending a call whose thread has received a signal.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Longest wait between two questions: a signal that arrives between two system calls interrupts
/// neither.
pub(crate) const SLICE: Duration = Duration::from_millis(50);

/// The program's function that says whether a call that waits is to end; `None`: none does.
#[derive(Clone, Default)]
pub(crate) struct Interrupt(Option<Arc<dyn Fn() -> bool + Send + Sync>>);

impl Interrupt {
    pub(crate) fn new(ends_call: impl Fn() -> bool + Send + Sync + 'static) -> Interrupt {
        Interrupt(Some(Arc::new(ends_call)))
    }

    /// Whether there is anything to ask.
    pub(crate) fn is_set(&self) -> bool {
        self.0.is_some()
    }

    /// Asks the program. Call it without holding a lock, and take `true` for an answer: it may not
    /// be given again.
    pub(crate) fn ends_call(&self) -> bool {
        self.0.as_ref().is_some_and(|ends_call| ends_call())
    }
}

impl fmt::Debug for Interrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Interrupt").field(&self.is_set()).finish()
    }
}
