//! The fault point at which this process ends.

use nix::sys::signal::{Signal, kill};
use nix::unistd::getpid;
use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};

struct Fault {
    name: String,
    /// Times that the point will be passed before.
    passes: AtomicU64,
}

static FAULT: OnceLock<Fault> = OnceLock::new();
static COUNTS: OnceLock<Mutex<Counts>> = OnceLock::new();

struct Counts {
    file: File,
    hits: HashMap<&'static str, u64>,
}

/// Arms the point that `L1D_FAULT` names, if it is set; or else has points counted in the file
/// that `L1D_FAULT_COUNTS` names: a line with name and count whenever that is a power of two.
pub fn from_environment() {
    if let Ok(text) = std::env::var("L1D_FAULT") {
        let (name, nth) = text.split_once(':').unwrap_or((&text, "1"));
        let nth: u64 = nth.parse().expect("L1D_FAULT=NAME[:NTH]");
        let passes = AtomicU64::new(nth.saturating_sub(1));
        let _ = FAULT.set(Fault { name: name.into(), passes });
        shm_layout::fault::set_hook(end);
    } else if let Some(path) = std::env::var_os("L1D_FAULT_COUNTS") {
        let file = File::options().append(true).create(true).open(path).expect("a file for counts");
        let _ = COUNTS.set(Mutex::new(Counts { file, hits: HashMap::new() }));
        shm_layout::fault::set_hook(count);
    }
}

fn end(name: &'static str) {
    let Some(fault) = FAULT.get().filter(|fault| fault.name == name) else { return };
    let count_down = |passes: u64| passes.checked_sub(1);
    if fault.passes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count_down).is_err() {
        let _ = kill(getpid(), Signal::SIGKILL);
        // No thread of the process returns from that call.
        std::process::abort();
    }
}

fn count(name: &'static str) {
    let Some(Ok(mut counts)) = COUNTS.get().map(Mutex::lock) else { return };
    let hits = counts.hits.entry(name).or_default();
    *hits += 1;
    if hits.is_power_of_two() {
        let line = format!("{name} {hits}\n");
        counts.file.write_all(line.as_bytes()).expect("the file for counts");
    }
}
