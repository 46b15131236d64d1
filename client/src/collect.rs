//! Collecting the results of several keys.

use crate::error::Error;
use crate::value::{Lookup, Meta, Value};

/// The destination of several keys' values: first those that L1 knows, in the order of the keys,
/// then the daemon's answers for the rest.
pub(crate) trait Collect {
    /// Where the bytes of the next key's value are appended.
    fn room(&mut self) -> &mut Vec<u8>;

    /// L1's result for the next key. If found, the bytes appended to the room are its value.
    fn next(&mut self, known: Lookup<Meta>);

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

impl Collect for Owned {
    #[inline(always)]
    fn room(&mut self) -> &mut Vec<u8> {
        &mut self.next
    }

    #[inline(always)]
    fn next(&mut self, known: Lookup<Meta>) {
        let next = std::mem::take(&mut self.next);
        self.values.push(known.found().map(|meta| Value::new(next, meta)));
    }

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

impl Collect for Each {
    #[inline(always)]
    fn room(&mut self) -> &mut Vec<u8> {
        &mut self.next
    }

    #[inline(always)]
    fn next(&mut self, known: Lookup<Meta>) {
        let next = std::mem::take(&mut self.next);
        self.results.push(Ok(known.map(|meta| Value::new(next, meta))));
    }

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
