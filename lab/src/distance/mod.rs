//! Distant tiers: a proxy between all processes and the servers that holds all bytes for half the
//! round trip in each direction.
//!
//! | part | file |
//! |---|---|
//! | the proxy as the experiment sees it | here |
//! | its process | `proxy` |
//! | its capacity | `capacity` |

mod capacity;
mod proxy;

pub use proxy::{ProxyOptions, run as proxy};

use crate::process::Process;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::str::FromStr;
use std::time::{Duration, Instant};

/// Share of its capacity that the proxy may carry. Above it, the proxy may limit the measurement.
const SHARE_MAX: f64 = 1.0 / 3.0;

/// The round trip to the tiers, in addition to the host's own latency.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Distance(Duration);

impl FromStr for Distance {
    type Err = String;

    fn from_str(text: &str) -> Result<Distance, String> {
        let (number, unit_ns) = match (text.strip_suffix("us"), text.strip_suffix("ms")) {
            (Some(number), _) => (number, 1e3),
            (_, Some(number)) => (number, 1e6),
            _ => return Err("a round trip such as 0.5ms or 300us".to_owned()),
        };
        match number.trim().parse::<f64>() {
            Ok(number) if (50e3..=1e9).contains(&(number * unit_ns)) => {
                Ok(Distance(Duration::from_secs_f64(number * unit_ns / 1e9)))
            }
            _ => Err("between 50us and 1000ms".to_owned()),
        }
    }
}

impl Serialize for Distance {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0.as_secs_f64() * 1e3)
    }
}

impl std::fmt::Display for Distance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ms", self.0.as_secs_f64() * 1e3)
    }
}

/// The proxy before several servers. Ends when dropped.
pub struct Proxy {
    process: Process,
    addresses: Vec<String>,
    capacity_per_second: f64,
}

/// Traffic of the proxy since the last query.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Carried {
    /// Reads that returned bytes, each forwarded as a whole.
    pub messages: u64,
    /// Median lateness of the messages.
    pub late_p50_us: f64,
    /// The 99th percentile of the lateness.
    pub late_p99_us: f64,
}

/// The load of the proxy during a measurement.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Load {
    /// Messages per second, in both directions together.
    pub per_second: f64,
    /// The messages per second that it carried at most, measured on the idle machine.
    pub capacity_per_second: f64,
    /// As in [`Carried`].
    pub late_p50_us: f64,
    /// As in [`Carried`].
    pub late_p99_us: f64,
}

/// The start of a measurement of the proxy's load.
pub struct Mark(Instant);

impl Proxy {
    /// Starts a proxy before the servers at these addresses, the first of which is a memcached, and
    /// measures its capacity.
    ///
    /// # Errors
    /// The process does not start.
    pub fn start(Distance(distance): Distance, servers: &[String]) -> Result<Proxy> {
        let mut process = Process::start(|command| {
            command.arg("proxy").arg(format!("--half-ns={}", distance.as_nanos() / 2));
            command.args(servers.iter().map(|server| format!("--to={server}")));
        })?;
        let addresses: Vec<String> = process.answer()?;
        if addresses.len() != servers.len() {
            bail!("a proxy with {} ports for {} servers", addresses.len(), servers.len());
        }
        let memcached = addresses.first().context("no server for a proxy")?;
        let capacity_per_second = capacity::measure(memcached)?;
        Ok(Proxy { process, addresses, capacity_per_second })
    }

    /// The address of a server, given by its number, through the proxy.
    pub fn address(&self, server: usize) -> String {
        self.addresses.get(server).cloned().unwrap_or_default()
    }

    /// Begins a measurement.
    ///
    /// # Errors
    /// The proxy has ended.
    pub fn mark(&mut self) -> Result<Mark> {
        self.carried()?;
        Ok(Mark(Instant::now()))
    }

    /// Its load since then.
    ///
    /// # Errors
    /// The proxy has ended.
    pub fn load_since(&mut self, Mark(begun): &Mark) -> Result<Load> {
        let seconds = begun.elapsed().as_secs_f64();
        let Carried { messages, late_p50_us, late_p99_us } = self.carried()?;
        Ok(Load {
            per_second: messages as f64 / seconds,
            capacity_per_second: self.capacity_per_second,
            late_p50_us,
            late_p99_us,
        })
    }

    fn carried(&mut self) -> Result<Carried> {
        self.process.tell(&())?;
        self.process.answer()
    }
}

impl Load {
    /// The proxy could have carried three times as much, so it did not limit the measurement.
    pub fn is_light(&self) -> bool {
        self.per_second <= self.capacity_per_second * SHARE_MAX
    }
}

/// The place of the tiers, for a table's heading.
pub fn place(distance: Option<Distance>) -> String {
    distance.map_or_else(
        || "on the same host".to_owned(),
        |distance| format!("a round trip of {distance} away"),
    )
}

/// The load of the proxy while `who` was measured; figures that it may have limited are void.
pub fn remark(who: &str, loads: &[Load]) -> Option<String> {
    let most = loads.iter().max_by(|a, b| a.per_second.total_cmp(&b.per_second))?;
    let void = match loads.iter().all(Load::is_light) {
        true => "",
        false => "; VOID: it may have bounded what was measured",
    };
    Some(format!(
        "\n{who}: the proxy carried {:.0} messages/s of {:.0} that it could; half were {:.0} us \
         late, 1 % {:.0} us \
         or more{void}",
        most.per_second, most.capacity_per_second, most.late_p50_us, most.late_p99_us,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distance_has_a_unit_and_bounds() {
        assert_eq!("0.5ms".parse(), Ok(Distance(Duration::from_micros(500))));
        assert_eq!("300us".parse(), Ok(Distance(Duration::from_micros(300))));
        for wrong in ["0.5", "1s", "ms", "-1ms", "10us", "2000ms"] {
            assert!(wrong.parse::<Distance>().is_err(), "{wrong}");
        }
    }
}
