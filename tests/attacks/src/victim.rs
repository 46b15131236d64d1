//! The client that follows the rules: reads and writes, checks each value and times both.

use crate::child::{self, Orders};
use crate::users;
use anyhow::Result;
use l1d_client::Client;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};
use test_support::servers::PATIENCE;

const KEYS: u64 = 500;
/// Hits between two requests.
const HITS: u64 = 32;
/// Pause after each request: a service that does something else, too.
const PAUSE: Duration = Duration::from_micros(100);

/// What it has seen.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Seen {
    pub hits: u64,
    pub requests: u64,
    /// Values other than the last acknowledged ones.
    pub wrong: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Keys that are no longer there, because the table is full.
    pub missing: u64,
    pub hit_p50_ns: u32,
    pub hit_p99_ns: u32,
    pub request_p50_ns: u32,
    pub request_p99_ns: u32,
    pub request_max_ns: u32,
}

/// A key's value after `writes` writes.
fn value(number: u64, writes: u64) -> Vec<u8> {
    let mut value = format!("victim {number} write {writes} ").into_bytes();
    value.resize(40 + usize::try_from(number % 200).unwrap_or(0), b'v');
    value
}

fn key(number: u64) -> Vec<u8> {
    format!("victim:{number:06}").into_bytes()
}

/// Runs for as long as it is told to, and prints what it has seen.
pub fn run(orders: &Orders) -> Result<()> {
    users::become_user(orders.uid, orders.gid)?;
    let builder = Client::builder().socket(&orders.socket);
    let client = builder.deadline(PATIENCE).attach_deadline(PATIENCE).connect()?;
    let mut writes = vec![0; usize::try_from(KEYS)?];
    for number in 0..KEYS {
        client.set(key(number), value(number, 0))?;
    }
    child::begun()?;
    let mut seen = Seen::default();
    let (mut hits, mut requests) = (Vec::new(), Vec::new());
    let (begun, time) = (Instant::now(), Duration::from_millis(orders.ms));
    let (mut found, mut number) = (Vec::new(), 0);
    while begun.elapsed() < time {
        for _ in 0..HITS {
            number = (number + 7) % KEYS;
            let name = key(number);
            let asked = Instant::now();
            let is_hit = client.peek_into(&name, &mut found).is_some();
            hits.push(nanoseconds(asked));
            let held = value(number, writes[usize::try_from(number)?]);
            seen.wrong += u64::from(is_hit && found != held);
            seen.missing += u64::from(!is_hit);
        }
        let write = &mut writes[usize::try_from(number)?];
        let (name, next) = (key(number), value(number, *write + 1));
        let asked = Instant::now();
        match client.set(&name, &next) {
            Ok(_) => *write += 1,
            Err(error) => {
                seen.failed += 1;
                eprintln!("a request failed: {error}");
            }
        }
        requests.push(nanoseconds(asked));
        std::thread::sleep(PAUSE);
    }
    seen.hits = hits.len() as u64;
    seen.requests = requests.len() as u64;
    [seen.hit_p50_ns, seen.hit_p99_ns, _] = quantiles(&mut hits);
    [seen.request_p50_ns, seen.request_p99_ns, seen.request_max_ns] = quantiles(&mut requests);
    println!("{}", serde_json::to_string(&seen)?);
    Ok(())
}

fn nanoseconds(since: Instant) -> u32 {
    u32::try_from(since.elapsed().as_nanos()).unwrap_or(u32::MAX)
}

/// Half of the times are below the first, 99 % below the second, all up to the third.
fn quantiles(times: &mut [u32]) -> [u32; 3] {
    times.sort_unstable();
    let at = |permille: usize| times.get((times.len() * permille / 1000).min(times.len() - 1));
    [at(500), at(990), at(1000)].map(|time| time.copied().unwrap_or(0))
}
