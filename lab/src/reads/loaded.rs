//! A daemon that holds every key of a workload.

use super::workload::{KEY_BYTES, fill, key};
use crate::daemon::{Daemon, TableShape};
use crate::progress::Progress;
use anyhow::{Context, Result, ensure};
use l1d_client::{Client, Error, SetOptions};
use std::path::Path;

/// Bytes of an entry in addition to key and value.
const HEADER_BYTES: usize = 24;
/// Entries must not expire during the measurement.
const RULES: &str = "[defaults]\nttl = \"24h\"\n";
/// Unacknowledged sets between two acknowledged ones, which bounds the backlog in the socket.
const UNANSWERED: u32 = 256;
/// Largest value that travels in one request.
const SMALL_BYTES: usize = 1 << 10;

/// Starts a daemon whose table fits `keys` keys, with an eighth to spare, and sets each key to the
/// value that `value` makes from its number, at most `value_bytes` bytes.
///
/// # Errors
/// The daemon does not start or refuses a set.
pub fn load(
    keys: usize,
    (value_bytes, value): (usize, impl Fn(u32) -> Vec<u8>),
    program: Option<&Path>,
    progress: &Progress,
) -> Result<Daemon> {
    let entry_bytes = (HEADER_BYTES + KEY_BYTES + value_bytes) as u64;
    let slots_bytes = keys as u64 * 10;
    let value_bytes_max = value_bytes.max(4096) as u64;
    // For few keys, the smallest table: a little more than 64 of the largest entries.
    let least = 64 * (value_bytes_max + 70_000) + (1 << 20);
    let table_bytes = (keys as u64 * entry_bytes + slots_bytes) * 9 / 8 + least;
    // Size the index for the actual number of keys, so that it is as full as in a full table:
    // then the table that is read is the one that `bytes` counts.
    let entry_bytes = entry_bytes.max(table_bytes * 8 / 9 / (keys as u64).max(1));
    let shape = TableShape {
        table_bytes: table_bytes.next_multiple_of(4096),
        value_bytes_max,
        entry_bytes,
    };
    let daemon = Daemon::start(program, shape, RULES)?;
    let client = daemon.client()?;
    let keys = u32::try_from(keys).context("too many keys")?;
    for number in 0..keys {
        // A large value travels in pieces, for which its sender waits in any case.
        let no_wait = value_bytes <= SMALL_BYTES && number % UNANSWERED != 0 && number + 1 != keys;
        let options = SetOptions { no_wait, ..SetOptions::default() };
        set(&client, number, &value(number), &options)
            .with_context(|| format!("setting key {number} of {keys}"))?;
        if number % 65_536 == 0 {
            progress.say(&format!("setting key {number} of {keys}"));
        }
    }
    Ok(daemon)
}

/// Sets a key; retries while the daemon is busy.
fn set(client: &Client, number: u32, value: &[u8], options: &SetOptions) -> Result<()> {
    loop {
        match client.set_with(key(number), value, options) {
            Ok(_) => return Ok(()),
            Err(Error::Busy { .. }) => std::thread::yield_now(),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Like [`load`], with values that readers can verify.
pub fn load_numbered(
    keys: usize,
    value_bytes: usize,
    program: Option<&Path>,
    progress: &Progress,
) -> Result<Daemon> {
    let value = |number| {
        let mut value = vec![0; value_bytes];
        fill(number, &mut value);
        value
    };
    load(keys, (value_bytes, value), program, progress)
}

/// Keys that the table does not hold: a key has two lines of eight slots, and if both are full, one
/// entry is displaced. Contestants read the other keys.
///
/// # Errors
/// More than one in a hundred is missing.
pub fn absent(client: &Client, keys: usize) -> Result<Vec<u32>> {
    let numbers = 0..u32::try_from(keys).context("too many keys")?;
    let absent: Vec<u32> = numbers.filter(|&number| client.peek(key(number)).is_none()).collect();
    ensure!(absent.len() * 100 <= keys, "the table holds all but {} of {keys} keys", absent.len());
    Ok(absent)
}
