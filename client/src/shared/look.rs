//! Leaving a table that is no longer the daemon's (R0, S9).
//!
//! A daemon marks its former table, and every read sees the mark. But it may be unable to: the file
//! was removed while no daemon ran. A process that only hits would read such a table until the last
//! of its entries has expired. So once a second, the first read checks whether the daemon has hung
//! up, and if it has, reads attach to the next one, step by step, and never wait long for it.

use super::Shared;
use crate::deadline::Deadline;
use crate::process::Process;
use crate::table::Table;
use std::time::Duration;

/// The pause between two steps of attaching in place of a daemon that has gone.
const STEP_PAUSE: Duration = Duration::from_millis(10);

/// A daemon that is awake has answered within this time. A process that reads rarely then sees the
/// new table in the read that finds its daemon gone.
const ANSWER_TIME: Duration = Duration::from_millis(2);

/// How long a read may wait for a table.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Patience<'a> {
    /// Not at all.
    None,
    /// For as long as an attempt to attach may take.
    OfAttaching,
    /// The same, and until this deadline at most.
    Until(&'a Deadline),
}

impl Shared {
    /// After a detached read: attaches to the daemon's table if this client may not have it.
    #[cold]
    pub(crate) fn renew_table(&self, patience: Patience<'_>) {
        let answer_time = match patience {
            Patience::None => Duration::ZERO,
            Patience::OfAttaching | Patience::Until(_) => ANSWER_TIME,
        };
        if let Some(table) = self.attachments.current().filter(|table| table.is_serving()) {
            return self.look_after(table, answer_time);
        }
        let process = self.process();
        let Some(deadline) = self.patience_for_attaching(patience) else {
            self.go_on_attaching(process, answer_time);
            return;
        };
        process.attach_now_and_then(|| {
            self.attach_with_mailbox(process, &deadline).is_ok() && self.has_current_table()
        });
    }

    /// The deadline of attaching for a read, which holds locks meanwhile; `None`: it cannot wait.
    pub(super) fn patience_for_attaching(&self, patience: Patience<'_>) -> Option<Deadline> {
        match patience {
            Patience::None => None,
            Patience::OfAttaching => Some(Deadline::after(self.settings.attach_deadline)),
            Patience::Until(deadline) => Some(deadline.under_lock(self.settings.attach_deadline)),
        }
    }

    /// Takes a step of attaching without waiting.
    pub(super) fn begin_attaching(&self, process: &Process) {
        self.go_on_attaching(process, Duration::ZERO);
    }

    /// Looks at the table, as a read does, if that is due.
    pub(crate) fn look_if_due(&self) {
        if let Some(table) = self.attachments.current()
            && table.daemon_clock().is_none()
        {
            self.look_after(table, ANSWER_TIME);
        }
    }

    /// Looks whether a table that is marked as in use still is the daemon's, unless another thread
    /// has just looked. Hardly waits: until there is another daemon, the table is good enough.
    fn look_after(&self, table: &Table, answer_time: Duration) {
        if !table.take_look() {
            return;
        }
        let process = self.process();
        if !process.is_connected() && self.go_on_attaching(process, answer_time) {
            table.look_again_after(STEP_PAUSE);
        }
    }

    /// Takes a step of attaching, unless the last failure is too recent, and waits no longer than
    /// `answer_time`. Returns whether the daemon's answer is still to come.
    fn go_on_attaching(&self, process: &Process, answer_time: Duration) -> bool {
        let mut is_awaited = false;
        process.attach_now_and_then(|| {
            let mut attached = self.attach_step(process);
            if attached.is_none() && !answer_time.is_zero() {
                self.await_attaching(process, answer_time);
                attached = self.attach_step(process);
            }
            is_awaited = attached.is_none();
            attached.is_some_and(|attached| attached.is_ok()) && self.has_current_table()
        });
        is_awaited
    }

    /// Whether the table is in use, or the daemon's is of a layout that this client does not know.
    fn has_current_table(&self) -> bool {
        self.attachments.is_without_table()
            || self.attachments.current().is_some_and(Table::is_serving)
    }
}
