//! Reading into memory of the caller's choice.

use crate::client::Client;
use crate::collect::{Clock, CollectKnown};
use crate::error::{Error, NoRoom};
use crate::shared::Patience;
use crate::table::{Table, meta};
use crate::value::{Lookup, Meta};
use shm_layout::{InPlace, Mapped, NoHit, Probe, Receiver};
use std::cell::OnceCell;
use std::mem::MaybeUninit;

/// Memory that a value is read into: a vector, a buffer of C's, a bytes object of Python's.
///
/// A read asks for [`room`](Self::room) once it knows the value's size, copies the value into it,
/// and says with [`filled`](Self::filled) that the value is whole. It may ask for room again, as
/// the value may change while it is copied; only the last room counts.
pub trait Destination {
    /// Room for a value of `bytes` bytes, at least that many. `None` or less room fails the read
    /// with [`NoRoom`].
    fn room(&mut self, bytes: usize) -> Option<&mut [MaybeUninit<u8>]>;

    /// The read found a value, which is now in the first `bytes` bytes of the last room.
    ///
    /// # Safety
    ///
    /// These bytes are initialised.
    unsafe fn filled(&mut self, bytes: usize);

    /// The metadata of that value, for destinations that keep it.
    #[inline]
    fn found(&mut self, meta: &Meta) {
        let _ = meta;
    }
}

/// Replaces the content of the vector, whose memory is used again where it is large enough.
impl Destination for Vec<u8> {
    #[inline]
    fn room(&mut self, bytes: usize) -> Option<&mut [MaybeUninit<u8>]> {
        self.clear();
        self.try_reserve(bytes).ok()?;
        Some(self.spare_capacity_mut())
    }

    #[inline]
    unsafe fn filled(&mut self, bytes: usize) {
        // SAFETY: `room` emptied the vector, so its room begins at its first byte; the caller says
        // that it had `bytes` bytes, which are initialised.
        unsafe { self.set_len(bytes) };
    }
}

impl Client {
    /// [`get_into`](Self::get_into) for any [`Destination`], telling a known absence from not
    /// knowing. Without a value the destination is not [`filled`](Destination::filled).
    ///
    /// ```no_run
    /// use l1d_client::Lookup;
    ///
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// let mut price = Vec::new();
    /// if let Lookup::Found(meta) = cache.get_to("market:BTC", &mut price)? {
    ///     println!("version {}: {} bytes", meta.version, price.len());
    /// }
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The same as for [`get`](Self::get), and [`Error::NoRoom`].
    #[inline]
    pub fn get_to<D: Destination + ?Sized>(
        &self,
        key: impl AsRef<[u8]>,
        destination: &mut D,
    ) -> Result<Lookup<Meta>, Error> {
        let key = key.as_ref();
        let deadline = OnceCell::new();
        let deadline = || deadline.get_or_init(|| self.shared.deadline());
        let known = self.peek_onto(key, destination, true, || Patience::Until(deadline()))?;
        if !matches!(known, Lookup::Unknown) {
            return Ok(known);
        }
        let mut value = Vec::new();
        let found = self.ask(key, &mut value, deadline())?;
        Ok(copied(found, &value, destination)?)
    }

    /// [`peek_into`](Self::peek_into) for any [`Destination`], telling a known absence from not
    /// knowing: what is [`Unknown`](Lookup::Unknown) can then be [`fetch`](Self::fetch)ed. In
    /// between a binding can release its interpreter's lock.
    ///
    /// ```no_run
    /// use l1d_client::Lookup;
    ///
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// let mut price = Vec::new();
    /// if let Lookup::Found(meta) = cache.peek_to("market:BTC", &mut price)? {
    ///     println!("version {}: {} bytes", meta.version, price.len());
    /// }
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`NoRoom`]; the key can be read again.
    #[inline(always)]
    pub fn peek_to<D: Destination + ?Sized>(
        &self,
        key: impl AsRef<[u8]>,
        destination: &mut D,
    ) -> Result<Lookup<Meta>, NoRoom> {
        self.peek_onto(key.as_ref(), destination, true, || Patience::OfAttaching)
    }

    /// [`peek_to`](Self::peek_to) without waiting for anything: where the client must first attach
    /// to another table, the key is [`Unknown`](Lookup::Unknown), and a later call finds the table.
    ///
    /// ```no_run
    /// use l1d_client::Lookup;
    ///
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// let mut price = Vec::new();
    /// if let Lookup::Found(meta) = cache.peek_now_to("market:BTC", &mut price)? {
    ///     println!("version {}: {} bytes", meta.version, price.len());
    /// }
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`NoRoom`]; the key can be read again.
    #[inline(always)]
    pub fn peek_now_to<D: Destination + ?Sized>(
        &self,
        key: impl AsRef<[u8]>,
        destination: &mut D,
    ) -> Result<Lookup<Meta>, NoRoom> {
        self.peek_onto(key.as_ref(), destination, true, || Patience::None)
    }

    /// [`peek_now_to`](Self::peek_now_to) after a hit of the same key, of a [`Memo`](crate::Memo) for
    /// example: not counted as another hit.
    ///
    /// ```no_run
    /// # use l1d_client::{Client, Memo};
    /// # let cache = Client::connect("/run/l1d/l1d.sock")?;
    /// # let names: Memo<String> = Memo::new(&cache, 1000)?;
    /// let mut bytes = Vec::new();
    /// if names.held("user:7").is_some() {
    ///     // What the object was made of, or a later value.
    ///     cache.peek_again_to("user:7", &mut bytes)?;
    /// }
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`NoRoom`]; the key can be read again.
    pub fn peek_again_to<D: Destination + ?Sized>(
        &self,
        key: impl AsRef<[u8]>,
        destination: &mut D,
    ) -> Result<Lookup<Meta>, NoRoom> {
        self.peek_onto(key.as_ref(), destination, false, || Patience::None)
    }

    /// [`peek_now_to`](Self::peek_now_to) for many keys at once, each into the destination with its
    /// index. Returns the indices of the keys that are [`Unknown`](Lookup::Unknown), and of those
    /// whose destination is missing or had no room: [`lookup_many`](Self::lookup_many) asks for them.
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// let keys = ["market:BTC", "market:ETH"];
    /// let mut values = [const { Vec::new() }; 2];
    /// for index in cache.peek_many_to(&keys, &mut values) {
    ///     println!("the daemon is to be asked for {}", keys[index]);
    /// }
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    #[inline]
    pub fn peek_many_to<K: AsRef<[u8]>, D: Destination>(
        &self,
        keys: &[K],
        destinations: &mut [D],
    ) -> Vec<usize> {
        let mut each = EachOnto { destinations, next: 0 };
        let unknown = self.collect_known(keys, || Patience::None, &mut each);
        unknown.into_iter().map(|(index, _)| index).collect()
    }

    /// Reads `key` from L1; a hit counts as one if `counts`. `patience` is called if the client may
    /// have to attach to another table.
    #[inline(always)]
    fn peek_onto<'d, D: Destination + ?Sized>(
        &self,
        key: &[u8],
        destination: &mut D,
        counts: bool,
        patience: impl FnOnce() -> Patience<'d>,
    ) -> Result<Lookup<Meta>, NoRoom> {
        let mut onto = Onto { destination: &mut *destination, has_room: false };
        match self.shared.receive_fast(key, &mut onto, |onto| counts && onto.has_room) {
            Ok(hit) => {
                let bytes = hit.value_bytes as usize;
                if !onto.has_room {
                    return Err(NoRoom { bytes });
                }
                // SAFETY: a hit has received these bytes into the destination's last room.
                unsafe { destination.filled(bytes) };
                let meta = meta(&hit);
                destination.found(&meta);
                Ok(Lookup::Found(meta))
            }
            Err(no_hit) => self.peek_onto_anyway((no_hit, counts), key, destination, patience()),
        }
    }

    /// A read of L1 that the short way has not answered.
    #[cold]
    #[inline(never)]
    fn peek_onto_anyway<D: Destination + ?Sized>(
        &self,
        (no_hit, counts): (NoHit, bool),
        key: &[u8],
        destination: &mut D,
        patience: Patience<'_>,
    ) -> Result<Lookup<Meta>, NoRoom> {
        let mut value = Vec::new();
        let found = self.peek_anyway((no_hit, counts), key, &mut value, patience);
        copied(found, &value, destination)
    }
}

/// A destination for each of several keys.
struct EachOnto<'a, D> {
    destinations: &'a mut [D],
    /// The index of the next key.
    next: usize,
}

impl<D: Destination> CollectKnown for EachOnto<'_, D> {
    #[inline(always)]
    fn read(
        &mut self,
        table: &Table,
        probe: Probe,
        key: &[u8],
        now: impl Clock,
    ) -> Result<(), NoHit> {
        let destination = self.destinations.get_mut(self.next).ok_or(NoHit::Unclear)?;
        let mut onto = Onto { destination: &mut *destination, has_room: false };
        let hit = table.receive_prefetched(probe, key, &mut onto, now)?;
        if !onto.has_room {
            return Err(NoHit::Unclear);
        }
        // SAFETY: a hit has received these bytes into the destination's last room.
        unsafe { destination.filled(hit.value_bytes as usize) };
        destination.found(&meta(&hit));
        self.next += 1;
        Ok(())
    }

    fn known(&mut self, known: Lookup<Meta>, value: &[u8]) -> bool {
        let destination = self.destinations.get_mut(self.next);
        self.next += 1;
        match destination.map(|destination| copied(known, value, destination)) {
            Some(Ok(known)) => !matches!(known, Lookup::Unknown),
            Some(Err(NoRoom { .. })) | None => false,
        }
    }
}

/// Copies `value` into the destination if it was found.
fn copied<D: Destination + ?Sized>(
    found: Lookup<Meta>,
    value: &[u8],
    destination: &mut D,
) -> Result<Lookup<Meta>, NoRoom> {
    if let Lookup::Found(meta) = &found {
        let bytes = value.len();
        let room = destination.room(bytes).and_then(|room| room.get_mut(..bytes));
        let room = room.ok_or(NoRoom { bytes })?;
        for (place, byte) in room.iter_mut().zip(value) {
            place.write(*byte);
        }
        // SAFETY: all of them were written just now.
        unsafe { destination.filled(bytes) };
        destination.found(meta);
    }
    Ok(found)
}

/// Receives a value of the table into a destination.
struct Onto<'a, D: ?Sized> {
    destination: &'a mut D,
    /// The destination had room for the value received last, which is there.
    has_room: bool,
}

impl<D: Destination + ?Sized> Receiver<Mapped> for Onto<'_, D> {
    #[inline(always)]
    fn receive(&mut self, value: InPlace<'_, Mapped>) {
        let bytes = value.len();
        let room = self.destination.room(bytes).and_then(|room| room.get_mut(..bytes));
        self.has_room = room.map(|room| Room(room).receive(value)).is_some();
    }
}

/// Room for one value, of exactly its size.
struct Room<'a>(&'a mut [MaybeUninit<u8>]);

// SAFETY: memory that is borrowed exclusively. `Onto`, its only user, receives a value of
// exactly as many bytes.
unsafe impl shm_layout::Destination for Room<'_> {
    #[inline(always)]
    fn room(&mut self, bytes: usize) -> *mut u8 {
        debug_assert_eq!(bytes, self.0.len());
        self.0.as_mut_ptr().cast()
    }
}
