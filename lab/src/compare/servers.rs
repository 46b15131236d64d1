//! The tiers of a run and their counters.

use super::tiers::connect_redis;
use crate::distance::{Distance, Proxy};
use crate::failure::Failure;
use anyhow::{Context, Result, bail};
use serde::Serialize;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;
use test_support::servers::Server;

/// Fresh servers on private ports, behind a proxy if there is a distance. Stopped when dropped.
pub struct Servers {
    proxy: Option<Proxy>,
    memcached: Server,
    redis: Server,
}

/// The counters of the servers.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Requests {
    /// Keys that memcached was asked for.
    pub l2_gets: u64,
    /// Of these, the keys it found.
    pub l2_hits: u64,
    /// Values stored in memcached.
    pub l2_sets: u64,
    /// Keys that Redis was asked for.
    pub l3_gets: u64,
    /// Of these, the keys it found.
    pub l3_hits: u64,
    /// Values stored in Redis.
    pub l3_sets: u64,
}

impl Requests {
    /// Adds the counters of another run.
    pub fn add(&mut self, other: Requests) {
        self.l2_gets += other.l2_gets;
        self.l2_hits += other.l2_hits;
        self.l2_sets += other.l2_sets;
        self.l3_gets += other.l3_gets;
        self.l3_hits += other.l3_hits;
        self.l3_sets += other.l3_sets;
    }

    /// The difference between two readings.
    pub fn since(self, before: Requests) -> Requests {
        Requests {
            l2_gets: self.l2_gets - before.l2_gets,
            l2_hits: self.l2_hits - before.l2_hits,
            l2_sets: self.l2_sets - before.l2_sets,
            l3_gets: self.l3_gets - before.l3_gets,
            l3_hits: self.l3_hits - before.l3_hits,
            l3_sets: self.l3_sets - before.l3_sets,
        }
    }
}

impl Servers {
    /// Starts both, `distance` away from all processes.
    ///
    /// # Errors
    /// A program is not in the PATH.
    pub fn start(distance: Option<Distance>) -> Result<Servers> {
        // The Debian packages have the programs' names.
        let missing = ["memcached", "redis-server"].map(|name| (!is_on_path(name)).then_some(name));
        let missing = missing.into_iter().flatten().collect::<Vec<_>>();
        if !missing.is_empty() {
            let (programs, packages) = (missing.join(" and "), missing.join(" "));
            bail!(Failure::Tier(format!(
                "not in the PATH: {programs}; on Debian: apt-get install {packages}"
            )));
        }
        let (memcached, redis) = (Server::memcached(), Server::redis());
        let proxy = distance
            .map(|distance| Proxy::start(distance, &[memcached.address(), redis.address()]))
            .transpose()?;
        Ok(Servers { proxy, memcached, redis })
    }

    /// Where the measured processes reach memcached, as host:port.
    pub fn memcached(&self) -> String {
        self.proxy.as_ref().map_or_else(|| self.memcached.address(), |proxy| proxy.address(0))
    }

    /// Where the measured processes reach Redis, as host:port.
    pub fn redis(&self) -> String {
        self.proxy.as_ref().map_or_else(|| self.redis.address(), |proxy| proxy.address(1))
    }

    /// memcached and Redis without the distance, for the preparations of the experiment.
    pub fn near(&self) -> [String; 2] {
        [self.memcached.address(), self.redis.address()]
    }

    /// The proxy, if there is a distance.
    pub fn proxy(&mut self) -> Option<&mut Proxy> {
        self.proxy.as_mut()
    }

    /// Process ids of both.
    pub fn pids(&self) -> [u32; 2] {
        [self.memcached.pid(), self.redis.pid()]
    }

    /// The counters so far.
    ///
    /// # Errors
    /// A server does not answer.
    pub fn requests(&self) -> Result<Requests> {
        let memcached = self
            .memcached_stats()
            .with_context(|| Failure::Tier("memcached gives no statistics".to_owned()))?;
        let l2 = |name: &str| figure(&memcached, &format!("STAT {name} "));
        let mut connection = connect_redis(&self.redis.address())?;
        let error = || Failure::Tier("Redis gives no statistics".to_owned());
        let redis: String =
            redis::cmd("INFO").arg("everything").query(&mut connection).with_context(error)?;
        let (hits, misses) = (figure(&redis, "keyspace_hits:"), figure(&redis, "keyspace_misses:"));
        let lookups = hits + misses;
        let calls = |command: &str| figure(&redis, &format!("cmdstat_{command}:calls="));
        let l3_gets = keys_asked_for(lookups, calls);
        Ok(Requests {
            l2_gets: l2("cmd_get"),
            l2_hits: l2("get_hits"),
            l2_sets: l2("cmd_set"),
            l3_gets,
            l3_hits: (hits * l3_gets).checked_div(lookups).unwrap_or(0),
            l3_sets: figure(&redis, "cmdstat_set:calls=") + figure(&redis, "cmdstat_psetex:calls="),
        })
    }

    fn memcached_stats(&self) -> Result<String> {
        let mut stream = TcpStream::connect(self.memcached.address())?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"stats\r\n")?;
        let lines =
            BufReader::new(stream).lines().map_while(Result::ok).take_while(|line| line != "END");
        Ok(lines.collect::<Vec<_>>().join("\n"))
    }
}

/// The number after the line's prefix `begin`; 0 without such a line.
fn figure(text: &str, begin: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(begin));
    let digits = line.map(|rest| rest.chars().take_while(char::is_ascii_digit).collect::<String>());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// The requested keys, computed from the lookups that Redis counts. l1d asks for a value with its
/// TTL (PTTL), or for several values with the number that exist (EXISTS), and Redis counts
/// each key twice.
fn keys_asked_for(lookups: u64, calls: impl Fn(&str) -> u64) -> u64 {
    let others = lookups.saturating_sub(calls("pttl"));
    if calls("exists") == 0 {
        return others;
    }
    // Without GET and the transactions' MGET, half of the rest is MGET and the other half EXISTS.
    let once = calls("get") + calls("pttl");
    once.min(others) + others.saturating_sub(once) / 2
}

fn is_on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_by_their_names() {
        let text = "STAT cmd_get_x 7\r\nSTAT cmd_get 12\r\ncmdstat_set:calls=5,usec=3";
        assert_eq!(figure(text, "STAT cmd_get "), 12);
        assert_eq!(figure(text, "cmdstat_set:calls="), 5);
        assert_eq!(figure(text, "STAT none "), 0);
    }

    #[test]
    fn a_key_that_redis_counts_twice_is_one_key() {
        let asked = |lookups, get, pttl, exists| {
            let calls = [("get", get), ("pttl", pttl), ("exists", exists)];
            keys_asked_for(lookups, |name| {
                calls.iter().find(|(command, _)| *command == name).unwrap().1
            })
        };
        assert_eq!(asked(10, 10, 0, 0), 10);
        assert_eq!(asked(30, 10, 10, 0), 20, "10 in transactions");
        assert_eq!(asked(46, 10, 10, 2), 28, "and 8 by two MGETs");
    }
}
