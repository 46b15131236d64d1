//! Puts keys into the tiers before an operation is measured that needs them there.

use super::commands::{Reply, l2, l3};
use super::operation::Operation;
use super::stream::Stream;
use super::worker::key;
use crate::compare::Servers;
use anyhow::{Result, ensure};

/// Keys per exchange.
const BATCH: usize = 500;

/// Puts `keys` keys of each process into the tiers that `operation` expects them in.
///
/// # Errors
/// A tier does not store them.
pub fn fill(
    servers: &Servers,
    operation: Operation,
    measurement: u32,
    (processes, keys): (u32, u32),
    value: &[u8],
) -> Result<()> {
    let numbers = (0..processes).flat_map(|process| (0..keys).map(move |key| (process, key)));
    let [memcached, redis] = servers.near();
    let numbers: Vec<(u32, u32)> = numbers.collect();
    if operation.is_in_l2() {
        let mut tier = Stream::connect(&memcached)?;
        each_batch(
            &numbers,
            measurement,
            |out, key| l2::set_quietly(out, key, value),
            |out, _| {
                l2::nothing(out);
                tier.send(out)?;
                ensure!(tier.reply(|reply| reply == Reply::Done)?, "memcached does not store");
                Ok(())
            },
        )?;
    }
    if operation.is_in_l3() {
        let mut tier = Stream::connect(&redis)?;
        each_batch(
            &numbers,
            measurement,
            |out, key| l3::set(out, key, value),
            |out, count| {
                tier.send(out)?;
                for _ in 0..count {
                    ensure!(tier.reply(|reply| reply == Reply::Done)?, "Redis does not store");
                }
                Ok(())
            },
        )?;
    }
    Ok(())
}

fn each_batch(
    numbers: &[(u32, u32)],
    measurement: u32,
    append: impl Fn(&mut Vec<u8>, &[u8]),
    mut send: impl FnMut(&mut Vec<u8>, usize) -> Result<()>,
) -> Result<()> {
    let (mut request, mut name) = (Vec::new(), Vec::new());
    for batch in numbers.chunks(BATCH) {
        request.clear();
        for &(process, number) in batch {
            key(&mut name, measurement, process, number);
            append(&mut request, &name);
        }
        send(&mut request, batch.len())?;
    }
    Ok(())
}
