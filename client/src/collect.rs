//! Collecting the results of several keys.

use crate::error::Error;
use crate::table::{Table, meta};
use crate::value::{Lookup, Meta, Value};
use shm_layout::{NoHit, Probe};

/// A reading of [`Table::daemon_clock`].
pub(crate) trait Clock: Fn() -> Option<u64> + Copy {}

impl<F: Fn() -> Option<u64> + Copy> Clock for F {}

/// The destination of the values that L1 knows, in the order of the keys.
pub(crate) trait CollectKnown {
    /// Reads the next key, whose prefetched `probe` this is. A hit is collected.
    ///
    /// # Errors
    /// There is no hit, or no room for its value; nothing is collected.
    fn read(
        &mut self,
        table: &Table,
        probe: Probe,
        key: &[u8],
        now: impl Clock,
    ) -> Result<(), NoHit>;

    /// L1's result for the next key, which [`read`](Self::read) did not find, and its value.
    /// Returns whether that settles the key: otherwise the daemon is to be asked.
    fn known(&mut self, known: Lookup<Meta>, value: &[u8]) -> bool;
}

/// A destination that takes the daemon's answers for the other keys, too.
pub(crate) trait Collect: CollectKnown {
    /// The daemon's answer for the key at this index, of which L1 knew nothing; `value` are its
    /// bytes. An error that concerns this key alone comes with the key.
    ///
    /// # Errors
    /// The answer's error, if it ends the call; it then names the key.
    fn answer(
        &mut self,
        place: (usize, Option<&[u8]>),
        value: &[u8],
        answer: Result<Lookup<Meta>, Error>,
    ) -> Result<(), Error>;
}

/// A destination to whose memory values are appended.
pub(crate) trait Append {
    /// Where the bytes of the next key's value are appended.
    fn room(&mut self) -> &mut Vec<u8>;

    /// L1's result for the next key. If found, the bytes appended to the room are its value.
    fn next(&mut self, known: Lookup<Meta>);
}

impl<A: Append> CollectKnown for A {
    #[inline(always)]
    fn read(
        &mut self,
        table: &Table,
        probe: Probe,
        key: &[u8],
        now: impl Clock,
    ) -> Result<(), NoHit> {
        let hit = table.read_prefetched(probe, key, self.room(), now)?;
        self.next(Lookup::Found(meta(&hit)));
        Ok(())
    }

    fn known(&mut self, known: Lookup<Meta>, value: &[u8]) -> bool {
        if let Lookup::Found(_) = known {
            self.room().extend_from_slice(value);
        }
        self.next(known);
        !matches!(known, Lookup::Unknown)
    }
}

/// Each value in its own vector, for calls that fail as a whole.
pub(crate) struct Owned {
    pub(crate) values: Vec<Option<Value>>,
    next: Vec<u8>,
}

impl Owned {
    pub(crate) fn with_room_for(count: usize) -> Owned {
        Owned { values: Vec::with_capacity(count), next: Vec::new() }
    }
}

impl Append for Owned {
    #[inline(always)]
    fn room(&mut self) -> &mut Vec<u8> {
        &mut self.next
    }

    #[inline(always)]
    fn next(&mut self, known: Lookup<Meta>) {
        let next = std::mem::take(&mut self.next);
        self.values.push(known.found().map(|meta| Value::new(next, meta)));
    }
}

impl Collect for Owned {
    fn answer(
        &mut self,
        (index, key): (usize, Option<&[u8]>),
        value: &[u8],
        answer: Result<Lookup<Meta>, Error>,
    ) -> Result<(), Error> {
        let found = answer.map_err(|error| error.of_key(key))?.found();
        if let (Some(meta), Some(place)) = (found, self.values.get_mut(index)) {
            *place = Some(Value::new(value.to_vec(), meta));
        }
        Ok(())
    }
}

/// A separate result for each key.
pub(crate) struct Each {
    pub(crate) results: Vec<Result<Lookup, Error>>,
    next: Vec<u8>,
}

impl Each {
    pub(crate) fn with_room_for(count: usize) -> Each {
        Each { results: Vec::with_capacity(count), next: Vec::new() }
    }
}

impl Append for Each {
    #[inline(always)]
    fn room(&mut self) -> &mut Vec<u8> {
        &mut self.next
    }

    #[inline(always)]
    fn next(&mut self, known: Lookup<Meta>) {
        let next = std::mem::take(&mut self.next);
        self.results.push(Ok(known.map(|meta| Value::new(next, meta))));
    }
}

impl Collect for Each {
    fn answer(
        &mut self,
        (index, _): (usize, Option<&[u8]>),
        value: &[u8],
        answer: Result<Lookup<Meta>, Error>,
    ) -> Result<(), Error> {
        if let Some(place) = self.results.get_mut(index) {
            *place = answer.map(|found| found.map(|meta| Value::new(value.to_vec(), meta)));
        }
        Ok(())
    }
}
