//! A daemon with a full table is killed while somebody writes: the time until the next one is ready,
//! and the entries that it has.

use super::CrashOptions;
use crate::random::Random;
use crate::statistics::Spread;
use anyhow::Result;
use l1d_client::{Client, Error, SetOptions};
use serde::Serialize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Bytes of a value. With key and header, entries are a little larger.
const VALUE_BYTES: usize = 1000;
const ENTRY_BYTES: u64 = 1048;
/// Keys that are written again while the daemon is killed.
const WRITTEN: usize = 1000;

#[derive(Debug, Serialize)]
pub struct Kept {
    pub table_bytes: u64,
    /// Keys in the table before the first kill.
    pub entries: u64,
    /// From the SIGKILL until the next daemon says that it is ready.
    pub ready_ms: Spread,
    /// Of the keys that were there before each kill, the part that was there after it; the least.
    pub kept_percent_min: f64,
}

/// Fills a table of this size, and kills its daemon again and again.
///
/// # Errors
/// The daemon does not start, or refuses a set.
pub fn measure(options: &CrashOptions, table_bytes: u64) -> Result<Kept> {
    let mut daemon = super::daemon(options, table_bytes, ENTRY_BYTES)?;
    let client = daemon.client()?;
    // Full but for a fifth, so that nothing is evicted meanwhile.
    let keys = usize::try_from(table_bytes / ENTRY_BYTES * 8 / 10)?;
    for number in 0..keys {
        set(&client, number, number % 256 != 0)?;
    }
    let mut random = Random::new(options.seed);
    let (mut ready, mut least, mut entries) = (Vec::new(), 100.0_f64, 0);
    for _ in 0..options.kills {
        let before = present(&client, keys);
        let count = before.iter().filter(|is_there| **is_there).count();
        if entries == 0 {
            entries = count as u64;
        }
        let (stop, pause) = (AtomicBool::new(false), random.below(200));
        let took = std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut random = Random::new(options.seed);
                while !stop.load(Ordering::Relaxed) {
                    let _ = set(&client, random.below(WRITTEN), false);
                }
            });
            std::thread::sleep(Duration::from_millis(20 + pause as u64));
            let begun = Instant::now();
            let restarted = daemon.kill().and_then(|()| daemon.restart());
            let took = begun.elapsed();
            stop.store(true, Ordering::Relaxed);
            restarted.map(|()| took)
        })?;
        ready.push(took.as_secs_f64() * 1e3);
        // The answer to this comes after the next daemon's first turns.
        client.admin().stats_json()?;
        let after = present(&client, keys);
        let kept = before.iter().zip(&after).filter(|(before, after)| **before && **after).count();
        least = least.min(kept as f64 * 100.0 / count as f64);
    }
    Ok(Kept { table_bytes, entries, ready_ms: Spread::of(ready), kept_percent_min: least })
}

fn key(number: usize) -> String {
    format!("kept:{number:012}")
}

fn set(client: &Client, number: usize, no_wait: bool) -> Result<()> {
    let options = SetOptions { no_wait, ..SetOptions::default() };
    let value = [7; VALUE_BYTES];
    loop {
        match client.set_with(key(number), value, &options) {
            Err(Error::Busy { .. }) => std::thread::yield_now(),
            set => return Ok(set.map(drop)?),
        }
    }
}

fn present(client: &Client, keys: usize) -> Vec<bool> {
    let mut value = Vec::new();
    (0..keys).map(|number| client.peek_into(key(number), &mut value).is_some()).collect()
}
