//! Sending requests to the daemon and taking its replies: through the mailbox, or over the control
//! socket where there is none.

use super::Shared;
use crate::connection::Connection;
use crate::deadline::Deadline;
use crate::error::Error;
use crate::failure::{Failure, Intent};
use crate::mailbox::{ClientEnd, LaneRequest, Unsent};
use crate::process::Process;
use crate::reply::{decode, is_out_of_step};
use crate::table::Table;
use crate::writes::check_request;
use l1d_wire::protocol::{Request, Response};
use std::cell::LazyCell;
use std::sync::Arc;
#[cfg(feature = "tokio")]
use std::time::Duration;

/// Largest reply besides the largest value: room for a batch of values, for JSON.
const REPLY_BYTES_MAX: usize = 16 << 20;

/// The outcome of sending a request without waiting for its reply.
pub(crate) enum Submission {
    /// It was sent.
    Sent(LaneRequest<Arc<ClientEnd>>),
    /// It was not sent, because every lane of this mailbox is taken.
    Busy(Arc<ClientEnd>),
    /// It was not sent, because this process is attaching to the daemon: try again in a few
    /// milliseconds.
    Attaching,
    /// It was not sent, because the daemon gives no mailbox.
    NoMailbox,
}

impl Shared {
    /// Sends `request` and hands its response to `take`. After the daemon has gone, the next one is
    /// asked, once: for a read always, for a write only if the first cannot have acted on it.
    pub(crate) fn ask<T>(
        &self,
        request: &Request<'_>,
        intent: Intent,
        deadline: &Deadline,
        mut take: impl FnMut(Response<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let is_write = intent == Intent::Write;
        let process = self.process();
        let asked = self.with_mailbox(
            intent,
            || deadline.clone(),
            |mailbox| {
                if let Err(error) = check_request(process, request) {
                    return Ok(Some(Err(error)));
                }
                mailbox.call(request, is_write, deadline, |payload| {
                    Shared::take_reply(mailbox, payload, &mut take)
                })
            },
        );
        match asked? {
            Some(Some(result)) => result,
            Some(None) => Err(too_many()),
            None => self.ask_over_socket(request, intent, deadline, take),
        }
    }

    /// Waits for a connection if this process has none yet: the policy comes with it.
    pub(crate) fn know_policy(&self, process: &Process, deadline: &Deadline) -> Result<(), Error> {
        if process.has_policy() {
            return Ok(());
        }
        self.mailbox(process, deadline).map(drop)
    }

    /// Sends `request` through the mailbox, or as much of it as the ring has room for, without
    /// waiting for anything.
    pub(crate) fn submit(
        &self,
        request: &Request<'_>,
        intent: Intent,
        deadline: &Deadline,
    ) -> Result<Submission, Error> {
        let process = self.process();
        for is_last in [false, true] {
            let Some(mailbox) = process.mailbox.get() else {
                if process.mailbox.is_refused() {
                    return Ok(Submission::NoMailbox);
                }
                match self.attach_step(process) {
                    None => return Ok(Submission::Attaching),
                    Some(attached) => attached?,
                }
                continue;
            };
            check_request(process, request)?;
            match mailbox.clone().begin(request, deadline) {
                Ok(Some(lane_request)) => return Ok(Submission::Sent(lane_request)),
                Ok(None) => return Ok(Submission::Busy(mailbox)),
                Err(failure) if is_last || !failure.allows_retry(intent) => {
                    return Err(self.failure(failure, intent, deadline));
                }
                Err(_) => {}
            }
        }
        Ok(Submission::Attaching)
    }

    /// Sends a request that has no reply, if that takes no waiting at all. Otherwise nothing was
    /// sent, and the result is `None`, or an error if the ring is full.
    #[cfg(feature = "tokio")]
    pub(crate) fn try_post(&self, request: &Request<'_>) -> Option<Result<(), Error>> {
        let mailbox = self.process().mailbox.get()?;
        match mailbox.post(request, || Deadline::after(Duration::ZERO)) {
            Ok(()) => Some(Ok(())),
            Err(Unsent::Busy) => Some(Err(ring_full())),
            Err(Unsent::Failed(_)) => None,
        }
    }

    /// Sends a request that has no reply. `deadline` is called only if there may be something to
    /// wait for: reading the clock would be a good part of the cost.
    pub(crate) fn post(
        &self,
        request: &Request<'_>,
        deadline: impl FnOnce() -> Deadline,
    ) -> Result<(), Error> {
        let deadline = LazyCell::new(deadline);
        let process = self.process();
        let posted = self.with_mailbox(
            Intent::Write,
            || deadline.clone(),
            |mailbox| {
                if let Err(error) = check_request(process, request) {
                    return Ok(Err(error));
                }
                match mailbox.post(request, || deadline.clone()) {
                    Ok(()) => Ok(Ok(())),
                    Err(Unsent::Busy) => Ok(Err(ring_full())),
                    Err(Unsent::Failed(failure)) => Err(failure),
                }
            },
        );
        match posted? {
            Some(result) => result,
            None => self.send(request, &deadline),
        }
    }

    /// Turns a reply that came through `mailbox` into what `take` makes of it.
    pub(crate) fn take_reply<T>(
        mailbox: &ClientEnd,
        payload: &[u8],
        take: &mut impl FnMut(Response<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let result = decode(payload).and_then(take);
        if is_out_of_step(&result) {
            mailbox.give_up();
        }
        result
    }

    /// Runs `talk` with this process's mailbox, and once more with the next daemon's if it fails in
    /// a way that allows that. `None` where the daemon gives no mailbox.
    #[inline]
    fn with_mailbox<T>(
        &self,
        intent: Intent,
        deadline: impl Fn() -> Deadline,
        mut talk: impl FnMut(&Arc<ClientEnd>) -> Result<T, Failure>,
    ) -> Result<Option<T>, Error> {
        let process = self.process();
        for is_last in [false, true] {
            let mailbox = match process.mailbox.get() {
                Some(mailbox) => mailbox,
                None => match self.mailbox(process, &deadline())? {
                    Some(mailbox) => mailbox,
                    None => break,
                },
            };
            match talk(&mailbox) {
                Ok(result) => return Ok(Some(result)),
                Err(failure) if is_last || !failure.allows_retry(intent) => {
                    return Err(self.failure(failure, intent, &deadline()));
                }
                Err(_) => {}
            }
        }
        Ok(None)
    }

    /// Sends `request` over the control socket and hands its response to `take`. If an old
    /// connection turns out to be closed, a new one is tried, once: for a read always, for a write
    /// only if the daemon cannot have received it.
    pub(crate) fn ask_over_socket<T>(
        &self,
        request: &Request<'_>,
        intent: Intent,
        deadline: &Deadline,
        mut take: impl FnMut(Response<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let process = self.process();
        let reply_bytes_max = REPLY_BYTES_MAX.saturating_add(self.value_bytes_max(process));
        self.with_connection(process, intent, deadline, |connection| {
            connection.send(request, deadline)?;
            let payload = connection.receive(reply_bytes_max, deadline)?;
            Ok(decode(payload).and_then(&mut take))
        })
    }

    /// Sends a request that has no reply over the control socket.
    fn send(&self, request: &Request<'_>, deadline: &Deadline) -> Result<(), Error> {
        self.with_connection(self.process(), Intent::Write, deadline, |connection| {
            connection.send(request, deadline)?;
            Ok(Ok(()))
        })
    }

    /// Runs `talk` on a connection of the pool, and once more on a new one where that is allowed.
    fn with_connection<T>(
        &self,
        process: &Process,
        intent: Intent,
        deadline: &Deadline,
        mut talk: impl FnMut(&mut Connection) -> Result<Result<T, Error>, Failure>,
    ) -> Result<T, Error> {
        let busy =
            || Error::Busy { reason: "all connections of this client are in use".to_owned() };
        let lease = process.pool.lease(deadline);
        let lease = lease.map_err(|reason| reason.into_error(&self.settings.socket))?;
        let mut lease = lease.ok_or_else(busy)?;
        let mut first = None;
        if let Some(mut connection) = lease.connection.take() {
            match talk(&mut connection) {
                Ok(result) => first = Some((connection, result)),
                Err(failure) if failure.allows_retry(intent) => {}
                Err(failure) => return Err(self.failure(failure, intent, deadline)),
            }
        }
        let (connection, result) = match first {
            Some(first) => first,
            None => {
                let (mut connection, _) = self.attach(process, deadline, false)?;
                let result = talk(&mut connection)
                    .map_err(|failure| self.failure(failure, intent, deadline))?;
                (connection, result)
            }
        };
        if !is_out_of_step(&result) {
            lease.keep(connection);
        }
        result
    }

    /// Largest value that a reply can hold.
    fn value_bytes_max(&self, process: &Process) -> usize {
        let table = self.attachments.current().map_or(0, Table::value_bytes_max);
        table.max(process.value_bytes_max()) as usize
    }
}

/// Every lane of the mailbox was taken until the deadline.
pub(crate) fn too_many() -> Error {
    let reason = "too many requests of this process wait for the daemon";
    Error::Busy { reason: reason.to_owned() }
}

/// The ring has no room for a request without a reply.
fn ring_full() -> Error {
    let reason = "the daemon is behind with this process's requests, and nothing was sent";
    Error::Busy { reason: reason.to_owned() }
}
