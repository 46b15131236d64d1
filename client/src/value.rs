//! Values, their metadata, and how they are stored.

use l1d_wire::policy::WriteMode;
use std::num::NonZeroU64;
use std::ops::Deref;
use std::time::Duration;

/// Where a value was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// The shared table.
    Table,
    /// This process's cache of keys whose policy says `scope = "process"`.
    Process,
    /// The daemon, which had it or fetched it from a tier.
    Daemon,
}

/// The metadata of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Meta {
    /// Client flags, as they were stored.
    pub flags: u32,
    /// Version of the table's entry, ever rising over all keys; 0 if the table has no entry.
    pub version: u64,
    /// Where it was read.
    pub source: Source,
}

impl Meta {
    /// Identifies exactly this value of its key, for operations that require the key to be
    /// unchanged. `None` if the table has no entry of it: under process scope, and if the daemon
    /// did not keep it.
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// let token = cache.get("market:BTC")?.and_then(|price| price.meta().token());
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    #[must_use]
    pub fn token(&self) -> Option<Token> {
        Token::of_version(self.version)
    }
}

/// Stands for one value of one key, as [`Meta::token`] gives it. Opaque, and without meaning on
/// another host. It never comes again, also not in another table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token(NonZeroU64);

impl Token {
    /// The token of the value with this version, as [`Meta::version`], [`Stored::version`] and
    /// `l1ctl --json get` give it; `None` for 0.
    ///
    /// ```
    /// use l1d_client::Token;
    ///
    /// assert!(Token::of_version(17).is_some());
    /// assert!(Token::of_version(0).is_none());
    /// ```
    #[must_use]
    pub fn of_version(version: u64) -> Option<Token> {
        NonZeroU64::new(version).map(Token)
    }

    pub(crate) fn version(self) -> u64 {
        self.0.get()
    }
}

/// A value and its metadata. Derefs to its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    bytes: Vec<u8>,
    meta: Meta,
}

impl Value {
    pub(crate) fn new(bytes: Vec<u8>, meta: Meta) -> Value {
        Value { bytes, meta }
    }

    /// The value's metadata.
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// if let Some(price) = cache.get("market:BTC")? {
    ///     println!("version {} from {:?}", price.meta().version, price.meta().source);
    /// }
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    #[must_use]
    pub fn meta(&self) -> Meta {
        self.meta
    }

    /// The bytes, without a copy.
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// let price: Option<Vec<u8>> = cache.get("market:BTC")?.map(|price| price.into_vec());
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    #[must_use]
    pub fn into_vec(self) -> Vec<u8> {
        self.bytes
    }
}

impl Deref for Value {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl AsRef<[u8]> for Value {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl From<Value> for Vec<u8> {
    fn from(value: Value) -> Vec<u8> {
        value.bytes
    }
}

/// The state of a key. `T` is a [`Value`], or the [`Meta`] of one whose bytes were read into the
/// caller's destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup<T = Value> {
    /// It has this value, which may be of zero bytes.
    Found(T),
    /// It is known to have none.
    Absent,
    /// None of the levels asked knows it.
    Unknown,
}

impl<T> Lookup<T> {
    /// The value; `None` for both absences.
    ///
    /// ```
    /// use l1d_client::Lookup;
    ///
    /// assert_eq!(Lookup::Found(7).found(), Some(7));
    /// assert_eq!(Lookup::<i64>::Absent.found(), None);
    /// assert_eq!(Lookup::<i64>::Unknown.found(), None);
    /// ```
    #[inline]
    #[must_use]
    pub fn found(self) -> Option<T> {
        match self {
            Lookup::Found(value) => Some(value),
            Lookup::Absent | Lookup::Unknown => None,
        }
    }

    /// The same knowledge of a key, with another value.
    ///
    /// ```
    /// use l1d_client::Lookup;
    ///
    /// assert_eq!(Lookup::Found("seven").map(str::len), Lookup::Found(5));
    /// assert_eq!(Lookup::Absent.map(str::len), Lookup::Absent);
    /// ```
    #[inline]
    #[must_use]
    pub fn map<U>(self, value: impl FnOnce(T) -> U) -> Lookup<U> {
        match self {
            Lookup::Found(found) => Lookup::Found(value(found)),
            Lookup::Absent => Lookup::Absent,
            Lookup::Unknown => Lookup::Unknown,
        }
    }
}

/// How long a value is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Lifetime {
    /// As long as the key's policy says.
    #[default]
    Rule,
    /// This long, in every tier: in the store of record for this long, in the copies above it
    /// for no longer. Without tiers, or with [`WriteMode::L1Only`], no longer than the daemon's
    /// `ttl_max`. A life of zero is [`Lifetime::DoNotKeep`].
    For(Duration),
    /// Without end in the store of record. Without tiers for the daemon's `ttl_max`.
    Forever,
    /// Not at all: the key is deleted, in every tier.
    DoNotKeep,
}

impl Lifetime {
    /// The life to ask for; `None`: the policy's.
    pub(crate) fn ttl(self) -> Option<Duration> {
        match self {
            Lifetime::Rule => None,
            Lifetime::For(ttl) => Some(ttl),
            Lifetime::Forever => Some(Duration::MAX),
            Lifetime::DoNotKeep => Some(Duration::ZERO),
        }
    }
}

/// How to store a value. `..SetOptions::default()` leaves the rest to the key's policy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SetOptions {
    /// How long the value lives.
    pub lifetime: Lifetime,
    /// Client flags, kept and written to the tiers as memcached clients expect.
    pub flags: u32,
    /// How far down; `None`: by policy.
    pub write: Option<WriteMode>,
    /// Do not wait for the daemon's answer, nor for room: without room the call returns
    /// [`Error::Busy`](crate::Error::Busy), and nothing was sent.
    ///
    /// `Ok` means that the value is in this process's ring, which the daemon empties in order, even
    /// if this process has ended by then. In two cases it is not stored, and no error is reported:
    ///
    /// - The daemon or a tier refuses it: it is larger than the policy allows, or the tier is down.
    /// - The daemon is killed before it has read it; one that is stopped reads it first. The ring's
    ///   contents are then lost, and so are further values until the process notices, which is at
    ///   the latest with its 63rd such call, or with the first that waits for an answer: that one
    ///   fails, or goes to the next daemon.
    ///
    /// If that matters, wait for the answer, or let a later set wait: one process's requests are
    /// read in order. (If the daemon cannot provide a mailbox, the socket takes its place: it waits
    /// for room until the deadline, and a daemon with too many writes on their way to the tiers
    /// drops unacknowledged ones.)
    pub no_wait: bool,
}

/// The outcome of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stored {
    /// Version of the table's entry; 0 if the table has none, or if the call did not wait for it.
    pub version: u64,
    /// Not every tier has taken it. If memcached has not, it is left out for the key until it has
    /// deleted the older value; if the store of record has not, the policy said to publish all the
    /// same (`on_write_error`), and the value is gone when its copy in L1 is.
    pub degraded: bool,
    /// The life that the value has, if that is shorter than the one that the call asked for: where
    /// the table has the record, the daemon's `ttl_max` is the limit; with `degraded`, the copy in
    /// L1 may be all there is. `None` from a daemon that speaks version 4 of the protocol.
    pub shortened_to: Option<Duration>,
}

impl Stored {
    /// Identifies the value that was stored, as [`Meta::token`] does.
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// let token = cache.set("market:BTC", "64000")?.token();
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    #[must_use]
    pub fn token(&self) -> Option<Token> {
        Token::of_version(self.version)
    }
}

/// The outcome of a delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Deleted {
    /// Whether L1 or a tier had the key.
    pub existed: bool,
    /// Not every tier has deleted it, as in [`Stored::degraded`].
    pub degraded: bool,
}
