//! A daemon that holds every key of a workload.

use super::workload::{KEY_BYTES, VALUE_BYTES, key, value};
use crate::daemon::{Daemon, TableShape};
use crate::progress::Progress;
use anyhow::{Context, Result, ensure};
use l1d_client::{Client, SetOptions};
use std::path::Path;

/// Header, key and value.
const ENTRY_BYTES: u64 = 24 + KEY_BYTES as u64 + VALUE_BYTES as u64;
/// Entries must not expire under a reader.
const RULES: &str = "[defaults]\nttl = \"24h\"\n";
/// Sets without an answer between two with one: bounds what waits in the socket.
const UNANSWERED: u32 = 256;

/// Starts a daemon whose table fits `keys` keys, with an eighth to spare, and sets them all.
///
/// # Errors
/// The daemon does not start or refuses a set.
pub fn load(keys: usize, program: Option<&Path>, progress: &Progress) -> Result<Daemon> {
    let slots_bytes = keys as u64 * 10;
    let table_bytes = (keys as u64 * ENTRY_BYTES + slots_bytes) * 9 / 8 + (4 << 20);
    let shape = TableShape {
        table_bytes: table_bytes.next_multiple_of(4096),
        value_bytes_max: 4096,
        entry_bytes: ENTRY_BYTES,
    };
    let daemon = Daemon::start(program, shape, RULES)?;
    let client = daemon.client()?;
    let keys = u32::try_from(keys).context("too many keys")?;
    for number in 0..keys {
        let no_wait = number % UNANSWERED != 0 && number + 1 != keys;
        let options = SetOptions { no_wait, ..SetOptions::default() };
        client
            .set_with(&key(number), &value(number), &options)
            .with_context(|| format!("setting key {number} of {keys}"))?;
        if number % 65_536 == 0 {
            progress.say(&format!("setting key {number} of {keys}"));
        }
    }
    Ok(daemon)
}

/// Keys that the table does not hold. A key has two lines of eight places; where both are full, one
/// entry is displaced. Contestants read the others.
///
/// # Errors
/// More than one in a hundred is not there.
pub fn absent(client: &Client, keys: usize) -> Result<Vec<u32>> {
    let numbers = 0..u32::try_from(keys).context("too many keys")?;
    let absent: Vec<u32> = numbers.filter(|&number| client.peek(&key(number)).is_none()).collect();
    ensure!(absent.len() * 100 <= keys, "the table holds all but {} of {keys} keys", absent.len());
    Ok(absent)
}
