//! What all handles of one client share: the table, and this process's side of the daemon.

use crate::attachment::Attachments;
use crate::builder::Settings;
use crate::clock;
use crate::connection::{Connection, Failure, Reason};
use crate::deadline::Deadline;
use crate::error::Error;
use crate::mailbox::{Asking, Mailbox, Unsent};
use crate::process::Process;
use crate::reports;
use crate::sentinel::PerProcess;
use crate::table::{Table, TableRead};
use crate::verify::{self, Owners};
use l1d_wire::policy::PolicySet;
use l1d_wire::protocol::{Attached, PROTOCOL_VERSION, Request, Response};
use nix::errno::Errno;
use shm_layout::{Hit, NoHit};
use std::cell::LazyCell;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Largest reply besides the largest value: room for a batch of values, for a policy, for JSON.
const REPLY_BYTES_MAX: usize = 16 << 20;

pub(crate) struct Shared {
    attachments: Attachments,
    process: PerProcess<Process>,
    settings: Settings,
    /// Connections begun so far; see [`Attachments::is_news`].
    connections_begun: AtomicU64,
    /// Tells the clients of a process apart.
    id: u64,
}

/// Clients made so far, and one.
static CLIENTS: AtomicU64 = AtomicU64::new(1);

/// Whether a request may be sent twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Write,
}

impl Shared {
    pub(crate) fn new(settings: Settings) -> Result<Shared, Error> {
        Ok(Shared {
            attachments: Attachments::none(),
            process: PerProcess::new()?,
            settings,
            connections_begun: AtomicU64::new(0),
            id: CLIENTS.fetch_add(1, Ordering::Relaxed),
        })
    }

    pub(crate) fn deadline(&self) -> Deadline {
        Deadline::after(self.settings.deadline)
    }

    /// This process's state, made anew in a forked child.
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

    /// The hit path: one pointer, then the read protocol. Each caller makes of the hit what it hands
    /// out, field by field: a record in between is stored in parts and loaded as a whole, for which a
    /// processor waits until the parts have left it.
    ///
    /// # Errors
    /// No hit, or not on the short way; [`read_table`](Self::read_table) finds out.
    #[inline(always)]
    pub(crate) fn read_short(&self, key: &[u8], value: &mut Vec<u8>) -> Result<Hit, NoHit> {
        let table = self.attachments.current().ok_or(NoHit::Detached)?;
        let hit = table.read_short(key, value)?;
        self.note_hit(table, key);
        Ok(hit)
    }

    /// What the table says of `key`.
    pub(crate) fn read_table(&self, key: &[u8], value: &mut Vec<u8>) -> TableRead {
        let Some(table) = self.attachments.current() else {
            value.clear();
            return TableRead::Detached;
        };
        let read = table.read(key, value);
        self.note(table, key, &read);
        read
    }

    /// What the table says of `key`, of which the short way has said `no_hit`.
    pub(crate) fn read_anyway(&self, no_hit: NoHit, key: &[u8], value: &mut Vec<u8>) -> TableRead {
        value.clear();
        match (no_hit, self.attachments.current()) {
            (NoHit::Miss, _) => TableRead::Miss,
            (NoHit::Detached, _) | (_, None) => TableRead::Detached,
            (NoHit::Unclear, Some(table)) => {
                let read = table.read_whole(key, value);
                self.note(table, key, &read);
                read
            }
        }
    }

    /// Takes note of what a read of `table` came to: eviction lives on reports of hits.
    #[inline(always)]
    pub(crate) fn note(&self, table: &Table, key: &[u8], read: &TableRead) {
        if matches!(read, TableRead::Hit(_)) {
            self.note_hit(table, key);
        }
    }

    /// Takes note of a hit in `table`.
    #[inline(always)]
    pub(crate) fn note_hit(&self, table: &Table, key: &[u8]) {
        if reports::is_due() {
            self.report(table, key);
        }
    }

    #[cold]
    fn report(&self, table: &Table, key: &[u8]) {
        reports::report(self.id, table.hash(key), |stripe, hashes, hits| {
            if let Some(mailbox) = self.process.get().and_then(|process| process.mailbox.get()) {
                for hash in hashes {
                    mailbox.report(stripe, *hash, hits);
                }
            }
        });
    }

    /// The first attachment of a new client.
    pub(crate) fn attach_first(&self) -> Result<(), Error> {
        let process = self.process();
        self.attach_with_mailbox(process, &self.deadline())
    }

    /// After a read of a table that is not in use (R0): takes another one over, if there is one by
    /// `deadline` or the shorter deadline for attaching.
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

    /// Opens a connection, and with it this process's mailbox, where the daemon gives one.
    fn attach_with_mailbox(&self, process: &Process, deadline: &Deadline) -> Result<(), Error> {
        let (connection, offer) = self.attach(process, deadline, self.settings.mailbox)?;
        match offer {
            None => {
                process.mailbox.is_refused();
                process.pool.offer(connection);
            }
            Some((file, bytes)) => {
                let mailbox = Mailbox::open(&file, bytes, connection, self.settings.spin);
                let mailbox = mailbox.map_err(|reason| Error::Untrusted {
                    socket: self.settings.socket.clone(),
                    reason,
                })?;
                process.mailbox.put(mailbox);
            }
        }
        Ok(())
    }

    /// This process's mailbox; `None` where the daemon gives none.
    fn mailbox(
        &self,
        process: &Process,
        deadline: &Deadline,
    ) -> Result<Option<Arc<Mailbox>>, Error> {
        process
            .mailbox
            .get_or_open(deadline, || self.attach_with_mailbox(process, deadline))
            .unwrap_or_else(|| Err(deadline.error("attaching to the daemon")))
    }

    /// Opens a connection, and takes over the table that it hands over if that is another one. With
    /// the connection comes a mailbox, if one is wanted and to be had.
    fn attach(
        &self,
        process: &Process,
        deadline: &Deadline,
        wants_mailbox: bool,
    ) -> Result<(Connection, Option<(OwnedFd, u64)>), Error> {
        let deadline = deadline.at_most(self.settings.attach_deadline);
        let sequence = 1 + self.connections_begun.fetch_add(1, Ordering::Relaxed);
        let mut connection = Connection::open(&self.settings.socket, &deadline)
            .map_err(|reason| self.unreachable(&reason))?;
        let peer_uid = connection
            .peer_uid()
            .map_err(|errno| Error::system("asking who the daemon is", errno.desc()))?;

        let attach = Request::Attach { protocol: PROTOCOL_VERSION, mailbox: wants_mailbox };
        let mut descriptors = Vec::new();
        let before_ns = clock::monotonic_ns();
        let payload = connection
            .send(&attach, &deadline)
            .and_then(|()| {
                connection.receive_with_descriptors(REPLY_BYTES_MAX, &deadline, &mut descriptors)
            })
            .map_err(|failure| match failure {
                Failure::NotSent(reason) | Failure::NoReply(reason) => self.unreachable(&reason),
                failure => self.failure(failure, Kind::Read, &deadline),
            })?;
        let after_ns = clock::monotonic_ns();
        let mut mailbox = None;
        match decode(payload)? {
            Response::Attached(attached) => {
                process.mailbox.met(attached.instance);
                if wants_mailbox && attached.mailbox_bytes > 0 && descriptors.len() > 1 {
                    mailbox = Some((descriptors.remove(1), attached.mailbox_bytes));
                }
                let clock_difference_ns =
                    clock::difference_ns(before_ns, after_ns, attached.clock_ns);
                let table = Offer {
                    attached: &attached,
                    descriptors,
                    peer_uid,
                    clock_difference_ns,
                    sequence,
                };
                self.adopt(process, table, &deadline)?;
            }
            Response::Error { code, message } => return Err(Error::from_daemon(code, message)),
            other => return Err(unexpected(&other)),
        }
        Ok((connection, mailbox))
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
        })?;

        let _alone = process.adopt();
        if let Some(current) = self.attachments.current()
            && current.id() == attached.table_id
        {
            current.set_clock_difference_ns(offer.clock_difference_ns);
            process.set_policy(policy);
            // A child has the table mapped and none of it in its page table.
            if process.must_populate(current.id()) {
                current.populate(self.settings.populate, deadline);
            }
            return Ok(());
        }
        if self.attachments.is_news(offer.sequence) {
            let sequence = offer.sequence;
            let table = self.checked(offer).map_err(|reason| Error::Untrusted {
                socket: self.settings.socket.clone(),
                reason,
            })?;
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

    /// Sends `request` through the mailbox, or over the control socket where there is none, and hands
    /// its answer to `take`. A read is sent again, once, to the next daemon, when the one that was
    /// asked is gone; a write only when that one cannot have acted on it.
    pub(crate) fn ask<T>(
        &self,
        request: &Request<'_>,
        kind: Kind,
        deadline: &Deadline,
        mut take: impl FnMut(Response<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let process = self.process();
        let is_write = kind == Kind::Write;
        for is_last in [false, true] {
            let Some(mailbox) = self.mailbox(process, deadline)? else { break };
            let answer = mailbox.exchange(request, is_write, deadline, |payload| {
                Shared::take_reply(&mailbox, payload, &mut take)
            });
            match answer {
                Ok(None) => return Err(too_many()),
                Ok(Some(answer)) => return answer,
                Err(failure) if is_last || !failure.allows_another(kind) => {
                    return Err(self.failure(failure, kind, deadline));
                }
                Err(_) => {}
            }
        }
        self.exchange(request, kind, deadline, take)
    }

    /// Sends `request` through the mailbox without waiting for its answer.
    pub(crate) fn begin(
        &self,
        request: &Request<'_>,
        kind: Kind,
        deadline: &Deadline,
    ) -> Result<Begun, Error> {
        let process = self.process();
        for is_last in [false, true] {
            let Some(mailbox) = self.mailbox(process, deadline)? else { break };
            match mailbox.clone().begin(request, deadline) {
                Ok(Some(asking)) => return Ok(Begun::Asking(asking)),
                Ok(None) => return Ok(Begun::Crowded(mailbox)),
                Err(failure) if is_last || !failure.allows_another(kind) => {
                    return Err(self.failure(failure, kind, deadline));
                }
                Err(_) => {}
            }
        }
        Ok(Begun::NoMailbox)
    }

    /// What `take` makes of a reply that has come through `mailbox`.
    pub(crate) fn take_reply<T>(
        mailbox: &Mailbox,
        payload: &[u8],
        take: &mut impl FnMut(Response<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let answer = decode(payload).and_then(take);
        if is_out_of_step(&answer) {
            mailbox.give_up();
        }
        answer
    }

    /// Sends a request that has no answer. It ends by `deadline`, which is asked for where there may be
    /// something to wait for: mostly there is not, and a look at the clock would be a good part of this.
    pub(crate) fn tell(
        &self,
        request: &Request<'_>,
        deadline: impl FnOnce() -> Deadline,
    ) -> Result<(), Error> {
        let process = self.process();
        let deadline = LazyCell::new(deadline);
        for is_last in [false, true] {
            let open = process.mailbox.get().map(|mailbox| Ok(Some(mailbox)));
            let open = open.unwrap_or_else(|| self.mailbox(process, &deadline))?;
            let Some(mailbox) = open else { break };
            match mailbox.tell(request, || *deadline) {
                Ok(()) => return Ok(()),
                Err(Unsent::Busy) => {
                    let reason = "the daemon is behind with this process's requests; nothing was \
                                  sent: try again, or wait for the answer";
                    return Err(Error::Busy { reason: reason.to_owned() });
                }
                Err(Unsent::Failed(failure)) => {
                    if is_last || !failure.allows_another(Kind::Write) {
                        return Err(self.failure(failure, Kind::Write, &deadline));
                    }
                }
            }
        }
        self.send(request, &deadline)
    }

    /// Sends `request` over the control socket and hands its answer to `take`. A read is sent again,
    /// once, over a new connection, when an old one turns out to be closed; a write only when the
    /// daemon cannot have received it.
    pub(crate) fn exchange<T>(
        &self,
        request: &Request<'_>,
        kind: Kind,
        deadline: &Deadline,
        mut take: impl FnMut(Response<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let process = self.process();
        let reply_bytes_max = REPLY_BYTES_MAX.saturating_add(self.value_bytes_max(process));
        self.with_connection(process, kind, deadline, |connection| {
            connection.send(request, deadline)?;
            let payload = connection.receive(reply_bytes_max, deadline)?;
            Ok(decode(payload).and_then(&mut take))
        })
    }

    fn send(&self, request: &Request<'_>, deadline: &Deadline) -> Result<(), Error> {
        let process = self.process();
        self.with_connection(process, Kind::Write, deadline, |connection| {
            connection.send(request, deadline)?;
            Ok(Ok(()))
        })
    }

    /// Runs `talk` on a connection of the pool, and once more on a new one where that is allowed.
    fn with_connection<T>(
        &self,
        process: &Process,
        kind: Kind,
        deadline: &Deadline,
        mut talk: impl FnMut(&mut Connection) -> Result<Result<T, Error>, Failure>,
    ) -> Result<T, Error> {
        let busy =
            || Error::Busy { reason: "all connections of this client are in use".to_owned() };
        let mut lease = process.pool.lease(deadline).ok_or_else(busy)?;
        if let Some(mut connection) = lease.connection.take() {
            match talk(&mut connection) {
                Ok(answer) => {
                    if !is_out_of_step(&answer) {
                        lease.keep(connection);
                    }
                    return answer;
                }
                Err(failure) if failure.allows_another(kind) => {}
                Err(failure) => return Err(self.failure(failure, kind, deadline)),
            }
        }
        let (mut connection, _) = self.attach(process, deadline, false)?;
        let answer =
            talk(&mut connection).map_err(|failure| self.failure(failure, kind, deadline))?;
        if !is_out_of_step(&answer) {
            lease.keep(connection);
        }
        answer
    }

    /// Largest value that a reply can hold.
    fn value_bytes_max(&self, process: &Process) -> usize {
        let table = self.attachments.current().map_or(0, Table::value_bytes_max);
        table.max(process.value_bytes_max()) as usize
    }

    fn unreachable(&self, reason: &Reason) -> Error {
        match reason {
            Reason::System(errno @ (Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM)) => {
                Error::system("connecting to the daemon", errno.desc())
            }
            reason => Error::Unavailable {
                socket: self.settings.socket.clone(),
                reason: reason.to_string(),
            },
        }
    }

    pub(crate) fn failure(&self, failure: Failure, kind: Kind, deadline: &Deadline) -> Error {
        match (failure, kind) {
            (Failure::TooLarge(error), _) => Error::TooLarge { reason: error.to_string() },
            (Failure::NotSent(Reason::Deadline), _) => deadline.error("sending to the daemon"),
            (Failure::NotSent(reason), _) => self.unreachable(&reason),
            (Failure::NoReply(Reason::Deadline), Kind::Read) => {
                deadline.error("the daemon's answer")
            }
            (Failure::NoReply(reason), Kind::Read) => self.unreachable(&reason),
            (Failure::NoReply(reason), Kind::Write) => {
                Error::UnknownOutcome { reason: reason.to_string() }
            }
            (Failure::BadReply(reason), Kind::Read) => Error::Internal { reason },
            (Failure::BadReply(reason), Kind::Write) => Error::UnknownOutcome { reason },
        }
    }
}

impl Failure {
    /// Whether the request may be sent once more, to another daemon or over another connection.
    fn allows_another(&self, kind: Kind) -> bool {
        match self {
            Failure::NotSent(reason) => !matches!(reason, Reason::Deadline),
            Failure::NoReply(reason) => kind == Kind::Read && !matches!(reason, Reason::Deadline),
            Failure::TooLarge(_) | Failure::BadReply(_) => false,
        }
    }
}

/// What became of a request that is not waited for.
pub(crate) enum Begun {
    /// It is under way.
    Asking(Asking<Arc<Mailbox>>),
    /// As many are under way as this mailbox can have.
    Crowded(Arc<Mailbox>),
    /// There is no mailbox.
    NoMailbox,
}

/// What a new connection has brought.
struct Offer<'a> {
    attached: &'a Attached<'a>,
    descriptors: Vec<OwnedFd>,
    peer_uid: u32,
    clock_difference_ns: u64,
    sequence: u64,
}

pub(crate) fn too_many() -> Error {
    let reason = "too many requests of this process wait for the daemon; try again later";
    Error::Busy { reason: reason.to_owned() }
}

fn decode(payload: &[u8]) -> Result<Response<'_>, Error> {
    Response::decode(payload).map_err(|error| Error::Internal { reason: error.to_string() })
}

/// An answer to something else than what was asked.
pub(crate) fn unexpected(response: &Response<'_>) -> Error {
    match response {
        Response::Error { code, message } => Error::from_daemon(*code, message),
        _ => Error::Internal { reason: "an answer to another question".to_owned() },
    }
}

/// Whether question and answer may have lost each other on this connection, or it is being closed.
fn is_out_of_step<T>(answer: &Result<T, Error>) -> bool {
    matches!(answer, Err(Error::Internal { .. } | Error::WrongProtocol { .. }))
}
