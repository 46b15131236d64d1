//! The handle that a program holds.

use crate::builder::ClientBuilder;
use crate::deadline::Deadline;
use crate::error::Error;
use crate::failure::Intent;
use crate::in_place::ValueView;
use crate::process::Process;
use crate::process_cache::{Fresh, ProcessRead};
use crate::reply::unexpected;
use crate::shared::{Patience, Shared};
use crate::table::{TableRead, meta};
use crate::value::{Lookup, Meta, Source, Value};
use l1d_wire::pages::Pages;
use l1d_wire::protocol::{Request, Response};
use shm_layout::entry::KEY_BYTES_MAX;
use shm_layout::{LayoutError, NoHit};
use std::path::Path;
use std::sync::Arc;

/// A process's access to the host's cache. One is enough for a whole process: clones are handles of
/// the same client, and all methods may be called from any thread and after `fork`.
#[derive(Clone)]
pub struct Client {
    pub(crate) shared: Arc<Shared>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("has_table", &self.has_table()).finish_non_exhaustive()
    }
}

impl Client {
    /// Connects to the daemon at `socket`, with defaults for everything else.
    ///
    /// ```no_run
    /// let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The same as for [`ClientBuilder::connect`].
    pub fn connect(socket: impl AsRef<Path>) -> Result<Client, Error> {
        Client::builder().socket(socket.as_ref()).connect()
    }

    /// Sets up a client with other than the defaults.
    ///
    /// ```no_run
    /// let cache = l1d_client::Client::builder().connect()?;
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    pub fn builder() -> ClientBuilder {
        ClientBuilder::new()
    }

    pub(crate) fn of(shared: Arc<Shared>) -> Client {
        Client { shared }
    }

    /// The daemon's socket.
    ///
    /// ```
    /// let builder = l1d_client::Client::builder().socket("/run/l1d/l1d.sock");
    /// let cache = builder.connect_later()?;
    /// assert_eq!(cache.socket(), std::path::Path::new("/run/l1d/l1d.sock"));
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    #[must_use]
    pub fn socket(&self) -> &Path {
        self.shared.socket()
    }

    /// Whether this client reads a table. Without one, reads ask the daemon, and peeks find only
    /// keys of process scope. `false` before it has attached, and as long as the daemon's table has
    /// a layout that this client does not know, because one of the two was upgraded and the other
    /// was not. It looks again when the daemon is replaced.
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// if !cache.has_table() {
    ///     println!("every read asks the daemon: is one of the two of another release?");
    /// }
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    #[must_use]
    pub fn has_table(&self) -> bool {
        self.shared.table().is_some()
    }

    /// In what pages this process has the table, as the kernel says; `None` without a table, or
    /// where `/proc` cannot be read. For people and monitoring: it takes milliseconds.
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// println!("{:?}", cache.pages());
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    #[must_use]
    pub fn pages(&self) -> Option<Pages> {
        self.shared.table()?.pages()
    }

    /// The value of `key`, from the table, or else from the daemon and the tiers below.
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// if let Some(price) = cache.get("market:BTC")? {
    ///     println!("{}", String::from_utf8_lossy(&price));
    /// }
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Only where the table does not answer: [`Error::Unavailable`] without a daemon,
    /// [`Error::Deadline`], [`Error::TierFailed`], [`Error::Busy`], [`Error::TooLarge`] for a key
    /// of an impossible size.
    #[inline]
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Value>, Error> {
        self.find(key.as_ref()).map(Lookup::found)
    }

    /// [`get`](Self::get) into a vector of the caller's, whose content is replaced: no allocation
    /// where it is large enough. Without a value it is empty.
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// let mut price = Vec::new();
    /// for coin in ["BTC", "ETH"] {
    ///     if cache.get_into(format!("market:{coin}"), &mut price)?.is_some() {
    ///         println!("{coin}: {}", String::from_utf8_lossy(&price));
    ///     }
    /// }
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The same as for [`get`](Self::get).
    #[inline(always)]
    pub fn get_into(
        &self,
        key: impl AsRef<[u8]>,
        value: &mut Vec<u8>,
    ) -> Result<Option<Meta>, Error> {
        let key = key.as_ref();
        match self.shared.read_fast(key, value) {
            Ok(hit) => Ok(Some(meta(&hit))),
            Err(no_hit) => Ok(self.find_anyway(no_hit, key, value)?.found()),
        }
    }

    /// The value of `key` if this host's table holds it, or this process's cache for a key of
    /// process scope. Asks nobody.
    ///
    /// While the daemon is there, it makes at most one system call a second and process: the first
    /// read after a second checks whether the daemon has hung up, for example because it was
    /// restarted with another table. If it has, reads attach to the next daemon as soon as there is
    /// one, and go on in the table that they have until it answers; one read in a second waits 2 ms
    /// for that. So no read trusts a table that another daemon has replaced for longer than a
    /// second. If the daemon itself has replaced its table, by a move, the next read finds that out
    /// and attaches to the new one, within
    /// [`attach_deadline`](crate::ClientBuilder::attach_deadline). So does the next read of a key
    /// that the table does not hold after another policy has come into force.
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// if let Some(price) = cache.peek("market:BTC") {
    ///     println!("{}", String::from_utf8_lossy(&price));
    /// }
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    #[inline]
    #[must_use]
    pub fn peek(&self, key: impl AsRef<[u8]>) -> Option<Value> {
        self.peek_find(key.as_ref(), Patience::OfAttaching).found()
    }

    /// [`peek`](Self::peek) into a vector of the caller's, whose content is replaced.
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// let mut price = Vec::new();
    /// if let Some(meta) = cache.peek_into("market:BTC", &mut price) {
    ///     println!("version {}: {} bytes", meta.version, price.len());
    /// }
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    #[inline(always)]
    pub fn peek_into(&self, key: impl AsRef<[u8]>, value: &mut Vec<u8>) -> Option<Meta> {
        let key = key.as_ref();
        match self.shared.read_fast(key, value) {
            Ok(hit) => Some(meta(&hit)),
            Err(no_hit) => {
                self.peek_anyway((no_hit, true), key, value, Patience::OfAttaching).found()
            }
        }
    }

    /// [`get`](Self::get), telling a known absence from not knowing.
    ///
    /// ```no_run
    /// use l1d_client::Lookup;
    ///
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// match cache.lookup("system:alerts")? {
    ///     Lookup::Found(alerts) => println!("{} bytes of alerts", alerts.len()),
    ///     Lookup::Absent => println!("no alerts"),
    ///     Lookup::Unknown => println!("nobody knows"),
    /// }
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The same as for [`get`](Self::get).
    #[inline]
    pub fn lookup(&self, key: impl AsRef<[u8]>) -> Result<Lookup, Error> {
        self.find(key.as_ref())
    }

    fn find(&self, key: &[u8]) -> Result<Lookup, Error> {
        let mut value = Vec::new();
        match self.shared.read_fast(key, &mut value) {
            Ok(hit) => Ok(Lookup::Found(Value::new(value, meta(&hit)))),
            Err(no_hit) => {
                Ok(self.find_anyway(no_hit, key, &mut value)?.map(|meta| Value::new(value, meta)))
            }
        }
    }

    /// [`peek`](Self::peek), telling a known absence from not knowing.
    ///
    /// ```no_run
    /// use l1d_client::Lookup;
    ///
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// if let Lookup::Unknown = cache.peek_lookup("system:alerts") {
    ///     println!("only the daemon can tell");
    /// }
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    #[inline]
    #[must_use]
    pub fn peek_lookup(&self, key: impl AsRef<[u8]>) -> Lookup {
        self.peek_find(key.as_ref(), Patience::OfAttaching)
    }

    pub(crate) fn peek_find(&self, key: &[u8], patience: Patience<'_>) -> Lookup {
        let mut value = Vec::new();
        match self.shared.read_fast(key, &mut value) {
            Ok(hit) => Lookup::Found(Value::new(value, meta(&hit))),
            Err(no_hit) => self
                .peek_anyway((no_hit, true), key, &mut value, patience)
                .map(|meta| Value::new(value, meta)),
        }
    }

    /// Asks the daemon for `key`, which has it or fetches it from a tier, without a look at L1: for
    /// what a [`peek_to`](Self::peek_to) did not find.
    ///
    /// ```no_run
    /// use l1d_client::Lookup;
    ///
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// let mut price = Vec::new();
    /// if cache.peek_to("market:BTC", &mut price)? == Lookup::Unknown {
    ///     println!("{:?}", cache.fetch("market:BTC")?.found());
    /// }
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The same as for [`get`](Self::get).
    #[inline]
    pub fn fetch(&self, key: impl AsRef<[u8]>) -> Result<Lookup, Error> {
        self.fetch_bytes(key.as_ref())
    }

    fn fetch_bytes(&self, key: &[u8]) -> Result<Lookup, Error> {
        let mut value = Vec::new();
        let found = self.ask(key, &mut value, &self.shared.deadline())?;
        Ok(found.map(|meta| Value::new(value, meta)))
    }

    /// What `look` makes of the value of `key`, seen where it lies: of a large value only the part
    /// that is looked at is read, and nothing is copied besides. The result is given out only when
    /// the table has confirmed that the value did not change meanwhile; `look` may be called more
    /// than once, and its other results are dropped. Not a hit in the table: as
    /// [`get`](Self::get), and `look` sees the bytes.
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// let sequence = cache.read_with(b"market:book", |book|
    /// book.array(8).map(u64::from_le_bytes))?;
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The same as for [`get`](Self::get).
    pub fn read_with<R>(
        &self,
        key: impl AsRef<[u8]>,
        mut look: impl FnMut(&ValueView<'_>) -> R,
    ) -> Result<Option<R>, Error> {
        let key = key.as_ref();
        let mut seen = None;
        let read = self.shared.table().map_or(TableRead::Detached, |table| {
            let read = table.read_with(key, |value| seen = Some(look(&ValueView::in_table(value))));
            self.shared.note(table, key, &read);
            read
        });
        match read {
            TableRead::Hit(_) => Ok(seen),
            TableRead::Absent => Ok(None),
            other => {
                let mut value = Vec::new();
                let found = self.find_elsewhere(other, key, &mut value)?.found();
                Ok(found.map(|_| look(&ValueView::of_bytes(&value))))
            }
        }
    }

    /// A read of L1 that the short way has not answered, and whether a hit counts as one.
    #[inline(never)]
    pub(crate) fn peek_anyway(
        &self,
        (no_hit, counts): (NoHit, bool),
        key: &[u8],
        value: &mut Vec<u8>,
        patience: Patience<'_>,
    ) -> Lookup<Meta> {
        match self.shared.read_anyway((no_hit, counts), key, value) {
            TableRead::Hit(meta) => Lookup::Found(meta),
            TableRead::Absent => Lookup::Absent,
            TableRead::Miss => self.peek_process(key, value, patience),
            TableRead::Detached => self.reattach_and_peek(key, value, patience),
        }
    }

    /// A read that the short way has not answered: L1, then the daemon.
    #[inline(never)]
    fn find_anyway(
        &self,
        no_hit: NoHit,
        key: &[u8],
        value: &mut Vec<u8>,
    ) -> Result<Lookup<Meta>, Error> {
        self.find_elsewhere(self.shared.read_anyway((no_hit, true), key, value), key, value)
    }

    /// The table is not in use (R0), it is time for a look at it (S9), or there is none: takes the
    /// new one over if there may be one, and reads that.
    #[cold]
    pub(crate) fn reattach_and_peek(
        &self,
        key: &[u8],
        value: &mut Vec<u8>,
        patience: Patience<'_>,
    ) -> Lookup<Meta> {
        if self.shared.is_without_table() {
            return self.peek_process(key, value, patience);
        }
        self.shared.renew_table(patience);
        // Read again in any case: another thread may have put a new table in place meanwhile.
        match self.shared.read_table(key, value) {
            TableRead::Hit(meta) => Lookup::Found(meta),
            TableRead::Absent => Lookup::Absent,
            TableRead::Miss | TableRead::Detached => self.peek_process(key, value, patience),
        }
    }

    /// A read that the table has not answered: the process cache, if the policy in force is known.
    #[inline]
    pub(crate) fn peek_process(
        &self,
        key: &[u8],
        value: &mut Vec<u8>,
        patience: Patience<'_>,
    ) -> Lookup<Meta> {
        match self.shared.process_if_any() {
            // What only looks finds nothing in an empty cache, under any policy.
            Some(process)
                if process.has_process_scope() || !matches!(patience, Patience::OfAttaching) =>
            {
                self.peek_cache_of(process, key, value, patience)
            }
            _ => Lookup::Unknown,
        }
    }

    #[inline(never)]
    fn peek_cache_of(
        &self,
        process: &Process,
        key: &[u8],
        value: &mut Vec<u8>,
        patience: Patience<'_>,
    ) -> Lookup<Meta> {
        if !self.shared.follow_policy(process, patience) {
            return Lookup::Unknown;
        }
        let Some(cache) = process.cache_of(key) else { return Lookup::Unknown };
        match cache.read(key, value) {
            ProcessRead::Hit(meta) => {
                #[cfg(feature = "tracing")]
                crate::hit_log::elsewhere("process", key, cache.life_left(key));
                Lookup::Found(meta)
            }
            ProcessRead::Absent => Lookup::Absent,
            ProcessRead::Miss => Lookup::Unknown,
        }
    }

    /// After `read`: the process cache, then the daemon.
    fn find_elsewhere(
        &self,
        read: TableRead,
        key: &[u8],
        value: &mut Vec<u8>,
    ) -> Result<Lookup<Meta>, Error> {
        let deadline = self.shared.deadline();
        let answer = match read {
            TableRead::Hit(meta) => Lookup::Found(meta),
            TableRead::Absent => Lookup::Absent,
            TableRead::Miss => self.peek_process(key, value, Patience::Until(&deadline)),
            TableRead::Detached => self.reattach_and_peek(key, value, Patience::Until(&deadline)),
        };
        match answer {
            Lookup::Unknown => self.ask(key, value, &deadline),
            answer => Ok(answer),
        }
    }

    pub(crate) fn ask(
        &self,
        key: &[u8],
        value: &mut Vec<u8>,
        deadline: &Deadline,
    ) -> Result<Lookup<Meta>, Error> {
        check_key(key)?;
        let ticket = self.shared.process().begin_read(key);
        let request = Request::Get { key };
        self.shared.ask(&request, Intent::Read, deadline, |response| {
            self.take_answer(ticket.as_ref(), key, &response, value)
        })
    }

    /// Takes the daemon's answer for one key, and keeps it where the key is of process scope.
    pub(crate) fn take_answer(
        &self,
        ticket: Option<&crate::process_cache::Ticket>,
        key: &[u8],
        response: &Response<'_>,
        value: &mut Vec<u8>,
    ) -> Result<Lookup<Meta>, Error> {
        let process = self.shared.process();
        let keep = |fresh: Fresh<'_>| {
            if let (Some(ticket), Some(cache)) = (ticket, process.cache_of(key)) {
                cache.end_read(ticket, key, &fresh);
            }
        };
        value.clear();
        match *response {
            Response::Found { value: bytes, flags, version, ttl } => {
                value.extend_from_slice(bytes);
                #[cfg(feature = "tracing")]
                crate::hit_log::elsewhere("daemon, L2 or L3", key, Some(ttl));
                keep(Fresh { value: Some(bytes), flags, ttl });
                Ok(Lookup::Found(Meta { flags, version, source: Source::Daemon }))
            }
            Response::Absent { ttl } => {
                keep(Fresh { value: None, flags: 0, ttl });
                Ok(Lookup::Absent)
            }
            Response::Unknown => Ok(Lookup::Unknown),
            ref other => Err(unexpected(other)),
        }
    }
}

pub(crate) fn check_key(key: &[u8]) -> Result<(), Error> {
    if (1..=KEY_BYTES_MAX).contains(&key.len()) {
        return Ok(());
    }
    Err(Error::TooLarge { reason: LayoutError::KeyBytes { bytes: key.len() }.to_string() })
}
