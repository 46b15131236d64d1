//! Writing keys: set, delete.

use crate::client::{Client, check_key};
use crate::deadline::Deadline;
use crate::error::Error;
use crate::failure::Intent;
use crate::operations;
use crate::process::Process;
use crate::process_cache::{Fresh, Ticket};
use crate::reply::unexpected;
use crate::shared::Patience;
use crate::value::{Deleted, SetOptions, Stored};
use l1d_wire::protocol::{Request, Response, Set, frame};

/// A larger value may take more than one record of the mailbox.
const ONE_RECORD_BYTES: usize = 2 << 10;

impl Client {
    /// Stores a value for every process of the host, and in the tiers according to the key's
    /// policy. When this returns, every process that reads the key sees this value or a later one.
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// // Every process of the host sees this as soon as `set` returns.
    /// cache.set("analysis:signals", "BTC long")?;
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The same as for [`set_with`](Self::set_with).
    #[inline]
    pub fn set(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<Stored, Error> {
        self.set_bytes(key.as_ref(), value.as_ref(), &SetOptions::default())
    }

    /// [`set`](Self::set) with a lifetime, flags and write mode.
    ///
    /// ```no_run
    /// use l1d_client::{Lifetime, SetOptions};
    /// use std::time::Duration;
    ///
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// let options = SetOptions {
    ///     lifetime: Lifetime::For(Duration::from_secs(5)),
    ///     ..SetOptions::default()
    /// };
    /// cache.set_with("market:BTC", "64000", &options)?;
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`], [`Error::Refused`], [`Error::Denied`], [`Error::TierFailed`] (nothing was
    /// changed in L1), [`Error::Unavailable`], [`Error::Deadline`] (not sent), and
    /// [`Error::UnknownOutcome`].
    #[inline]
    pub fn set_with(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        options: &SetOptions,
    ) -> Result<Stored, Error> {
        self.set_bytes(key.as_ref(), value.as_ref(), options)
    }

    fn set_bytes(&self, key: &[u8], value: &[u8], options: &SetOptions) -> Result<Stored, Error> {
        let ticket = self.begin_set(key, value, Patience::OfAttaching)?;
        let stored = self.send_set(key, value, options);
        self.end_set(ticket, key, value, options, &stored);
        stored
    }

    /// A set that wants no answer, if it can be handed to the daemon without any waiting.
    #[cfg(feature = "tokio")]
    pub(crate) fn post_set(
        &self,
        key: &[u8],
        value: &[u8],
        options: &SetOptions,
    ) -> Option<Result<Stored, Error>> {
        if value.len() > ONE_RECORD_BYTES {
            return None;
        }
        let ticket = match self.begin_set(key, value, Patience::None) {
            Ok(ticket) => ticket,
            Err(error) => return Some(Err(error)),
        };
        let posted = self.shared.try_post(&request(key, value, options));
        let stored = posted.map(|posted| {
            posted.map(|()| Stored { version: 0, degraded: false, shortened_to: None })
        });
        let outcome = stored.clone().unwrap_or_else(|| Err(Error::unknown_outcome("not sent")));
        self.end_set(ticket, key, value, options, &outcome);
        stored
    }

    /// Called before the value is sent to the daemon, which may accept it.
    pub(crate) fn begin_set(
        &self,
        key: &[u8],
        value: &[u8],
        patience: Patience<'_>,
    ) -> Result<Option<Ticket>, Error> {
        check_key(key)?;
        let process = self.shared.process();
        self.shared.follow_policy(process, patience);
        if let Some(rule) = process.rule(key) {
            check_value(value, rule.value_bytes_max)?;
        }
        Ok(process.begin_write(key))
    }

    /// After it: keeps a value of process scope that the daemon has taken, or forgets the key.
    pub(crate) fn end_set(
        &self,
        ticket: Option<Ticket>,
        key: &[u8],
        value: &[u8],
        options: &SetOptions,
        stored: &Result<Stored, Error>,
    ) {
        let process = self.shared.process();
        // An unacknowledged value may have been refused.
        let is_taken = stored.is_ok() && !options.no_wait;
        let rule = process.cache_of(key).filter(|_| is_taken).and_then(|_| process.rule(key));
        let fresh = rule.map(|rule| Fresh {
            value: Some(value),
            flags: options.flags,
            ttl: options.lifetime.ttl().unwrap_or(rule.ttl).min(rule.ttl),
        });
        process.end_write(ticket, key, fresh.as_ref());
    }

    fn send_set(&self, key: &[u8], value: &[u8], options: &SetOptions) -> Result<Stored, Error> {
        let request = request(key, value, options);
        if options.no_wait {
            self.shared.post(&request, || self.shared.deadline())?;
            return Ok(Stored { version: 0, degraded: false, shortened_to: None });
        }
        let deadline = self.shared.deadline();
        let intent = Intent::Write;
        self.shared.ask(&request, intent, &deadline, |response| stored(&response))
    }

    /// [`set`](Self::set) for many values at once: they are sent to the daemon together, and each
    /// has its own answer, in the order given. A failure of one does not keep the others from being
    /// stored.
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// for stored in cache.set_many(&[("market:BTC", "64000"), ("market:ETH", "3400")])? {
    ///     stored?;
    /// }
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The same as for [`set_with`](Self::set_with); with [`Error::Unavailable`] and
    /// [`Error::Deadline`] the first of them may have been stored.
    pub fn set_many<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        entries: &[(K, V)],
    ) -> Result<Vec<Result<Stored, Error>>, Error> {
        self.set_many_with(entries, &SetOptions::default())
    }

    /// [`set_many`](Self::set_many) with a lifetime, flags and write mode, which hold for all of
    /// them. `no_wait` has no effect.
    ///
    /// ```no_run
    /// use l1d_client::{Lifetime, SetOptions};
    /// use std::time::Duration;
    ///
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// let options = SetOptions {
    ///     lifetime: Lifetime::For(Duration::from_secs(5)),
    ///     ..SetOptions::default()
    /// };
    /// let prices = [("market:BTC", "64000"), ("market:ETH", "3100")];
    /// for stored in cache.set_many_with(&prices, &options)? {
    ///     stored?;
    /// }
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The same as for [`set_many`](Self::set_many).
    pub fn set_many_with<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        entries: &[(K, V)],
        options: &SetOptions,
    ) -> Result<Vec<Result<Stored, Error>>, Error> {
        let SetOptions { lifetime, flags, write, .. } = *options;
        let deadline = self.shared.deadline();
        let process = self.shared.process();
        // One value that is too large is not to fail the others.
        self.shared.know_policy(process, &deadline)?;
        self.shared.follow_policy(process, Patience::Until(&deadline));
        let mut stored = Vec::with_capacity(entries.len());
        let mut rest = entries.iter().map(|(key, value)| (key.as_ref(), value.as_ref())).peekable();
        while rest.peek().is_some() {
            let (mut sets, mut places, mut bytes) = (Vec::new(), Vec::new(), 0_usize);
            while sets.len() < frame::MANY_KEYS
                && let Some((key, value)) = rest.next_if(|_| bytes < frame::MANY_SET_BYTES)
            {
                let fits = check_key(key).and_then(|()| match process.rule(key) {
                    Some(rule) => check_value(value, rule.value_bytes_max),
                    None => Ok(()),
                });
                if let Err(error) = fits {
                    stored.push(Err(error));
                    continue;
                }
                bytes = bytes.saturating_add(key.len() + value.len());
                // A placeholder until the daemon's answer replaces it.
                let reason = "the daemon did not answer for this one";
                stored.push(Err(Error::unknown_outcome(reason)));
                places.push((stored.len() - 1, process.begin_write(key)));
                sets.push(Set { key, value, ttl: lifetime.ttl(), flags, write, reply: true });
            }
            if sets.is_empty() {
                continue;
            }
            let asked = self.ask_to_set(&sets, &deadline);
            // A child that was forked meanwhile has its own.
            let process = self.shared.process();
            let mut answers = asked.as_ref().map(|answers| answers.iter()).ok();
            for (set, (place, ticket)) in sets.iter().zip(places) {
                let answer = answers.as_mut().and_then(Iterator::next).cloned();
                let rule = process.cache_of(set.key).and_then(|_| process.rule(set.key));
                let fresh = match (&answer, rule) {
                    (Some(Ok(_)), Some(rule)) => Some(Fresh {
                        value: Some(set.value),
                        flags,
                        ttl: lifetime.ttl().unwrap_or(rule.ttl).min(rule.ttl),
                    }),
                    _ => None,
                };
                process.end_write(ticket, set.key, fresh.as_ref());
                if let (Some(answer), Some(place)) = (answer, stored.get_mut(place)) {
                    *place = answer;
                }
            }
            asked?;
        }
        Ok(stored)
    }

    fn ask_to_set(
        &self,
        sets: &[Set<'_>],
        deadline: &Deadline,
    ) -> Result<Vec<Result<Stored, Error>>, Error> {
        let request = Request::SetMany { sets: sets.to_vec() };
        self.shared.ask(&request, Intent::Write, deadline, |response| match response {
            Response::Many(answers) => Ok(answers.iter().map(stored).collect()),
            other => Err(unexpected(&other)),
        })
    }

    /// Removes a key, also in the tiers according to its policy.
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// if cache.delete("market:BTC")?.existed {
    ///     println!("deleted");
    /// }
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The same as for [`set_with`](Self::set_with).
    #[inline]
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<Deleted, Error> {
        self.delete_bytes(key.as_ref())
    }

    fn delete_bytes(&self, key: &[u8]) -> Result<Deleted, Error> {
        check_key(key)?;
        let ticket = self.shared.process().begin_write(key);
        let deadline = self.shared.deadline();
        let request = Request::Delete { key };
        let deleted =
            self.shared.ask(&request, Intent::Write, &deadline, |response| deleted(&response));
        self.shared.process().end_write(ticket, key, None);
        deleted
    }
}

pub(crate) fn request<'a>(key: &'a [u8], value: &'a [u8], options: &SetOptions) -> Request<'a> {
    let SetOptions { lifetime, flags, write, no_wait } = *options;
    Request::Set(Set { key, value, ttl: lifetime.ttl(), flags, write, reply: !no_wait })
}

/// The outcome of one set.
pub(crate) fn stored(response: &Response<'_>) -> Result<Stored, Error> {
    match *response {
        Response::Stored { version, degraded, life } => {
            Ok(Stored { version, degraded, shortened_to: life })
        }
        ref other => Err(unexpected(other)),
    }
}

/// The outcome of a delete.
pub(crate) fn deleted(response: &Response<'_>) -> Result<Deleted, Error> {
    match *response {
        Response::Deleted { existed, degraded } => Ok(Deleted { existed, degraded }),
        ref other => Err(unexpected(other)),
    }
}

/// Checks what a request stores against the policy, which came with the connection that it is about
/// to be sent over: at the beginning of a process's first call none is known. The daemon leaves a
/// client that sends a value larger than any that it takes.
///
/// # Errors
/// [`Error::TooLarge`].
pub(crate) fn check_request(process: &Process, request: &Request<'_>) -> Result<(), Error> {
    let check = |key: &[u8], value: &[u8]| match process.rule(key) {
        Some(rule) if value.len() > ONE_RECORD_BYTES => check_value(value, rule.value_bytes_max),
        _ => Ok(()),
    };
    match request {
        Request::Set(set) | Request::Fill { set, .. } => check(set.key, set.value),
        Request::SetMany { sets } => sets.iter().try_for_each(|set| check(set.key, set.value)),
        Request::Operate(operate) => {
            operations::stored_by(operate).map_or(Ok(()), |value| check(operate.key, value))
        }
        _ => Ok(()),
    }
}

pub(crate) fn check_value(value: &[u8], value_bytes_max: u32) -> Result<(), Error> {
    if value.len() <= value_bytes_max as usize {
        return Ok(());
    }
    Err(Error::TooLarge {
        reason: format!(
            "a value of {} bytes is too large: the key's rule allows {value_bytes_max}; store less, \
             or raise its value_bytes_max",
            value.len()
        ),
    })
}
