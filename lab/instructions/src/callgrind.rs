//! Legs of work whose instructions callgrind counts.
//!
//! The program that is counted marks its legs with [`leg`]; [`count`] runs it under valgrind, which
//! collects in nothing but [`counted_work`] and writes a file at each end of it.

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;
use std::process::{Command, Stdio};

/// As valgrind knows [`counted_work`].
const FUNCTION: &str = "l1d_instructions::callgrind::counted_work";
const FILE: &str = "counts";

/// What one leg came to.
#[derive(Debug, Clone, Serialize)]
pub struct Count {
    /// What was done.
    pub name: String,
    /// Instructions, each time.
    pub instructions: f64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Leg {
    name: String,
    times: u64,
}

/// Does `work`, which does something `times` times, as a leg of this name. A name may have several
/// legs, of which the least counts.
pub fn leg(name: &str, times: u64, mut work: impl FnMut() -> bool) -> bool {
    let leg = Leg { name: name.to_owned(), times };
    println!("{}", serde_json::to_string(&leg).unwrap_or_default());
    let mut is_right = false;
    counted_work(&mut || is_right = work());
    is_right
}

/// The function in which valgrind counts: not generic, as it is known by its name.
#[inline(never)]
pub fn counted_work(work: &mut dyn FnMut()) {
    work();
    // Behind the call, so that this function's end is behind the work's.
    black_box(());
}

/// Runs a program that does legs, and nothing else on stdout, under callgrind. In the order of the
/// first leg of each name.
///
/// # Errors
/// There is no valgrind, the program failed, or what it did is not what was counted.
pub fn count(program: &Path, arguments: &[&str]) -> Result<Vec<Count>> {
    let directory = tempfile::tempdir().context("cannot make a directory for callgrind's files")?;
    let file = directory.path().join(FILE);
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--quiet"]);
    command.arg(format!("--toggle-collect={FUNCTION}")).arg(format!("--dump-after={FUNCTION}"));
    command.arg(format!("--callgrind-out-file={}", file.display())).arg(program).args(arguments);
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run valgrind: install it (Debian package valgrind)")?;
    ensure!(output.status.success(), "under valgrind, the program ended with {}", output.status);
    let text = String::from_utf8(output.stdout).context("the program under valgrind")?;
    let legs: Result<Vec<Leg>, _> = text.lines().map(serde_json::from_str).collect();
    let legs = legs.context("what the program under valgrind said is no leg")?;
    let mut least: Vec<Count> = Vec::new();
    let mut places = BTreeMap::new();
    for (number, leg) in (1..).zip(&legs) {
        let dump = directory.path().join(format!("{FILE}.{number}"));
        let instructions = total(&dump)? as f64 / leg.times as f64;
        let place = *places.entry(leg.name.as_str()).or_insert(least.len());
        match least.get_mut(place) {
            Some(count) => count.instructions = count.instructions.min(instructions),
            None => least.push(Count { name: leg.name.clone(), instructions }),
        }
    }
    if directory.path().join(format!("{FILE}.{}", legs.len() + 1)).exists() {
        bail!("callgrind has counted more than the {} legs that were done", legs.len());
    }
    Ok(least)
}

fn total(dump: &Path) -> Result<u64> {
    let text = std::fs::read_to_string(dump).with_context(|| {
        format!("valgrind has not written {}: it does not know {FUNCTION}", dump.display())
    })?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: ")?.trim().parse().ok());
    total.with_context(|| format!("no total in {}", dump.display()))
}
