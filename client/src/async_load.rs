//! `get_or_load` for tokio.

use crate::async_client::{AsyncClient, answer, broken, runtime};
use crate::client::Client;
use crate::error::Error;
use crate::load::{Asked, LOOK, LoadError, LoadOptions, LoadToken, Reservation, Wait};
use crate::value::{Lookup, SetOptions, Stored, Value};
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
        if let Lookup::Found(value) = self.lookup(key).await? {
            return Ok(Held::Found(value));
        }
        let mut wait = Wait::new(options);
        loop {
            match self.ask(key, &wait).await? {
                Answer::Held(held) => return Ok(held),
                Answer::Loading { token } => wait.told(token)?,
            }
            let pause = wait.pause();
            let mut slept = Duration::ZERO;
            while slept < pause {
                tokio::time::sleep(LOOK).await;
                slept += LOOK;
                if let Some(value) = self.client().peek(key) {
                    return Ok(Held::Found(value));
                }
            }
        }
    }

    /// Asks once, in a task of its own: if this one is cancelled meanwhile, that one takes the
    /// answer, and hands on what nobody wants any more.
    async fn ask(&self, key: &[u8], wait: &Wait) -> Result<Answer, Error> {
        runtime()?;
        let client = self.client().clone();
        let asking = answer(client.submit_reserve(key, wait));
        let asked = tokio::spawn(async move {
            Ok(match asking.await? {
                Asked::Answered(Reservation::Found(value)) => Answer::Held(Held::Found(value)),
                Asked::Answered(Reservation::Reserved(token)) => {
                    Answer::Held(Held::Reserved(HeldToken { client, token: Some(token) }))
                }
                Asked::Loading { token } => Answer::Loading { token },
            })
        });
        asked.await.unwrap_or_else(|error| Err(broken(error.into())))
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

/// The answer to one request.
enum Answer {
    Held(Held),
    /// Another process loads the key.
    Loading {
        token: u64,
    },
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
            let abandoning = self.client.submit_abandon(&token, None);
            // If there is no room for it now, a task waits for that. Without a runtime the
            // reservation ends with its lease.
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(answer(abandoning));
            }
        }
    }
}
