//! Core dumps: neither the daemon's nor a client's has bytes of the table or of a mailbox.

use crate::child::{Orders, Role};
use crate::owner::{Map, mappings};
use crate::report::Outcome;
use crate::stage::Stage;
use crate::users::VICTIM;
use anyhow::{Context, Result};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};
use test_support::servers::PATIENCE;

const DEFENCE: &str = "MADV_DONTDUMP on all mappings of tables and mailboxes; the system's \
                       daemon is not dumpable at all; LimitCORE=0 in its unit";
const MAILBOX: &str = "memfd:l1d-mailbox";

/// Looks at the mappings' flags, and at real cores where the kernel writes them to files.
pub fn run(program: &Path) -> Result<Outcome> {
    let mut outcome = Outcome::new("core-dumps", true, DEFENCE);
    let unlimited = nix::sys::resource::RLIM_INFINITY;
    // For the daemon; where it is refused, only the flags are looked at.
    let _ = setrlimit(Resource::RLIMIT_CORE, unlimited, unlimited);
    let mut stage = Stage::start(program)?;
    // It is looked at while it runs, and is ended by its end.
    let orders = Orders { uid: VICTIM, ms: 500, ..stage.orders("") };
    let client = Role::start("victim", &orders)?;
    let table = stage.tables().display().to_string();
    let of = |pid| mappings(pid, &[table.as_str(), MAILBOX]);
    let daemon = of(stage.pid().unsigned_abs())?;
    for (whose, maps) in [("the daemon", &daemon), ("a client", &of(client.pid())?)] {
        outcome.attempts.push(format!("mappings of {whose}: {}", maps.len()));
        // A table and a mailbox at least.
        for name in [table.as_str(), MAILBOX] {
            if !maps.iter().any(|map| map.name.contains(name)) {
                outcome.breaches.push(format!("{whose} has no mapping {name} to look at"));
            }
        }
        let dumped = maps.iter().filter(|map| map.is_dumped);
        outcome.breaches.extend(dumped.map(|map| format!("{whose} would dump {}", map.name)));
    }
    stage.end(Signal::SIGABRT)?;
    match core_in(stage.directory())? {
        None => outcome.attempts.push("NOT TESTED: this kernel writes no core file".into()),
        Some(core) => {
            let dumped = dumped(&core, &daemon).context("the core is no ELF file")?;
            outcome.attempts.push(format!(
                "a core of the daemon of {} KiB, with {dumped} bytes of table and mailboxes",
                core.len() >> 10
            ));
            if dumped > 0 {
                outcome.breaches.push(format!("{dumped} bytes of table and mailboxes in a core"));
            }
        }
    }
    Ok(outcome)
}

/// The core file in the daemon's directory, if the kernel writes one there.
fn core_in(directory: &Path) -> Result<Option<Vec<u8>>> {
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern")?;
    if pattern.trim() != "core" && pattern.trim() != "core.%p" {
        return Ok(None);
    }
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with("core") {
                return Ok(Some(fs::read(entry.path())?));
            }
        }
        // The process has ended, so its core is there unless there is a limit.
        std::thread::sleep(Duration::from_millis(50));
        if begun.elapsed() > Duration::from_secs(1) {
            break;
        }
    }
    Ok(None)
}

/// Bytes of these mappings in an ELF core: of its segments that have content.
fn dumped(core: &[u8], maps: &[Map]) -> Option<u64> {
    let word = |at: usize| Some(u64::from_le_bytes(core.get(at..at + 8)?.try_into().ok()?));
    let half = |at: usize| Some(u16::from_le_bytes(core.get(at..at + 2)?.try_into().ok()?));
    if core.get(..4)? != b"\x7fELF" {
        return None;
    }
    let (first, bytes, count) = (usize::try_from(word(32)?).ok()?, half(54)?, half(56)?);
    let mut dumped = 0;
    for number in 0..count {
        let at = first + usize::from(number) * usize::from(bytes);
        let (begin, content) = (word(at + 16)?, word(at + 32)?);
        let overlaps = maps.iter().map(|map| overlap(&map.range, &(begin..begin + content)));
        dumped += overlaps.sum::<u64>();
    }
    Some(dumped)
}

fn overlap(one: &Range<u64>, other: &Range<u64>) -> u64 {
    one.end.min(other.end).saturating_sub(one.start.max(other.start))
}
