//! Decoded objects of one process, never older than the table.

use crate::client::Client;
use crate::error::Error;
use crate::sentinel::PerProcess;
use crate::table::{Table, TableRead};
use crate::value::{Meta, Source};
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{Equivalent, UnitWeighter};
use shm_layout::Sighting;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::Arc;

/// A small cache of what values decode to, in one process: each object is decoded once and handed
/// out again for as long as the shared table holds the value that it was made of.
///
/// Every use asks the table whether the key still has the entry that the object was made of, and
/// whether that may still be seen. If so, nothing is copied, decoded, allocated or sent, however
/// large the value is; if not, the new value is decoded. So an object is never older than what
/// [`Client::get`] returns at that moment: a write, a delete, an expiry or an invalidation is seen
/// at the next use, whichever process it came from, and so is a new table.
///
/// - Values that do not come from the table are decoded each time: those of keys whose policy says
///   `scope = "process"`, and one that the daemon answers with and the table does not keep.
/// - Threads that find the same new value at once each decode it. No lock is held meanwhile.
/// - An object may stay in memory after its key has gone, until the key is asked for or another
///   object takes its place.
/// - All threads share it, behind a reference or an [`Arc`]. A forked child begins with an empty
///   one; what its parent had decoded stays allocated in the child.
///
/// ```no_run
/// use l1d_client::{Client, Memo};
///
/// struct Book {
///     price: f64,
/// }
///
/// fn parse(value: &[u8]) -> Result<Book, String> {
///     let text = std::str::from_utf8(value).map_err(|error| error.to_string())?;
///     let price = text.trim().parse().map_err(|_| format!("{text:?} is no price"))?;
///     Ok(Book { price })
/// }
///
/// let cache = Client::connect("/run/l1d/l1d.sock")?;
/// let books = Memo::new(&cache, 1000)?;
/// if let Some(book) = books.decoded(b"market:BTC", parse)? {
///     println!("{}", book.price);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Memo<T> {
    client: Client,
    capacity: usize,
    objects: PerProcess<Objects<T>>,
}

type Objects<T> = Cache<Key, Decoded<T>, UnitWeighter, BuildHasherDefault<Hashed>, Lifecycle<T>>;

/// Evicted objects are dropped after the lock is released, so that dropping one may use the memo.
type Lifecycle<T> = DefaultLifecycle<Key, Decoded<T>>;

struct Decoded<T> {
    table_id: u64,
    /// Identifies the entry that the object was decoded from: its last place, and its version. A
    /// table gives each version to one entry, also across restarts of the daemon (W5), and an entry
    /// never changes (W2).
    sighting: Sighting,
    object: Arc<T>,
}

impl<T> Clone for Decoded<T> {
    #[inline]
    fn clone(&self) -> Decoded<T> {
        Decoded { object: Arc::clone(&self.object), ..*self }
    }
}

/// Whom to ask for a value that the table does not hold.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ask {
    Daemon,
    Nobody,
}

/// Where a value was found.
enum Found {
    /// In this table, with this version.
    Table(u64, u64),
    Elsewhere,
}

/// Why [`Memo::decoded`] gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MemoError<E> {
    /// The value could not be had.
    #[error(transparent)]
    Cache(#[from] Error),
    /// It could be had, and this is what the decoder said of it.
    #[error("the key's value was not decoded: {0}; compare what is written with what is expected")]
    Decode(E),
}

impl<T> std::fmt::Debug for Memo<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memo").field("capacity", &self.capacity).finish_non_exhaustive()
    }
}

impl<T> Memo<T> {
    /// An empty cache of `capacity` objects at most, to within a few, of whatever size they are.
    /// All objects of one cache are decoded in one way: a key is not asked for with two decoders.
    ///
    /// # Errors
    ///
    /// [`Error::System`] when this process can map no more memory.
    pub fn new(client: &Client, capacity: usize) -> Result<Memo<T>, Error> {
        Ok(Memo { client: client.clone(), capacity, objects: PerProcess::new()? })
    }

    /// The object that `decode` makes, or has made, from the current value of `key`; `None` if it
    /// has none. If the table does not hold the key, asks the daemon like [`Client::get`].
    ///
    /// `decode` is called at most once, with a whole copy of the value and no lock held. A failure
    /// is not remembered: the next call decodes again.
    ///
    /// # Errors
    ///
    /// [`MemoError::Decode`] from `decode`, [`MemoError::Cache`] as for [`Client::get`].
    #[inline]
    pub fn decoded<E>(
        &self,
        key: impl AsRef<[u8]>,
        decode: impl FnOnce(&[u8]) -> Result<T, E>,
    ) -> Result<Option<Arc<T>>, MemoError<E>> {
        let key = key.as_ref();
        match self.held(key) {
            Some(object) => Ok(Some(object)),
            None => self.decode_again(key, Ask::Daemon, |value, _| decode(value)),
        }
    }

    /// [`decoded`](Self::decoded) with a decoder that is told the value's metadata too.
    ///
    /// # Errors
    ///
    /// The same as for [`decoded`](Self::decoded).
    #[inline]
    pub fn decoded_with<E>(
        &self,
        key: impl AsRef<[u8]>,
        decode: impl FnOnce(&[u8], Meta) -> Result<T, E>,
    ) -> Result<Option<Arc<T>>, MemoError<E>> {
        let key = key.as_ref();
        match self.held(key) {
            Some(object) => Ok(Some(object)),
            None => self.decode_again(key, Ask::Daemon, decode),
        }
    }

    /// [`decoded_with`](Self::decoded_with) of a value that the table holds; `None` otherwise.
    /// Asks and waits for nobody.
    ///
    /// # Errors
    ///
    /// What `decode` returns.
    #[inline]
    pub fn peeked_with<E>(
        &self,
        key: impl AsRef<[u8]>,
        decode: impl FnOnce(&[u8], Meta) -> Result<T, E>,
    ) -> Result<Option<Arc<T>>, MemoError<E>> {
        let key = key.as_ref();
        match self.held(key) {
            Some(object) => Ok(Some(object)),
            None => self.decode_again(key, Ask::Nobody, decode),
        }
    }

    /// The object that was made from the current value of `key`, if one was: without waiting,
    /// decoding or asking. `None` says nothing about the key.
    #[inline(always)]
    pub fn held(&self, key: impl AsRef<[u8]>) -> Option<Arc<T>> {
        let key = key.as_ref();
        if let Some(table) = self.client.shared.table()
            // The table's line travels while the object is looked up.
            && let Some(decoded) = self.objects().get(&Asked {
                hash: table.prefetch(key),
                bytes: key,
            })
            && decoded.table_id == table.id()
            && table.holds(&decoded.sighting)
        {
            self.client.shared.note_memo_hit(table, key);
            return Some(decoded.object);
        }
        None
    }

    #[cold]
    #[inline(never)]
    fn decode_again<E>(
        &self,
        key: &[u8],
        ask: Ask,
        decode: impl FnOnce(&[u8], Meta) -> Result<T, E>,
    ) -> Result<Option<Arc<T>>, MemoError<E>> {
        // The object may still hold: perhaps it was only time for a look at the table.
        self.client.shared.look_if_due();
        if let Some(object) = self.moved(key) {
            return Ok(Some(object));
        }
        let mut value = Vec::new();
        let Some((found, meta)) = self.find(key, ask, &mut value)? else {
            if let Some(table) = self.client.shared.table() {
                self.objects().remove(&Asked::of(table, key));
            }
            return Ok(None);
        };
        let object = Arc::new(decode(&value, meta).map_err(MemoError::Decode)?);
        if let Found::Table(table_id, version) = found
            && let Some((table, sighting)) = self.sight(key)
            && (table.id(), sighting.hit().version) == (table_id, version)
        {
            self.keep(table, key, sighting, &object);
        }
        Ok(Some(object))
    }

    /// The object of a value that the table has elsewhere by now: the owner moves entries.
    fn moved(&self, key: &[u8]) -> Option<Arc<T>> {
        let (table, sighting) = self.sight(key)?;
        let decoded = self.objects().get(&Asked::of(table, key))?;
        let same = decoded.table_id == table.id()
            && decoded.sighting.hit().version == sighting.hit().version;
        same.then(|| {
            self.client.shared.note_memo_hit(table, key);
            self.keep(table, key, sighting, &decoded.object);
            decoded.object
        })
    }

    fn sight(&self, key: &[u8]) -> Option<(&Table, Sighting)> {
        let table = self.client.shared.table()?;
        Some((table, table.sight(key)?))
    }

    fn keep(&self, table: &Table, key: &[u8], sighting: Sighting, object: &Arc<T>) {
        let kept = Key { hash: table.hash(key), bytes: Box::from(key) };
        let object = Arc::clone(object);
        // Another thread may have kept a newer one meanwhile. Nothing rests on which of them stays:
        // the next use asks the table.
        self.objects().insert(kept, Decoded { table_id: table.id(), sighting, object });
    }

    /// Copies the value of `key` into `value`.
    fn find(
        &self,
        key: &[u8],
        ask: Ask,
        value: &mut Vec<u8>,
    ) -> Result<Option<(Found, Meta)>, Error> {
        let found = self.read_table(key, value);
        if found.is_some() || ask == Ask::Nobody {
            if let (Some(_), Some(table)) = (&found, self.client.shared.table()) {
                self.client.shared.note_hit(table, key);
            }
            return Ok(found);
        }
        let Some(meta) = self.client.get_into(key, value)? else {
            return Ok(None);
        };
        if meta.source != Source::Process {
            // The daemon has put it into the table by now, and only the table says of which table
            // it is a version: the answer may have come over a connection to another one.
            let mut in_table = Vec::new();
            if let Some(found) = self.read_table(key, &mut in_table) {
                *value = in_table;
                return Ok(Some(found));
            }
        }
        Ok(Some((Found::Elsewhere, meta)))
    }

    /// Does not count as a hit: the caller decides that.
    fn read_table(&self, key: &[u8], value: &mut Vec<u8>) -> Option<(Found, Meta)> {
        let table = self.client.shared.table()?;
        match table.read(key, value) {
            TableRead::Hit(meta) => Some((Found::Table(table.id(), meta.version), meta)),
            _ => None,
        }
    }

    /// This process's objects: a child must not touch its parent's locks (R9).
    #[inline]
    fn objects(&self) -> &Objects<T> {
        self.objects.get_or_make(|| {
            Cache::with(
                self.capacity.min(ROOM_EXPECTED_MAX),
                self.capacity as u64,
                UnitWeighter,
                BuildHasherDefault::default(),
                Lifecycle::default(),
            )
        })
    }
}

/// The most objects to reserve room for at the start, however large the capacity.
const ROOM_EXPECTED_MAX: usize = 1 << 16;

/// A key under which an object is kept, and its hash in the object's table.
#[derive(PartialEq, Eq)]
struct Key {
    hash: u64,
    bytes: Box<[u8]>,
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// A key that is asked for.
struct Asked<'a> {
    hash: u64,
    bytes: &'a [u8],
}

impl<'a> Asked<'a> {
    #[inline(always)]
    fn of(table: &Table, key: &'a [u8]) -> Asked<'a> {
        Asked { hash: table.hash(key), bytes: key }
    }
}

impl Hash for Asked<'_> {
    #[inline(always)]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl Equivalent<Key> for Asked<'_> {
    #[inline(always)]
    fn equivalent(&self, key: &Key) -> bool {
        self.hash == key.hash && *self.bytes == *key.bytes
    }
}

/// Takes a hash as it is.
#[derive(Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    #[inline(always)]
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    #[inline(always)]
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}
