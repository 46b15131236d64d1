//! A set by the owner of the table: the lower bound of any set by a client.

use super::{BURSTS, median};
use anyhow::{Result, ensure};
use l1d_instructions::served::Served;
use shm_layout::entry::NEVER;
use shm_layout::{Entry, Plan};
use std::time::Instant;

const TABLE_BYTES: u64 = 64 << 20;

/// ns per set in a table that this process owns itself, with the log recycled meanwhile: the median
/// of the means of bursts of `count`.
///
/// # Errors
/// No memory, or a refused put.
pub fn owner_set<K: AsRef<[u8]>>(keys: &[K], value: &[u8], count: usize) -> Result<f64> {
    let plan = Plan {
        table_bytes: TABLE_BYTES,
        value_bytes_max: 4096,
        entry_bytes: 128,
        table_id: 1,
        ..Plan::default()
    };
    let mut served = Served::new(&plan)?;
    let mut puts = |count: usize| {
        keys.iter().cycle().take(count).all(|key| {
            let entry = Entry { key: key.as_ref(), value, expiry: NEVER, ..Entry::default() };
            served.table.put(&entry, 0).is_ok()
        })
    };
    let mut ns = Vec::with_capacity(BURSTS);
    for _ in 0..BURSTS {
        let begun = Instant::now();
        ensure!(puts(count), "a refused put");
        ns.push(begun.elapsed().as_nanos() as f64 / count as f64);
    }
    Ok(median(ns))
}
