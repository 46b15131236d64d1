//! The rivals of `write`: a set that is visible when it returns, and sustained sets.

use super::{BURSTS, median};
use crate::hot_key::view::value;
use crate::reads::rivals::{Rivals, Skipped};
use crate::stores::{self, Entry, Started};
use anyhow::{Context, Result};
use std::time::Instant;

/// Sets that are published together, if publishing is a step of its own.
const TOGETHER: usize = 100;

/// Starts them, and collects those that do not take part.
///
/// # Errors
/// The same as for [`stores::start`].
pub fn start(
    rivals: &Rivals,
    keys: u32,
    say: impl Fn(&str),
) -> Result<(Vec<Started>, Vec<Skipped>)> {
    let (mut started, mut skipped) = (Vec::new(), Vec::new());
    for &rival in &rivals.0 {
        say(rival.name());
        match stores::start(rival, keys).with_context(|| rival.name())? {
            Entry::Takes(store) => started.push(*store),
            Entry::Skips(reason) => skipped.push(Skipped { name: rival.name(), reason }),
        }
    }
    Ok((started, skipped))
}

/// The median of single sets, each visible to others when it returns.
///
/// # Errors
/// The store fails.
pub fn single(store: &mut Started, keys: u32, requests: usize) -> Result<f64> {
    let mut ns = Vec::new();
    for number in (0..keys).cycle().take(requests / store.one_in) {
        let value = value(u64::from(number));
        let begun = Instant::now();
        store.sets.set(number, &value)?;
        store.sets.publish()?;
        ns.push(begun.elapsed().as_nanos() as f64);
    }
    Ok(median(ns))
}

/// The median of the means of bursts, like unacknowledged sets.
///
/// # Errors
/// The store fails.
pub fn sustained(store: &mut Started, keys: u32, requests: usize) -> Result<f64> {
    let requests = (requests / store.one_in).max(TOGETHER);
    let mut numbers = (0..keys).cycle();
    let mut ns = Vec::with_capacity(BURSTS);
    for burst in 0..BURSTS as u64 {
        let value = value(burst);
        let begun = Instant::now();
        for (done, number) in (1..=requests).zip(&mut numbers) {
            store.sets.set(number, &value)?;
            if done % TOGETHER == 0 || done == requests {
                store.sets.publish()?;
            }
        }
        ns.push(begun.elapsed().as_nanos() as f64 / requests as f64);
    }
    Ok(median(ns))
}
