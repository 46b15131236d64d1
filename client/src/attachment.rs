//! Which table a client reads, and how it goes from one to the next.
//!
//! A read takes no lock and counts nothing: it loads the pointer to the current table and reads. So
//! when another table replaces it, nothing tells whether a thread still reads the old one, or for
//! how long: it may have been stopped in the middle.
//!
//! - The old [`Table`] value therefore stays allocated until the client is dropped, in a list. It
//!   is a few hundred bytes, once for each table that a host has had.
//! - Its memory, which may be gigabytes of a file that no longer exists anywhere else, is given
//!   back at once: anonymous zero pages are mapped over the same range, in one act of the kernel.
//!   No address ever becomes invalid. A late reader finds zeros: an empty slot, or a generation
//!   that is not the one it began with (valid ones are at least 2), so it misses; and whatever it
//!   had already checked is void when the state that it loads at the end is 0 and not "serving".
//!
//! A daemon's table may have a layout that this client does not know, and a daemon may not let this
//! process attach any more. Then the client has no current table.
//!
//! Nothing here is locked, so that a forked child can read on wherever its parent's threads were.
//! [`Attachments::is_latest`] and [`Attachments::switch`] have one caller at a time in each
//! process.

use crate::table::Table;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

/// Which table it is: its id and its file. A copy of a file has the id of the original.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TableIdentity {
    pub table_id: u64,
    /// Device and inode.
    pub file: Option<(u64, u64)>,
}

impl TableIdentity {
    /// That of no table, of a daemon that hands out none to this process.
    pub(crate) const NONE: TableIdentity = TableIdentity { table_id: 0, file: None };
}

struct Attachment {
    identity: TableIdentity,
    /// `None`: of a layout that this client does not know, or not for this client any more.
    table: Option<Table>,
    /// The order in which the connections that brought tables were begun.
    sequence: u64,
    given_back: AtomicBool,
    previous: *mut Attachment,
}

/// The current table and all former ones.
pub(crate) struct Attachments {
    /// The table of `latest`, or null: all that a hit needs.
    current: AtomicPtr<Table>,
    latest: AtomicPtr<Attachment>,
}

// SAFETY: owns its attachments, whose parts are Send and Sync; `previous` is only followed.
unsafe impl Send for Attachments {}
// SAFETY: as above.
unsafe impl Sync for Attachments {}

impl Attachments {
    pub(crate) fn none() -> Attachments {
        Attachments {
            current: AtomicPtr::new(ptr::null_mut()),
            latest: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// The table to read.
    #[inline]
    pub(crate) fn current(&self) -> Option<&Table> {
        // Acquire: partners with the Release store of `read_latest`; who sees the pointer sees the
        // table.
        let current = NonNull::new(self.current.load(Ordering::Acquire))?;
        // SAFETY: points into an attachment, which was made from a Box by `switch` and is dropped
        // only with `self`.
        Some(unsafe { current.as_ref() })
    }

    fn latest(&self) -> Option<&Attachment> {
        // Acquire: partners with the Release store of `switch`; who sees the pointer sees the
        // attachment.
        let latest = NonNull::new(self.latest.load(Ordering::Acquire))?;
        // SAFETY: made from a Box by `switch` and dropped only with `self`.
        Some(unsafe { latest.as_ref() })
    }

    /// Whether the daemon's table is of a layout that this client does not know.
    pub(crate) fn is_without_table(&self) -> bool {
        self.latest().is_some_and(|latest| latest.table.is_none())
    }

    /// Whether this is the table that came last. One caller at a time.
    pub(crate) fn is_latest(&self, identity: TableIdentity) -> bool {
        let is_latest = self.latest().is_some_and(|latest| latest.identity == identity);
        if is_latest {
            // This process may be a child that was forked between the two stores of `switch`.
            self.read_latest();
        }
        is_latest
    }

    /// Whether a connection that was begun as number `sequence` may replace the current table: what
    /// came over an older connection than the table in use may be an older table.
    pub(crate) fn is_news(&self, sequence: u64) -> bool {
        self.latest().is_none_or(|latest| latest.sequence < sequence)
    }

    /// Reads `table` from now on, or none, and gives back the memory of the others. One caller at a
    /// time.
    pub(crate) fn switch(&self, identity: TableIdentity, table: Option<Table>, sequence: u64) {
        let previous = self.latest.load(Ordering::Relaxed);
        let given_back = AtomicBool::new(false);
        let attachment = Box::new(Attachment { identity, table, sequence, given_back, previous });
        self.latest.store(Box::into_raw(attachment), Ordering::Release);
        self.read_latest();
        // Not only the last one: this process may be a child that was forked between the lines.
        let mut next = previous;
        while let Some(former) = NonNull::new(next) {
            // SAFETY: as in `latest`.
            let former = unsafe { former.as_ref() };
            if !former.given_back.load(Ordering::Relaxed) {
                if let Some(table) = &former.table {
                    table.give_back();
                }
                former.given_back.store(true, Ordering::Relaxed);
            }
            next = former.previous;
        }
    }

    /// Makes the table that came last the current one.
    fn read_latest(&self) {
        let table = self.latest().and_then(|latest| latest.table.as_ref());
        let table = table.map_or(ptr::null(), ptr::from_ref);
        // Release: partners with the Acquire load of `current`.
        self.current.store(table.cast_mut(), Ordering::Release);
    }
}

impl Drop for Attachments {
    fn drop(&mut self) {
        let mut next = *self.latest.get_mut();
        while let Some(attachment) = NonNull::new(next) {
            // SAFETY: made from a Box, reached once, and `&mut self` says that nobody reads.
            let attachment = unsafe { Box::from_raw(attachment.as_ptr()) };
            next = attachment.previous;
        }
    }
}
