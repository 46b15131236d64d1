//! Opening a connection to the daemon, in the newest protocol version that both sides speak.

use super::Shared;
use crate::clock;
use crate::connection::Connection;
use crate::deadline::Deadline;
use crate::error::{Cause, Error};
use crate::failure::{Failure, Intent, Reason};
use crate::reply::{decode, unexpected};
use l1d_wire::policy::PolicySet;
use l1d_wire::protocol::version::{PROTOCOL_OLDEST, PROTOCOL_VERSION};
use l1d_wire::protocol::{Attached, Request, Response};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

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

/// Opens a connection and agrees on a version, without waiting. To a daemon that does not negotiate
/// it takes two attempts the first time, and one after that; to its successor three, once.
pub(super) struct Greeter {
    wants_mailbox: bool,
    stage: Stage,
    attempt: Option<Attempt>,
}

/// The version that is asked for, and why.
enum Stage {
    /// The oldest: this daemon, which was met last, does not negotiate.
    Known(u64),
    /// The newest.
    Newest,
    /// The oldest, after this refusal of the newest, which names the newest version of this client.
    Oldest(Error),
}

/// A connection, over which the request to attach was sent.
struct Attempt {
    connection: Connection,
    descriptors: Vec<OwnedFd>,
    peer_uid: u32,
    before_ns: u64,
    sequence: u64,
}

impl Shared {
    /// Opens a connection and agrees on a version by `deadline`.
    pub(super) fn greet(
        &self,
        wants_mailbox: bool,
        deadline: &Deadline,
    ) -> Result<Greeting, Error> {
        let mut greeter = Greeter::new(self, wants_mailbox);
        loop {
            let open = |path: &Path| Connection::open(path, deadline).map(Some);
            if let Some(greeting) = greeter.step(self, open)? {
                return Ok(greeting);
            }
            greeter.wait(deadline).map_err(|reason| reason.into_error(&self.settings.socket))?;
        }
    }
}

impl Greeter {
    pub(super) fn new(shared: &Shared, wants_mailbox: bool) -> Greeter {
        // Relaxed: only a hint, which saves a round trip.
        let stage = match shared.unnegotiated.0.load(Ordering::Relaxed) {
            0 => Stage::Newest,
            known => Stage::Known(known),
        };
        Greeter { wants_mailbox, stage, attempt: None }
    }

    /// Goes as far as possible without waiting for the daemon. `open` connects; `None` from it or
    /// from this: try again later.
    pub(super) fn step(
        &mut self,
        shared: &Shared,
        open: impl Fn(&Path) -> Result<Option<Connection>, Reason>,
    ) -> Result<Option<Greeting>, Error> {
        loop {
            if self.attempt.is_none() {
                let protocol = match self.stage {
                    Stage::Newest => PROTOCOL_VERSION,
                    Stage::Known(_) | Stage::Oldest(_) => PROTOCOL_OLDEST,
                };
                let attach = Request::Attach { protocol, mailbox: self.wants_mailbox };
                self.attempt = Attempt::begin(shared, &attach, &open)?;
            }
            let Some(attempt) = &mut self.attempt else { return Ok(None) };
            let greeted = match attempt.has_answer(shared) {
                Ok(false) => return Ok(None),
                Ok(true) => self.attempt.take().map_or_else(
                    || Err(Error::internal("an answer without a request")),
                    Attempt::greeting,
                ),
                Err(error) => Err(error),
            };
            self.attempt = None;
            if let Some(greeted) = self.conclude(shared, greeted) {
                return greeted.map(Some);
            }
        }
    }

    /// Waits until the next step may get further.
    pub(super) fn wait(&self, deadline: &Deadline) -> Result<(), Reason> {
        self.attempt.as_ref().map_or(Ok(()), |attempt| attempt.connection.wait_readable(deadline))
    }

    /// The outcome, unless another version must be tried.
    fn conclude(
        &mut self,
        shared: &Shared,
        greeted: Result<Greeting, Error>,
    ) -> Option<Result<Greeting, Error>> {
        let unnegotiated = &shared.unnegotiated.0;
        match (std::mem::replace(&mut self.stage, Stage::Newest), greeted) {
            (Stage::Known(known), Ok(greeting)) if greeting.daemon() == known => Some(Ok(greeting)),
            // Its successor may speak a newer version, or no longer this one.
            (Stage::Known(_), Ok(_) | Err(Error::WrongProtocol { .. })) => {
                unnegotiated.store(0, Ordering::Relaxed);
                None
            }
            (Stage::Newest, Err(refusal @ Error::WrongProtocol { .. })) => {
                self.stage = Stage::Oldest(refusal);
                None
            }
            (Stage::Oldest(_), Ok(greeting)) => {
                unnegotiated.store(greeting.daemon(), Ordering::Relaxed);
                Some(Ok(greeting))
            }
            (Stage::Oldest(refusal), Err(Error::WrongProtocol { .. })) => Some(Err(refusal)),
            (_, greeted) => Some(greeted),
        }
    }
}

impl Attempt {
    /// Connects and asks to attach; `None` if the daemon's backlog is full.
    fn begin(
        shared: &Shared,
        attach: &Request<'_>,
        open: impl Fn(&Path) -> Result<Option<Connection>, Reason>,
    ) -> Result<Option<Attempt>, Error> {
        let sequence = 1 + shared.connections_begun.fetch_add(1, Ordering::Relaxed);
        let socket = &shared.settings.socket;
        let opened = open(socket).map_err(|reason| reason.into_error(socket))?;
        let Some(mut connection) = opened else { return Ok(None) };
        let peer_uid = connection
            .peer_uid()
            .map_err(|errno| Error::system("asking who the daemon is", errno))?;
        let before_ns = clock::monotonic_ns();
        // A new socket has room for so small a request: nothing is waited for.
        let sent = connection.send(attach, &Deadline::after(Duration::ZERO));
        sent.map_err(|failure| failed(shared, failure))?;
        connection.begin_reply();
        Ok(Some(Attempt { connection, descriptors: Vec::new(), peer_uid, before_ns, sequence }))
    }

    /// Receives what has come. Whether that is the whole answer.
    fn has_answer(&mut self, shared: &Shared) -> Result<bool, Error> {
        let answer = self.connection.fill(REPLY_BYTES_MAX, &mut self.descriptors);
        answer.map_err(|failure| failed(shared, failure))
    }

    /// What the whole answer says.
    fn greeting(mut self) -> Result<Greeting, Error> {
        let after_ns = clock::monotonic_ns();
        let payload = self.connection.reply(REPLY_BYTES_MAX);
        let attached = match decode(payload)? {
            Response::Attached(attached) => attached,
            other => return Err(unexpected(&other)),
        };
        check_version(attached.protocol)?;
        let policy = PolicySet::decode(attached.policy).map_err(|error| Error::Internal {
            reason: format!("the policy that it sent: {error}"),
            source: Some(Cause::of(error)),
        })?;
        let clock_difference_ns = clock::difference_ns(self.before_ns, after_ns, attached.clock_ns);
        let attached = Attached { policy: &[], ..attached };
        self.connection.agree(attached.protocol);
        Ok(Greeting {
            attached,
            policy,
            descriptors: self.descriptors,
            peer_uid: self.peer_uid,
            clock_difference_ns,
            sequence: self.sequence,
            connection: self.connection,
        })
    }
}

/// The error of a daemon that has not answered the request to attach.
fn failed(shared: &Shared, failure: Failure) -> Error {
    match failure {
        Failure::NotSent(reason) | Failure::NoReply(reason) => {
            reason.into_error(&shared.settings.socket)
        }
        failure => shared.failure(failure, Intent::Read, &shared.deadline()),
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
