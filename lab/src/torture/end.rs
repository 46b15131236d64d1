//! The end of a mode: every key is read once more, in L1 and in the store of record, the table's
//! invariants are checked, and bits are flipped inside values.

use super::flips;
use super::ledger::Count;
use super::mode::Mode;
use super::run::Run;
use super::worker::key;
use crate::random::Random;
use anyhow::{Context, Result};
use l1d_client::Client;
use l1d_demo::stamped::decode;
use l1d_wire::snapshot::Snapshot;
use serde_json::Value;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use test_support::servers::Client as Plain;

/// Values in which a bit is flipped.
const VALUES: usize = 40;
const PATIENCE: Duration = Duration::from_secs(20);
/// Of all entries at all kills of the daemon, this part may be lost: one in a thousand.
const KEPT_MIN: u64 = 1000;

/// Verifies what is left when all clients have ended.
///
/// # Errors
/// The daemon does not start or answer.
pub fn verify(run: &mut Run<'_>) -> Result<()> {
    if run.mode == Mode::Flips {
        // What was flipped last is found by a restart.
        run.kill(Duration::ZERO)?;
    }
    let client = run.daemon.client()?;
    verify_keys(run, &client)?;
    let settled = Instant::now();
    while violations(&client)? > 0 || is_verifying(&client)? {
        if settled.elapsed() > PATIENCE {
            let report = client.admin().check_json()?;
            run.ledger.find(&format!("a check of the table: {report}"));
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    if run.mode == Mode::Flips {
        flip_values(run, &client)?;
    }
    if run.mode == Mode::Presence {
        let lost = run.ledger.count(Count::Lost);
        let entries = run.ledger.keys() as u64 * run.part.kills.daemon;
        if lost * KEPT_MIN > entries {
            run.ledger.find(&format!("kills lost {lost} of {entries} entries"));
        }
    }
    drop(client);
    run.terminate()
}

/// Reads every key: from L1 or through it, and from Redis itself.
fn verify_keys(run: &mut Run<'_>, client: &Client) -> Result<()> {
    let servers = run.tiers.as_ref().map(|tiers| tiers.servers().map(|server| server.client()));
    let mut redis: Option<Plain> = servers.map(|[_, redis]| redis);
    for number in 0..run.ledger.keys() {
        let name = key(number);
        let record = run.ledger.record(number);
        let read = record.key.read();
        let value = get(client, &name)?;
        let mut values = vec![("at the end, L1", value)];
        if let Some(redis) = &mut redis {
            values.push(("at the end, Redis", redis.resp_get(name.as_bytes())));
        }
        for (place, value) in values {
            let stamp = value.map(|value| decode(name.as_bytes(), &value)).transpose();
            let judged = match stamp {
                Ok(stamp) => {
                    let judged = record.key.judge(read, stamp.map(|stamp| stamp.version));
                    judged.map_err(|wrong| (wrong.to_string(), stamp.is_none()))
                }
                Err(damage) => Err((damage.to_string(), false)),
            };
            run.part.verified += 1;
            let Err((text, is_missing)) = judged else { continue };
            match run.mode {
                Mode::Flips if is_missing => {}
                Mode::Presence
                    if is_missing && record.kills.load(Ordering::SeqCst) != run.ledger.kills() =>
                {
                    let (change, _) = record.key.acknowledged();
                    let is_new = record.lost.fetch_max(change, Ordering::SeqCst) < change;
                    let is_counted = is_new && record.key.is_settled();
                    run.ledger.add(Count::Lost, u64::from(is_counted));
                }
                _ => run.ledger.find(&format!("{place}, key {number}: {text}")),
            }
        }
    }
    Ok(())
}

/// A read while the tiers recover from their last faults.
fn get(client: &Client, name: &str) -> Result<Option<Vec<u8>>> {
    let begun = Instant::now();
    loop {
        match client.get(name) {
            Ok(value) => return Ok(value.map(l1d_client::Value::into_vec)),
            Err(error) if begun.elapsed() > PATIENCE => return Err(error.into()),
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// The violations that a check of the table finds.
fn violations(client: &Client) -> Result<u64> {
    let report: Value = serde_json::from_str(&client.admin().check_json()?)?;
    report["violation_count"].as_u64().context("a check without a count")
}

fn snapshot(client: &Client) -> Result<Snapshot> {
    Ok(serde_json::from_str(&client.admin().stats_json()?)?)
}

fn is_verifying(client: &Client) -> Result<bool> {
    Ok(snapshot(client)?.table.is_verifying)
}

/// Flips a bit inside values: no reader can tell, a check names each of them, and a restart removes
/// them.
fn flip_values(run: &mut Run<'_>, client: &Client) -> Result<()> {
    let mut random = Random::new(run.options.seed);
    let name = |number: usize| format!("flipped:{number}");
    let values: Vec<Vec<u8>> =
        (0..VALUES).map(|_| (0..40).flat_map(|_| random.word().to_le_bytes()).collect()).collect();
    for (number, value) in values.iter().enumerate() {
        client.set(name(number), value)?;
    }
    let flipped = flips::flip_values(&run.daemon.table(), &values)? as u64;
    let found = violations(client)?;
    run.kill(Duration::ZERO)?;
    let begun = Instant::now();
    while is_verifying(client)? && begun.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(5));
    }
    let removed = snapshot(client)?.table.torn;
    let left =
        (0..VALUES).filter(|number| matches!(client.get(name(*number)), Ok(Some(_)))).count();
    run.part.values_flipped = flipped;
    run.part.values_found_by_check = found;
    run.part.values_found_by_restart = removed;
    let all = VALUES as u64;
    if (flipped, found, removed, left) != (all, all, all, 0) {
        run.ledger.find(&format!(
            "of {VALUES} values with a flipped bit ({flipped} flipped), a check found {found}, a \
             restart removed {removed} and left {left}"
        ));
    }
    Ok(())
}
