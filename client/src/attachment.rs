//! Which table a client reads, and how it goes from one to the next.
//!
//! A read takes no lock and counts nothing: it loads the pointer to the current table and reads. So
//! when another table takes its place nobody knows whether some thread still reads the old one, or
//! for how long: it may have been stopped in the middle.
//!
//! - The old [`Table`] value therefore stays allocated until the client is dropped, in a list. It
//!   is a few hundred bytes, once for each table that a host has had.
//! - Its memory, which may be gigabytes of a file that exists nowhere else by now, is given back at
//!   once: anonymous zero pages are mapped over the same range, in one act of the kernel. No
//!   address ever becomes invalid. A late reader finds zeros: an empty slot, or a generation that
//!   is not the one it began with (valid ones are at least 2), so it misses; and whatever it had
//!   already checked is void when the state that it loads at the end is 0 and not "serving".
//!
//! Nothing here is locked, so that a forked child can read on wherever its parent's threads stood.
//! [`Attachments::switch`] has one caller at a time in each process.

use crate::table::Table;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

struct Attachment {
    table: Table,
    /// The order in which the connections that brought tables were begun.
    sequence: u64,
    given_back: AtomicBool,
    previous: *mut Attachment,
}

/// The current table and all former ones.
pub(crate) struct Attachments {
    current: AtomicPtr<Attachment>,
}

// SAFETY: owns its attachments, whose parts are Send and Sync; `previous` is only followed.
unsafe impl Send for Attachments {}
// SAFETY: as above.
unsafe impl Sync for Attachments {}

impl Attachments {
    pub(crate) fn none() -> Attachments {
        Attachments { current: AtomicPtr::new(ptr::null_mut()) }
    }

    #[inline]
    fn attachment(&self) -> Option<&Attachment> {
        // Acquire: partners with the Release store of `switch`; who sees the pointer sees the
        // table.
        let current = NonNull::new(self.current.load(Ordering::Acquire))?;
        // SAFETY: made from a Box by `switch` and dropped only with `self`.
        Some(unsafe { current.as_ref() })
    }

    /// The table to read.
    #[inline]
    pub(crate) fn current(&self) -> Option<&Table> {
        self.attachment().map(|attachment| &attachment.table)
    }

    /// Whether a connection that was begun as number `sequence` may replace the current table: what
    /// came over an older connection than the table in use may be an older table.
    pub(crate) fn is_news(&self, sequence: u64) -> bool {
        self.attachment().is_none_or(|current| current.sequence < sequence)
    }

    /// Reads `table` from now on and gives back the memory of the others. One caller at a time.
    pub(crate) fn switch(&self, table: Table, sequence: u64) {
        let previous = self.current.load(Ordering::Relaxed);
        let attachment =
            Box::new(Attachment { table, sequence, given_back: AtomicBool::new(false), previous });
        self.current.store(Box::into_raw(attachment), Ordering::Release);
        // Not only the last one: this process may be a child that was forked between the lines.
        let mut next = previous;
        while let Some(former) = NonNull::new(next) {
            // SAFETY: as in `attachment`.
            let former = unsafe { former.as_ref() };
            if !former.given_back.load(Ordering::Relaxed) {
                former.table.give_back();
                former.given_back.store(true, Ordering::Relaxed);
            }
            next = former.previous;
        }
    }
}

impl Drop for Attachments {
    fn drop(&mut self) {
        let mut next = *self.current.get_mut();
        while let Some(attachment) = NonNull::new(next) {
            // SAFETY: made from a Box, reached once, and `&mut self` says that nobody reads.
            let attachment = unsafe { Box::from_raw(attachment.as_ptr()) };
            next = attachment.previous;
        }
    }
}
