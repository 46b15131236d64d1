//! Reads and writes of one process, in any of the ways.

use super::Way;
use super::below::Below;
use super::private_l1::PrivateL1;
use super::scenario::{self, Key};
use anyhow::Result;
use l1d_client::{Client, Source};
use std::path::Path;

/// The level that answered a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// In L1.
    L1,
    /// Below it.
    Below,
    /// Nowhere.
    Missing,
}

/// A process's access to the scenario's keys, by their positions.
pub struct Store {
    way: Way,
    keys: Vec<Key>,
    names: Vec<Box<[u8]>>,
    l1: L1,
}

enum L1 {
    Shared(Client),
    Private(PrivateL1, Below),
}

impl Store {
    pub fn open(way: Way, socket: &Path) -> Result<Store> {
        let keys = scenario::keys();
        let namespace = way.namespace();
        let names = keys
            .iter()
            .map(|key| format!("{namespace}{}", key.name).into_bytes().into_boxed_slice())
            .collect();
        let l1 = match way {
            Way::L1d => L1::Shared(Client::connect(socket)?),
            Way::Private2s | Way::Private30s => L1::Private(PrivateL1::new(), Below::new(socket)),
        };
        Ok(Store { way, keys, names, l1 })
    }

    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// The key at a position, as it is stored.
    pub fn name(&self, position: usize) -> &[u8] {
        self.names.get(position).map_or(&[], |name| name)
    }

    /// Reads into `value`, replacing its content.
    #[inline]
    pub fn read(&mut self, position: usize, value: &mut Vec<u8>) -> Result<Answer> {
        let Some((key, name)) = self.keys.get(position).zip(self.names.get(position)) else {
            return Ok(Answer::Missing);
        };
        match &mut self.l1 {
            L1::Shared(client) => Ok(match client.get_into(name, value)? {
                Some(meta) if meta.source == Source::Daemon => Answer::Below,
                Some(_) => Answer::L1,
                None => Answer::Missing,
            }),
            L1::Private(l1, below) => {
                if l1.read(name, value) {
                    return Ok(Answer::L1);
                }
                if !below.get(name, value)? {
                    return Ok(Answer::Missing);
                }
                if let Some(ttl) = self.way.private_ttl(key.feed()) {
                    l1.keep(name, value, ttl);
                }
                Ok(Answer::Below)
            }
        }
    }

    pub fn write(&mut self, position: usize, value: &[u8]) -> Result<()> {
        let Some((key, name)) = self.keys.get(position).zip(self.names.get(position)) else {
            return Ok(());
        };
        match &mut self.l1 {
            L1::Shared(client) => client.set(name, value).map(|_| ())?,
            L1::Private(l1, below) => {
                below.set(name, value)?;
                if let Some(ttl) = self.way.private_ttl(key.feed()) {
                    l1.keep(name, value, ttl);
                }
            }
        }
        Ok(())
    }

    /// Number of values in this process's own L1, and the bytes of their keys and values.
    pub fn copies(&self) -> (u64, u64) {
        match &self.l1 {
            L1::Shared(_) => (0, 0),
            L1::Private(l1, _) => (l1.copies(), l1.copies_bytes()),
        }
    }

    /// Number of keys in the host's table, and the bytes of these keys and their values. Zero for
    /// the ways that do not read the table.
    pub fn copies_in_table(&self) -> (u64, u64) {
        let L1::Shared(client) = &self.l1 else { return (0, 0) };
        let mut value = Vec::new();
        self.names.iter().fold((0, 0), |(copies, bytes), name| {
            match client.peek_into(name, &mut value) {
                Some(_) => (copies + 1, bytes + name.len() as u64 + value.len() as u64),
                None => (copies, bytes),
            }
        })
    }
}
