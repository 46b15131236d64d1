//! Hits while the daemon is alive and while it is dead, in turns.

use super::CrashOptions;
use crate::random::Random;
use crate::statistics::Spread;
use anyhow::{Result, ensure};
use serde::Serialize;
use std::time::Instant;

const KEYS: usize = 10_000;
/// Hits of a batch, which is timed as a whole.
const BATCH: usize = 32;
/// Batches of a round.
const BATCHES: usize = 20_000;

#[derive(Debug, Serialize)]
pub struct Hits {
    /// Medians of the batches of each round, per hit.
    pub alive_ns: Spread,
    pub dead_ns: Spread,
    pub ratio: Spread,
}

/// Measures both.
///
/// # Errors
/// The daemon does not start.
pub fn measure(options: &CrashOptions) -> Result<Hits> {
    let mut daemon = super::daemon(options, 64 << 20, 256)?;
    let client = daemon.client()?;
    for number in 0..KEYS {
        client.set(key(number), [7; 64])?;
    }
    let mut random = Random::new(options.seed);
    let (mut alive, mut dead) = (Vec::new(), Vec::new());
    // A round that does not count moves hot keys to their own slots.
    for round in 0..=options.rounds {
        let lives = p50_ns(&client, &mut random)?;
        daemon.kill()?;
        let died = p50_ns(&client, &mut random)?;
        daemon.restart()?;
        if round > 0 {
            alive.push(lives);
            dead.push(died);
        }
    }
    Ok(Hits {
        ratio: Spread::of_ratios(&dead, &alive),
        alive_ns: Spread::of(alive),
        dead_ns: Spread::of(dead),
    })
}

fn key(number: usize) -> String {
    format!("crash:{number}")
}

/// The median of the batches, per hit.
fn p50_ns(client: &l1d_client::Client, random: &mut Random) -> Result<f64> {
    let keys: Vec<String> = (0..BATCH * 64).map(|_| key(random.below(KEYS))).collect();
    let (mut value, mut times) = (Vec::new(), Vec::with_capacity(BATCHES));
    for (batch, keys) in keys.chunks(BATCH).cycle().take(BATCHES).enumerate() {
        let begun = Instant::now();
        let hits = keys.iter().filter(|key| client.peek_into(key, &mut value).is_some()).count();
        times.push(begun.elapsed().as_nanos() as f64 / BATCH as f64);
        ensure!(hits == BATCH, "batch {batch} missed keys that the table holds");
    }
    Ok(Spread::of(times).median)
}
