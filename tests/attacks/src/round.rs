//! The rounds of one attack: the client beside the attack, beside one that only burns time, beside
//! one that only fills memory, and alone.

use crate::attack::{Attack, Found};
use crate::child::{Orders, Role};
use crate::owner::{self, Usage, Watch};
use crate::report::Outcome;
use crate::stage::Stage;
use crate::users::{MEMBERS, NOBODY_ELSE, VICTIM};
use crate::victim::Seen;
use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use std::path::Path;
use std::time::{Duration, Instant};
use test_support::servers::PATIENCE;

/// Descriptors that the daemon may have opened for itself meanwhile: those of the status server's
/// client, and files that it opens when it first needs them.
const OWN_DESCRIPTORS: u64 = 4;
/// Time for an attack that is run once.
const ONCE: Duration = Duration::from_millis(300);

/// Runs an attack, with fresh daemon.
pub fn run(program: &Path, attack: &Attack, rounds: u32, time: Duration) -> Result<Outcome> {
    let mut stage = Stage::start(program)?;
    let mut outcome = Outcome::new(attack.name, attack.is_member, attack.defence);
    // What it opens with its first client stays open.
    owner::stats(&stage.socket())?;
    let before = Usage::of(stage.pid())?;
    for _ in 0..rounds {
        let (attacked, found) = beside(&stage, "attack", attack, time)?;
        let mut compared = Vec::new();
        for role in ["burn", "fill", "wait"] {
            compared.push(beside(&stage, role, attack, time)?.0.0);
        }
        outcome.add(attacked, &compared, found);
    }
    if rounds == 0 {
        let (attacked, found) = beside(&stage, "attack", attack, ONCE)?;
        outcome.add(attacked, &[], found);
    }
    outcome.resident_before_kib = before.resident_kib;
    outcome.descriptors_before = before.descriptors;
    outcome.descriptors_left = descriptors_left(&stage, before.descriptors)?;
    if outcome.descriptors_left > 0 {
        outcome.breaches.push(format!("{} descriptors are left", outcome.descriptors_left));
    }
    outcome.breaches.extend(stage.faults()?);
    if attack.name == "table-file" {
        restarts_in_spite_of_locks(&mut stage, attack, &mut outcome)?;
    }
    Ok(outcome)
}

/// The client beside an attack, or beside a process of the same user that plays another role.
fn beside(
    stage: &Stage,
    role: &str,
    attack: &Attack,
    time: Duration,
) -> Result<((Seen, u64, u64), Found)> {
    let gid = if attack.is_member { MEMBERS } else { NOBODY_ELSE };
    let orders = Orders { gid, ..stage.orders(attack.name) };
    let ms = u64::try_from(time.as_millis())?;
    let watch = Watch::over(stage.pid());
    let attacker = Role::start(role, &orders)?;
    let victim = Orders { uid: VICTIM, gid: MEMBERS, ms, ..orders };
    let victim = Role::start("victim", &victim)?;
    let seen: Seen = victim.end().context("the client that follows the rules")?;
    let found = attacker.end().with_context(|| format!("the attack {}", attack.name))?;
    let (resident_kib, descriptors) = watch.greatest();
    Ok(((seen, resident_kib, descriptors), found))
}

/// Descriptors that the daemon has more than before the attack, once all of its peers are gone.
fn descriptors_left(stage: &Stage, before: u64) -> Result<u64> {
    let begun = Instant::now();
    loop {
        let now = Usage::of(stage.pid())?.descriptors;
        if now <= before + OWN_DESCRIPTORS {
            return Ok(0);
        }
        if begun.elapsed() > PATIENCE {
            return Ok(now - before);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A reader that holds every lock that it can get keeps no daemon from starting again, with the
/// table.
fn restarts_in_spite_of_locks(
    stage: &mut Stage,
    attack: &Attack,
    outcome: &mut Outcome,
) -> Result<()> {
    let entries = |stage: &Stage| -> Result<u64> {
        let stats = owner::stats(&stage.socket())?;
        stats.pointer("/table/entries").and_then(serde_json::Value::as_u64).context("entries")
    };
    let before = entries(stage)?;
    let orders = stage.orders(attack.name);
    let attacker = Role::start("attack", &orders)?;
    // Its locks are there when it has said so, which is at its end; it keeps them meanwhile.
    std::thread::sleep(ONCE);
    stage.end(Signal::SIGKILL)?;
    stage.restart()?;
    let after = entries(stage)?;
    let _: Found = attacker.end()?;
    if before == 0 || after != before {
        outcome.breaches.push(format!("{before} entries before a restart, {after} after"));
    }
    outcome.attempts.push("keep the daemon from starting, by locks: it starts, warm".into());
    Ok(())
}
