//! memcached and Redis as a process without l1d uses them: directly, one after the other.

use crate::failure::Failure;
use anyhow::{Context, Result};
use memcache::exp::{MetaClient, Ttl};
use redis::{Commands, Connection};

/// TTL of values in memcached, the same as l1d's policy in these runs.
pub const L2_TTL_SECONDS: u32 = 3600;

/// Where a value was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// memcached
    L2,
    /// Redis
    L3,
}

/// Connections of one process.
pub struct Tiers {
    l2: MetaClient,
    l3: Connection,
}

impl Tiers {
    /// Connects to both, each given as `host:port`.
    pub fn connect(memcached: &str, redis: &str) -> Result<Tiers> {
        let l2 = MetaClient::connect(memcached).with_context(|| {
            Failure::Tier(format!("cannot connect to memcached at {memcached}"))
        })?;
        Ok(Tiers { l2, l3: connect_redis(redis)? })
    }

    /// Asks memcached, then Redis; a value found in Redis is put into memcached unless something
    /// newer got there first.
    pub fn get(&mut self, key: &[u8]) -> Result<Option<(Vec<u8>, Tier)>> {
        if let Some(value) = self.l2.get(key).send().with_context(l2_failed)?.value {
            return Ok(Some((value, Tier::L2)));
        }
        let Some(value) = self.l3.get::<_, Option<Vec<u8>>>(key).with_context(l3_failed)? else {
            return Ok(None);
        };
        self.l2
            .set(key, &value)
            .ttl(Ttl::secs(L2_TTL_SECONDS))
            .add()
            .send()
            .with_context(l2_failed)?;
        Ok(Some((value, Tier::L3)))
    }

    /// Writes Redis, then memcached.
    pub fn set(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.l3.set::<_, _, ()>(key, value).with_context(l3_failed)?;
        self.l2.set(key, value).ttl(Ttl::secs(L2_TTL_SECONDS)).send().with_context(l2_failed)?;
        Ok(())
    }
}

fn l2_failed() -> Failure {
    Failure::Tier("memcached failed".to_owned())
}

fn l3_failed() -> Failure {
    Failure::Tier("Redis failed".to_owned())
}

/// A connection to Redis at `host:port`.
pub fn connect_redis(address: &str) -> Result<Connection> {
    let error = || Failure::Tier(format!("cannot connect to Redis at {address}"));
    // Nagle's algorithm is on by default, and every sensible service turns it off.
    let info = redis::IntoConnectionInfo::into_connection_info(format!("redis://{address}"))
        .with_context(error)?;
    let info = info.set_tcp_settings(redis::io::tcp::TcpSettings::default().set_nodelay(true));
    redis::Client::open(info).and_then(|client| client.get_connection()).with_context(error)
}
