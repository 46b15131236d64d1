//! How operations are asked for, and how they end.

use crate::value::{Lifetime, Stored, Token};
use std::time::Duration;

/// How an operation stores a value. `..OperationOptions::default()` leaves the rest to the key's
/// policy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OperationOptions {
    /// How long the value lives; not [`Lifetime::DoNotKeep`].
    pub lifetime: Lifetime,
    /// Client flags, kept as with [`SetOptions::flags`](crate::SetOptions::flags).
    pub flags: u32,
}

/// What a counter begins with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CounterOptions {
    /// The value that is stored where there is none, instead of counting; `None`: nothing is
    /// stored, and the outcome is [`Outcome::Absent`].
    pub initial: Option<i64>,
    /// How long a counter lives that begins with `initial`; not [`Lifetime::DoNotKeep`]. Counting
    /// does not change the life of one that exists.
    pub lifetime: Lifetime,
}

/// The outcome of an operation: it is done, or it has changed nothing because of what the key
/// holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "the operation may not have been done"]
pub enum Outcome<T = Stored> {
    /// It is done. When the call returns, every process that reads the key sees its result or
    /// something later.
    Done(T),
    /// Not done: the key has a value.
    Exists,
    /// Not done: the key has no value.
    Absent,
    /// Not done: the key has another value than that of the token, or none. Read it again.
    Conflict,
}

impl<T> Outcome<T> {
    /// Whether it is done.
    ///
    /// ```
    /// use l1d_client::Outcome;
    ///
    /// assert!(Outcome::Done(7).is_done());
    /// assert!(!Outcome::<i64>::Absent.is_done());
    /// ```
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self, Outcome::Done(_))
    }

    /// The result of what is done.
    ///
    /// ```
    /// use l1d_client::Outcome;
    ///
    /// assert_eq!(Outcome::Done(7).done(), Some(7));
    /// assert_eq!(Outcome::<i64>::Conflict.done(), None);
    /// ```
    #[must_use]
    pub fn done(self) -> Option<T> {
        match self {
            Outcome::Done(result) => Some(result),
            Outcome::Exists | Outcome::Absent | Outcome::Conflict => None,
        }
    }
}

/// A counter after it was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Count {
    /// Its value.
    pub value: i64,
    /// Version of the table's entry; 0 if the table has none.
    pub version: u64,
    /// Not every tier has taken it, as in [`Stored::degraded`].
    pub degraded: bool,
    /// The life of a counter that began, if that is shorter than the one asked for, as in
    /// [`Stored::shortened_to`].
    pub shortened_to: Option<Duration>,
}

impl Count {
    /// Identifies this value, as [`Meta::token`](crate::Meta::token) does.
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// if let Some(count) = cache.increment("visits", 1, &Default::default())?.done() {
    ///     println!("{:?}", count.token());
    /// }
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    #[must_use]
    pub fn token(&self) -> Option<Token> {
        Token::of_version(self.version)
    }
}
