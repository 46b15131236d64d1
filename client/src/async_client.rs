//! The client for tokio: hits at once, everything else without holding up a thread.

use crate::client::Client;
use crate::error::{Cause, Error};
use crate::mailbox::ClientEnd;
use crate::pending::Pending;
use crate::socket::Socket;
use crate::value::{Deleted, Lookup, SetOptions, Stored, Value};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::{spawn_blocking, yield_now};
use tokio::time::sleep;

/// A [`Client`] whose waits are tokio's. Made from one, beside which it can be used.
///
/// A hit is answered in the first poll: no system call, nothing registered. Everything else needs a
/// runtime with its IO and time drivers.
///
/// ```no_run
/// # async fn run() -> Result<(), l1d_client::Error> {
/// let cache = l1d_client::AsyncClient::from(l1d_client::Client::connect("/run/l1d/l1d.sock")?);
/// if let Some(book) = cache.get(b"market:book").await? {
///     println!("{} bytes", book.len());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct AsyncClient {
    client: Client,
}

impl From<Client> for AsyncClient {
    fn from(client: Client) -> AsyncClient {
        AsyncClient { client }
    }
}

impl AsyncClient {
    /// The underlying client, for operations that do not wait: `peek`, and `read_with` of values in
    /// the table.
    ///
    /// ```no_run
    /// # async fn run() -> Result<(), l1d_client::Error> {
    /// # let client = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// # let cache = l1d_client::AsyncClient::from(client);
    /// if let Some(price) = cache.client().peek("market:BTC") {
    ///     println!("{} bytes, and nothing was awaited", price.len());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Like [`Client::get`].
    ///
    /// ```no_run
    /// # async fn run() -> Result<(), l1d_client::Error> {
    /// # let client = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// # let cache = l1d_client::AsyncClient::from(client);
    /// if let Some(price) = cache.get("market:BTC").await? {
    ///     println!("{}", String::from_utf8_lossy(&price));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The same as for [`Client::get`].
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Value>, Error> {
        self.lookup(key).await.map(Lookup::found)
    }

    /// Like [`Client::lookup`].
    ///
    /// ```no_run
    /// # use l1d_client::Lookup;
    /// # async fn run() -> Result<(), l1d_client::Error> {
    /// # let client = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// # let cache = l1d_client::AsyncClient::from(client);
    /// if let Lookup::Absent = cache.lookup("system:alerts").await? {
    ///     println!("no alerts");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The same as for [`Client::lookup`].
    pub async fn lookup(&self, key: impl AsRef<[u8]>) -> Result<Lookup, Error> {
        answer(self.client.request(key)).await
    }

    /// Like [`Client::set`].
    ///
    /// ```no_run
    /// # async fn run() -> Result<(), l1d_client::Error> {
    /// # let client = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// # let cache = l1d_client::AsyncClient::from(client);
    /// cache.set("market:BTC", "64000").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The same as for [`Client::set`].
    pub async fn set(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<Stored, Error> {
        self.set_with(key, value, &SetOptions::default()).await
    }

    /// Like [`Client::set_with`]. A set with `no_wait` that cannot be handed to the daemon at once,
    /// because this process is not attached or the value is large, awaits the daemon's answer.
    ///
    /// ```no_run
    /// use l1d_client::{Lifetime, SetOptions};
    /// use std::time::Duration;
    ///
    /// # async fn run() -> Result<(), l1d_client::Error> {
    /// # let client = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// # let cache = l1d_client::AsyncClient::from(client);
    /// let options = SetOptions {
    ///     lifetime: Lifetime::For(Duration::from_secs(5)),
    ///     ..SetOptions::default()
    /// };
    /// cache.set_with("market:BTC", "64000", &options).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The same as for [`Client::set_with`].
    pub async fn set_with(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        options: &SetOptions,
    ) -> Result<Stored, Error> {
        let (key, value) = (key.as_ref(), value.as_ref());
        if options.no_wait
            && let Some(posted) = self.client.post_set(key, value, options)
        {
            return posted;
        }
        answer(self.client.request_set(key, value, options)).await
    }

    /// Like [`Client::delete`].
    ///
    /// ```no_run
    /// # async fn run() -> Result<(), l1d_client::Error> {
    /// # let client = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// # let cache = l1d_client::AsyncClient::from(client);
    /// if cache.delete("market:BTC").await?.existed {
    ///     println!("deleted");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The same as for [`Client::delete`].
    pub async fn delete(&self, key: impl AsRef<[u8]>) -> Result<Deleted, Error> {
        answer(self.client.request_delete(key)).await
    }
}

/// Waits for the answer to a request.
pub(crate) async fn answer<T: Send + 'static>(mut pending: Pending<T>) -> Result<T, Error> {
    let mut pause = Pause::default();
    loop {
        if let Some(request) = pending.take_unmailed() {
            runtime()?;
            let (client, intent, deadline) = pending.terms();
            let asking = spawn_blocking(move || request.ask(&client, intent, &deadline));
            return asking.await.unwrap_or_else(|error| Err(broken(error.into())));
        }
        if pending.needs_polling() {
            runtime()?;
            pause.take().await;
            if let Some(answer) = pending.look() {
                return answer;
            }
            continue;
        }
        let Some(mailbox) = pending.mailbox().cloned() else {
            let never = || Error::internal("a request without an answer");
            return pending.look().unwrap_or_else(|| Err(never()));
        };
        if let Some(answer) = arrival(&mut pending, &mailbox).await {
            return answer;
        }
    }
}

/// Pauses between two looks at what nothing announces: room in the ring, or the progress of an
/// attachment. At first other tasks run meanwhile, then the thread may sleep.
#[derive(Default)]
struct Pause {
    taken: u32,
}

/// Pauses in which the thread does not sleep.
const YIELDS: u32 = 50;
/// The length of the others.
const SLEEP: Duration = Duration::from_millis(1);

impl Pause {
    async fn take(&mut self) {
        self.taken += 1;
        match self.taken {
            ..=YIELDS => yield_now().await,
            _ => sleep(SLEEP).await,
        }
    }
}

/// Fails without a runtime, where tokio would panic.
pub(crate) fn runtime() -> Result<(), Error> {
    let found = tokio::runtime::Handle::try_current();
    found.map(drop).map_err(|error| Error::System {
        what: "waiting for the daemon",
        reason: "it takes a tokio runtime: call this in one".to_owned(),
        source: Some(Cause::of(error)),
    })
}

pub(crate) fn broken(error: std::io::Error) -> Error {
    Error::system("waiting for the daemon", error)
}

/// Waits for an event of `mailbox`; `None` if the request waits for something else now.
async fn arrival<T>(
    pending: &mut Pending<T>,
    mailbox: &Arc<ClientEnd>,
) -> Option<Result<T, Error>> {
    let readable = match readable(mailbox) {
        Ok(readable) => readable,
        // Perhaps the socket was taken away, and the request finds that out.
        Err(error) => {
            let answer = pending.look();
            let stays = pending.mailbox().is_some_and(|now| Arc::ptr_eq(now, mailbox));
            return answer.or_else(|| stays.then_some(Err(error)));
        }
    };
    let waiting = mailbox.waiters.enter();
    let mut deadline = pin!(sleep(pending.remaining()));
    poll_fn(|context| {
        // First, so that the task that drains the descriptor in our place wakes us.
        waiting.renew(context.waker());
        if let Err(error) = drain(&readable, mailbox, context) {
            return Poll::Ready(Some(Err(error)));
        }
        let is_late = deadline.as_mut().poll(context).is_ready();
        if let Some(answer) = pending.look() {
            return Poll::Ready(Some(answer));
        }
        let has_moved = pending.mailbox().is_none_or(|now| !Arc::ptr_eq(now, mailbox));
        if has_moved || pending.needs_polling() {
            return Poll::Ready(None);
        }
        match is_late {
            true => Poll::Ready(Some(Err(Error::internal(
                "the deadline passed and the request did not end",
            )))),
            false => Poll::Pending,
        }
    })
    .await
}

/// The mailbox's descriptor, registered with the runtime.
fn readable(mailbox: &ClientEnd) -> Result<AsyncFd<Socket>, Error> {
    runtime()?;
    let own = mailbox.other_descriptor().map_err(broken)?;
    // SAFETY: the value owns its descriptor, which it gives out unchanged until it is dropped.
    unsafe { AsyncFd::register_with_interest(own, Interest::READABLE) }
        .map_err(|error| broken(error.into()))
}

/// Drains the descriptor, for all tasks that wait.
fn drain(
    readable: &AsyncFd<Socket>,
    mailbox: &ClientEnd,
    context: &mut Context<'_>,
) -> Result<(), Error> {
    while let Poll::Ready(ready) = readable.poll_read_ready(context) {
        let mut ready = ready.map_err(broken)?;
        mailbox.drain_wakeups();
        ready.clear_ready();
    }
    Ok(())
}
