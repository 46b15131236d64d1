//! A daemon that holds every key of a workload.

use super::workload::{KEY_BYTES, VALUE_BYTES, key, value};
use crate::daemon::{Daemon, TableShape};
use crate::progress::Progress;
use anyhow::{Context, Result, ensure};
use l1d_client::SetOptions;
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
/// The daemon does not start, refuses a set, or does not hold all keys in the end.
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
    let missing = (0..keys).filter(|&number| client.peek(&key(number)).is_none()).count();
    ensure!(missing == 0, "the table holds all but {missing} of {keys} keys");
    Ok(daemon)
}
