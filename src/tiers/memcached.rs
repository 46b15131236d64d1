//! L2: meta commands to one memcached server, in pipelined exchanges.
//!
//! The framing of commands and responses is the memcache crate's. The connections are kept here,
//! because its client gives up the rest of a batch at the first `SERVER_ERROR` (an object too
//! large for the server, say), and does not tell when a connection is lost.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Instant, SystemTime};

use memcache::exp::{Error, MetaCommand, MetaCommandResult, MetaOp, ReturnCode, parse_meta_result};

use super::health::{Failure, Health};
use super::key::memcached_key;
use super::memcached_connection::{Connection, Progress};
use super::stage::{Answer, Ask, Exchange, Request, Server};
use super::ttl;

/// Idle connections that are kept.
const IDLE_MAX: usize = 8;

/// One memcached server.
pub struct Memcached {
    address: String,
    health: Rc<Health>,
    idle: RefCell<Vec<Connection>>,
}

impl Memcached {
    /// The server at `address` (`host:port`); connects when it is first asked.
    pub fn new(address: String, health: Rc<Health>) -> Memcached {
        Memcached { address, health, idle: RefCell::default() }
    }

    /// An idle connection that its server has not closed, or a new one.
    async fn connection(&self, deadline: Instant) -> Result<Connection, Failure> {
        loop {
            // The borrow ends before the check: the loop may dial.
            let Some(connection) = self.idle.borrow_mut().pop() else {
                break;
            };
            if connection.is_usable() {
                return Ok(connection);
            }
            self.health.connection_lost("closed by the server while idle");
        }
        Connection::dial(&self.address, deadline).await
    }

    fn keep(&self, connection: Connection) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < IDLE_MAX && self.health.allows() {
            idle.push(connection);
        }
    }

    /// Deletes the keys whose new value was refused: an older one must not stay.
    async fn delete_refused(
        &self,
        connection: &mut Connection,
        requests: &[Request],
        answers: &mut [Answer],
        deadline: Instant,
    ) -> Option<Failure> {
        let refused: Vec<usize> = (0..requests.len())
            .filter(|&index| {
                matches!(requests[index].ask, Ask::Set { .. })
                    && matches!(answers[index], Answer::Refused(_))
            })
            .collect();
        if refused.is_empty() {
            return None;
        }
        let deletes: Vec<Request> = refused
            .iter()
            .map(|&index| Request { key: requests[index].key.clone(), ask: Ask::Delete })
            .collect();
        let (deleted, failure) = transfer(connection, &deletes, deadline).await;
        for (&index, deleted) in refused.iter().zip(deleted) {
            if !matches!(deleted, Answer::Deleted { .. }) {
                answers[index] = Answer::Unanswered(
                    "value refused, and the older one could not be deleted".into(),
                );
            }
        }
        failure
    }
}

impl Server for Memcached {
    async fn exchange(&self, requests: &[Request], deadline: Instant) -> Exchange {
        let mut connection = match self.connection(deadline).await {
            Ok(connection) => connection,
            Err(failure) => return Exchange::not_sent(requests.len(), &self.health, failure),
        };
        let (sent_at, epoch) = (Instant::now(), self.health.epoch());
        let (mut answers, mut failure) = transfer(&mut connection, requests, deadline).await;
        if failure.is_none() {
            failure = self.delete_refused(&mut connection, requests, &mut answers, deadline).await;
        }
        match &failure {
            None => self.keep(connection),
            Some(failure) => self.health.connection_lost(&failure.why),
        }
        Exchange { answers, sent_at, epoch, failure }
    }

    async fn probe(&self, deadline: Instant) -> Result<(), Failure> {
        let mut connection = Connection::dial(&self.address, deadline).await?;
        let mut progress = Progress::default();
        connection.transfer(b"mn\r\n", 1, deadline, &mut progress).await?;
        match progress.responses.pop() {
            Some(Ok(response)) if response.rc() == ReturnCode::Mn => {
                self.idle.borrow_mut().push(connection);
                Ok(())
            }
            _ => Err(Failure::broken(
                "answers, but not to meta commands; memcached 1.6 or later is needed",
            )),
        }
    }

    fn disconnect(&self) {
        self.idle.borrow_mut().clear();
    }
}

/// One pipelined exchange: an answer for each request, and why not all were answered.
async fn transfer(
    connection: &mut Connection,
    requests: &[Request],
    deadline: Instant,
) -> (Vec<Answer>, Option<Failure>) {
    let mut payload = Vec::new();
    // Where each command ends in the payload.
    let mut ends = Vec::with_capacity(requests.len());
    for (index, request) in requests.iter().enumerate() {
        if let Err(error) = command(request, index).encode_into(&mut payload) {
            // No key or value leads here: keys are mapped to what can be sent.
            let failure = Failure::broken(format!("cannot encode a request: {error}"));
            return (vec![Answer::NotSent(failure.why.clone()); requests.len()], Some(failure));
        }
        ends.push(payload.len());
    }

    let mut progress = Progress::default();
    let mut failure =
        connection.transfer(&payload, requests.len(), deadline, &mut progress).await.err();
    let mut responses = progress.responses.into_iter();
    let mut answers = Vec::with_capacity(requests.len());
    for (index, (request, end)) in requests.iter().zip(ends).enumerate() {
        let read = match responses.next() {
            None => None,
            Some(Err(refusal)) => Some(Ok(Answer::Refused(refusal))),
            Some(Ok(response)) => Some(
                parse_meta_result(response)
                    .map_err(Failure::broken)
                    .and_then(|result| answer(request, index, result)),
            ),
        };
        match read {
            Some(Ok(answer)) => answers.push(answer),
            Some(Err(odd)) => {
                // Nothing after an answer that makes no sense can be trusted.
                responses = Vec::new().into_iter();
                answers.push(Answer::Unanswered(odd.why.clone()));
                failure = Some(odd);
            }
            None => {
                let why = failure.as_ref().map_or("no answer", |failure| &failure.why).to_owned();
                // A command that has not left in full is never carried out.
                answers.push(if progress.written < end {
                    Answer::NotSent(why)
                } else {
                    Answer::Unanswered(why)
                });
            }
        }
    }
    (answers, failure)
}

/// The command of the request at `index`. The opaque token comes back with the response, so that
/// an answer can never be taken for another request's.
fn command(request: &Request, index: usize) -> MetaCommand {
    let key = memcached_key(&request.key).into_owned();
    let command = match &request.ask {
        Ask::Get => MetaCommand::new(MetaOp::Get, key).flag("v").flag("t").flag("f"),
        Ask::Set { value, flags, ttl } => store(key, value, *flags, *ttl),
        Ask::Add { value, flags, ttl } => store(key, value, *flags, Some(*ttl)).flag("ME"),
        Ask::Delete => MetaCommand::new(MetaOp::Delete, key),
    };
    command.flag(format!("O{index}"))
}

fn store(key: Vec<u8>, value: &[u8], flags: u32, ttl: Option<std::time::Duration>) -> MetaCommand {
    let seconds = ttl.map_or(0, |ttl| ttl::memcached_seconds(ttl, SystemTime::now()));
    MetaCommand::new(MetaOp::Set, key)
        .flag(format!("T{seconds}"))
        .flag(format!("F{flags}"))
        .value(value)
}

fn answer(request: &Request, index: usize, result: MetaCommandResult) -> Result<Answer, Failure> {
    if result.opaque.as_deref() != Some(index.to_string().as_bytes()) {
        return Err(Failure::broken("answers came out of order"));
    }
    match (&request.ask, result.rc) {
        (Ask::Get, ReturnCode::En) => Ok(Answer::Miss { absent: true }),
        // Marked invalid, or a placeholder of a client that is computing the value.
        (Ask::Get, ReturnCode::Va) if result.stale => Ok(Answer::Miss { absent: false }),
        (Ask::Get, ReturnCode::Va) => match result.value {
            Some(value) if value.is_empty() && (result.won || result.busy) => {
                Ok(Answer::Miss { absent: false })
            }
            Some(value) => Ok(Answer::Hit {
                value: value.into(),
                flags: result.client_flags.unwrap_or(0),
                remaining: ttl::from_memcached_seconds(result.ttl),
            }),
            None => Err(Failure::broken("a value without its bytes")),
        },
        (Ask::Set { .. } | Ask::Add { .. }, ReturnCode::Hd) | (Ask::Add { .. }, ReturnCode::Ns) => {
            Ok(Answer::Stored)
        }
        (Ask::Set { .. }, ReturnCode::Ns) => Ok(Answer::Refused("not stored".into())),
        (Ask::Delete, ReturnCode::Hd) => Ok(Answer::Deleted { existed: true }),
        (Ask::Delete, ReturnCode::Nf) => Ok(Answer::Deleted { existed: false }),
        (_, other) => Err(Failure::broken(format!("unexpected answer {other:?}"))),
    }
}

/// What a response line that is an error means: `Ok` is the server's refusal of this one request,
/// with the connection still in step.
pub(super) fn refusal(error: Error) -> Result<String, Failure> {
    match error {
        Error::Server(message) => Ok(message),
        Error::Io(error) => Err(Failure::broken(format!("connection failed: {error}"))),
        other => Err(Failure::broken(other)),
    }
}
