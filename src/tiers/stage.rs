//! One tier's queue: requests wait here, travel together, and are answered one by one.
//!
//! Batching needs no timer: while [`EXCHANGES_MAX`] exchanges are in flight, requests wait, and all
//! that wait travel in the next exchange. A quiet tier answers at once, a busy one in large batches.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};
use tokio::task::spawn_local;

use super::health::{Failure, Health};

/// Exchanges in flight to one tier.
const EXCHANGES_MAX: usize = 4;
/// Requests of one exchange.
const BATCH_REQUESTS_MAX: usize = 128;
/// Bytes of values sent in one exchange, if it is more than one request.
const BATCH_BYTES_MAX: usize = 4 << 20;

/// What a tier is asked about a key.
#[derive(Debug, Clone)]
pub struct Request {
    pub key: Arc<[u8]>,
    pub ask: Ask,
}

/// What is asked.
#[derive(Debug, Clone)]
pub enum Ask {
    /// The value, its flags, and what remains of its life.
    Get,
    /// To store the value; `None` keeps it for ever.
    Set { value: Arc<[u8]>, flags: u32, ttl: Option<Duration> },
    /// To store the value if there is none.
    Add { value: Arc<[u8]>, flags: u32, ttl: Duration },
    /// To forget the key.
    Delete,
}

/// What a tier answers.
#[derive(Debug, Clone)]
pub enum Answer {
    /// The value.
    Hit { value: Arc<[u8]>, flags: u32, remaining: Option<Duration> },
    /// No value. `absent`: the tier has nothing at all under this key.
    Miss { absent: bool },
    /// Stored, or there was a value already where the request was to add one.
    Stored,
    /// The key is gone.
    Deleted { existed: bool },
    /// The tier has refused, and holds no value for the key that it should not.
    Refused(String),
    /// The tier has not seen the request.
    NotSent(String),
    /// The tier may have carried the request out.
    Unanswered(String),
}

/// An answer and what the owner needs to judge it.
#[derive(Debug)]
pub struct Reply {
    pub answer: Answer,
    /// When the request was sent.
    pub sent_at: Instant,
    /// The tier's epoch when the request was sent.
    pub epoch: u64,
}

/// What came of one exchange.
pub struct Exchange {
    /// One for each request, in order.
    pub answers: Vec<Answer>,
    /// When the first byte could leave.
    pub sent_at: Instant,
    /// The tier's epoch at that moment.
    pub epoch: u64,
    /// Why not all were answered.
    pub failure: Option<Failure>,
}

impl Exchange {
    /// An exchange that never began.
    pub fn not_sent(requests: usize, health: &Health, failure: Failure) -> Exchange {
        Exchange {
            answers: vec![Answer::NotSent(failure.why.clone()); requests],
            sent_at: Instant::now(),
            epoch: health.epoch(),
            failure: Some(failure),
        }
    }
}

/// A server that answers batches. Memcached and Redis are the two.
pub trait Server {
    /// Sends all requests in one exchange; done before `deadline`, whatever happens.
    async fn exchange(&self, requests: &[Request], deadline: Instant) -> Exchange;
    /// Whether the server answers at all, before `deadline`.
    async fn probe(&self, deadline: Instant) -> Result<(), Failure>;
    /// Drops every connection.
    fn disconnect(&self);
}

struct Waiting {
    request: Request,
    since: Instant,
    reply: oneshot::Sender<Reply>,
}

/// The queue in front of one server.
pub struct Stage<S> {
    server: S,
    health: Rc<Health>,
    deadline: Duration,
    queue: RefCell<VecDeque<Waiting>>,
    in_flight: Cell<usize>,
    /// There is something to do for [`Stage::dispatch`].
    changed: Notify,
}

impl<S: Server + 'static> Stage<S> {
    /// A stage, dispatching on the current thread until its task is dropped.
    pub fn start(server: S, health: Rc<Health>, deadline: Duration) -> Rc<Stage<S>> {
        let stage = Rc::new(Stage {
            server,
            health,
            deadline,
            queue: RefCell::default(),
            in_flight: Cell::new(0),
            changed: Notify::new(),
        });
        spawn_local(Rc::clone(&stage).dispatch());
        stage
    }

    /// Whether a request would be sent.
    pub fn allows(&self) -> bool {
        self.health.allows()
    }

    /// Asks, and waits at most two deadlines: one in the queue and one for the exchange.
    pub async fn ask(&self, request: Request) -> Reply {
        let is_read = matches!(request.ask, Ask::Get);
        let figures = self.health.figures();
        figures.requests.fetch_add(1, Relaxed);
        let (reply, answered) = oneshot::channel();
        if self.health.allows() {
            let waiting = Waiting { request, since: Instant::now(), reply };
            self.queue.borrow_mut().push_back(waiting);
            self.changed.notify_one();
        } else {
            self.answer_not_sent(reply, "circuit breaker is open");
        }
        let reply = answered.await.unwrap_or_else(|_| Reply {
            answer: Answer::Unanswered("the daemon is stopping".into()),
            sent_at: Instant::now(),
            epoch: self.health.epoch(),
        });
        match reply.answer {
            Answer::Hit { .. } => figures.hits.fetch_add(1, Relaxed),
            Answer::Miss { .. } => figures.misses.fetch_add(u64::from(is_read), Relaxed),
            Answer::Stored | Answer::Deleted { .. } => 0,
            Answer::Refused(ref why) => {
                figures.set_last_error(why);
                figures.errors.fetch_add(1, Relaxed)
            }
            Answer::NotSent(_) | Answer::Unanswered(_) => figures.errors.fetch_add(1, Relaxed),
        };
        reply
    }

    /// Turns what waits into exchanges. It is woken by the first request of a burst and runs after
    /// the tasks that were ready with it, so the whole burst is in the queue by then.
    async fn dispatch(self: Rc<Self>) {
        loop {
            self.changed.notified().await;
            while self.in_flight.get() < EXCHANGES_MAX {
                let batch = self.next_batch();
                if batch.is_empty() {
                    break;
                }
                self.in_flight.set(self.in_flight.get() + 1);
                spawn_local(Rc::clone(&self).run(batch));
            }
        }
    }

    /// What travels next. What has waited for too long, or for a tier that is lost, is answered
    /// here.
    fn next_batch(&self) -> Vec<Waiting> {
        let mut queue = self.queue.borrow_mut();
        let mut batch = Vec::new();
        let mut bytes = 0;
        while batch.len() < BATCH_REQUESTS_MAX {
            let Some(next) = queue.front() else { break };
            bytes += match &next.request.ask {
                Ask::Set { value, .. } | Ask::Add { value, .. } => value.len(),
                Ask::Get | Ask::Delete => 0,
            };
            if bytes > BATCH_BYTES_MAX && !batch.is_empty() {
                break;
            }
            let Some(waiting) = queue.pop_front() else {
                break;
            };
            if !self.health.allows() {
                self.answer_not_sent(waiting.reply, "circuit breaker is open");
            } else if waiting.since.elapsed() > self.deadline {
                self.answer_not_sent(waiting.reply, "waited in the queue past the deadline");
            } else {
                batch.push(waiting);
            }
        }
        batch
    }

    async fn run(self: Rc<Self>, batch: Vec<Waiting>) {
        let (requests, replies): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|waiting| (waiting.request, waiting.reply)).unzip();
        let figures = self.health.figures();
        let size = u64::try_from(requests.len()).unwrap_or(u64::MAX);
        figures.batches.fetch_add(1, Relaxed);
        figures.batch_keys.fetch_add(size, Relaxed);
        figures.batch_keys_max.fetch_max(size, Relaxed);

        let began = Instant::now();
        let exchange = self.server.exchange(&requests, began + self.deadline).await;
        match &exchange.failure {
            None => self.health.succeeded(),
            Some(failure) => {
                if self.health.failed(began, failure) {
                    self.server.disconnect();
                    spawn_local(Rc::clone(&self).probe());
                }
            }
        }
        self.in_flight.set(self.in_flight.get() - 1);
        self.changed.notify_one();
        for (answer, reply) in exchange.answers.into_iter().zip(replies) {
            // Nobody waits any longer: the thread is stopping.
            let _ = reply.send(Reply { answer, sent_at: exchange.sent_at, epoch: exchange.epoch });
        }
    }

    /// Probes a lost tier until it answers.
    async fn probe(self: Rc<Self>) {
        loop {
            tokio::time::sleep(self.health.probe_delay()).await;
            let outcome = self.server.probe(Instant::now() + self.deadline).await;
            if self.health.probed(&outcome) {
                return;
            }
        }
    }

    fn answer_not_sent(&self, reply: oneshot::Sender<Reply>, why: &str) {
        let answer = Answer::NotSent(why.to_owned());
        let _ = reply.send(Reply { answer, sent_at: Instant::now(), epoch: self.health.epoch() });
    }
}
