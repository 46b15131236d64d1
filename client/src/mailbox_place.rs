//! Where a process keeps its mailbox, and who opens the next one.

use crate::deadline::Deadline;
use crate::error::Error;
use crate::mailbox::ClientEnd;
use crate::sentinel::ProcessMark;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};

/// The mailbox in use, if any.
#[derive(Default)]
pub(crate) struct MailboxPlace {
    current: RwLock<Option<Arc<ClientEnd>>>,
    /// The daemon gave none when it was last asked.
    refused: AtomicBool,
    /// Which daemon that was.
    daemon: AtomicU64,
    /// A thread is opening one.
    is_opening: Mutex<bool>,
    opened: Condvar,
}

impl MailboxPlace {
    /// The mailbox, unless it is dead or there is none.
    pub(crate) fn get(&self) -> Option<Arc<ClientEnd>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.as_ref().filter(|mailbox| !mailbox.is_dead()).cloned()
    }

    /// Passes the mailbox to `visit`, if there is one: for what takes less time than counting its
    /// users.
    pub(crate) fn visit(&self, visit: impl FnOnce(&ClientEnd)) {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(mailbox) = current.as_deref().filter(|mailbox| !mailbox.is_dead()) {
            visit(mailbox);
        }
    }

    /// Uses this mailbox from now on. Threads that still wait in the one before have theirs
    /// answered.
    pub(crate) fn put(&self, mailbox: ClientEnd) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let before = current.replace(Arc::new(mailbox));
        drop(current);
        self.refused.store(false, Ordering::Relaxed);
        // After the lock is released: the last handle unmaps.
        drop(before);
    }

    /// A connection was made to this daemon; another one than the last may give what that did not.
    pub(crate) fn met(&self, daemon: u64) {
        if self.daemon.swap(daemon, Ordering::Relaxed) != daemon {
            self.refused.store(false, Ordering::Relaxed);
        }
    }

    /// The daemon gives no mailbox, or none that this client knows.
    pub(crate) fn refuse(&self) {
        self.refused.store(true, Ordering::Relaxed);
    }

    /// Whether the daemon gave none when it was last asked.
    pub(crate) fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    /// The mailbox, opened by one thread if it must be; `Some(Ok(None))` where the daemon gives
    /// none, `None` when another thread was still opening one at the deadline.
    pub(crate) fn get_or_open(
        &self,
        deadline: &Deadline,
        socket: &Path,
        open: impl FnOnce() -> Result<(), Error>,
    ) -> Option<Result<Option<Arc<ClientEnd>>, Error>> {
        loop {
            if let Some(mailbox) = self.get() {
                return Some(Ok(Some(mailbox)));
            }
            if self.is_refused() {
                return Some(Ok(None));
            }
            let mut is_opening = self.is_opening.lock().unwrap_or_else(PoisonError::into_inner);
            if !*is_opening {
                *is_opening = true;
                drop(is_opening);
                let opening = Opening { place: self, process: ProcessMark::own() };
                let opened = open();
                drop(opening);
                return Some(opened.map(|()| self.get()));
            }
            if deadline.has_passed() {
                return None;
            }
            let waited = self.opened.wait_timeout(is_opening, deadline.slice());
            let (is_opening, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            drop(is_opening);
            if timeout.timed_out()
                && let Err(reason) = deadline.go_on()
            {
                return Some(Err(reason.into_error(socket)));
            }
        }
    }
}

/// Lets other threads open a mailbox when this one is done, also if the program's code panicked.
struct Opening<'a> {
    place: &'a MailboxPlace,
    process: ProcessMark,
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        // In a child, a thread of the parent may have held the lock (R9).
        if self.process.is_own() {
            *self.place.is_opening.lock().unwrap_or_else(PoisonError::into_inner) = false;
            self.place.opened.notify_all();
        }
    }
}
