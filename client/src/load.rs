//! One loader for each key that nobody has: `get_or_load`, and its parts.

use crate::client::Client;
use crate::deadline::Deadline;
use crate::error::Error;
use crate::failure::{Intent, Reason};
use crate::reply::unexpected;
use crate::shared::{Patience, Shared};
use crate::value::{Lookup, Meta, SetOptions, Source, Stored, Value};
use crate::writes;
use l1d_wire::protocol::{Request, Response, Set};
use std::fmt;
use std::time::Duration;

/// Pause between two looks at the table while another process loads the key.
pub(crate) const LOOK: Duration = Duration::from_millis(1);
/// Longest pause before the daemon is asked again, which knows if that process has ended.
const PAUSE_MAX: Duration = Duration::from_millis(16);

/// How to load a key. `..LoadOptions::default()` leaves the rest as it usually is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadOptions {
    /// How long the loader may take. If it takes longer, another process becomes the loader, and
    /// this one's value is not stored. An hour at most; usually 30 s.
    pub lease: Duration,
    /// How long to wait for other processes that load the key; usually 30 s.
    pub wait: Duration,
    /// How to store the value. `no_wait` has no effect.
    pub set: SetOptions,
}

impl Default for LoadOptions {
    fn default() -> LoadOptions {
        let usual = Duration::from_secs(30);
        LoadOptions { lease: usual, wait: usual, set: SetOptions::default() }
    }
}

/// The answer to [`Client::reserve`].
#[derive(Debug)]
pub enum Reservation {
    /// The key has this value.
    Found(Value),
    /// This process is to compute the value: then [`Client::fill`], or [`Client::abandon`].
    Reserved(LoadToken),
}

/// The right to fill a key. It ends with the lease, and when anybody else changes the key.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "others wait for the value until the lease ends: fill the key or abandon it"]
pub struct LoadToken {
    key: Box<[u8]>,
    token: u64,
}

impl LoadToken {
    /// The key that is reserved.
    ///
    /// ```no_run
    /// use l1d_client::Reservation;
    ///
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// if let Reservation::Reserved(token) = cache.reserve("report:daily", &Default::default())? {
    ///     println!("computing {}", String::from_utf8_lossy(token.key()));
    ///     cache.fill(token, "the report", &Default::default())?;
    /// }
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// Of no key: what is left where one was taken.
    pub(crate) fn none() -> LoadToken {
        LoadToken { key: Box::default(), token: 0 }
    }

    pub(crate) fn fill<'a>(&'a self, value: &'a [u8], options: &SetOptions) -> Request<'a> {
        let SetOptions { lifetime, flags, write, .. } = *options;
        let set = Set { key: &self.key, value, ttl: lifetime.ttl(), flags, write, reply: true };
        Request::Fill { token: self.token, set }
    }

    /// An empty error would hand the key on.
    pub(crate) fn abandon<'a>(&'a self, error: Option<&'a str>) -> Request<'a> {
        let error = match error {
            Some("") => "no reason was given",
            error => error.unwrap_or_default(),
        };
        Request::Abandon { key: &self.key, token: self.token, error }
    }
}

/// Why [`Client::get_or_load`] has no value.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoadError<E> {
    /// This process was the loader, and its function returned this error. Those who wait get its
    /// text.
    Load(E),
    /// The cache could not answer; [`Error::LoadFailed`] if another process's loader has failed.
    Cache(Error),
}

impl<E: fmt::Display> fmt::Display for LoadError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::Load(error) => write!(f, "loading failed: {error}"),
            LoadError::Cache(error) => error.fmt(f),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for LoadError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            LoadError::Load(error) => Some(error),
            LoadError::Cache(error) => Some(error),
        }
    }
}

impl<E> From<Error> for LoadError<E> {
    fn from(error: Error) -> LoadError<E> {
        LoadError::Cache(error)
    }
}

impl Client {
    /// The value of `key`, or what `load` returns for it: one process of the host calls `load`, and
    /// the others wait for its value or its error. If that process dies or takes longer than the
    /// lease, the next one loads.
    ///
    /// The value is returned even if it could not be stored. A panic of `load` hands the key on.
    ///
    /// ```no_run
    /// # fn query() -> Result<String, std::io::Error> { Ok(String::new()) }
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// let report = cache.get_or_load("report:daily", || query())?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`LoadError::Load`] with the error of `load`. [`LoadError::Cache`] with the error of another
    /// process ([`Error::LoadFailed`]), with [`Error::Busy`] if another process takes longer than
    /// the wait, and otherwise as for [`get`](Self::get): then `load` was not called.
    pub fn get_or_load<V: AsRef<[u8]>, E: fmt::Display>(
        &self,
        key: impl AsRef<[u8]>,
        load: impl FnOnce() -> Result<V, E>,
    ) -> Result<Vec<u8>, LoadError<E>> {
        self.get_or_load_with(key, &LoadOptions::default(), load)
    }

    /// [`get_or_load`](Self::get_or_load) with a lease, a wait, and how to store the value.
    ///
    /// ```no_run
    /// # use l1d_client::LoadOptions;
    /// # use std::time::Duration;
    /// # fn query() -> Result<String, std::io::Error> { Ok(String::new()) }
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// let options = LoadOptions { lease: Duration::from_secs(5), ..LoadOptions::default() };
    /// let report = cache.get_or_load_with("report:daily", &options, || query());
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The same as for [`get_or_load`](Self::get_or_load).
    pub fn get_or_load_with<V: AsRef<[u8]>, E: fmt::Display>(
        &self,
        key: impl AsRef<[u8]>,
        options: &LoadOptions,
        load: impl FnOnce() -> Result<V, E>,
    ) -> Result<Vec<u8>, LoadError<E>> {
        let key = key.as_ref();
        let token = match self.reserve(key, options)? {
            Reservation::Found(value) => return Ok(value.into_vec()),
            Reservation::Reserved(token) => token,
        };
        let held = Held { client: self, token: Some(token) };
        match load() {
            Ok(value) => {
                let value = value.as_ref().to_vec();
                // Its refusal concerns only those who ask later.
                let _ = self.fill(held.keep(), &value, &options.set);
                Ok(value)
            }
            Err(error) => {
                let _ = self.abandon(held.keep(), Some(&error.to_string()));
                Err(LoadError::Load(error))
            }
        }
    }

    /// Looks `key` up, and if nobody has it, makes this process the one that computes its value:
    /// the first half of [`get_or_load`](Self::get_or_load), for loaders that run elsewhere. Waits
    /// while another process loads the key.
    ///
    /// ```no_run
    /// use l1d_client::{LoadOptions, Reservation, SetOptions};
    ///
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// match cache.reserve("report:daily", &LoadOptions::default())? {
    ///     Reservation::Found(report) => println!("{} bytes", report.len()),
    ///     Reservation::Reserved(token) => {
    ///         cache.fill(token, "the report", &SetOptions::default())?;
    ///     }
    /// }
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`get`](Self::get), [`Error::LoadFailed`] with another process's error, and
    /// [`Error::Busy`] if another process takes longer than the wait.
    pub fn reserve(
        &self,
        key: impl AsRef<[u8]>,
        options: &LoadOptions,
    ) -> Result<Reservation, Error> {
        let key = key.as_ref();
        if let Lookup::Found(value) = self.lookup(key)? {
            return Ok(Reservation::Found(value));
        }
        let mut wait = Wait::new(options, &self.shared);
        loop {
            let deadline = self.shared.deadline();
            let request = wait.request(key);
            // Reserving twice does no harm.
            let asked = self
                .shared
                .ask(&request, Intent::Read, &deadline, |response| reserved(key, &response));
            match asked? {
                Asked::Answered(reservation) => return Ok(reservation),
                Asked::Loading { token } => wait.told(token)?,
            }
            let pause = wait.pause();
            let mut slept = Duration::ZERO;
            while slept < pause {
                std::thread::sleep(LOOK);
                slept += LOOK;
                if let Some(value) = self.loaded(key)? {
                    return Ok(Reservation::Found(value));
                }
            }
            wait.go_on().map_err(|reason| reason.into_error(self.shared.socket()))?;
        }
    }

    /// The value that another process has loaded, if it is there: from the table, or, for a key of
    /// process scope, from below.
    pub(crate) fn loaded(&self, key: &[u8]) -> Result<Option<Value>, Error> {
        match self.shared.process().cache_of(key) {
            Some(_) => self.lookup(key).map(Lookup::found),
            None => Ok(self.peek(key)),
        }
    }

    /// Stores the value of a reserved key, and gives it to all who wait.
    ///
    /// ```no_run
    /// use l1d_client::{Reservation, SetOptions};
    ///
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// if let Reservation::Reserved(token) = cache.reserve("report:daily", &Default::default())? {
    ///     cache.fill(token, "the report", &SetOptions::default())?;
    /// }
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if the reservation has ended, otherwise those of
    /// [`set_with`](Self::set_with). All who wait get the value, but for `Refused`,
    /// [`Error::TooLarge`] and [`Error::Full`]: the next of them then loads the key.
    pub fn fill(
        &self,
        token: LoadToken,
        value: impl AsRef<[u8]>,
        options: &SetOptions,
    ) -> Result<Stored, Error> {
        let value = value.as_ref();
        let options = SetOptions { no_wait: false, ..*options };
        let ticket = self.begin_set(&token.key, value, Patience::OfAttaching)?;
        let request = token.fill(value, &options);
        let deadline = self.shared.deadline();
        let intent = Intent::Write;
        let stored =
            self.shared.ask(&request, intent, &deadline, |response| writes::stored(&response));
        self.end_set(ticket, &token.key, value, &options, &stored);
        stored
    }

    /// Gives a reserved key up. With an error, all who wait get that ([`Error::LoadFailed`]);
    /// without one, the next of them loads the key.
    ///
    /// ```no_run
    /// use l1d_client::Reservation;
    ///
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// if let Reservation::Reserved(token) = cache.reserve("report:daily", &Default::default())? {
    ///     cache.abandon(token, Some("the database is down"))?;
    /// }
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`get`](Self::get). The reservation then ends with its lease.
    pub fn abandon(&self, token: LoadToken, error: Option<&str>) -> Result<(), Error> {
        let deadline = self.shared.deadline();
        let request = token.abandon(error);
        self.shared.ask(&request, Intent::Read, &deadline, |response| done(&response))
    }
}

/// A reservation that is handed on if a panic passes by.
struct Held<'a> {
    client: &'a Client,
    token: Option<LoadToken>,
}

impl Held<'_> {
    fn keep(mut self) -> LoadToken {
        // It is taken only here.
        self.token.take().unwrap_or_else(LoadToken::none)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some(token) = self.token.take() {
            let _ = self.client.abandon(token, None);
        }
    }
}

/// The daemon's answer to a request for a reservation.
pub(crate) enum Asked {
    Answered(Reservation),
    /// Another process loads the key.
    Loading {
        token: u64,
    },
}

/// The wait for another process's value.
#[derive(Debug, Clone)]
pub(crate) struct Wait {
    lease: Duration,
    end: Deadline,
    /// The loader's token.
    waits_for: u64,
    pause: Duration,
}

impl Wait {
    pub(crate) fn new(options: &LoadOptions, shared: &Shared) -> Wait {
        let (lease, end) = (options.lease, shared.deadline_after(options.wait));
        Wait { lease, end, waits_for: 0, pause: LOOK }
    }

    pub(crate) fn request<'a>(&self, key: &'a [u8]) -> Request<'a> {
        Request::Reserve { key, lease: self.lease, waits_for: self.waits_for }
    }

    /// The daemon has told that the process with this token loads the key.
    pub(crate) fn told(&mut self, token: u64) -> Result<(), Error> {
        if self.end.has_passed() {
            let reason =
                "another process is still loading the key, which took longer than the wait";
            return Err(Error::Busy { reason: reason.to_owned() });
        }
        if token != 0 {
            self.waits_for = token;
        }
        Ok(())
    }

    /// Fails if a signal came and the program ends the call. (A sleep goes on after a signal, so
    /// this is called after each pause, which is short.)
    fn go_on(&self) -> Result<(), Reason> {
        self.end.go_on()
    }

    /// How long to pause before the daemon is asked again.
    pub(crate) fn pause(&mut self) -> Duration {
        let pause = self.pause.min(self.end.remaining());
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        pause
    }
}

pub(crate) fn reserved(key: &[u8], response: &Response<'_>) -> Result<Asked, Error> {
    match response {
        Response::Loading { token } => Ok(Asked::Loading { token: *token }),
        Response::Reserved { token } => {
            let token = LoadToken { key: key.into(), token: *token };
            Ok(Asked::Answered(Reservation::Reserved(token)))
        }
        Response::Found { value, flags, version, .. } => {
            let meta = Meta { flags: *flags, version: *version, source: Source::Daemon };
            Ok(Asked::Answered(Reservation::Found(Value::new(value.to_vec(), meta))))
        }
        other => Err(unexpected(other)),
    }
}

pub(crate) fn done(response: &Response<'_>) -> Result<(), Error> {
    match response {
        Response::Done => Ok(()),
        other => Err(unexpected(other)),
    }
}
