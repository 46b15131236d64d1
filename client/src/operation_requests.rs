//! Atomic operations that do not block: for programs with their own event loop.

use crate::client::Client;
use crate::error::Error;
use crate::failure::Intent;
use crate::operations;
use crate::outcome::{Count, CounterOptions, OperationOptions, Outcome};
use crate::pending::Pending;
use crate::requests::Forgotten;
use crate::value::{Lifetime, Token, Value};
use l1d_wire::protocol::{Operate, Request, Response};

/// [Atomic operations](#method.add) without waiting.
impl Client {
    /// [`add`](Self::add) without waiting for the daemon's answer.
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// let mut pending = cache.request_add("lock:report", "me", &Default::default());
    /// if let Some(outcome) = pending.poll() {
    ///     println!("done: {}", outcome?.is_done());
    /// }
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    pub fn request_add(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        options: &OperationOptions,
    ) -> Pending<Outcome> {
        let operate = operations::add(key.as_ref(), value.as_ref(), options);
        self.request_operation(&operate, operations::stored)
    }

    /// [`replace`](Self::replace) without waiting for the daemon's answer.
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// let mut pending = cache.request_replace("market:BTC", "64000", &Default::default());
    /// if let Some(outcome) = pending.poll() {
    ///     println!("done: {}", outcome?.is_done());
    /// }
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    pub fn request_replace(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        options: &OperationOptions,
    ) -> Pending<Outcome> {
        let operate = operations::replace(key.as_ref(), value.as_ref(), options);
        self.request_operation(&operate, operations::stored)
    }

    /// [`compare_and_set`](Self::compare_and_set) without waiting for the daemon's answer.
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// if let Some(token) = cache.get("market:BTC")?.and_then(|value| value.meta().token()) {
    ///     let options = Default::default();
    ///     let pending = cache.request_compare_and_set("market:BTC", token, "64000", &options);
    /// }
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    pub fn request_compare_and_set(
        &self,
        key: impl AsRef<[u8]>,
        token: Token,
        value: impl AsRef<[u8]>,
        options: &OperationOptions,
    ) -> Pending<Outcome> {
        let operate = operations::compare_and_set(key.as_ref(), token, value.as_ref(), options);
        self.request_operation(&operate, operations::stored)
    }

    /// [`delete_if`](Self::delete_if) without waiting for the daemon's answer.
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// if let Some(token) = cache.get("lock:report")?.and_then(|value| value.meta().token()) {
    ///     let pending = cache.request_delete_if("lock:report", token);
    /// }
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    pub fn request_delete_if(&self, key: impl AsRef<[u8]>, token: Token) -> Pending<Outcome> {
        self.request_operation(&operations::delete_if(key.as_ref(), token), operations::stored)
    }

    /// [`append`](Self::append) without waiting for the daemon's answer.
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// let mut pending = cache.request_append("log:today", "last line\n");
    /// if let Some(outcome) = pending.poll() {
    ///     println!("done: {}", outcome?.is_done());
    /// }
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    pub fn request_append(
        &self,
        key: impl AsRef<[u8]>,
        bytes: impl AsRef<[u8]>,
    ) -> Pending<Outcome> {
        let operate = operations::append(key.as_ref(), bytes.as_ref());
        self.request_operation(&operate, operations::stored)
    }

    /// [`prepend`](Self::prepend) without waiting for the daemon's answer.
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// let mut pending = cache.request_prepend("log:today", "first line\n");
    /// if let Some(outcome) = pending.poll() {
    ///     println!("done: {}", outcome?.is_done());
    /// }
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    pub fn request_prepend(
        &self,
        key: impl AsRef<[u8]>,
        bytes: impl AsRef<[u8]>,
    ) -> Pending<Outcome> {
        let operate = operations::prepend(key.as_ref(), bytes.as_ref());
        self.request_operation(&operate, operations::stored)
    }

    /// [`increment`](Self::increment) without waiting for the daemon's answer.
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// let mut pending = cache.request_increment("visits", 1, &Default::default());
    /// if let Some(outcome) = pending.poll() {
    ///     println!("{:?}", outcome?.done().map(|count| count.value));
    /// }
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    pub fn request_increment(
        &self,
        key: impl AsRef<[u8]>,
        by: i64,
        options: &CounterOptions,
    ) -> Pending<Outcome<Count>> {
        self.request_operation(&operations::count(key.as_ref(), by, options), operations::counted)
    }

    /// [`decrement`](Self::decrement) without waiting for the daemon's answer.
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// let mut pending = cache.request_decrement("stock:17", 1, &Default::default());
    /// if let Some(outcome) = pending.poll() {
    ///     println!("{:?}", outcome?.done().map(|count| count.value));
    /// }
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    pub fn request_decrement(
        &self,
        key: impl AsRef<[u8]>,
        by: i64,
        options: &CounterOptions,
    ) -> Pending<Outcome<Count>> {
        match operations::negative(by) {
            Ok(by) => self.request_increment(key, by, options),
            Err(error) => Pending::answered(self, Err(error)),
        }
    }

    /// [`touch`](Self::touch) without waiting for the daemon's answer.
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// let mut pending = cache.request_touch("session:7", l1d_client::Lifetime::Rule);
    /// if let Some(outcome) = pending.poll() {
    ///     println!("done: {}", outcome?.is_done());
    /// }
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    pub fn request_touch(&self, key: impl AsRef<[u8]>, lifetime: Lifetime) -> Pending<Outcome> {
        self.request_operation(&operations::touch(key.as_ref(), lifetime), operations::stored)
    }

    /// [`get_and_touch`](Self::get_and_touch) without waiting for the daemon's answer.
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// let mut pending = cache.request_get_and_touch("session:7", l1d_client::Lifetime::Rule);
    /// if let Some(outcome) = pending.poll() {
    ///     println!("{:?}", outcome?);
    /// }
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    pub fn request_get_and_touch(
        &self,
        key: impl AsRef<[u8]>,
        lifetime: Lifetime,
    ) -> Pending<Option<Value>> {
        let operate = operations::get_and_touch(key.as_ref(), lifetime);
        self.request_operation(&operate, operations::touched)
    }

    fn request_operation<T: 'static>(
        &self,
        operate: &Operate<'_>,
        take: fn(&Response<'_>) -> Result<T, Error>,
    ) -> Pending<T> {
        if let Err(error) = self.check_operate(operate) {
            return Pending::answered(self, Err(error));
        }
        let mut changed = Forgotten { client: self.clone(), key: operate.key.into() };
        changed.forget();
        let finish = move |response: Response<'_>| {
            changed.forget();
            take(&response)
        };
        let request = Request::Operate(operate.clone());
        Pending::begin(self, &request, Intent::Write, Box::new(finish))
    }
}
