//! Collecting the values of several keys.

use crate::value::{Meta, Value};

/// Where the values of several keys are collected, one after the other.
pub(crate) trait Collect {
    /// Where the bytes of the next key's value are appended.
    fn room(&mut self) -> &mut Vec<u8>;

    /// Ends the next key: the bytes appended to the room are its value; `None`: it has none.
    fn next(&mut self, meta: Option<Meta>);

    /// Sets the value of the key at `index`, which had none so far.
    fn replace(&mut self, index: usize, value: &[u8], meta: Meta);
}

/// Collects each value in a vector of its own.
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
    fn next(&mut self, meta: Option<Meta>) {
        let next = std::mem::take(&mut self.next);
        self.values.push(meta.map(|meta| Value::new(next, meta)));
    }

    fn replace(&mut self, index: usize, value: &[u8], meta: Meta) {
        if let Some(place) = self.values.get_mut(index) {
            *place = Some(Value::new(value.to_vec(), meta));
        }
    }
}
