//! Requests that do not block: for programs with their own event loop.

use crate::client::{Client, check_key};
use crate::error::Error;
use crate::failure::Intent;
use crate::pending::Pending;
use crate::process_cache;
use crate::shared::Patience;
use crate::value::{Deleted, Lookup, SetOptions, Stored, Value};
use crate::writes;
use l1d_wire::protocol::{Request, Response};

impl Client {
    /// [`lookup`](Self::lookup) without waiting for the daemon: a hit is answered at once, and
    /// anything else when [`Pending::descriptor`] is readable. Only where the daemon gives no
    /// mailbox, or none that this client knows, [`Pending::poll`] waits for the answer.
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
    #[inline]
    pub fn request(&self, key: impl AsRef<[u8]>) -> Pending<Lookup> {
        self.request_lookup(key.as_ref(), std::convert::identity)
    }

    /// Looks `key` up; the answer is what `give` makes of the result.
    pub(crate) fn request_lookup<T>(
        &self,
        key: &[u8],
        give: impl Fn(Lookup) -> T + Send + 'static,
    ) -> Pending<T> {
        let known = self.peek_find(key, Patience::None);
        if !matches!(known, Lookup::Unknown) {
            return Pending::answered(self, Ok(give(known)));
        }
        if let Err(error) = check_key(key) {
            return Pending::answered(self, Err(error));
        }
        let ticket = self.shared.process().begin_read(key);
        let (client, owned) = (self.clone(), key.to_vec());
        let finish = move |response: Response<'_>| {
            let mut value = Vec::new();
            let found = client.take_answer(ticket.as_ref(), &owned, &response, &mut value)?;
            Ok(give(found.map(|meta| Value::new(value, meta))))
        };
        Pending::begin(self, &Request::Get { key }, Intent::Read, Box::new(finish))
    }

    /// [`set_with`](Self::set_with) without waiting for the daemon's answer.
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// let mut pending = cache.request_set("market:BTC", "64000", &Default::default());
    /// if let Some(stored) = pending.poll() {
    ///     println!("version {}", stored?.version);
    /// }
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    #[inline]
    pub fn request_set(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        options: &SetOptions,
    ) -> Pending<Stored> {
        let (key, value) = (key.as_ref(), value.as_ref());
        let options = SetOptions { no_wait: false, ..*options };
        self.request_set_by(key, value, &options, &writes::request(key, value, &options))
    }

    /// Sends `request`, which stores the value. `options` wait for the answer.
    pub(crate) fn request_set_by(
        &self,
        key: &[u8],
        value: &[u8],
        options: &SetOptions,
        request: &Request<'_>,
    ) -> Pending<Stored> {
        let ticket = match self.begin_set(key, value, Patience::None) {
            Ok(ticket) => ticket,
            Err(error) => return Pending::answered(self, Err(error)),
        };
        let mut set = Unfinished {
            client: self.clone(),
            ticket,
            is_ended: false,
            key: key.into(),
            value: value.into(),
            options: *options,
        };
        let finish = move |response: Response<'_>| {
            let stored = writes::stored(&response);
            set.end(&stored);
            stored
        };
        Pending::begin(self, request, Intent::Write, Box::new(finish))
    }

    /// [`delete`](Self::delete) without waiting for the daemon's answer.
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// let mut pending = cache.request_delete("market:BTC");
    /// if let Some(deleted) = pending.poll() {
    ///     println!("it existed: {}", deleted?.existed);
    /// }
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    #[inline]
    pub fn request_delete(&self, key: impl AsRef<[u8]>) -> Pending<Deleted> {
        let key = key.as_ref();
        if let Err(error) = check_key(key) {
            return Pending::answered(self, Err(error));
        }
        let mut delete = Forgotten { client: self.clone(), key: key.into() };
        delete.forget();
        let finish = move |response: Response<'_>| {
            delete.forget();
            writes::deleted(&response)
        };
        Pending::begin(self, &Request::Delete { key }, Intent::Write, Box::new(finish))
    }
}

/// A delete or an operation in progress: whenever the daemon does it, this process forgets the key
/// afterwards.
pub(crate) struct Forgotten {
    pub client: Client,
    pub key: Box<[u8]>,
}

impl Forgotten {
    pub(crate) fn forget(&mut self) {
        let process = self.client.shared.process();
        process.end_write(process.begin_write(&self.key), &self.key, None);
    }
}

impl Drop for Forgotten {
    fn drop(&mut self) {
        self.forget();
    }
}

/// A set in progress. If it is dropped, the process cache keeps nothing that may be older than it.
struct Unfinished {
    client: Client,
    ticket: Option<process_cache::Ticket>,
    is_ended: bool,
    key: Box<[u8]>,
    value: Box<[u8]>,
    options: SetOptions,
}

impl Unfinished {
    fn end(&mut self, stored: &Result<Stored, Error>) {
        if !std::mem::replace(&mut self.is_ended, true) {
            let ticket = self.ticket.take();
            self.client.end_set(ticket, &self.key, &self.value, &self.options, stored);
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        self.end(&Err(Error::unknown_outcome("given up")));
    }
}
