//! l1d in normal use: a daemon, a client that writes, clients that read.

use super::view::{Ask, Value, View, value};
use super::writer::Sets;
use crate::reads::workload::{VALUE_BYTES, key};
use anyhow::Result;
use l1d_client::{Client, Error, Lifetime, SetOptions};
use std::path::Path;

const NO_WAIT: SetOptions =
    SetOptions { lifetime: Lifetime::Rule, flags: 0, write: None, no_wait: true };

/// A client that writes.
pub struct ServiceWriter(Client);

impl ServiceWriter {
    /// Gives every key a value.
    ///
    /// # Errors
    /// The daemon cannot be reached, or refuses.
    pub fn fill(socket: &Path, keys: u32) -> Result<ServiceWriter> {
        let client = crate::daemon::connect(socket)?;
        for number in 0..keys {
            client.set(key(number), value(0))?;
        }
        Ok(ServiceWriter(client))
    }
}

impl Sets for ServiceWriter {
    fn set(&mut self, number: u32, value: &Value) -> Result<()> {
        loop {
            match self.0.set_with(key(number), value, &NO_WAIT) {
                Ok(_) => return Ok(()),
                Err(Error::Busy { .. }) => std::thread::yield_now(),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// A client that reads.
pub struct ServiceView {
    client: Client,
    buffer: Vec<u8>,
}

impl ServiceView {
    /// Attaches.
    ///
    /// # Errors
    /// The daemon cannot be reached.
    pub fn attach(socket: &Path) -> Result<ServiceView> {
        let client = crate::daemon::connect(socket)?;
        Ok(ServiceView { client, buffer: Vec::with_capacity(VALUE_BYTES) })
    }
}

impl View for ServiceView {
    #[inline(always)]
    fn read(&mut self, ask: &Ask, value: &mut Value) -> bool {
        if self.client.peek_into(ask.key, &mut self.buffer).is_none() {
            return false;
        }
        self.buffer.first_chunk().is_some_and(|from| {
            *value = *from;
            true
        })
    }
}
