//! Atomic operations: changes of a key in one step that depend on what it holds.

use crate::client::{Client, check_key};
use crate::error::Error;
use crate::failure::Intent;
use crate::outcome::{Count, CounterOptions, OperationOptions, Outcome};
use crate::reply::unexpected;
use crate::value::{Lifetime, Meta, Source, Stored, Token, Value};
use crate::writes::check_value;
use l1d_wire::protocol::{NotChanged, Operate, Operation, Request, Response};

/// Atomic operations. Each is one step: no process sees a part of it, and of several at a time
/// one comes after the other. The store of record carries them out: Redis, memcached where it is
/// alone, or the table for keys that no tier keeps (`write = "l1-only"`, or no tiers). There they
/// are losable: the table may evict a value, and does not outlive a reboot.
///
/// They fail as [`set_with`](Client::set_with) does; with [`Error::TierFailed`],
/// [`Error::Unavailable`] and [`Error::Busy`] nothing was changed, with [`Error::UnknownOutcome`]
/// the operation may have been done, so that doing it again may do it twice. A daemon that has no
/// operations is [`Error::Refused`].
impl Client {
    /// Stores a value, unless the key has one ([`Outcome::Exists`]). Of several processes that try
    /// at the same time one succeeds, which makes it a lock.
    ///
    /// ```no_run
    /// use l1d_client::{Client, Lifetime, OperationOptions};
    /// use std::time::Duration;
    ///
    /// let cache = Client::connect("/run/l1d/l1d.sock")?;
    /// let lifetime = Lifetime::For(Duration::from_secs(30));
    /// let options = OperationOptions { lifetime, ..OperationOptions::default() };
    /// if let Some(lock) = cache.add("lock:report", "host 1", &options)?.done() {
    ///     // This process has it, for 30 s at most.
    ///     if let Some(token) = lock.token() {
    ///         // Released only if it is still this process's.
    ///         let _ = cache.delete_if("lock:report", token)?;
    ///     }
    /// }
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The same as for [`set_with`](Self::set_with).
    pub fn add(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        options: &OperationOptions,
    ) -> Result<Outcome, Error> {
        self.operate(&add(key.as_ref(), value.as_ref(), options), stored)
    }

    /// Stores a value, if the key has one; otherwise [`Outcome::Absent`].
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// let was_there = cache.replace("user:7", "Ann", &Default::default())?.is_done();
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The same as for [`set_with`](Self::set_with).
    pub fn replace(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        options: &OperationOptions,
    ) -> Result<Outcome, Error> {
        self.operate(&replace(key.as_ref(), value.as_ref(), options), stored)
    }

    /// Stores a value, if the key still has that of `token`; otherwise [`Outcome::Conflict`]. For
    /// keys in tiers the record is compared with the bytes of that value, so a value that was
    /// changed and changed back counts as unchanged; and once the table has no entry of the token,
    /// because it has expired or was evicted, the outcome is a conflict.
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// // Adds a line to a list, and loses none that others add at the same time.
    /// while let Some(list) = cache.get("list")? {
    ///     let Some(token) = list.meta().token() else { break };
    ///     let longer = [&list[..], b"another\n"].concat();
    ///     if cache.compare_and_set("list", token, longer, &Default::default())?.is_done() {
    ///         break;
    ///     }
    /// }
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The same as for [`set_with`](Self::set_with).
    pub fn compare_and_set(
        &self,
        key: impl AsRef<[u8]>,
        token: Token,
        value: impl AsRef<[u8]>,
        options: &OperationOptions,
    ) -> Result<Outcome, Error> {
        self.operate(&compare_and_set(key.as_ref(), token, value.as_ref(), options), stored)
    }

    /// Deletes a key, if it still has the value of `token`; otherwise [`Outcome::Conflict`], as
    /// with [`compare_and_set`](Self::compare_and_set). [`add`](Self::add) has an example.
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// if let Some(token) = cache.get("lock:report")?.and_then(|value| value.meta().token()) {
    ///     let is_deleted = cache.delete_if("lock:report", token)?.is_done();
    /// }
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The same as for [`set_with`](Self::set_with).
    pub fn delete_if(&self, key: impl AsRef<[u8]>, token: Token) -> Result<Outcome, Error> {
        self.operate(&delete_if(key.as_ref(), token), stored)
    }

    /// Puts bytes after the value of a key, which keeps its flags and its life; without a value
    /// [`Outcome::Absent`].
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// if !cache.append("journal", "a line\n")?.is_done() {
    ///     cache.set("journal", "a line\n")?;
    /// }
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The same as for [`set_with`](Self::set_with); [`Error::TooLarge`] if the result would be
    /// larger than the policy allows.
    pub fn append(&self, key: impl AsRef<[u8]>, bytes: impl AsRef<[u8]>) -> Result<Outcome, Error> {
        self.operate(&append(key.as_ref(), bytes.as_ref()), stored)
    }

    /// Puts bytes before the value of a key, as [`append`](Self::append) does after it.
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// let is_done = cache.prepend("log:today", "first line\n")?.is_done();
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The same as for [`append`](Self::append).
    pub fn prepend(
        &self,
        key: impl AsRef<[u8]>,
        bytes: impl AsRef<[u8]>,
    ) -> Result<Outcome, Error> {
        self.operate(&prepend(key.as_ref(), bytes.as_ref()), stored)
    }

    /// Adds `by` to a counter: a value that is a signed 64-bit decimal, as in `-12`. It keeps its
    /// flags and its life. Without a value, [`CounterOptions::initial`] is stored.
    ///
    /// ```no_run
    /// use l1d_client::{Client, CounterOptions, Lifetime};
    /// use std::time::Duration;
    ///
    /// // At most 100 requests a minute.
    /// let cache = Client::connect("/run/l1d/l1d.sock")?;
    /// let lifetime = Lifetime::For(Duration::from_secs(60));
    /// let options = CounterOptions { initial: Some(1), lifetime };
    /// let count = cache.increment("rate:user:7", 1, &options)?.done();
    /// let is_allowed = count.is_some_and(|count| count.value <= 100);
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The same as for [`set_with`](Self::set_with). [`Error::Refused`], and nothing was changed,
    /// if the value is no such number, or the result would not be one; where memcached is the
    /// record, also if it would be negative.
    pub fn increment(
        &self,
        key: impl AsRef<[u8]>,
        by: i64,
        options: &CounterOptions,
    ) -> Result<Outcome<Count>, Error> {
        self.operate(&count(key.as_ref(), by, options), counted)
    }

    /// Subtracts `by` from a counter, as [`increment`](Self::increment) adds to it.
    ///
    /// ```no_run
    /// use l1d_client::{CounterOptions, Outcome};
    ///
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// if let Outcome::Done(count) = cache.decrement("stock:17", 1, &CounterOptions::default())? {
    ///     println!("{} left", count.value);
    /// }
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The same as for [`increment`](Self::increment), and [`Error::TooLarge`] for `i64::MIN`.
    pub fn decrement(
        &self,
        key: impl AsRef<[u8]>,
        by: i64,
        options: &CounterOptions,
    ) -> Result<Outcome<Count>, Error> {
        self.increment(key, negative(by)?, options)
    }

    /// Gives the value of a key another life, counted from now; without a value
    /// [`Outcome::Absent`]. The entry keeps its version. A copy above the store of record is never
    /// given a longer life than it has.
    ///
    /// ```no_run
    /// use l1d_client::{Client, Lifetime};
    ///
    /// let cache = Client::connect("/run/l1d/l1d.sock")?;
    /// let lifetime = Lifetime::For(std::time::Duration::from_secs(1800));
    /// let has_session = cache.touch("session:7", lifetime)?.is_done();
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The same as for [`set_with`](Self::set_with).
    pub fn touch(&self, key: impl AsRef<[u8]>, lifetime: Lifetime) -> Result<Outcome, Error> {
        self.operate(&touch(key.as_ref(), lifetime), stored)
    }

    /// [`touch`](Self::touch), and returns the value that the store of record holds; `None` without
    /// one.
    ///
    /// ```no_run
    /// use l1d_client::Lifetime;
    /// use std::time::Duration;
    ///
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// let lifetime = Lifetime::For(Duration::from_secs(1800));
    /// if let Some(session) = cache.get_and_touch("session:7", lifetime)? {
    ///     println!("{} bytes", session.len());
    /// }
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The same as for [`touch`](Self::touch).
    pub fn get_and_touch(
        &self,
        key: impl AsRef<[u8]>,
        lifetime: Lifetime,
    ) -> Result<Option<Value>, Error> {
        self.operate(&get_and_touch(key.as_ref(), lifetime), touched)
    }

    fn operate<T>(
        &self,
        operate: &Operate<'_>,
        take: fn(&Response<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.check_operate(operate)?;
        let ticket = self.shared.process().begin_write(operate.key);
        let deadline = self.shared.deadline();
        let request = Request::Operate(operate.clone());
        let answer =
            self.shared.ask(&request, Intent::Write, &deadline, |response| take(&response));
        self.shared.process().end_write(ticket, operate.key, None);
        answer
    }

    pub(crate) fn check_operate(&self, operate: &Operate<'_>) -> Result<(), Error> {
        check_key(operate.key)?;
        match (stored_by(operate), self.shared.process().rule(operate.key)) {
            (Some(value), Some(rule)) => check_value(value, rule.value_bytes_max),
            _ => Ok(()),
        }
    }
}

/// The bytes that an operation stores.
pub(crate) fn stored_by<'a>(operate: &Operate<'a>) -> Option<&'a [u8]> {
    match operate.operation {
        Operation::Add { value, .. }
        | Operation::Replace { value, .. }
        | Operation::CompareAndSet { value, .. } => Some(value),
        Operation::Append { bytes } | Operation::Prepend { bytes } => Some(bytes),
        _ => None,
    }
}

pub(crate) fn add<'a>(key: &'a [u8], value: &'a [u8], options: &OperationOptions) -> Operate<'a> {
    let operation = Operation::Add { value, flags: options.flags };
    Operate { key, operation, ttl: options.lifetime.ttl() }
}

pub(crate) fn replace<'a>(
    key: &'a [u8],
    value: &'a [u8],
    options: &OperationOptions,
) -> Operate<'a> {
    let operation = Operation::Replace { value, flags: options.flags };
    Operate { key, operation, ttl: options.lifetime.ttl() }
}

pub(crate) fn compare_and_set<'a>(
    key: &'a [u8],
    token: Token,
    value: &'a [u8],
    options: &OperationOptions,
) -> Operate<'a> {
    let version = token.version();
    let operation = Operation::CompareAndSet { version, value, flags: options.flags };
    Operate { key, operation, ttl: options.lifetime.ttl() }
}

pub(crate) fn delete_if(key: &[u8], token: Token) -> Operate<'_> {
    Operate { key, operation: Operation::DeleteIf { version: token.version() }, ttl: None }
}

pub(crate) fn append<'a>(key: &'a [u8], bytes: &'a [u8]) -> Operate<'a> {
    Operate { key, operation: Operation::Append { bytes }, ttl: None }
}

pub(crate) fn prepend<'a>(key: &'a [u8], bytes: &'a [u8]) -> Operate<'a> {
    Operate { key, operation: Operation::Prepend { bytes }, ttl: None }
}

pub(crate) fn count<'a>(key: &'a [u8], by: i64, options: &CounterOptions) -> Operate<'a> {
    let operation = Operation::Count { by, initial: options.initial };
    Operate { key, operation, ttl: options.lifetime.ttl() }
}

pub(crate) fn touch(key: &[u8], lifetime: Lifetime) -> Operate<'_> {
    Operate { key, operation: Operation::Touch, ttl: lifetime.ttl() }
}

pub(crate) fn get_and_touch(key: &[u8], lifetime: Lifetime) -> Operate<'_> {
    Operate { key, operation: Operation::GetAndTouch, ttl: lifetime.ttl() }
}

/// What to add, to subtract `by`.
pub(crate) fn negative(by: i64) -> Result<i64, Error> {
    by.checked_neg().ok_or_else(|| Error::TooLarge {
        reason: format!(
            "{by} cannot be subtracted from a counter; its negative is no 64-bit number"
        ),
    })
}

/// The outcome of an operation that stores, touches or deletes.
pub(crate) fn stored(response: &Response<'_>) -> Result<Outcome, Error> {
    match *response {
        Response::Changed { version, degraded, life, .. } => {
            Ok(Outcome::Done(Stored { version, degraded, shortened_to: life }))
        }
        ref other => not_done(other),
    }
}

pub(crate) fn counted(response: &Response<'_>) -> Result<Outcome<Count>, Error> {
    match *response {
        Response::Changed { version, number: Some(value), degraded, life } => {
            Ok(Outcome::Done(Count { value, version, degraded, shortened_to: life }))
        }
        ref other => not_done(other),
    }
}

pub(crate) fn touched(response: &Response<'_>) -> Result<Option<Value>, Error> {
    match *response {
        Response::Found { value, flags, version, .. } => {
            let meta = Meta { flags, version, source: Source::Daemon };
            Ok(Some(Value::new(value.to_vec(), meta)))
        }
        Response::NotChanged { reason: NotChanged::Absent } => Ok(None),
        ref other => Err(unexpected(other)),
    }
}

fn not_done<T>(response: &Response<'_>) -> Result<Outcome<T>, Error> {
    match response {
        Response::NotChanged { reason: NotChanged::Exists } => Ok(Outcome::Exists),
        Response::NotChanged { reason: NotChanged::Absent } => Ok(Outcome::Absent),
        Response::NotChanged { reason: NotChanged::Conflict } => Ok(Outcome::Conflict),
        other => Err(unexpected(other)),
    }
}
