//! How one process reads and writes, for each contestant.

use super::contestant::Contestant;
use super::keys::Key;
use super::options::WorkerOptions;
use super::tiers::{Tier, Tiers};
use crate::failure::Failure;
use anyhow::{Context, Result};
use l1d_client::{Client, Source};
use l1d_demo::private_l1::PrivateL1;

/// The level that answered a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// L1.
    L1,
    /// memcached.
    L2,
    /// Redis.
    L3,
    /// The daemon, which asked the tiers or joined the read to one already in flight.
    Daemon,
    /// None.
    Missing,
}

/// A process's access to the keys.
pub enum Store {
    /// No L1, or a private one.
    Own(Box<Own>),
    /// The table of the host.
    L1d(Client),
}

/// Tiers, and an L1 before them if the contestant has one.
pub struct Own {
    contestant: Contestant,
    l1: Option<PrivateL1>,
    tiers: Tiers,
}

impl Store {
    /// Connects to everything that the contestant needs.
    ///
    /// # Errors
    /// Something cannot be reached.
    pub fn open(options: &WorkerOptions) -> Result<Store> {
        if options.contestant == Contestant::L1d {
            let socket = options.socket.as_ref().context("l1d without a socket")?;
            return Ok(Store::L1d(crate::daemon::connect(socket)?));
        }
        let has_l1 = options.contestant != Contestant::NoL1;
        Ok(Store::Own(Box::new(Own {
            contestant: options.contestant,
            l1: has_l1.then(|| PrivateL1::with_capacity(options.l1_bytes)),
            tiers: Tiers::connect(&options.memcached, &options.redis)?,
        })))
    }

    /// Reads into `value`, whose content is replaced.
    ///
    /// # Errors
    /// The daemon or a tier failed.
    #[inline]
    pub fn read(&mut self, key: &Key, value: &mut Vec<u8>) -> Result<Level> {
        match self {
            Store::Own(own) => own.read(key, value),
            Store::L1d(client) => {
                Ok(match client.get_into(&key.name, value).with_context(daemon_failed)? {
                    Some(meta) if meta.source == Source::Daemon => Level::Daemon,
                    Some(_) => Level::L1,
                    None => Level::Missing,
                })
            }
        }
    }

    /// Writes through all levels; returns when the last one has acknowledged.
    ///
    /// # Errors
    /// The daemon or a tier failed.
    pub fn write(&mut self, key: &Key, value: &[u8]) -> Result<()> {
        match self {
            Store::Own(own) => {
                own.tiers.set(&key.name, value)?;
                own.keep(key, value);
            }
            Store::L1d(client) => {
                client.set(&key.name, value).with_context(daemon_failed)?;
            }
        }
        Ok(())
    }

    /// Copies in this process's own L1, and the bytes of their keys and values.
    pub fn copies(&self) -> (u64, u64) {
        match self {
            Store::Own(own) => {
                own.l1.as_ref().map_or((0, 0), |l1| (l1.copies(), l1.copies_bytes()))
            }
            Store::L1d(_) => (0, 0),
        }
    }
}

impl Own {
    #[inline]
    fn read(&mut self, key: &Key, value: &mut Vec<u8>) -> Result<Level> {
        if let Some(l1) = &self.l1
            && l1.read(&key.name, value)
        {
            return Ok(Level::L1);
        }
        let Some((found, tier)) = self.tiers.get(&key.name)? else { return Ok(Level::Missing) };
        self.keep(key, &found);
        *value = found;
        Ok(match tier {
            Tier::L2 => Level::L2,
            Tier::L3 => Level::L3,
        })
    }

    fn keep(&self, key: &Key, value: &[u8]) {
        if let (Some(l1), Some(ttl)) = (&self.l1, self.contestant.own_ttl(key.is_shared)) {
            l1.keep(&key.name, value, ttl);
        }
    }
}

fn daemon_failed() -> Failure {
    Failure::Daemon("the daemon did not do as it was asked".to_owned())
}
