//! The parts of `get_or_load` that do not block: for programs with their own event loop.

use crate::client::Client;
use crate::failure::Intent;
use crate::load::{Asked, LoadOptions, LoadToken, Reservation, Wait, done, reserved};
use crate::pending::Pending;
use crate::value::{Lookup, SetOptions, Stored, Value};
use l1d_wire::protocol::Response;
use std::time::Duration;

/// The answer to one request of [`Client::request_reserve`].
#[derive(Debug)]
pub enum ReserveStep {
    /// The reservation, or the value.
    Done(Reservation),
    /// Nobody has the key, and no reservation was made yet: ask again after a pause.
    AskAgain(LoadWait),
}

/// A wait for a reservation, between two requests. It may be dropped at any time.
#[derive(Debug, Clone)]
#[must_use = "`ask_again` goes on"]
pub struct LoadWait {
    client: Client,
    key: Box<[u8]>,
    wait: Wait,
    pause: Duration,
}

impl LoadWait {
    /// How long to wait before [`ask_again`](Self::ask_again): 0 if no process loads the key yet.
    ///
    /// ```no_run
    /// use l1d_client::ReserveStep;
    ///
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// if let Some(Ok(ReserveStep::AskAgain(wait))) =
    ///     cache.request_reserve("report:daily", &Default::default()).poll()
    /// {
    ///     println!("ask again after {:?}", wait.pause());
    /// }
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    #[must_use]
    pub fn pause(&self) -> Duration {
        self.pause
    }

    /// The value, if another process has stored it meanwhile and the table has it. Looking every
    /// millisecond of the pause costs no request.
    ///
    /// ```no_run
    /// use l1d_client::ReserveStep;
    ///
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// if let Some(Ok(ReserveStep::AskAgain(wait))) =
    ///     cache.request_reserve("report:daily", &Default::default()).poll()
    /// {
    ///     println!("loaded meanwhile: {}", wait.look().is_some());
    /// }
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    #[must_use]
    pub fn look(&self) -> Option<Value> {
        self.client.peek(&self.key)
    }

    /// Asks for the reservation again. The answer is an error as from [`Client::reserve`] once the
    /// [wait](LoadOptions::wait) has ended.
    ///
    /// ```no_run
    /// use l1d_client::ReserveStep;
    ///
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// if let Some(Ok(ReserveStep::AskAgain(wait))) =
    ///     cache.request_reserve("report:daily", &Default::default()).poll()
    /// {
    ///     std::thread::sleep(wait.pause());
    ///     let next = wait.ask_again();
    /// }
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    pub fn ask_again(self) -> Pending<ReserveStep> {
        let next = self.clone();
        let finish = move |response: Response<'_>| {
            let mut next = next.clone();
            match reserved(&next.key, &response)? {
                Asked::Answered(reservation) => Ok(ReserveStep::Done(reservation)),
                Asked::Loading { token } => {
                    next.wait.told(token)?;
                    next.pause = next.wait.pause();
                    Ok(ReserveStep::AskAgain(next))
                }
            }
        };
        let request = self.wait.request(&self.key);
        Pending::begin(&self.client, &request, Intent::Read, Box::new(finish))
    }
}

impl Client {
    /// [`reserve`](Self::reserve) without waiting for the daemon's answer: each request answers
    /// once, and says when to ask again. A reservation that is dropped before its answer was taken
    /// keeps others waiting until its lease ends.
    ///
    /// ```no_run
    /// # use l1d_client::{Client, Error, LoadOptions, Pending, ReserveStep, Reservation};
    /// # let cache = Client::connect("/run/l1d/l1d.sock")?;
    /// # fn answer<T>(mut pending: Pending<T>) -> Result<T, Error> {
    /// #     loop {
    /// #         if let Some(answer) = pending.poll() {
    /// #             return answer;
    /// #         }
    /// #     }
    /// # }
    /// # fn compute() -> &'static str { "" }
    /// // `answer` stands for the program's event loop, as does the sleep.
    /// let mut step = answer(cache.request_reserve("report", &LoadOptions::default()))?;
    /// let value = loop {
    ///     match step {
    ///         ReserveStep::Done(Reservation::Found(value)) => break value.into_vec(),
    ///         ReserveStep::Done(Reservation::Reserved(token)) => {
    ///             let value = compute();
    ///             answer(cache.request_fill(token, value, &Default::default()))?;
    ///             break value.into();
    ///         }
    ///         ReserveStep::AskAgain(wait) => {
    ///             std::thread::sleep(wait.pause());
    ///             step = answer(wait.ask_again())?;
    ///         }
    ///     }
    /// };
    /// # Ok::<(), Error>(())
    /// ```
    pub fn request_reserve(
        &self,
        key: impl AsRef<[u8]>,
        options: &LoadOptions,
    ) -> Pending<ReserveStep> {
        let key = key.as_ref();
        let wait = LoadWait {
            client: self.clone(),
            key: key.into(),
            wait: Wait::new(options, &self.shared),
            pause: Duration::ZERO,
        };
        // A reservation reads nothing from below, so the key is looked up first.
        self.request_lookup(key, move |known| match known {
            Lookup::Found(value) => ReserveStep::Done(Reservation::Found(value)),
            Lookup::Absent | Lookup::Unknown => ReserveStep::AskAgain(wait.clone()),
        })
    }

    /// [`fill`](Self::fill) without waiting for the daemon's answer.
    ///
    /// ```no_run
    /// use l1d_client::Reservation;
    ///
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// if let Reservation::Reserved(token) = cache.reserve("report:daily", &Default::default())? {
    ///     let pending = cache.request_fill(token, "the report", &Default::default());
    /// }
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    pub fn request_fill(
        &self,
        token: LoadToken,
        value: impl AsRef<[u8]>,
        options: &SetOptions,
    ) -> Pending<Stored> {
        let value = value.as_ref();
        let options = SetOptions { no_wait: false, ..*options };
        self.request_set_by(token.key(), value, &options, &token.fill(value, &options))
    }

    /// [`abandon`](Self::abandon) without waiting for the daemon's answer.
    ///
    /// ```no_run
    /// use l1d_client::Reservation;
    ///
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// if let Reservation::Reserved(token) = cache.reserve("report:daily", &Default::default())? {
    ///     let pending = cache.request_abandon(token, Some("the database is down"));
    /// }
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    pub fn request_abandon(&self, token: LoadToken, error: Option<&str>) -> Pending<()> {
        let finish = Box::new(|response: Response<'_>| done(&response));
        // A write, which is carried out even if nobody asks for the answer.
        Pending::begin(self, &token.abandon(error), Intent::Write, finish)
    }
}
