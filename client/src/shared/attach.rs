//! Connecting to the daemon, and taking over the table and the mailbox that it hands out.

use super::Shared;
use crate::clock;
use crate::connection::Connection;
use crate::deadline::Deadline;
use crate::error::{Cause, Error};
use crate::failure::{Failure, Intent};
use crate::mailbox::ClientEnd;
use crate::process::Process;
use crate::reply::{decode, unexpected};
use crate::table::Table;
use crate::verify::{self, Owners};
use l1d_wire::policy::PolicySet;
use l1d_wire::protocol::{Attached, PROTOCOL_VERSION, Request, Response};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Largest reply to a request to attach: room for any policy.
const REPLY_BYTES_MAX: usize = 16 << 20;

/// A connection, and the mailbox that came with it: its file, and the bytes announced for it.
type Opened = (Connection, Option<(OwnedFd, u64)>);

impl Shared {
    /// The first attachment of a new client.
    pub(crate) fn attach_first(&self) -> Result<(), Error> {
        self.attach_with_mailbox(self.process(), &self.deadline())
    }

    /// After a read of a table that is no longer in use (R0): takes over its successor, if there is
    /// one by `deadline` or by the shorter deadline for attaching.
    #[cold]
    pub(crate) fn attach_anew(&self, deadline: Option<&Deadline>) {
        let process = self.process();
        process.attach_now_and_then(|| {
            let own = Deadline::after(self.settings.attach_deadline);
            if self.attach_with_mailbox(process, deadline.unwrap_or(&own)).is_err() {
                return false;
            }
            self.attachments.current().is_some_and(Table::is_serving)
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

    /// Opens a connection, and with it this process's mailbox, where the daemon gives one.
    fn attach_with_mailbox(&self, process: &Process, deadline: &Deadline) -> Result<(), Error> {
        let (connection, mailbox) = self.attach(process, deadline, self.settings.mailbox)?;
        let Some((file, bytes)) = mailbox else {
            process.mailbox.refuse();
            process.pool.offer(connection);
            return Ok(());
        };
        let end = ClientEnd::open(&file, bytes, connection, self.settings.spin);
        process.mailbox.put(end.map_err(|reason| self.untrusted(reason))?);
        Ok(())
    }

    /// Opens a connection, and takes over the table that it hands over if that is another one. A
    /// mailbox comes with the connection, if one is wanted and the daemon gives one.
    pub(super) fn attach(
        &self,
        process: &Process,
        deadline: &Deadline,
        wants_mailbox: bool,
    ) -> Result<Opened, Error> {
        let deadline = deadline.at_most(self.settings.attach_deadline);
        let sequence = 1 + self.connections_begun.fetch_add(1, Ordering::Relaxed);
        let mut connection = Connection::open(&self.settings.socket, &deadline)
            .map_err(|reason| reason.into_error(&self.settings.socket))?;
        let peer_uid = connection
            .peer_uid()
            .map_err(|errno| Error::system("asking who the daemon is", errno))?;

        let mut descriptors = Vec::new();
        let before_ns = clock::monotonic_ns();
        let payload =
            self.ask_to_attach(&mut connection, wants_mailbox, &deadline, &mut descriptors)?;
        let after_ns = clock::monotonic_ns();
        let attached = match decode(payload)? {
            Response::Attached(attached) => attached,
            other => return Err(unexpected(&other)),
        };
        process.mailbox.met(attached.instance);
        let has_mailbox = wants_mailbox && attached.mailbox_bytes > 0 && descriptors.len() > 1;
        let mailbox = has_mailbox.then(|| (descriptors.remove(1), attached.mailbox_bytes));
        let clock_difference_ns = clock::difference_ns(before_ns, after_ns, attached.clock_ns);
        let attached = &attached;
        let offer = Offer { attached, descriptors, peer_uid, clock_difference_ns, sequence };
        self.adopt(process, offer, &deadline)?;
        Ok((connection, mailbox))
    }

    /// The payload of the daemon's reply to an attach, and the descriptors that came with it.
    fn ask_to_attach<'a>(
        &self,
        connection: &'a mut Connection,
        wants_mailbox: bool,
        deadline: &Deadline,
        descriptors: &mut Vec<OwnedFd>,
    ) -> Result<&'a [u8], Error> {
        let attach = Request::Attach { protocol: PROTOCOL_VERSION, mailbox: wants_mailbox };
        connection
            .send(&attach, deadline)
            .and_then(|()| {
                connection.receive_with_descriptors(REPLY_BYTES_MAX, deadline, descriptors)
            })
            .map_err(|failure| match failure {
                Failure::NotSent(reason) | Failure::NoReply(reason) => {
                    reason.into_error(&self.settings.socket)
                }
                failure => self.failure(failure, Intent::Read, deadline),
            })
    }

    /// Puts the table in place that a new connection has brought, once it is known to be one.
    fn adopt(&self, process: &Process, offer: Offer<'_>, deadline: &Deadline) -> Result<(), Error> {
        let attached = offer.attached;
        if attached.protocol != PROTOCOL_VERSION {
            let reason = format!(
                "the daemon speaks protocol {}, this client {PROTOCOL_VERSION}",
                attached.protocol
            );
            return Err(Error::WrongProtocol { reason });
        }
        let policy = PolicySet::decode(attached.policy).map_err(|error| Error::Internal {
            reason: format!("the policy that it sent: {error}"),
            source: Some(Cause::of(error)),
        })?;

        let _alone = process.adopt();
        if let Some(current) = self.attachments.current()
            && current.id() == attached.table_id
        {
            current.set_clock_difference_ns(offer.clock_difference_ns);
            process.set_policy(policy);
            // A child inherits the mapping, but none of it is in the child's page table.
            if process.must_populate(current.id()) {
                current.populate(self.settings.populate, deadline);
            }
            return Ok(());
        }
        if self.attachments.is_news(offer.sequence) {
            let sequence = offer.sequence;
            let table = self.checked(offer).map_err(|reason| self.untrusted(reason))?;
            if process.must_populate(table.id()) {
                table.populate(self.settings.populate, deadline);
            }
            self.attachments.switch(table, sequence);
            process.set_policy(policy);
        }
        Ok(())
    }

    /// The table of an offer, when everything about it is as it should be. Descriptors beyond the
    /// first are closed.
    fn checked(&self, offer: Offer<'_>) -> Result<Table, String> {
        let attached = offer.attached;
        let file = offer.descriptors.into_iter().next().ok_or("no descriptor came with it")?;
        let owners = Owners { peer_uid: offer.peer_uid, expected_uid: self.settings.owner_uid };
        verify::table_file(&file, attached.table_bytes, &owners)?;
        let table = Table::map(&file, attached.table_bytes, offer.clock_difference_ns)?;
        if table.id() != attached.table_id {
            return Err("it is another table than the daemon announced".to_owned());
        }
        Ok(table)
    }

    fn untrusted(&self, reason: String) -> Error {
        Error::Untrusted { socket: self.settings.socket.clone(), reason }
    }
}

/// The table that a new connection has brought.
struct Offer<'a> {
    attached: &'a Attached<'a>,
    descriptors: Vec<OwnedFd>,
    peer_uid: u32,
    clock_difference_ns: u64,
    sequence: u64,
}
