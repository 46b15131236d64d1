//! A request that no call waits for, and its answer.

use crate::client::Client;
use crate::deadline::Deadline;
use crate::error::Error;
use crate::failure::Intent;
use crate::mailbox::{ClientEnd, LaneRequest};
use crate::shared::{Shared, Submission, too_many};
use l1d_wire::protocol::frame::HEADER_BYTES;
use l1d_wire::protocol::{Request, Response};
use std::io;
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
    /// The process that made the request: the address of its state, which a child never shares.
    process: usize,
}

enum State<T> {
    Answered(Option<Result<T, Error>>),
    Sent(LaneRequest<Arc<ClientEnd>>, Finish<T>),
    Queued(Queued<T>),
}

/// A request that waits for a free lane.
struct Queued<T> {
    /// The mailbox that had no lane free.
    mailbox: Arc<ClientEnd>,
    /// The request, encoded.
    frame: Vec<u8>,
    finish: Finish<T>,
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
            process: 0,
        }
    }

    /// Sends the request, without waiting for its answer.
    pub(crate) fn begin(
        client: &Client,
        request: &Request<'_>,
        intent: Intent,
        finish: Finish<T>,
    ) -> Pending<T> {
        let deadline = client.shared.deadline();
        let state = State::submit(client, request, intent, &deadline, finish);
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
        let reason = "the request is the parent process's; ask again";
        let error = match self.intent {
            Intent::Read => Error::system("waiting in a forked child", io::Error::other(reason)),
            Intent::Write => Error::unknown_outcome(reason),
        };
        let failed = State::Answered(Some(Err(error)));
        std::mem::forget(std::mem::replace(&mut self.state, failed));
    }

    /// The answer, once it has come; `None` before that, and after it was given out. Call this
    /// again when the descriptor is readable, and at the client's deadline.
    pub fn poll(&mut self) -> Option<Result<T, Error>> {
        self.leave_to_parent();
        if let Some(mailbox) = self.mailbox() {
            // Before the lane is looked at: a later reply makes the descriptor readable again.
            mailbox.drain_wakeups();
        }
        self.look()
    }

    /// [`poll`](Self::poll) without draining the descriptor.
    pub(crate) fn look(&mut self) -> Option<Result<T, Error>> {
        self.leave_to_parent();
        if let State::Queued(queued) = &self.state {
            if self.deadline.has_passed() {
                self.state = State::Answered(Some(Err(too_many())));
            } else if queued.mailbox.has_free_lane() || queued.mailbox.is_dead() {
                self.submit_queued();
            }
        }
        let answer = match &mut self.state {
            State::Answered(answer) => return answer.take(),
            State::Queued(_) => return None,
            State::Sent(lane_request, finish) => match lane_request.poll(&self.deadline) {
                Ok(false) => return None,
                Ok(true) => {
                    Shared::take_reply(lane_request.mailbox(), lane_request.reply(), finish)
                }
                Err(failure) => {
                    Err(self.client.shared.failure(failure, self.intent, &self.deadline))
                }
            },
        };
        self.state = State::Answered(None);
        Some(answer)
    }

    fn submit_queued(&mut self) {
        let state = std::mem::replace(&mut self.state, State::Answered(None));
        let State::Queued(Queued { frame, finish, .. }) = state else {
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
    #[must_use]
    pub fn is_answered(&self) -> bool {
        matches!(self.state, State::Answered(_))
    }

    /// Whether the request was not sent yet, as too many of this process are under way. `poll`
    /// sends it once another has been answered: call it again when the answer to another request
    /// has come, and at the client's deadline, when it fails with [`Error::Busy`]. The descriptor
    /// becomes readable for the answers to `Pending` requests, but not for those that threads wait
    /// for in calls; where these take all lanes, poll every millisecond or so.
    #[must_use]
    pub fn is_queued(&self) -> bool {
        matches!(self.state, State::Queued(_))
    }

    /// The descriptor to wait for until it is readable; `None` when there is nothing to wait for.
    #[must_use]
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.mailbox().map(|mailbox| mailbox.descriptor())
    }

    /// The time until the deadline.
    #[must_use]
    pub fn remaining(&self) -> std::time::Duration {
        self.deadline.remaining()
    }

    /// The mailbox at which the answer, or a free lane, arrives.
    pub(crate) fn mailbox(&self) -> Option<&Arc<ClientEnd>> {
        match &self.state {
            State::Answered(_) => None,
            State::Sent(lane_request, _) => Some(lane_request.mailbox()),
            State::Queued(queued) => Some(&queued.mailbox),
        }
    }
}

impl<T> State<T> {
    /// Sends the request, or queues it if no lane is free. Without a mailbox, sends it over the
    /// control socket and waits for the answer.
    fn submit(
        client: &Client,
        request: &Request<'_>,
        intent: Intent,
        deadline: &Deadline,
        mut finish: Finish<T>,
    ) -> State<T> {
        let submitted = client.shared.submit(request, intent, deadline);
        let answer = match submitted {
            Ok(Submission::Sent(lane_request)) => return State::Sent(lane_request, finish),
            Ok(Submission::Busy(mailbox)) => {
                let mut frame = Vec::new();
                match request.encode(&mut frame) {
                    Ok(()) => return State::Queued(Queued { mailbox, frame, finish }),
                    Err(error) => Err(Error::TooLarge { reason: error.to_string() }),
                }
            }
            Ok(Submission::NoMailbox) => {
                client.shared.ask_over_socket(request, intent, deadline, &mut finish)
            }
            Err(error) => Err(error),
        };
        State::Answered(Some(answer))
    }
}

impl<T> Drop for Pending<T> {
    fn drop(&mut self) {
        self.leave_to_parent();
    }
}
