//! Requests that nobody waits for in a call: for programs with an event loop of their own.

use crate::client::{Client, check_key};
use crate::deadline::Deadline;
use crate::error::Error;
use crate::failure::Intent;
use crate::mailbox::{ClientEnd, Exchange};
use crate::process_cache;
use crate::reply::unexpected;
use crate::shared::{Shared, Submission, too_many};
use crate::value::{Lookup, SetOptions, Stored, Value};
use crate::writes;
use l1d_wire::protocol::{Request, Response};
use std::os::fd::BorrowedFd;
use std::sync::Arc;

type Finish<T> = Box<dyn FnMut(Response<'_>) -> Result<T, Error> + Send>;

/// A request under way: what a read of the table did not answer, or a write.
///
/// Its descriptor becomes readable when the answer is there. All requests of a process that are under
/// way have the same descriptor: when it is readable, [`poll`](Self::poll) all of them. Dropped, a read
/// is of no effect; a write may still be done. A forked child has no part in its parent's requests: to
/// it they have failed.
#[must_use = "the answer is told by `poll`"]
pub struct Pending<T> {
    state: State<T>,
    client: Client,
    intent: Intent,
    deadline: Deadline,
    /// Whose request it is: the address of this process's state, which a child never shares.
    process: usize,
}

enum State<T> {
    Answered(Option<Result<T, Error>>),
    Exchange(Exchange<Arc<ClientEnd>>, Finish<T>),
    /// Nothing was sent: too many are under way.
    Crowded(
        #[cfg_attr(not(feature = "tokio"), expect(dead_code, reason = "tasks wait for it"))]
        Arc<ClientEnd>,
    ),
}

impl<T> std::fmt::Debug for Pending<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pending").finish_non_exhaustive()
    }
}

impl<T> Pending<T> {
    fn answered(client: &Client, answer: Result<T, Error>) -> Pending<T> {
        let deadline = client.shared.deadline();
        Pending {
            state: State::Answered(Some(answer)),
            client: client.clone(),
            intent: Intent::Read,
            deadline,
            process: 0,
        }
    }

    /// Sends the request, without waiting for its answer.
    pub(crate) fn begin(
        client: &Client,
        request: &Request<'_>,
        intent: Intent,
        mut finish: Finish<T>,
    ) -> Pending<T> {
        let deadline = client.shared.deadline();
        let begun = client.shared.submit(request, intent, &deadline);
        let state = match begun {
            Ok(Submission::Sent(exchange)) => State::Exchange(exchange, finish),
            Ok(Submission::Busy(mailbox)) => State::Crowded(mailbox),
            // Over the socket, which is waited for.
            Ok(Submission::NoMailbox) => State::Answered(Some(client.shared.ask_over_socket(
                request,
                intent,
                &deadline,
                &mut finish,
            ))),
            Err(error) => State::Answered(Some(Err(error))),
        };
        let process = std::ptr::from_ref(client.shared.process()).addr();
        Pending { state, client: client.clone(), intent, deadline, process }
    }

    /// In a forked child, leaves the parent's request where it is (R9): neither the memory of its
    /// mailbox, which is not mapped here, nor a lock may be touched, and dropping it would do both.
    fn leave_to_parent(&mut self) {
        let ours = self.client.shared.process_if_any().map(|ours| std::ptr::from_ref(ours).addr());
        if matches!(self.state, State::Answered(_)) || ours == Some(self.process) {
            return;
        }
        let reason = "the request is the parent process's; ask anew";
        let error = match self.intent {
            Intent::Read => Error::system("waiting in a forked child", reason),
            Intent::Write => Error::UnknownOutcome { reason: reason.to_owned() },
        };
        let failed = State::Answered(Some(Err(error)));
        std::mem::forget(std::mem::replace(&mut self.state, failed));
    }

    /// The answer, once it is there; `None` before, and after it was given out. Call it again when the
    /// descriptor is readable, and at the client's deadline.
    pub fn poll(&mut self) -> Option<Result<T, Error>> {
        self.leave_to_parent();
        if let State::Exchange(exchange, _) = &self.state {
            // Before the look at the lane: what comes behind it makes it readable again.
            exchange.mailbox().hear_rings();
        }
        self.look()
    }

    /// [`poll`](Self::poll) without a look at the descriptor.
    pub(crate) fn look(&mut self) -> Option<Result<T, Error>> {
        self.leave_to_parent();
        let answer = match &mut self.state {
            State::Answered(answer) => return answer.take(),
            State::Crowded(_) => Err(too_many()),
            State::Exchange(exchange, finish) => match exchange.poll(&self.deadline) {
                Ok(false) => return None,
                Ok(true) => Shared::take_reply(exchange.mailbox(), exchange.reply(), finish),
                Err(failure) => {
                    Err(self.client.shared.failure(failure, self.intent, &self.deadline))
                }
            },
        };
        self.state = State::Answered(None);
        Some(answer)
    }

    /// Whether the answer was there from the start: [`poll`](Self::poll) gives it, and there is nothing
    /// to wait for.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        !matches!(self.state, State::Exchange(..))
    }

    /// What to wait for until it is readable; `None` when there is nothing to wait for.
    #[must_use]
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match &self.state {
            State::Answered(_) | State::Crowded(_) => None,
            State::Exchange(exchange, _) => Some(exchange.mailbox().descriptor()),
        }
    }

    /// How long it makes sense to wait.
    #[must_use]
    pub fn remaining(&self) -> std::time::Duration {
        self.deadline.remaining()
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn mailbox(&self) -> Option<&ClientEnd> {
        match &self.state {
            State::Answered(_) | State::Crowded(_) => None,
            State::Exchange(exchange, _) => Some(exchange.mailbox()),
        }
    }

    /// Where nothing was sent because too many are under way: the mailbox that has no lane free.
    #[cfg(feature = "tokio")]
    pub(crate) fn crowded(&self) -> Option<&Arc<ClientEnd>> {
        match &self.state {
            State::Crowded(mailbox) => Some(mailbox),
            State::Answered(_) | State::Exchange(..) => None,
        }
    }
}

impl<T> Drop for Pending<T> {
    fn drop(&mut self) {
        self.leave_to_parent();
    }
}

impl Client {
    /// [`lookup`](Self::lookup) without waiting for the daemon: a hit is answered at once, and anything
    /// else when [`Pending::descriptor`] is readable.
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// let mut pending = cache.request(b"market:book");
    /// loop {
    ///     if let Some(answer) = pending.poll() {
    ///         println!("{:?}", answer?.found());
    ///         break;
    ///     }
    ///     // Do something else until `pending.descriptor()` is readable.
    /// }
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    pub fn request(&self, key: &[u8]) -> Pending<Lookup> {
        let known = self.peek_lookup(key);
        if !matches!(known, Lookup::Unknown) {
            return Pending::answered(self, Ok(known));
        }
        if let Err(error) = check_key(key) {
            return Pending::answered(self, Err(error));
        }
        let begun = self.shared.process().begin_read(key);
        let (client, owned) = (self.clone(), key.to_vec());
        let finish = move |response: Response<'_>| {
            let mut value = Vec::new();
            let found = client.take_answer(begun.as_ref(), &owned, &response, &mut value)?;
            Ok(found.map(|meta| Value::new(value, meta)))
        };
        Pending::begin(self, &Request::Get { key }, Intent::Read, Box::new(finish))
    }

    /// [`set_with`](Self::set_with) without waiting for the daemon's answer.
    pub fn request_set(&self, key: &[u8], value: &[u8], options: &SetOptions) -> Pending<Stored> {
        let begun = match self.begin_set(key, value) {
            Ok(begun) => begun,
            Err(error) => return Pending::answered(self, Err(error)),
        };
        let options = SetOptions { no_wait: false, ..*options };
        let mut set = Unfinished {
            client: self.clone(),
            begun,
            is_ended: false,
            key: key.into(),
            value: value.into(),
            options,
        };
        let finish = move |response: Response<'_>| {
            let stored = writes::stored(&response);
            set.end(&stored);
            stored
        };
        let request = writes::request(key, value, &options);
        Pending::begin(self, &request, Intent::Write, Box::new(finish))
    }
}

impl Client {
    /// [`delete`](Self::delete) without waiting for the daemon's answer.
    pub fn request_delete(&self, key: &[u8]) -> Pending<bool> {
        if let Err(error) = check_key(key) {
            return Pending::answered(self, Err(error));
        }
        let mut delete = Forgotten { client: self.clone(), key: key.into() };
        delete.forget();
        let finish = move |response: Response<'_>| {
            delete.forget();
            match response {
                Response::Deleted { existed, .. } => Ok(existed),
                other => Err(unexpected(&other)),
            }
        };
        Pending::begin(self, &Request::Delete { key }, Intent::Write, Box::new(finish))
    }
}

/// A delete under way: whenever it was done, this process has forgotten the key since.
struct Forgotten {
    client: Client,
    key: Box<[u8]>,
}

impl Forgotten {
    fn forget(&mut self) {
        let process = self.client.shared.process();
        process.end_write(process.begin_write(&self.key), &self.key, None);
    }
}

impl Drop for Forgotten {
    fn drop(&mut self) {
        self.forget();
    }
}

/// A set under way. Given up, it leaves nothing in the process cache that may be older than it.
struct Unfinished {
    client: Client,
    begun: Option<process_cache::Ticket>,
    is_ended: bool,
    key: Box<[u8]>,
    value: Box<[u8]>,
    options: SetOptions,
}

impl Unfinished {
    fn end(&mut self, stored: &Result<Stored, Error>) {
        if !std::mem::replace(&mut self.is_ended, true) {
            let begun = self.begun.take();
            self.client.end_set(begun, &self.key, &self.value, &self.options, stored);
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        self.end(&Err(Error::UnknownOutcome { reason: String::new() }));
    }
}
