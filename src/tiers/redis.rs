//! L3: pipelined exchanges with one Redis server, all on one multiplexed connection.
//!
//! Redis keeps no client flags; what is read from it has flags 0.

use std::rc::Rc;
use std::time::{Duration, Instant};

use redis::{Cmd, Pipeline, RedisError, Value};

use super::health::{Failure, Health};
use super::redis_connection::{Connector, Link};
use super::stage::{Answer, Ask, Exchange, Request, Server};
use super::ttl;

/// One Redis server.
pub struct Redis {
    connector: Connector,
    health: Rc<Health>,
}

impl Redis {
    /// The server that `connector` reaches; connects when it is first asked.
    pub fn new(connector: Connector, health: Rc<Health>) -> Redis {
        Redis { connector, health }
    }

    /// Sends `pipeline` and returns `count` replies after skipping `offset`.
    ///
    /// A missed deadline leaves the connection in use: replies stay in step, and a write that is
    /// late cannot overtake the next one. Three in a row open the breaker, and that drops it.
    async fn send(
        &self,
        link: &Link,
        pipeline: &Pipeline,
        offset: usize,
        count: usize,
        deadline: Instant,
    ) -> Result<Vec<Value>, SendError> {
        let mut connection = link.connection();
        let replies = connection.send_packed_commands(pipeline, offset, count);
        match tokio::time::timeout_at(deadline.into(), replies).await {
            Ok(Ok(replies)) => Ok(replies),
            Ok(Err(error)) if error.is_timeout() => {
                Err(SendError::Failed(Failure::timeout("waiting for replies")))
            }
            Ok(Err(error)) => Err(SendError::of(error, link)),
            Err(_) => Err(SendError::Failed(Failure::timeout("waiting for replies"))),
        }
    }

    /// All reads as one transaction, so that each value comes with its own TTL.
    async fn read(
        &self,
        link: &Link,
        keys: &[&[u8]],
        deadline: Instant,
    ) -> Result<Vec<Answer>, SendError> {
        let mut pipeline = Pipeline::with_capacity(1 + keys.len());
        let mut mget = redis::cmd("MGET");
        for key in keys {
            mget.arg(key);
        }
        pipeline.atomic().add_command(mget);
        for key in keys {
            pipeline.cmd("PTTL").arg(key);
        }
        // MULTI and each command answer once before EXEC does.
        let mut replies = self.send(link, &pipeline, pipeline.len() + 1, 1, deadline).await?;
        let odd =
            || SendError::Failed(Failure::broken("unexpected reply to MULTI, MGET, PTTL, EXEC"));
        let Some(Value::Array(replies)) = replies.pop() else {
            return Err(odd());
        };
        let mut replies = replies.into_iter();
        let values = match replies.next() {
            Some(Value::Array(values)) => values,
            Some(Value::ServerError(error)) => {
                return Err(SendError::Refused(RedisError::from(error).to_string()));
            }
            _ => return Err(odd()),
        };
        if values.len() != keys.len() || replies.len() != keys.len() {
            return Err(odd());
        }
        values
            .into_iter()
            .zip(replies)
            .map(|(value, pttl)| read_answer(value, &pttl).ok_or_else(odd))
            .collect()
    }

    async fn write(
        &self,
        link: &Link,
        requests: &[&Request],
        deadline: Instant,
    ) -> Result<Vec<Answer>, SendError> {
        let mut pipeline = Pipeline::with_capacity(requests.len());
        for request in requests {
            pipeline.add_command(write_command(request));
        }
        let replies = self.send(link, &pipeline, 0, requests.len(), deadline).await?;
        if replies.len() != requests.len() {
            return Err(SendError::Failed(Failure::broken(
                "another number of replies than of commands",
            )));
        }
        Ok(replies.into_iter().map(write_answer).collect())
    }
}

impl Server for Redis {
    async fn exchange(&self, requests: &[Request], deadline: Instant) -> Exchange {
        let link = match self.connector.link(&self.health, deadline).await {
            Ok(link) => link,
            Err(failure) => return Exchange::not_sent(requests.len(), &self.health, failure),
        };
        let (sent_at, epoch) = (Instant::now(), self.health.epoch());
        let is_read = |request: &Request| matches!(request.ask, Ask::Get);
        let keys: Vec<&[u8]> = requests.iter().filter(|r| is_read(r)).map(|r| &*r.key).collect();
        let writes: Vec<&Request> = requests.iter().filter(|r| !is_read(r)).collect();
        // Both leave at once, on the same connection.
        let (read, written) = tokio::join!(
            async {
                if keys.is_empty() {
                    Ok(Vec::new())
                } else {
                    self.read(&link, &keys, deadline).await
                }
            },
            async {
                if writes.is_empty() {
                    Ok(Vec::new())
                } else {
                    self.write(&link, &writes, deadline).await
                }
            },
        );

        let mut failure = None;
        let mut settle = |outcome, count| match outcome {
            Ok(answers) => answers,
            Err(SendError::Refused(why)) => vec![Answer::Refused(why); count],
            Err(SendError::Failed(failed)) => {
                let answers = vec![Answer::Unanswered(failed.why.clone()); count];
                failure = Some(failed);
                answers
            }
        };
        let mut read = settle(read, keys.len()).into_iter();
        let mut written = settle(written, writes.len()).into_iter();
        let answers = requests.iter().map(|request| {
            let next = if is_read(request) { read.next() } else { written.next() };
            next.unwrap_or_else(|| Answer::Unanswered("no reply".into()))
        });
        Exchange { answers: answers.collect(), sent_at, epoch, failure }
    }

    async fn probe(&self, deadline: Instant) -> Result<(), Failure> {
        let link = self.connector.link(&self.health, deadline).await?;
        let mut pipeline = Pipeline::new();
        pipeline.cmd("PING");
        match self.send(&link, &pipeline, 0, 1, deadline).await {
            Ok(replies) => match replies.into_iter().next() {
                Some(Value::ServerError(error)) => Err(Failure::broken(RedisError::from(error))),
                _ => Ok(()),
            },
            Err(SendError::Refused(why)) => Err(Failure::broken(why)),
            Err(SendError::Failed(failure)) => {
                // The next probe starts from a new connection.
                self.connector.disconnect();
                Err(failure)
            }
        }
    }

    fn disconnect(&self) {
        self.connector.disconnect();
    }
}

/// Why a pipeline has no replies.
enum SendError {
    /// The server answered with an error and did nothing.
    Refused(String),
    /// The server did not answer, or not in a way that can be understood.
    Failed(Failure),
}

impl SendError {
    fn of(error: RedisError, link: &Link) -> SendError {
        let why = error.to_string();
        if error.into_server_errors().is_some() {
            return SendError::Refused(why);
        }
        link.lose(&why);
        SendError::Failed(Failure::broken(why))
    }
}

fn read_answer(value: Value, pttl: &Value) -> Option<Answer> {
    let Value::Int(pttl) = *pttl else { return None };
    match value {
        // MGET says nil for a key of another type, too; PTTL tells them apart.
        Value::Nil => Some(Answer::Miss { absent: pttl == -2 }),
        Value::BulkString(value) => {
            Some(Answer::Hit { value: value.into(), flags: 0, remaining: ttl::from_redis_ms(pttl) })
        }
        Value::SimpleString(value) => Some(Answer::Hit {
            value: value.into_bytes().into(),
            flags: 0,
            remaining: ttl::from_redis_ms(pttl),
        }),
        _ => None,
    }
}

fn write_command(request: &Request) -> Cmd {
    let key: &[u8] = &request.key;
    let mut command;
    match &request.ask {
        Ask::Set { value, ttl, .. } => {
            command = set(key, value, *ttl);
        }
        Ask::Add { value, ttl, .. } => {
            command = set(key, value, Some(*ttl));
            command.arg("NX");
        }
        Ask::Delete => {
            // Memory is given back by another thread of the server: a large value blocks nobody.
            command = redis::cmd("UNLINK");
            command.arg(key);
        }
        Ask::Get => {
            command = redis::cmd("GET");
            command.arg(key);
        }
    }
    command
}

fn set(key: &[u8], value: &[u8], ttl: Option<Duration>) -> Cmd {
    let mut command = redis::cmd("SET");
    command.arg(key).arg(value);
    if let Some(ttl) = ttl {
        command.arg("PX").arg(ttl::redis_ms(ttl));
    }
    command
}

fn write_answer(reply: Value) -> Answer {
    match reply {
        Value::Okay | Value::Nil => Answer::Stored,
        Value::Int(deleted) => Answer::Deleted { existed: deleted > 0 },
        Value::ServerError(error) => Answer::Refused(RedisError::from(error).to_string()),
        other => Answer::Unanswered(format!("unexpected reply of type {}", type_name(&other))),
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::BulkString(_) => "string",
        Value::Array(_) => "array",
        _ => "other",
    }
}
