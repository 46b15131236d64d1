//! State shared by all handles of one client: the table, and this process's link to the daemon.
//!
//! | part | file |
//! |---|---|
//! | reading the table, reporting hits | `mod` |
//! | opening a connection, and agreeing on a protocol version | `greet` |
//! | taking over the table and the mailbox that came with it | `attach` |
//! | whether the table is still the daemon's | `look` |
//! | following the policy while the daemon changes it | `follow` |
//! | sending requests and taking replies | `ask` |

mod ask;
mod attach;
mod follow;
mod greet;
mod look;

pub(crate) use ask::{Submission, too_many};
pub(crate) use attach::Attaching;
pub(crate) use look::Patience;

use crate::attachment::Attachments;
use crate::deadline::Deadline;
use crate::error::Error;
use crate::failure::{Failure, Intent};
use crate::process::Process;
use crate::reports;
use crate::sentinel::PerProcess;
use crate::settings::Settings;
use crate::table::{Table, TableRead};
use greet::Unnegotiated;
use shm_layout::{Hit, Mapped, NoHit, Receiver};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub(crate) struct Shared {
    attachments: Attachments,
    process: PerProcess<Process>,
    settings: Settings,
    /// Connections begun so far; see [`Attachments::is_news`].
    connections_begun: AtomicU64,
    unnegotiated: Unnegotiated,
    /// Distinguishes the clients of a process.
    id: u64,
}

/// The id of the next client.
static CLIENTS: AtomicU64 = AtomicU64::new(1);

impl Shared {
    pub(crate) fn new(settings: Settings) -> Result<Shared, Error> {
        Ok(Shared {
            attachments: Attachments::none(),
            process: PerProcess::new()?,
            settings,
            connections_begun: AtomicU64::new(0),
            unnegotiated: Unnegotiated::default(),
            id: CLIENTS.fetch_add(1, Ordering::Relaxed),
        })
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.settings.socket
    }

    /// The deadline of a call that begins now.
    pub(crate) fn deadline(&self) -> Deadline {
        self.deadline_after(self.settings.deadline)
    }

    /// The deadline of a call that begins now and may take this long.
    pub(crate) fn deadline_after(&self, time: Duration) -> Deadline {
        Deadline::after(time).with_interrupt(&self.settings.interrupt)
    }

    /// This process's state. A forked child makes its own.
    pub(crate) fn process(&self) -> &Process {
        self.process.get_or_make(|| {
            Process::new(self.settings.connections_max, self.settings.process_cache_bytes)
        })
    }

    /// This process's state, unless it has none yet.
    pub(crate) fn process_if_any(&self) -> Option<&Process> {
        self.process.get()
    }

    /// The table to read, if there is one.
    pub(crate) fn table(&self) -> Option<&Table> {
        self.attachments.current()
    }

    /// The hit path: one pointer, then the read protocol. Each caller turns the hit into its result
    /// field by field: a record in between would cause a store-forwarding stall.
    ///
    /// # Errors
    /// No hit, or not by the fast path; [`read_anyway`](Self::read_anyway) finds out which.
    #[inline(always)]
    pub(crate) fn read_fast(&self, key: &[u8], value: &mut Vec<u8>) -> Result<Hit, NoHit> {
        let table = self.attachments.current().ok_or(NoHit::Detached)?;
        let hit = table.read_fast(key, value)?;
        self.note_hit(table, key);
        Ok(hit)
    }

    /// [`read_fast`](Self::read_fast) with another receiver, which says whether it counts as a hit.
    ///
    /// # Errors
    /// As there; what was received is then void.
    #[inline(always)]
    pub(crate) fn receive_fast<R: Receiver<Mapped>>(
        &self,
        key: &[u8],
        receiver: &mut R,
        counts: impl FnOnce(&R) -> bool,
    ) -> Result<Hit, NoHit> {
        let table = self.attachments.current().ok_or(NoHit::Detached)?;
        let hit = table.receive_fast(key, receiver)?;
        if counts(receiver) {
            self.note_hit(table, key);
        }
        Ok(hit)
    }

    /// Reads `key` from the table into `value`.
    pub(crate) fn read_table(&self, key: &[u8], value: &mut Vec<u8>) -> TableRead {
        let Some(table) = self.attachments.current() else {
            value.clear();
            return TableRead::Detached;
        };
        let read = table.read(key, value);
        self.note(table, key, &read);
        read
    }

    /// Reads `key` from the table after the fast path has returned `no_hit` for it. A hit counts as
    /// one if `counts`.
    pub(crate) fn read_anyway(
        &self,
        (no_hit, counts): (NoHit, bool),
        key: &[u8],
        value: &mut Vec<u8>,
    ) -> TableRead {
        value.clear();
        match (no_hit, self.attachments.current()) {
            (NoHit::Miss, _) => TableRead::Miss,
            (NoHit::Detached, _) | (_, None) => TableRead::Detached,
            (NoHit::Unclear, Some(table)) => {
                let read = table.read_slow(key, value);
                if counts {
                    self.note(table, key, &read);
                }
                read
            }
        }
    }

    /// Whether there is no table to attach for now: the daemon is there, and its table has a layout
    /// that this client does not know.
    #[cold]
    pub(crate) fn is_without_table(&self) -> bool {
        self.attachments.is_without_table()
            && self.process.get().is_some_and(|process| !process.may_have_lost_daemon())
    }

    /// Counts `read` if it is a hit.
    #[inline(always)]
    pub(crate) fn note(&self, table: &Table, key: &[u8], read: &TableRead) {
        if matches!(read, TableRead::Hit(_)) {
            self.note_hit(table, key);
        }
    }

    /// Counts a hit in `table`, whose value was read.
    #[inline(always)]
    pub(crate) fn note_hit(&self, table: &Table, key: &[u8]) {
        self.count_hit(table, key);
        self.note_counted_hit(table, key);
    }

    /// The same for a hit that the caller [counts](reports::count).
    #[inline(always)]
    pub(crate) fn note_counted_hit(&self, _table: &Table, _key: &[u8]) {
        #[cfg(feature = "tracing")]
        crate::hit_log::in_table("L1", _table, _key);
    }

    /// Counts a hit in `table`, of which a memo has the object.
    #[inline(always)]
    pub(crate) fn note_memo_hit(&self, table: &Table, key: &[u8]) {
        self.count_hit(table, key);
        #[cfg(feature = "tracing")]
        crate::hit_log::in_table("memo", table, key);
    }

    /// Eviction depends on reports of hits.
    #[inline(always)]
    fn count_hit(&self, table: &Table, key: &[u8]) {
        if reports::is_due() {
            self.report(table, key);
        }
    }

    #[cold]
    fn report(&self, table: &Table, key: &[u8]) {
        let process = self.process.get();
        // Also tells a forked child from its parent, whose hits it must not report again.
        let at = process.map_or(0, |process| std::ptr::from_ref(process).addr() as u64);
        reports::report(self.id ^ at.rotate_left(32), table.hash(key), |stripe, hashes, hits| {
            if let Some(process) = process {
                process.mailbox.visit(|mailbox| mailbox.report(stripe, hashes, hits));
            }
        });
    }

    /// The error that a call ends with, whose exchange with the daemon failed.
    pub(crate) fn failure(&self, failure: Failure, intent: Intent, deadline: &Deadline) -> Error {
        failure.into_error(intent, deadline, &self.settings.socket)
    }
}
