//! The owner's answers, shared by all who ask for them within a moment.

use super::readers;
use l1d_client::{Client, Error, Identity, Populate};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, Semaphore};

/// Answers are shared for this long: any number of scrapers and pages costs the owner two a second
/// of each kind.
const SHARED_FOR: Duration = Duration::from_millis(500);
/// An owner that takes longer to answer is stuck: its turns take less than a millisecond.
const DEADLINE: Duration = Duration::from_secs(1);
/// An explanation waits for the tiers.
const EXPLAIN_DEADLINE: Duration = Duration::from_secs(3);
/// Explanations that are under way at once.
const EXPLANATIONS_MAX: usize = 4;
/// Questions for the rights of whoever asks that may be under way.
const ACCESSES_MAX: usize = 2;

/// Why there is no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum Failure {
    /// The owner does not answer.
    #[error("the daemon's owner thread does not answer: {0}")]
    NoAnswer(String),
    /// The owner turned the request down, or the key is impossible.
    #[error("{0}")]
    Refused(String),
    /// The daemon has no room for another connection.
    #[error("{0}")]
    Full(String),
    /// Too many explanations are under way.
    #[error("{EXPLANATIONS_MAX} explanations are under way; try again in a moment")]
    Busy,
}

type Answer = Result<Arc<str>, Failure>;

/// Asks the owner as any local client does, over the control socket.
pub(super) struct Figures {
    socket: PathBuf,
    client: Client,
    explainer: Client,
    explanations: Arc<Semaphore>,
    accesses: Arc<Semaphore>,
    stats: Shared,
    clients: Shared,
    named_clients: Shared,
    advice: Shared,
    readiness: Shared,
}

/// The last answer, and when it came.
type Shared = Arc<Mutex<Option<(Instant, Answer)>>>;

impl Figures {
    /// Asks the daemon at this control socket, when first asked.
    pub(super) fn of(socket: &Path) -> Result<Figures, Error> {
        let client = |deadline| {
            let builder = Client::builder().socket(socket).deadline(deadline);
            let builder = builder.attach_deadline(deadline).connections_max(EXPLANATIONS_MAX);
            builder.mailbox(false).populate(Populate::Nothing).connect_later()
        };
        Ok(Figures {
            socket: socket.into(),
            client: client(DEADLINE)?,
            explainer: client(EXPLAIN_DEADLINE)?,
            explanations: Arc::new(Semaphore::new(EXPLANATIONS_MAX)),
            accesses: Arc::new(Semaphore::new(ACCESSES_MAX)),
            stats: Shared::default(),
            clients: Shared::default(),
            named_clients: Shared::default(),
            advice: Shared::default(),
            readiness: Shared::default(),
        })
    }

    /// The snapshot, in JSON.
    pub(super) async fn stats(&self) -> Answer {
        let client = self.client.clone();
        shared(&self.stats, move || client.admin().stats_json()).await
    }

    /// The clients, in JSON.
    pub(super) async fn clients(&self) -> Answer {
        let client = self.client.clone();
        shared(&self.clients, move || client.admin().clients_json()).await
    }

    /// The clients, in JSON, with names. Shared as well, because a directory of users that does not
    /// answer must not hold more than one thread.
    pub(super) async fn named_clients(&self) -> Answer {
        let client = self.client.clone();
        shared(&self.named_clients, move || {
            client.admin().clients_json().map(|text| readers::clients(&text))
        })
        .await
    }

    /// What the access rules let a process do that asks here.
    pub(super) async fn access(&self, of: Identity) -> Result<Value, Failure> {
        // Whoever hangs up gives up its place in the line, and the one whose turn it was keeps it
        // until the owner has answered.
        let permit = Arc::clone(&self.accesses).acquire_owned().await;
        let client = self.client.clone();
        let access = move || {
            let _permit = permit;
            client.admin().access_json(Some(of))
        };
        let text = ask(access).await?;
        serde_json::from_str(&text).map_err(|error| Failure::NoAnswer(error.to_string()))
    }

    /// The estimates for other sizes, in JSON, with a sentence.
    pub(super) async fn advice(&self) -> Answer {
        let client = self.client.clone();
        shared(&self.advice, move || {
            client.admin().advise_json().map(|text| readers::advice(&text))
        })
        .await
    }

    /// Attaches as a new client would.
    pub(super) async fn attach(&self) -> Result<(), Failure> {
        let builder = Client::builder().socket(&self.socket).deadline(DEADLINE);
        let builder = builder.attach_deadline(DEADLINE).mailbox(false).populate(Populate::Nothing);
        let attach = || builder.connect().map(|_| String::new());
        shared(&self.readiness, attach).await.map(drop)
    }

    /// Where a key stands, in JSON, with a sentence.
    pub(super) async fn explain(&self, key: Vec<u8>) -> Answer {
        let permit = Arc::clone(&self.explanations).try_acquire_owned();
        let Ok(permit) = permit else { return Err(Failure::Busy) };
        let client = self.explainer.clone();
        ask(move || {
            // Until the owner has answered, even if whoever asked has hung up.
            let _permit = permit;
            let answer = client.admin().explain_json(&key)?;
            Ok(readers::explanation(&answer, &client.admin().clients_json()?))
        })
        .await
    }
}

/// The shared answer, asked for again if it is old. Whoever waits while another asks gets that
/// answer, also if it is a failure: a stuck owner must not cost each of them a deadline.
async fn shared(
    last: &Shared,
    request: impl FnOnce() -> Result<String, Error> + Send + 'static,
) -> Answer {
    let begun = Instant::now();
    let mut last = Arc::clone(last).lock_owned().await;
    if let Some((at, answer)) = &*last
        && (*at >= begun || at.elapsed() < SHARED_FOR)
    {
        return answer.clone();
    }
    // In a task of its own, which ends with its answer: if whoever asks hangs up meanwhile, the
    // next one must not ask the owner once more.
    let asking = tokio::spawn(async move {
        let answer = ask(request).await;
        *last = Some((Instant::now(), answer.clone()));
        answer
    });
    asking.await.unwrap_or_else(|error| Err(Failure::NoAnswer(error.to_string())))
}

/// Runs a blocking request in a thread of the runtime's, which ends when it has nothing to do.
async fn ask(request: impl FnOnce() -> Result<String, Error> + Send + 'static) -> Answer {
    let asked = tokio::task::spawn_blocking(request).await;
    match asked {
        Ok(Ok(text)) => Ok(text.into()),
        // A refusal is an answer.
        Ok(Err(error @ (Error::Refused { .. } | Error::Denied { .. }))) => {
            Err(Failure::Refused(error.to_string()))
        }
        Ok(Err(error @ Error::Busy { .. })) => Err(Failure::Full(error.to_string())),
        Ok(Err(error)) => Err(Failure::NoAnswer(error.to_string())),
        Err(error) => Err(Failure::NoAnswer(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::channel;

    /// The hazard: each asker that hangs up makes the owner answer once more, without bound.
    #[test]
    fn an_asker_that_hangs_up_leaves_its_answer_to_the_next() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let (answer, answers) = channel::<()>();
        let answers = Arc::new(std::sync::Mutex::new(answers));
        let request = || {
            let (asked, answers) = (Arc::clone(&asked), Arc::clone(&answers));
            move || {
                asked.fetch_add(1, Ordering::Relaxed);
                let _ = answers.lock().unwrap().recv();
                Ok(String::new())
            }
        };
        runtime.block_on(async {
            let last = Shared::default();
            for _ in 0..3 {
                let asking = shared(&last, request());
                assert!(tokio::time::timeout(Duration::from_millis(30), asking).await.is_err());
            }
            drop(answer);
            assert!(shared(&last, request()).await.is_ok());
        });
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }
}
