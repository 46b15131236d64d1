//! Opening a connection to the daemon, in the newest protocol version that both sides speak.

use super::Shared;
use crate::clock;
use crate::connection::Connection;
use crate::deadline::Deadline;
use crate::error::{Cause, Error};
use crate::failure::{Failure, Intent};
use crate::reply::{decode, unexpected};
use l1d_wire::policy::PolicySet;
use l1d_wire::protocol::version::{PROTOCOL_OLDEST, PROTOCOL_VERSION};
use l1d_wire::protocol::{Attached, Request, Response};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};

/// Largest reply to a request to attach: room for any policy.
const REPLY_BYTES_MAX: usize = 16 << 20;

/// A new connection, and what the daemon has sent over it.
pub(super) struct Greeting {
    pub connection: Connection,
    /// Without the policy.
    pub attached: Attached<'static>,
    pub policy: PolicySet,
    /// The table's, then the mailbox's.
    pub descriptors: Vec<OwnedFd>,
    pub peer_uid: u32,
    pub clock_difference_ns: u64,
    /// The order in which connections were begun.
    pub sequence: u64,
}

impl Greeting {
    /// Identifies the run of a daemon: another daemon has another instance or another table, whose
    /// id is random. Moving to another table changes it too, which does no harm. Never 0.
    pub(super) fn daemon(&self) -> u64 {
        self.attached.table_id.wrapping_add(self.attached.instance).max(1)
    }
}

/// The daemon that is known not to negotiate; 0: none.
#[derive(Default)]
pub(super) struct Unnegotiated(AtomicU64);

impl Shared {
    /// Opens a connection. To a daemon that does not negotiate it takes two attempts the first
    /// time, and one after that; to its successor three, once.
    pub(super) fn greet(
        &self,
        wants_mailbox: bool,
        deadline: &Deadline,
    ) -> Result<Greeting, Error> {
        // Relaxed: only a hint, which saves a round trip.
        let known = self.unnegotiated.0.load(Ordering::Relaxed);
        if known != 0 {
            match self.greet_in(PROTOCOL_OLDEST, wants_mailbox, deadline) {
                Ok(greeting) if greeting.daemon() == known => return Ok(greeting),
                // Its successor may speak a newer version, or no longer this one.
                Ok(_) | Err(Error::WrongProtocol { .. }) => {}
                Err(error) => return Err(error),
            }
            self.unnegotiated.0.store(0, Ordering::Relaxed);
        }
        let refusal = match self.greet_in(PROTOCOL_VERSION, wants_mailbox, deadline) {
            Err(refusal @ Error::WrongProtocol { .. }) => refusal,
            greeted => return greeted,
        };
        match self.greet_in(PROTOCOL_OLDEST, wants_mailbox, deadline) {
            Ok(greeting) => {
                self.unnegotiated.0.store(greeting.daemon(), Ordering::Relaxed);
                Ok(greeting)
            }
            // The first refusal names the newest version of this client.
            Err(Error::WrongProtocol { .. }) => Err(refusal),
            Err(error) => Err(error),
        }
    }

    /// Opens a connection and asks to attach in version `protocol`.
    fn greet_in(
        &self,
        protocol: u32,
        wants_mailbox: bool,
        deadline: &Deadline,
    ) -> Result<Greeting, Error> {
        let sequence = 1 + self.connections_begun.fetch_add(1, Ordering::Relaxed);
        let mut connection = Connection::open(&self.settings.socket, deadline)
            .map_err(|reason| reason.into_error(&self.settings.socket))?;
        let peer_uid = connection
            .peer_uid()
            .map_err(|errno| Error::system("asking who the daemon is", errno))?;

        let attach = Request::Attach { protocol, mailbox: wants_mailbox };
        let mut descriptors = Vec::new();
        let before_ns = clock::monotonic_ns();
        let payload = self.ask_to_attach(&mut connection, &attach, deadline, &mut descriptors)?;
        let after_ns = clock::monotonic_ns();
        let attached = match decode(payload)? {
            Response::Attached(attached) => attached,
            other => return Err(unexpected(&other)),
        };
        check_version(attached.protocol)?;
        let policy = PolicySet::decode(attached.policy).map_err(|error| Error::Internal {
            reason: format!("the policy that it sent: {error}"),
            source: Some(Cause::of(error)),
        })?;
        let clock_difference_ns = clock::difference_ns(before_ns, after_ns, attached.clock_ns);
        let attached = Attached { policy: &[], ..attached };
        Ok(Greeting {
            connection,
            attached,
            policy,
            descriptors,
            peer_uid,
            clock_difference_ns,
            sequence,
        })
    }

    /// The payload of the daemon's reply to `attach`, and the descriptors that came with it.
    fn ask_to_attach<'a>(
        &self,
        connection: &'a mut Connection,
        attach: &Request<'_>,
        deadline: &Deadline,
        descriptors: &mut Vec<OwnedFd>,
    ) -> Result<&'a [u8], Error> {
        connection
            .send(attach, deadline)
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
}

/// Refuses a version that this client does not speak.
fn check_version(protocol: u32) -> Result<(), Error> {
    let older = match protocol {
        PROTOCOL_OLDEST..=PROTOCOL_VERSION => return Ok(()),
        ..PROTOCOL_OLDEST => "daemon",
        _ => "client",
    };
    let reason = format!(
        "the daemon speaks protocol {protocol}, this client {PROTOCOL_OLDEST} to \
         {PROTOCOL_VERSION}; upgrade the {older}"
    );
    Err(Error::WrongProtocol { reason })
}
