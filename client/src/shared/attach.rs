//! Taking over the table and the mailbox that the daemon hands out with a new connection.

use super::Shared;
use super::greet::{Greeter, Greeting};
use crate::attachment::TableIdentity;
use crate::connection::Connection;
use crate::deadline::Deadline;
use crate::error::Error;
use crate::failure::Reason;
use crate::mailbox::{ClientEnd, NoMailbox};
use crate::process::Process;
use crate::table::{NoTable, Table};
use crate::verify::{self, Owners};
use l1d_wire::policy::PolicySet;
use l1d_wire::protocol::Attached;
use shm_layout::Layout;
use shm_layout::mailbox::SHAPE;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, TryLockError};
use std::time::{Duration, Instant};

/// A connection, and the mailbox that came with it.
type Opened = (Connection, Offered);

/// An attachment that no thread waits for.
pub(crate) struct Attaching {
    greeter: Greeter,
    deadline: Deadline,
    stepped: Instant,
}

/// An attachment without a step for this long was given up: what the daemon has answered since may
/// no longer be true.
const ATTACHING_KEPT: Duration = Duration::from_secs(2);

/// An attachment that no thread waits for populates no more of the table than it can in this time.
const POPULATE_TIME: Duration = Duration::from_millis(2);

impl Attaching {
    fn begin(shared: &Shared) -> Attaching {
        Attaching {
            greeter: Greeter::new(shared, shared.settings.mailbox),
            deadline: Deadline::after(shared.settings.attach_deadline),
            stepped: Instant::now(),
        }
    }

    fn is_stale(&self) -> bool {
        self.stepped.elapsed() >= ATTACHING_KEPT
    }

    fn step(&mut self, shared: &Shared) -> Result<Option<Greeting>, Error> {
        self.stepped = Instant::now();
        match self.greeter.step(shared, Connection::try_open)? {
            None if self.deadline.has_passed() => {
                Err(Reason::Deadline.into_error(&shared.settings.socket))
            }
            greeted => Ok(greeted),
        }
    }
}

/// The daemon's answer to the request for a mailbox.
pub(super) enum Offered {
    /// None.
    Nothing,
    /// One of a layout that this client does not know. Its connection carries no requests.
    Unknown,
    /// This file, and the bytes announced for it.
    Mailbox(OwnedFd, u64),
}

impl Shared {
    /// The first attachment of a new client.
    pub(crate) fn attach_first(&self) -> Result<(), Error> {
        self.attach_with_mailbox(self.process(), &self.deadline())
    }

    /// This process's mailbox; `None` where the daemon gives none.
    pub(super) fn mailbox(
        &self,
        process: &Process,
        deadline: &Deadline,
    ) -> Result<Option<Arc<ClientEnd>>, Error> {
        process
            .mailbox
            .get_or_open(deadline, self.socket(), || self.attach_with_mailbox(process, deadline))
            .unwrap_or_else(|| Err(deadline.error("attaching to the daemon")))
    }

    /// Opens a connection, and with it this process's mailbox, where the daemon gives one that this
    /// client knows.
    pub(super) fn attach_with_mailbox(
        &self,
        process: &Process,
        deadline: &Deadline,
    ) -> Result<(), Error> {
        let opened = self.attach(process, deadline, self.settings.mailbox)?;
        self.keep(process, opened)
    }

    /// [`attach_with_mailbox`](Self::attach_with_mailbox) without waiting: goes on with the
    /// attachment that is under way in this process, or begins one. `None` if it must be called
    /// again, in a few milliseconds, because the daemon has not answered yet or another thread is
    /// at it.
    pub(crate) fn attach_step(&self, process: &Process) -> Option<Result<(), Error>> {
        let mut place = match process.attaching.try_lock() {
            Ok(place) => place,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        place.take_if(|attaching| attaching.is_stale());
        let attaching = place.get_or_insert_with(|| Attaching::begin(self));
        let greeted = attaching.step(self).transpose()?;
        let greeted = greeted.inspect_err(|error| self.leave_if_denied(process, error));
        let deadline = attaching.deadline.clone();
        *place = None;
        // The lock is held until the mailbox is in place, so that no other thread opens another.
        Some(greeted.and_then(|greeting| {
            let populated_by = deadline.at_most(POPULATE_TIME);
            let opened = self.accept(process, greeting, self.settings.mailbox, &populated_by)?;
            self.keep(process, opened)
        }))
    }

    /// Waits for the answer to the attachment under way, if there is one, for `time` at most.
    pub(super) fn await_attaching(&self, process: &Process, time: Duration) {
        if let Ok(place) = process.attaching.try_lock()
            && let Some(attaching) = &*place
        {
            // The next step finds out how it went.
            let _ = attaching.greeter.wait(&Deadline::after(time));
        }
    }

    /// Keeps what came with a new connection, and the connection.
    fn keep(&self, process: &Process, (connection, offered): Opened) -> Result<(), Error> {
        match offered {
            Offered::Mailbox(file, bytes) => {
                let end = ClientEnd::open(&file, bytes, connection, self.settings.spin);
                process.mailbox.put(end.map_err(|error| match error {
                    NoMailbox::System(error) => {
                        Error::system("mapping the memory for requests", error)
                    }
                    NoMailbox::Untrusted(reason) => self.untrusted(reason),
                })?);
            }
            Offered::Nothing => {
                process.mailbox.refuse();
                process.pool.offer(connection);
            }
            Offered::Unknown => process.mailbox.refuse(),
        }
        Ok(())
    }

    /// Opens a connection, and takes over the table that comes with it if that is another one. A
    /// mailbox comes with it too, if one is wanted and the daemon gives one.
    pub(super) fn attach(
        &self,
        process: &Process,
        deadline: &Deadline,
        wants_mailbox: bool,
    ) -> Result<Opened, Error> {
        // A daemon that still makes its table answers when it has: it has the call's whole time.
        let greeting = self.greet(wants_mailbox, deadline);
        let greeting = greeting.inspect_err(|error| self.leave_if_denied(process, error))?;
        let deadline = deadline.at_most(self.settings.attach_deadline);
        self.accept(process, greeting, wants_mailbox, &deadline)
    }

    /// If the daemon's access rules do not let this process attach any more: reads no more from the
    /// table, which is still mapped, and keeps no copies. A later attachment brings a table again.
    fn leave_if_denied(&self, process: &Process, error: &Error) {
        if !matches!(error, Error::Denied { .. }) {
            return;
        }
        let _alone = process.adopt();
        if self.attachments.current().is_some() {
            let sequence = 1 + self.connections_begun.fetch_add(1, Ordering::Relaxed);
            self.attachments.switch(TableIdentity::NONE, None, sequence);
        }
        process.cache.forget(|_| true);
    }

    /// Takes over what a daemon has sent with a new connection.
    fn accept(
        &self,
        process: &Process,
        mut greeting: Greeting,
        wants_mailbox: bool,
        deadline: &Deadline,
    ) -> Result<Opened, Error> {
        process.mailbox.met(greeting.daemon());
        process.put_off_daemon_check();
        let offered = match wants_mailbox {
            true => take_mailbox(&greeting.attached, &mut greeting.descriptors),
            false => Offered::Nothing,
        };
        let Greeting { connection, attached, policy, mut descriptors, .. } = greeting;
        let offer = Offer {
            file: descriptors.drain(..).next(),
            attached,
            peer_uid: greeting.peer_uid,
            clock_difference_ns: greeting.clock_difference_ns,
            sequence: greeting.sequence,
        };
        self.adopt(process, &offer, policy, deadline)?;
        Ok((connection, offered))
    }

    /// Puts the table in place that a new connection has brought, once it is known to be one, or
    /// none, if this client does not know its layout.
    fn adopt(
        &self,
        process: &Process,
        offer: &Offer,
        policy: PolicySet,
        deadline: &Deadline,
    ) -> Result<(), Error> {
        let (table_id, epoch) = (offer.attached.table_id, offer.attached.policy_epoch);
        let file = offer.file.as_ref().and_then(verify::file_identity);
        let identity = TableIdentity { table_id, file };
        let _alone = process.adopt();
        if self.attachments.is_latest(identity) {
            // Of two connections that were begun at the same time, the later one may have been
            // answered first.
            if epoch.is_none_or(|epoch| process.is_news(epoch)) {
                process.set_policy(policy, epoch);
            }
            if let Some(current) = self.attachments.current() {
                current.confirm(offer.clock_difference_ns);
                // A child inherits the mapping, but none of it is in the child's page table.
                if process.must_populate(table_id) {
                    current.populate(self.settings.populate, deadline);
                }
            }
            return Ok(());
        }
        if self.attachments.is_news(offer.sequence) {
            let table = self.checked(offer)?;
            if let Some(table) = &table
                && process.must_populate(table_id)
            {
                table.populate(self.settings.populate, deadline);
            }
            self.attachments.switch(identity, table, offer.sequence);
            process.set_policy(policy, epoch);
        }
        Ok(())
    }

    /// The table of an offer, if it passes all checks; `None` if only its layout is unknown.
    fn checked(&self, offer: &Offer) -> Result<Option<Table>, Error> {
        let attached = &offer.attached;
        let untrusted = |reason| self.untrusted(reason);
        let file = offer.file.as_ref().ok_or_else(|| "no descriptor came with it".to_owned());
        let file = file.map_err(untrusted)?;
        let owners = Owners { peer_uid: offer.peer_uid, expected_uid: self.settings.owner_uid };
        // Values from this daemon are as trustworthy as its table, so this holds for any layout.
        verify::table_file(file, attached.table_bytes, &owners).map_err(untrusted)?;
        if attached.layouts.is_some_and(|layouts| layouts.table != Layout::TABLE) {
            return Ok(None);
        }
        let table = match Table::map(file, attached.table_bytes, offer.clock_difference_ns) {
            Ok(table) => table,
            Err(NoTable::UnknownLayout) => return Ok(None),
            Err(NoTable::Untrusted(reason)) => return Err(untrusted(reason)),
            Err(NoTable::System(error)) => return Err(Error::system("mapping the table", error)),
        };
        if table.id() != attached.table_id {
            return Err(untrusted("it is another table than the daemon announced".to_owned()));
        }
        Ok(Some(table))
    }

    fn untrusted(&self, reason: String) -> Error {
        Error::Untrusted { socket: self.settings.socket.clone(), reason }
    }
}

/// The table that a new connection has brought.
struct Offer {
    /// Further descriptors are closed.
    file: Option<OwnedFd>,
    attached: Attached<'static>,
    peer_uid: u32,
    clock_difference_ns: u64,
    sequence: u64,
}

/// The mailbox among the descriptors that came with an answer.
fn take_mailbox(attached: &Attached<'_>, descriptors: &mut Vec<OwnedFd>) -> Offered {
    let bytes = attached.mailbox_bytes;
    if bytes == 0 || descriptors.len() < 2 {
        return Offered::Nothing;
    }
    let file = descriptors.remove(1);
    let is_known = match attached.layouts {
        Some(layouts) => layouts.mailbox == Layout::MAILBOX,
        None => bytes == SHAPE.bytes() as u64,
    };
    if is_known { Offered::Mailbox(file, bytes) } else { Offered::Unknown }
}
