//! The values of several keys in one piece of memory.

use crate::collect::{Append, Collect};
use crate::error::Error;
use crate::value::{Lookup, Meta};

/// The values of several keys, in the order asked, as [`Client::get_many_into`] collects them:
/// bytes of all of them in one allocation, which the next call uses again.
///
/// [`Client::get_many_into`]: crate::Client::get_many_into
#[derive(Debug, Clone, Default)]
pub struct Values {
    bytes: Vec<u8>,
    places: Vec<Option<Place>>,
    /// Where the value of the next key begins.
    next_begins: usize,
}

/// Where a value is.
#[derive(Debug, Clone, Copy)]
struct Place {
    begin: usize,
    end: usize,
    meta: Meta,
}

impl Values {
    /// None, and no memory yet.
    ///
    /// ```
    /// let values = l1d_client::Values::new();
    /// assert_eq!(values.len(), 0);
    /// ```
    #[must_use]
    pub const fn new() -> Values {
        Values { bytes: Vec::new(), places: Vec::new(), next_begins: 0 }
    }

    /// Keys that were asked for.
    ///
    /// ```
    /// # let values = l1d_client::Values::new();
    /// assert_eq!(values.len(), values.iter().count());
    /// ```
    #[must_use]
    pub const fn len(&self) -> usize {
        self.places.len()
    }

    /// Returns `true` if no key was asked for.
    ///
    /// ```
    /// assert!(l1d_client::Values::new().is_empty());
    /// ```
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The value of the key with this index, counted from 0; `None` if it has none, or if fewer
    /// keys were requested.
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// let mut prices = l1d_client::Values::new();
    /// cache.get_many_into(&["market:BTC", "market:ETH"], &mut prices)?;
    /// let ether: Option<&[u8]> = prices.get(1);
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    #[inline]
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        self.of((*self.places.get(index)?)?)
    }

    /// The metadata of that key's value.
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// let mut prices = l1d_client::Values::new();
    /// cache.get_many_into(&["market:BTC", "market:ETH"], &mut prices)?;
    /// let version = prices.meta(1).map(|meta| meta.version);
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    #[inline]
    #[must_use]
    pub fn meta(&self, index: usize) -> Option<Meta> {
        Some((*self.places.get(index)?)?.meta)
    }

    /// The values, one for each key that was asked for.
    ///
    /// ```no_run
    /// # let cache = l1d_client::Client::connect("/run/l1d/l1d.sock")?;
    /// let mut prices = l1d_client::Values::new();
    /// cache.get_many_into(&["market:BTC", "market:ETH"], &mut prices)?;
    /// println!("{} of 2", prices.iter().flatten().count());
    /// # Ok::<(), l1d_client::Error>(())
    /// ```
    #[inline]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Option<&[u8]>> {
        self.places.iter().map(|place| self.of((*place)?))
    }

    /// Forgets them all, and keeps the memory.
    ///
    /// ```
    /// let mut values = l1d_client::Values::new();
    /// values.clear();
    /// assert!(values.is_empty());
    /// ```
    #[inline]
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.places.clear();
        self.next_begins = 0;
    }

    #[inline]
    fn of(&self, place: Place) -> Option<&[u8]> {
        self.bytes.get(place.begin..place.end)
    }
}

impl Append for Values {
    #[inline(always)]
    fn room(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    #[inline(always)]
    fn next(&mut self, known: Lookup<Meta>) {
        let end = self.bytes.len();
        let begin = std::mem::replace(&mut self.next_begins, end);
        self.places.push(known.found().map(|meta| Place { begin, end, meta }));
    }
}

impl Collect for Values {
    fn answer(
        &mut self,
        (index, key): (usize, Option<&[u8]>),
        value: &[u8],
        answer: Result<Lookup<Meta>, Error>,
    ) -> Result<(), Error> {
        let found = answer.map_err(|error| error.of_key(key))?.found();
        if let (Some(meta), Some(place)) = (found, self.places.get_mut(index)) {
            let begin = self.bytes.len();
            self.bytes.extend_from_slice(value);
            *place = Some(Place { begin, end: self.bytes.len(), meta });
        }
        Ok(())
    }
}
