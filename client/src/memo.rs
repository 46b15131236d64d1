//! Decoded objects of one process, never older than the table.

use crate::client::Client;
use crate::error::Error;
use crate::sentinel::PerProcess;
use crate::table::TableRead;
use crate::value::Source;
use quick_cache::UnitWeighter;
use quick_cache::sync::{Cache, DefaultLifecycle};
use shm_layout::KeyHash;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

/// A small cache of what values decode to, in one process: each object is decoded once and handed
/// out again for as long as the shared table holds the value that it was made of.
///
/// Every use reads the table, but not the value: where the table still has the same version of the
/// key, the object stands for it, and nothing is copied, decoded, allocated or asked. So an object is
/// never older than what [`Client::get`] returns at that moment: a write, a delete, an expiry or an
/// invalidation is seen at the next use, whichever process it came from, and so is a new table.
///
/// - Values that do not come from the table are decoded each time: those of keys whose policy says
///   `scope = "process"`, and one that the daemon answers with and the table does not keep.
/// - Threads that find the same new value at once each decode it. No lock is held meanwhile.
/// - An object may stay in memory after its key has gone, until the key is asked for or another
///   object takes its place.
/// - All threads share it, behind a reference or an [`Arc`]. A forked child begins with an empty one;
///   what its parent had decoded stays allocated in the child.
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

/// By the key's hash in its table. Two keys with one hash take turns; which of them an object was
/// made of, its origin says.
type Objects<T> =
    Cache<u64, Decoded<T>, UnitWeighter, BuildHasherDefault<HashedAlready>, Lifecycle<T>>;

/// Evicted objects are dropped after the lock is released, so that dropping one may use the memo.
type Lifecycle<T> = DefaultLifecycle<u64, Decoded<T>>;

struct Decoded<T> {
    origin: Origin,
    object: Arc<T>,
}

impl<T> Clone for Decoded<T> {
    fn clone(&self) -> Decoded<T> {
        Decoded { origin: self.origin, object: Arc::clone(&self.object) }
    }
}

/// The one entry, of all that there ever were, whose value an object was made of: a table gives each
/// version once, also over restarts of the daemon (W5), and tables differ in their identity. The
/// entry's bytes never change (W2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Origin {
    table_id: u64,
    version: u64,
}

/// Where a value was found.
enum Found {
    Table(KeyHash, Origin),
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
    /// An empty cache of `capacity` objects at most, to within a few, of whatever size they are. All
    /// objects of one cache are decoded in one way: a key is not asked for with two decoders.
    ///
    /// # Errors
    ///
    /// [`Error::System`] when this process can map no more memory.
    pub fn new(client: &Client, capacity: usize) -> Result<Memo<T>, Error> {
        Ok(Memo { client: client.clone(), capacity, objects: PerProcess::new()? })
    }

    /// What `decode` makes, or made, of the value that `key` has now; `None` where it has none.
    /// Not a hit in the table: as [`Client::get`].
    ///
    /// `decode` is called at most once, with a whole copy of the value and no lock held. What it
    /// refuses is not remembered: the next call decodes again.
    ///
    /// # Errors
    ///
    /// [`MemoError::Decode`] from `decode`, [`MemoError::Cache`] as for [`Client::get`].
    #[inline]
    pub fn decoded<E>(
        &self,
        key: &[u8],
        decode: impl FnOnce(&[u8]) -> Result<T, E>,
    ) -> Result<Option<Arc<T>>, MemoError<E>> {
        if let Some(table) = self.client.shared.table()
            && let (hash, TableRead::Hit(meta)) = table.read_version(key)
            && let Some(decoded) = self.objects().get(&hash.0)
            && decoded.origin == (Origin { table_id: table.id(), version: meta.version })
        {
            return Ok(Some(decoded.object));
        }
        self.decode_anew(key, decode)
    }

    #[cold]
    #[inline(never)]
    fn decode_anew<E>(
        &self,
        key: &[u8],
        decode: impl FnOnce(&[u8]) -> Result<T, E>,
    ) -> Result<Option<Arc<T>>, MemoError<E>> {
        let mut value = Vec::new();
        let Some(found) = self.find(key, &mut value)? else {
            if let Some(table) = self.client.shared.table() {
                self.objects().remove(&table.hash(key).0);
            }
            return Ok(None);
        };
        let object = Arc::new(decode(&value).map_err(MemoError::Decode)?);
        if let Found::Table(hash, origin) = found {
            // Another thread may have kept a newer one meanwhile. Nothing rests on which of them
            // stays: the next use compares.
            self.objects().insert(hash.0, Decoded { origin, object: Arc::clone(&object) });
        }
        Ok(Some(object))
    }

    /// Copies the value of `key` into `value`.
    fn find(&self, key: &[u8], value: &mut Vec<u8>) -> Result<Option<Found>, Error> {
        if let Some(found) = self.read_table(key, value) {
            return Ok(Some(found));
        }
        let Some(meta) = self.client.get_into(key, value)? else {
            return Ok(None);
        };
        if meta.source != Source::Process {
            // The daemon has put it into the table by now, and only the table says of which table it
            // is a version: the answer may have come over a connection to another one.
            let mut in_table = Vec::new();
            if let Some(found) = self.read_table(key, &mut in_table) {
                *value = in_table;
                return Ok(Some(found));
            }
        }
        Ok(Some(Found::Elsewhere))
    }

    fn read_table(&self, key: &[u8], value: &mut Vec<u8>) -> Option<Found> {
        let table = self.client.shared.table()?;
        let TableRead::Hit(meta) = table.read(key, value) else {
            return None;
        };
        let origin = Origin { table_id: table.id(), version: meta.version };
        Some(Found::Table(table.hash(key), origin))
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

/// Room is set aside for so many objects at the start, however large the capacity.
const ROOM_EXPECTED_MAX: usize = 1 << 16;

/// Takes the table's hash of a key as it is.
#[derive(Default)]
struct HashedAlready(u64);

impl Hasher for HashedAlready {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}
