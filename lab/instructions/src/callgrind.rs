//! Legs of work whose instructions callgrind counts.
//!
//! The counted program marks its legs with [`leg`]; [`count`] runs it under valgrind, which counts
//! only inside [`counted_work`] and writes a file at the end of each call.

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;
use std::process::{Command, Stdio};

/// The name of [`counted_work`] for valgrind.
const FUNCTION: &str = "l1d_instructions::callgrind::counted_work";
const FILE: &str = "counts";

/// The count of a leg.
#[derive(Debug, Clone, Serialize)]
pub struct Count {
    /// The leg's name.
    pub name: String,
    /// Instructions per repetition.
    pub instructions: f64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Leg {
    name: String,
    times: u64,
}

/// Runs `work`, which repeats an operation `times` times, as a leg with this name. If a name has
/// several legs, the smallest count is taken.
pub fn leg(name: &str, times: u64, mut work: impl FnMut() -> bool) -> bool {
    let leg = Leg { name: name.to_owned(), times };
    println!("{}", serde_json::to_string(&leg).unwrap_or_default());
    let mut is_right = false;
    counted_work(&mut || is_right = work());
    is_right
}

/// The function in which valgrind counts. Not generic, because valgrind finds it by name.
#[inline(never)]
pub fn counted_work(work: &mut dyn FnMut()) {
    work();
    // After the call, so that it is no tail call and this function ends after the work.
    black_box(());
}

/// Runs a program that runs legs and prints nothing else on stdout under callgrind. Returns the
/// counts in the order of each name's first leg.
///
/// # Errors
/// There is no valgrind, the program failed, or the counts do not match its legs.
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
