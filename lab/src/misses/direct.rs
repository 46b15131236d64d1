//! The contestant *direct*: a process with private blocking connections, as lean as possible. Each
//! step is one write and, because replies of this size arrive whole, one read.

use super::commands::{Reply, l2, l3};
use super::stream::Stream;
use anyhow::{Result, bail};
use std::net::TcpStream;

/// Connections to both tiers.
pub struct Direct {
    l2: Stream<TcpStream>,
    l3: Stream<TcpStream>,
    request: Vec<u8>,
}

impl Direct {
    /// Connects to both, each given as `host:port`.
    ///
    /// # Errors
    /// A tier does not listen.
    pub fn connect(memcached: &str, redis: &str) -> Result<Direct> {
        let (l2, l3) = (Stream::connect(memcached)?, Stream::connect(redis)?);
        Ok(Direct { l2, l3, request: Vec::new() })
    }

    /// Asks memcached, then Redis; puts a value of Redis into memcached.
    pub fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let value = ask(&mut self.l2, &mut self.request, |out| l2::get(out, key))?;
        if value.is_some() {
            return Ok(value);
        }
        let value = ask(&mut self.l3, &mut self.request, |out| l3::get(out, key))?;
        if let Some(value) = &value {
            order(&mut self.l2, &mut self.request, |out| l2::add(out, key, value))?;
        }
        Ok(value)
    }

    /// Writes Redis, then memcached.
    pub fn set(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        order(&mut self.l3, &mut self.request, |out| l3::set(out, key, value))?;
        order(&mut self.l2, &mut self.request, |out| l2::set(out, key, value))
    }

    /// Deletes from Redis, then memcached.
    pub fn delete(&mut self, key: &[u8]) -> Result<()> {
        order(&mut self.l3, &mut self.request, |out| l3::delete(out, key))?;
        order(&mut self.l2, &mut self.request, |out| l2::delete(out, key))
    }

    /// Asks memcached for all keys in one exchange, then Redis for the missing ones in another, and
    /// fills memcached in a third.
    pub fn get_many(&mut self, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>> {
        self.request.clear();
        for key in keys {
            l2::get(&mut self.request, key);
        }
        self.l2.send(&self.request)?;
        let mut values = keys.iter().map(|_| value(&mut self.l2)).collect::<Result<Vec<_>>>()?;
        let missing: Vec<usize> =
            values.iter().enumerate().filter_map(|(n, v)| v.is_none().then_some(n)).collect();
        if missing.is_empty() {
            return Ok(values);
        }
        let names: Vec<&[u8]> =
            missing.iter().filter_map(|&n| keys.get(n).map(Vec::as_slice)).collect();
        self.request.clear();
        l3::get_many(&mut self.request, &names);
        self.l3.send(&self.request)?;
        self.l3.reply(|_| ())?;
        self.request.clear();
        let mut fills = 0;
        for (&place, name) in missing.iter().zip(names) {
            let found = value(&mut self.l3)?;
            if let Some(found) = &found {
                l2::add(&mut self.request, name, found);
                fills += 1;
            }
            if let Some(value) = values.get_mut(place) {
                *value = found;
            }
        }
        if fills > 0 {
            self.l2.send(&self.request)?;
        }
        (0..fills).try_for_each(|_| self.l2.reply(|_| ()))?;
        Ok(values)
    }
}

fn ask(
    tier: &mut Stream<TcpStream>,
    request: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>),
) -> Result<Option<Vec<u8>>> {
    request.clear();
    write(request);
    tier.send(request)?;
    value(tier)
}

fn value(tier: &mut Stream<TcpStream>) -> Result<Option<Vec<u8>>> {
    let taken = tier.reply(|reply| match reply {
        Reply::Value(value) => Some(Some(value.to_vec())),
        Reply::Absent => Some(None),
        Reply::Done | Reply::Many => None,
    })?;
    match taken {
        Some(value) => Ok(value),
        None => bail!("a tier's reply is no value"),
    }
}

fn order(
    tier: &mut Stream<TcpStream>,
    request: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>),
) -> Result<()> {
    request.clear();
    write(request);
    tier.send(request)?;
    match tier.reply(|reply| reply == Reply::Done)? {
        true => Ok(()),
        false => bail!("a tier answers a write with a value"),
    }
}
