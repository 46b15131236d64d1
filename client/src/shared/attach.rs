//! Taking over the table and the mailbox that the daemon hands out with a new connection.

use super::Shared;
use super::greet::Greeting;
use crate::connection::Connection;
use crate::deadline::Deadline;
use crate::error::Error;
use crate::mailbox::{ClientEnd, NoMailbox};
use crate::process::Process;
use crate::table::{NoTable, Table};
use crate::verify::{self, Owners};
use l1d_wire::policy::PolicySet;
use l1d_wire::protocol::Attached;
use shm_layout::Layout;
use shm_layout::mailbox::SHAPE;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// A connection, and the mailbox that came with it.
type Opened = (Connection, Offered);

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

    /// After a read of a table that is no longer in use (R0): takes over its successor, if there is
    /// one by `deadline` or by the shorter deadline for attaching.
    #[cold]
    pub(crate) fn reattach(&self, deadline: Option<&Deadline>) {
        let process = self.process();
        process.attach_now_and_then(|| {
            let own = Deadline::after(self.settings.attach_deadline);
            if self.attach_with_mailbox(process, deadline.unwrap_or(&own)).is_err() {
                return false;
            }
            self.attachments.is_without_table()
                || self.attachments.current().is_some_and(Table::is_serving)
        })
    }

    /// This process's mailbox; `None` where the daemon gives none.
    pub(super) fn mailbox(
        &self,
        process: &Process,
        deadline: &Deadline,
    ) -> Result<Option<Arc<ClientEnd>>, Error> {
        process
            .mailbox
            .get_or_open(deadline, || self.attach_with_mailbox(process, deadline))
            .unwrap_or_else(|| Err(deadline.error("attaching to the daemon")))
    }

    /// Opens a connection, and with it this process's mailbox, where the daemon gives one that this
    /// client knows.
    fn attach_with_mailbox(&self, process: &Process, deadline: &Deadline) -> Result<(), Error> {
        let (connection, offered) = self.attach(process, deadline, self.settings.mailbox)?;
        match offered {
            Offered::Mailbox(file, bytes) => {
                let end = ClientEnd::open(&file, bytes, connection, self.settings.spin);
                process.mailbox.put(end.map_err(|error| match error {
                    NoMailbox::System(error) => Error::system("mapping the mailbox", error),
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
        let mut greeting = self.greet(wants_mailbox, deadline)?;
        let deadline = deadline.at_most(self.settings.attach_deadline);
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
        self.adopt(process, &offer, policy, &deadline)?;
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
        let table_id = offer.attached.table_id;
        let _alone = process.adopt();
        if self.attachments.is_latest(table_id) {
            process.set_policy(policy);
            if let Some(current) = self.attachments.current() {
                current.set_clock_difference_ns(offer.clock_difference_ns);
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
            self.attachments.switch(table_id, table, offer.sequence);
            process.set_policy(policy);
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
