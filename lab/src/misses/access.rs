//! How one process performs an operation, for each contestant.

use super::contestant::Contestant;
use super::direct::Direct;
use super::frame::{self, Forwarded};
use super::operation::Operation;
use super::worker::WorkerOptions;
use anyhow::{Context, Result};
use l1d_client::Client;

/// A process's access to the tiers.
pub enum Access {
    /// Private connections.
    Direct(Box<Direct>),
    /// The daemon's client.
    L1d(Client),
    /// A connection to the forwarder.
    Forwarder(Box<Forwarded>),
}

impl Access {
    /// Connects.
    ///
    /// # Errors
    /// Nothing listens at the other end.
    pub fn open(options: &WorkerOptions) -> Result<Access> {
        let socket = || options.socket.as_deref().context("a contestant without its socket");
        Ok(match options.contestant {
            Contestant::Direct => {
                Access::Direct(Box::new(Direct::connect(&options.memcached, &options.redis)?))
            }
            Contestant::L1d => Access::L1d(crate::daemon::connect(socket()?)?),
            Contestant::Forwarder => Access::Forwarder(Box::new(Forwarded::connect(socket()?)?)),
        })
    }

    /// Performs an operation once. Returns how many keys had a value; 0 for a write.
    ///
    /// # Errors
    /// The daemon or a tier failed.
    #[inline]
    pub fn run(&mut self, operation: Operation, keys: &[Vec<u8>], value: &[u8]) -> Result<usize> {
        let key = keys.first().map(Vec::as_slice).unwrap_or_default();
        match operation {
            Operation::Set => self.set(key, value).map(|()| 0),
            Operation::Delete => self.delete(key).map(|()| 0),
            Operation::GetMany16 | Operation::GetMany64 => self.get_many(keys),
            Operation::Absent | Operation::InL2 | Operation::InL3 => self.get(key),
        }
    }

    fn get(&mut self, key: &[u8]) -> Result<usize> {
        Ok(usize::from(match self {
            Access::Direct(direct) => direct.get(key)?.is_some(),
            Access::L1d(client) => client.get(key)?.is_some(),
            Access::Forwarder(forwarder) => {
                let values = forwarder.ask(frame::GET, [key].into_iter(), b"")?;
                values.first().is_some_and(Option::is_some)
            }
        }))
    }

    fn get_many(&mut self, keys: &[Vec<u8>]) -> Result<usize> {
        Ok(match self {
            Access::Direct(direct) => direct.get_many(keys)?.iter().flatten().count(),
            Access::L1d(client) => client.get_many(keys)?.iter().flatten().count(),
            Access::Forwarder(forwarder) => {
                let keys = keys.iter().map(Vec::as_slice);
                forwarder.ask(frame::GET, keys, b"")?.iter().flatten().count()
            }
        })
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        match self {
            Access::Direct(direct) => direct.set(key, value),
            Access::L1d(client) => Ok(client.set(key, value).map(drop)?),
            Access::Forwarder(forwarder) => {
                forwarder.ask(frame::SET, [key].into_iter(), value).map(drop)
            }
        }
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        match self {
            Access::Direct(direct) => direct.delete(key),
            Access::L1d(client) => Ok(client.delete(key).map(drop)?),
            Access::Forwarder(forwarder) => {
                forwarder.ask(frame::DELETE, [key].into_iter(), b"").map(drop)
            }
        }
    }
}
