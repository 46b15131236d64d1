//! `get_or_load` for tokio.

use crate::async_client::{AsyncClient, answer};
use crate::client::Client;
use crate::error::Error;
use crate::load::{Asked, LOOK, LoadError, LoadOptions, LoadToken, Reservation, Wait};
use crate::value::{Lookup, SetOptions, Stored};
use std::fmt;
use std::time::Duration;

impl AsyncClient {
    /// Like [`Client::get_or_load`]: one task of the host runs `load`, and the others wait for its
    /// value or its error. A task that is cancelled while it loads hands the key on; one that is
    /// cancelled while it asks may hold the key until its lease ends.
    ///
    /// ```no_run
    /// # async fn query() -> Result<String, std::io::Error> { Ok(String::new()) }
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cache = l1d_client::AsyncClient::from(l1d_client::Client::connect("/run/l1d/l1d.sock")?);
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
        let token = match self.reserve(key, options).await? {
            Reservation::Found(value) => return Ok(value.into_vec()),
            Reservation::Reserved(token) => token,
        };
        let mut held = Held { client: self.client(), token: Some(token) };
        let loaded = load().await;
        let Some(token) = held.token.take() else {
            return Err(Error::internal("a reservation without a token").into());
        };
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
    /// # Errors
    ///
    /// The same as for [`Client::reserve`].
    pub async fn reserve(
        &self,
        key: impl AsRef<[u8]>,
        options: &LoadOptions,
    ) -> Result<Reservation, Error> {
        let key = key.as_ref();
        if let Lookup::Found(value) = self.lookup(key).await? {
            return Ok(Reservation::Found(value));
        }
        let mut wait = Wait::new(options);
        loop {
            match answer(self.client().submit_reserve(key, &wait)).await? {
                Asked::Answered(reservation) => return Ok(reservation),
                Asked::Loading { token } => wait.told(token)?,
            }
            let pause = wait.pause();
            let mut slept = Duration::ZERO;
            while slept < pause {
                tokio::time::sleep(LOOK).await;
                slept += LOOK;
                if let Some(value) = self.client().peek(key) {
                    return Ok(Reservation::Found(value));
                }
            }
        }
    }

    /// Like [`Client::fill`].
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
        answer(self.client().submit_fill(&token, value.as_ref(), options)).await
    }

    /// Like [`Client::abandon`].
    ///
    /// # Errors
    ///
    /// The same as for [`Client::abandon`].
    pub async fn abandon(&self, token: LoadToken, error: Option<&str>) -> Result<(), Error> {
        answer(self.client().submit_abandon(&token, error)).await
    }
}

/// A reservation that is handed on if its task is cancelled.
struct Held<'a> {
    client: &'a Client,
    token: Option<LoadToken>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some(token) = self.token.take() {
            let abandoning = self.client.submit_abandon(&token, None);
            // If there is no room for it now, a task waits for that. Without a runtime the
            // reservation ends with its lease.
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(answer(abandoning));
            }
        }
    }
}
