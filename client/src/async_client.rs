//! The client for tokio: hits at once, everything else without holding up a thread.

use crate::client::Client;
use crate::error::Error;
use crate::pending::Pending;
use crate::value::{Lookup, SetOptions, Stored, Value};
use std::future::poll_fn;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::task::{Context, Poll};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
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
    /// The client beneath, for what does not wait: `peek`, `read_with` of what is there.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// As [`Client::get`].
    ///
    /// # Errors
    ///
    /// As for [`Client::get`].
    pub async fn get(&self, key: &[u8]) -> Result<Option<Value>, Error> {
        self.lookup(key).await.map(Lookup::found)
    }

    /// As [`Client::lookup`].
    ///
    /// # Errors
    ///
    /// As for [`Client::lookup`].
    pub async fn lookup(&self, key: &[u8]) -> Result<Lookup, Error> {
        answer(|| self.client.request(key)).await
    }

    /// As [`Client::set`].
    ///
    /// # Errors
    ///
    /// As for [`Client::set`].
    pub async fn set(&self, key: &[u8], value: &[u8]) -> Result<Stored, Error> {
        self.set_with(key, value, &SetOptions::default()).await
    }

    /// As [`Client::set_with`].
    ///
    /// # Errors
    ///
    /// As for [`Client::set_with`].
    pub async fn set_with(
        &self,
        key: &[u8],
        value: &[u8],
        options: &SetOptions,
    ) -> Result<Stored, Error> {
        if options.no_wait {
            return self.client.set_with(key, value, options);
        }
        answer(|| self.client.request_set(key, value, options)).await
    }

    /// As [`Client::delete`].
    ///
    /// # Errors
    ///
    /// As for [`Client::delete`].
    pub async fn delete(&self, key: &[u8]) -> Result<bool, Error> {
        answer(|| self.client.request_delete(key)).await
    }
}

/// Begins a request, waiting for a free lane if it must, and waits for its answer.
pub(crate) async fn answer<T>(mut begin: impl FnMut() -> Pending<T>) -> Result<T, Error> {
    let mut pending = begin();
    let mut deadline = None;
    while let Some(mailbox) = pending.crowded() {
        runtime()?;
        let mailbox = mailbox.clone();
        let deadline = &mut *deadline.get_or_insert_with(|| Box::pin(sleep(pending.remaining())));
        let waiting = mailbox.waiters.enter();
        let is_free = poll_fn(|context| {
            waiting.renew(context.waker());
            match mailbox.has_free_lane() || mailbox.is_dead() {
                true => Poll::Ready(true),
                false => deadline.as_mut().poll(context).map(|()| false),
            }
        });
        if !is_free.await {
            break;
        }
        pending = begin();
    }
    arrival(pending).await
}

/// No runtime: that is told, and not by a panic.
fn runtime() -> Result<(), Error> {
    let found = tokio::runtime::Handle::try_current();
    found.map(drop).map_err(|error| Error::system("waiting for the daemon", error))
}

/// Waits for the answer to a request that is under way.
async fn arrival<T>(mut pending: Pending<T>) -> Result<T, Error> {
    let Some(mailbox) = pending.mailbox() else {
        let never = || Error::Internal { reason: "a request without an answer".to_owned() };
        return pending.poll().unwrap_or_else(|| Err(never()));
    };
    runtime()?;
    let broken = |error: std::io::Error| Error::system("waiting for the daemon", error);
    // A descriptor of its own, as each runtime watches a descriptor once.
    let own = mailbox.descriptor().try_clone_to_owned().map_err(broken)?;
    // SAFETY: the value owns its descriptor, which it gives out unchanged until it is dropped.
    let readable = unsafe { AsyncFd::register_with_interest(own, Interest::READABLE) }
        .map_err(|error| broken(error.into()))?;
    let waiting = mailbox.waiters.enter();
    let mut deadline = pin!(sleep(pending.remaining()));
    poll_fn(|context| {
        // First, so that whoever hears the descriptor in our place wakes us.
        waiting.renew(context.waker());
        hear(&readable, &mut pending, context)?;
        let is_late = deadline.as_mut().poll(context).is_ready();
        match pending.look() {
            Some(answer) => Poll::Ready(answer),
            None if is_late => Poll::Ready(Err(Error::Internal {
                reason: "the deadline passed and the request did not end".to_owned(),
            })),
            None => Poll::Pending,
        }
    })
    .await
}

/// Takes note of what the descriptor tells, for everybody.
fn hear<T>(
    readable: &AsyncFd<OwnedFd>,
    pending: &mut Pending<T>,
    context: &mut Context<'_>,
) -> Result<(), Error> {
    while let Poll::Ready(ready) = readable.poll_read_ready(context) {
        let mut ready = ready.map_err(|error| Error::system("waiting for the daemon", error))?;
        if let Some(mailbox) = pending.mailbox() {
            mailbox.hear_rings();
        }
        ready.clear_ready();
    }
    Ok(())
}
