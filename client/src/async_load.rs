//! `get_or_load` for tokio.

use crate::async_client::{AsyncClient, answer, broken, runtime};
use crate::client::Client;
use crate::error::Error;
use crate::load::{LOOK, LoadError, LoadOptions, LoadToken, Reservation};
use crate::load_requests::{LoadWait, ReserveStep};
use crate::pending::Pending;
use crate::value::{SetOptions, Stored, Value};
use std::fmt;
use std::time::Duration;

impl AsyncClient {
    /// Like [`Client::get_or_load`]: one task of the host runs `load`, and the others wait for its
    /// value or its error. A task that is cancelled hands the key on.
    ///
    /// ```no_run
    /// # async fn query() -> Result<String, std::io::Error> { Ok(String::new()) }
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// # let cache = l1d_client::AsyncClient::from(client);
    /// let report = cache.get_or_load("report:daily", query).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The same as for [`Client::get_or_load`].
    pub async fn get_or_load<V: AsRef<[u8]>, E: fmt::Display, F>(
        &self,
        key: impl AsRef<[u8]>,
        load: impl FnOnce() -> F,
    ) -> Result<Vec<u8>, LoadError<E>>
    where
        F: Future<Output = Result<V, E>>,
    {
        self.get_or_load_with(key, &LoadOptions::default(), load).await
    }

    /// [`get_or_load`](Self::get_or_load) with a lease, a wait, and how to store the value.
    ///
    /// ```no_run
    /// # use l1d_client::LoadOptions;
    /// # use std::time::Duration;
    /// # async fn query() -> Result<String, std::io::Error> { Ok(String::new()) }
    /// # async fn run() -> Result<(), l1d_client::Error> {
    /// # let client = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// # let cache = l1d_client::AsyncClient::from(client);
    /// let options = LoadOptions { lease: Duration::from_secs(5), ..LoadOptions::default() };
    /// let report = cache.get_or_load_with("report:daily", &options, query).await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The same as for [`Client::get_or_load`].
    pub async fn get_or_load_with<V: AsRef<[u8]>, E: fmt::Display, F>(
        &self,
        key: impl AsRef<[u8]>,
        options: &LoadOptions,
        load: impl FnOnce() -> F,
    ) -> Result<Vec<u8>, LoadError<E>>
    where
        F: Future<Output = Result<V, E>>,
    {
        let held = match self.reserve_held(key.as_ref(), options).await? {
            Held::Found(value) => return Ok(value.into_vec()),
            Held::Reserved(held) => held,
        };
        let loaded = load().await;
        let token = held.keep();
        match loaded {
            Ok(value) => {
                let value = value.as_ref().to_vec();
                // Its refusal concerns only those who ask later.
                let _ = self.fill(token, &value, &options.set).await;
                Ok(value)
            }
            Err(error) => {
                let _ = self.abandon(token, Some(&error.to_string())).await;
                Err(LoadError::Load(error))
            }
        }
    }

    /// Like [`Client::reserve`].
    ///
    /// ```no_run
    /// use l1d_client::{LoadOptions, Reservation, SetOptions};
    ///
    /// # async fn run() -> Result<(), l1d_client::Error> {
    /// # let client = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// # let cache = l1d_client::AsyncClient::from(client);
    /// match cache.reserve("report:daily", &LoadOptions::default()).await? {
    ///     Reservation::Found(report) => println!("{} bytes", report.len()),
    ///     Reservation::Reserved(token) => {
    ///         cache.fill(token, "the report", &SetOptions::default()).await?;
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The same as for [`Client::reserve`].
    pub async fn reserve(
        &self,
        key: impl AsRef<[u8]>,
        options: &LoadOptions,
    ) -> Result<Reservation, Error> {
        Ok(match self.reserve_held(key.as_ref(), options).await? {
            Held::Found(value) => Reservation::Found(value),
            Held::Reserved(held) => Reservation::Reserved(held.keep()),
        })
    }

    async fn reserve_held(&self, key: &[u8], options: &LoadOptions) -> Result<Held, Error> {
        let mut asking = self.client().request_reserve(key, options);
        loop {
            let wait = match self.take(asking).await? {
                Taken::Held(held) => return Ok(held),
                Taken::AskAgain(wait) => wait,
            };
            let mut slept = Duration::ZERO;
            while slept < wait.pause() {
                tokio::time::sleep(LOOK).await;
                slept += LOOK;
                if let Some(value) = wait.look() {
                    return Ok(Held::Found(value));
                }
            }
            asking = wait.ask_again();
        }
    }

    /// Awaits an answer in a task of its own: if this one is cancelled meanwhile, that one takes
    /// the answer, and hands on what nobody wants any more.
    async fn take(&self, asking: Pending<ReserveStep>) -> Result<Taken, Error> {
        let client = self.client().clone();
        let taken = |step| match step {
            ReserveStep::Done(Reservation::Found(value)) => Taken::Held(Held::Found(value)),
            ReserveStep::Done(Reservation::Reserved(token)) => {
                Taken::Held(Held::Reserved(HeldToken { client, token: Some(token) }))
            }
            ReserveStep::AskAgain(wait) => Taken::AskAgain(wait),
        };
        if asking.is_answered() {
            return answer(asking).await.map(taken);
        }
        runtime()?;
        let taken = tokio::spawn(async { answer(asking).await.map(taken) });
        taken.await.unwrap_or_else(|error| Err(broken(error.into())))
    }

    /// Like [`Client::fill`].
    ///
    /// ```no_run
    /// use l1d_client::{Reservation, SetOptions};
    ///
    /// # async fn run() -> Result<(), l1d_client::Error> {
    /// # let client = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// # let cache = l1d_client::AsyncClient::from(client);
    /// # let options = l1d_client::LoadOptions::default();
    /// if let Reservation::Reserved(token) = cache.reserve("report:daily", &options).await? {
    ///     cache.fill(token, "the report", &SetOptions::default()).await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The same as for [`Client::fill`].
    pub async fn fill(
        &self,
        token: LoadToken,
        value: impl AsRef<[u8]>,
        options: &SetOptions,
    ) -> Result<Stored, Error> {
        answer(self.client().request_fill(token, value, options)).await
    }

    /// Like [`Client::abandon`].
    ///
    /// ```no_run
    /// use l1d_client::Reservation;
    ///
    /// # async fn run() -> Result<(), l1d_client::Error> {
    /// # let client = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// # let cache = l1d_client::AsyncClient::from(client);
    /// # let options = l1d_client::LoadOptions::default();
    /// if let Reservation::Reserved(token) = cache.reserve("report:daily", &options).await? {
    ///     cache.abandon(token, Some("the database is down")).await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The same as for [`Client::abandon`].
    pub async fn abandon(&self, token: LoadToken, error: Option<&str>) -> Result<(), Error> {
        answer(self.client().request_abandon(token, error)).await
    }
}

/// A [`ReserveStep`] whose reservation is handed on when it is dropped.
enum Taken {
    Held(Held),
    AskAgain(LoadWait),
}

/// A value, or a reservation.
enum Held {
    Found(Value),
    Reserved(HeldToken),
}

/// A reservation that is handed on when it is dropped.
struct HeldToken {
    client: Client,
    /// `None` when it is not to be handed on.
    token: Option<LoadToken>,
}

impl HeldToken {
    fn keep(mut self) -> LoadToken {
        // It is taken only here.
        self.token.take().unwrap_or_else(LoadToken::none)
    }
}

impl Drop for HeldToken {
    fn drop(&mut self) {
        if let Some(token) = self.token.take() {
            let abandoning = self.client.request_abandon(token, None);
            // If there is no room for it now, a task waits for that. Without a runtime the
            // reservation ends with its lease.
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(answer(abandoning));
            }
        }
    }
}
