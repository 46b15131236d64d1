//! A request that no call waits for, and its answer.

use crate::client::Client;
use crate::deadline::Deadline;
use crate::error::Error;
use crate::failure::{Failure, Intent, Reason};
use crate::mailbox::{ClientEnd, LaneRequest};
use crate::shared::{Shared, Submission, too_many};
use l1d_wire::protocol::frame::HEADER_BYTES;
use l1d_wire::protocol::{Request, Response};
use std::os::fd::BorrowedFd;
use std::sync::Arc;

type Finish<T> = Box<dyn FnMut(Response<'_>) -> Result<T, Error> + Send>;

/// A request in progress: a read that L1 did not answer, or a write.
///
/// Its descriptor becomes readable when its answer comes. All requests of a process share one
/// descriptor: when it is readable, [`poll`](Self::poll) all of them. Dropping a read has no
/// effect; a dropped write may still be done. A forked child has no part in its parent's requests:
/// in the child they have failed.
///
/// Sixteen requests of a process can be under way at once, those of threads that wait in calls
/// included. A further one [`is_queued`](Self::is_queued) and is sent by a later
/// [`poll`](Self::poll).
#[must_use = "`poll` gives the answer"]
pub struct Pending<T> {
    state: State<T>,
    client: Client,
    intent: Intent,
    deadline: Deadline,
    /// It was sent twice.
    is_retried: bool,
    /// The process that made the request: the address of its state, which a child never shares.
    process: usize,
}

enum State<T> {
    Answered(Option<Result<T, Error>>),
    Sent(LaneRequest<Arc<ClientEnd>>, Finish<T>),
    Queued(Queued<T>),
    /// To be sent over the control socket, because there is no mailbox.
    Unmailed(Encoded<T>),
}

/// A request that was not sent.
struct Queued<T> {
    /// The mailbox that had no lane free; `None` while this process attaches to the daemon.
    mailbox: Option<Arc<ClientEnd>>,
    request: Encoded<T>,
}

/// A request as bytes.
pub(crate) struct Encoded<T> {
    frame: Vec<u8>,
    finish: Finish<T>,
}

impl<T> Encoded<T> {
    /// Sends it over the control socket, and waits for the answer.
    pub(crate) fn ask(
        mut self,
        client: &Client,
        intent: Intent,
        deadline: &Deadline,
    ) -> Result<T, Error> {
        let payload = self.frame.get(HEADER_BYTES..).unwrap_or_default();
        match Request::decode(payload) {
            Ok(request) => {
                client.shared.ask_over_socket(&request, intent, deadline, &mut self.finish)
            }
            Err(error) => Err(Error::internal(error.to_string())),
        }
    }
}

impl<T> std::fmt::Debug for Pending<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pending").finish_non_exhaustive()
    }
}

impl<T> Pending<T> {
    /// A request that was answered without the daemon.
    pub(crate) fn answered(client: &Client, answer: Result<T, Error>) -> Pending<T> {
        let deadline = client.shared.deadline();
        Pending {
            state: State::Answered(Some(answer)),
            client: client.clone(),
            intent: Intent::Read,
            deadline,
            is_retried: false,
            process: 0,
        }
    }

    /// Sends the request, without waiting for anything. Without a mailbox it is
    /// [unmailed](Self::take_unmailed).
    pub(crate) fn begin(
        client: &Client,
        request: &Request<'_>,
        intent: Intent,
        finish: Finish<T>,
    ) -> Pending<T> {
        let deadline = client.shared.deadline();
        let state = State::submit(client, request, intent, &deadline, finish);
        let process = std::ptr::from_ref(client.shared.process()).addr();
        Pending { state, client: client.clone(), intent, deadline, is_retried: false, process }
    }

    /// In a forked child, leaves the parent's request where it is (R9): neither the memory of its
    /// mailbox, which is not mapped here, nor a lock may be touched, and dropping it would do both.
    fn leave_to_parent(&mut self) {
        let ours = self.client.shared.process_if_any().map(|ours| std::ptr::from_ref(ours).addr());
        if matches!(self.state, State::Answered(_)) || ours == Some(self.process) {
            return;
        }
        let failure = Failure::NoReply(Reason::Forked);
        let error = self.client.shared.failure(failure, self.intent, &self.deadline);
        let failed = State::Answered(Some(Err(error)));
        std::mem::forget(std::mem::replace(&mut self.state, failed));
    }

    /// The answer, once it has come; `None` before that, and after it was given out. Call this
    /// again when the descriptor is readable, and at the client's deadline. Without a mailbox the
    /// first call sends the request and waits for the answer.
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// let mut pending = cache.request_set("market:BTC", "64000", &Default::default());
    /// if let Some(stored) = pending.poll() {
    ///     println!("version {}", stored?.version);
    /// }
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    pub fn poll(&mut self) -> Option<Result<T, Error>> {
        self.leave_to_parent();
        if let Some(mailbox) = self.mailbox() {
            // Before the lane is looked at: a later reply makes the descriptor readable again.
            mailbox.drain_wakeups();
        }
        let answer = self.look();
        match self.take_unmailed() {
            Some(request) => Some(request.ask(&self.client, self.intent, &self.deadline)),
            None => answer,
        }
    }

    /// The request, if it must be sent over the control socket, which means waiting.
    pub(crate) fn take_unmailed(&mut self) -> Option<Encoded<T>> {
        match std::mem::replace(&mut self.state, State::Answered(None)) {
            State::Unmailed(request) => Some(request),
            other => {
                self.state = other;
                None
            }
        }
    }

    /// What [`Encoded::ask`] needs besides the request.
    #[cfg(feature = "tokio")]
    pub(crate) fn terms(&self) -> (Client, Intent, Deadline) {
        (self.client.clone(), self.intent, self.deadline.clone())
    }

    /// [`poll`](Self::poll) without draining the descriptor: costs no system call, for a few looks
    /// at what may come at once, before waiting at the descriptor. Where the daemon gives no
    /// mailbox, only `poll` sends the request.
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// let mut pending = cache.request("market:BTC");
    /// let answer = (0..100).find_map(|_| pending.look());
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    pub fn look(&mut self) -> Option<Result<T, Error>> {
        self.leave_to_parent();
        if let State::Queued(queued) = &self.state {
            let mailbox = queued.mailbox.as_ref();
            if self.deadline.has_passed() {
                let error = match mailbox {
                    Some(_) => too_many(),
                    None => self.deadline.error("attaching to the daemon"),
                };
                self.state = State::Answered(Some(Err(error)));
            } else if mailbox.is_none_or(|mailbox| mailbox.has_free_lane() || mailbox.is_dead()) {
                self.submit_queued();
            }
        }
        let answer = match &mut self.state {
            State::Answered(answer) => return answer.take(),
            State::Queued(_) | State::Unmailed(_) => return None,
            State::Sent(lane_request, finish) => match lane_request.poll(&self.deadline) {
                Ok(false) => return None,
                Ok(true) => {
                    Shared::take_reply(lane_request.mailbox(), lane_request.reply(), finish)
                }
                Err(failure) if !self.is_retried && failure.allows_retry(self.intent) => {
                    return self.retry();
                }
                Err(failure) => {
                    Err(self.client.shared.failure(failure, self.intent, &self.deadline))
                }
            },
        };
        self.state = State::Answered(None);
        Some(answer)
    }

    /// Sends the request once more, to the next daemon or over another connection.
    fn retry(&mut self) -> Option<Result<T, Error>> {
        self.is_retried = true;
        let state = std::mem::replace(&mut self.state, State::Answered(None));
        if let State::Sent(lane_request, finish) = state {
            let frame = lane_request.request().to_vec();
            let request = Encoded { frame, finish };
            self.state = State::Queued(Queued { mailbox: None, request });
            self.submit_queued();
        }
        match &mut self.state {
            State::Answered(answer) => answer.take(),
            _ => None,
        }
    }

    fn submit_queued(&mut self) {
        let state = std::mem::replace(&mut self.state, State::Answered(None));
        let State::Queued(Queued { request: Encoded { frame, finish }, .. }) = state else {
            self.state = state;
            return;
        };
        let (client, intent) = (&self.client, self.intent);
        self.state = match Request::decode(frame.get(HEADER_BYTES..).unwrap_or_default()) {
            Ok(request) => State::submit(client, &request, intent, &self.deadline, finish),
            Err(error) => State::Answered(Some(Err(Error::internal(error.to_string())))),
        };
    }

    /// The answer is already known: [`poll`](Self::poll) returns it, and there is nothing to wait
    /// for.
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// let pending = cache.request("market:BTC");
    /// println!("a hit: {}", pending.is_answered());
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    #[must_use]
    pub fn is_answered(&self) -> bool {
        matches!(self.state, State::Answered(_))
    }

    /// Whether the request was not sent as a whole yet: this process is attaching to the daemon or
    /// has no mailbox, too many requests of this process are under way, or the request is large and
    /// the daemon has not read its first pieces. `poll` goes on with it: call it again every
    /// millisecond or so, when the answer to another request has come, and at the client's
    /// deadline, when it fails, with [`Error::Busy`] if too many were under way.
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// let mut pending = cache.request("market:BTC");
    /// while pending.is_queued() && pending.poll().is_none() {
    ///     std::thread::sleep(std::time::Duration::from_millis(1));
    /// }
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    #[must_use]
    pub fn is_queued(&self) -> bool {
        match &self.state {
            State::Queued(_) | State::Unmailed(_) => true,
            State::Sent(lane_request, _) => lane_request.is_unsent(),
            State::Answered(_) => false,
        }
    }

    /// No event announces that it can go on: that takes calls of [`look`](Self::look).
    #[cfg(feature = "tokio")]
    pub(crate) fn needs_polling(&self) -> bool {
        match &self.state {
            State::Queued(queued) => queued.mailbox.is_none(),
            State::Sent(lane_request, _) => lane_request.is_unsent(),
            State::Answered(_) | State::Unmailed(_) => false,
        }
    }

    /// The descriptor to wait for until it is readable; `None` when there is nothing to wait for,
    /// or while this process attaches to the daemon: then it [`is_queued`](Self::is_queued).
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// use std::os::fd::AsRawFd;
    ///
    /// let pending = cache.request("market:BTC");
    /// if let Some(descriptor) = pending.descriptor() {
    ///     println!("wait until {} is readable", descriptor.as_raw_fd());
    /// }
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    #[must_use]
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.mailbox().map(|mailbox| mailbox.descriptor())
    }

    /// The time until the deadline.
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// let pending = cache.request("market:BTC");
    /// println!("poll again after {:?} at the latest", pending.remaining());
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    #[must_use]
    pub fn remaining(&self) -> std::time::Duration {
        self.deadline.remaining()
    }

    /// The mailbox at which the answer, or a free lane, arrives.
    pub(crate) fn mailbox(&self) -> Option<&Arc<ClientEnd>> {
        match &self.state {
            State::Answered(_) | State::Unmailed(_) => None,
            State::Sent(lane_request, _) => Some(lane_request.mailbox()),
            State::Queued(queued) => queued.mailbox.as_ref(),
        }
    }
}

impl<T> State<T> {
    /// Sends the request, or queues it if that takes waiting.
    fn submit(
        client: &Client,
        request: &Request<'_>,
        intent: Intent,
        deadline: &Deadline,
        finish: Finish<T>,
    ) -> State<T> {
        let submitted = client.shared.submit(request, intent, deadline);
        let mailbox = match submitted {
            Ok(Submission::Sent(lane_request)) => return State::Sent(lane_request, finish),
            Ok(Submission::Busy(mailbox)) => Some(Some(mailbox)),
            Ok(Submission::Attaching) => Some(None),
            Ok(Submission::NoMailbox) => None,
            Err(error) => return State::Answered(Some(Err(error))),
        };
        let mut frame = Vec::new();
        if let Err(error) = request.encode(&mut frame) {
            return State::Answered(Some(Err(Error::TooLarge { reason: error.to_string() })));
        }
        let request = Encoded { frame, finish };
        match mailbox {
            Some(mailbox) => State::Queued(Queued { mailbox, request }),
            None => State::Unmailed(request),
        }
    }
}

impl<T> Drop for Pending<T> {
    fn drop(&mut self) {
        self.leave_to_parent();
    }
}
