//! The daemon as seen from outside.

use anyhow::{Context, Result};
use l1d_client::Client;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use test_support::servers::PATIENCE;

const SAMPLED_EVERY: Duration = Duration::from_millis(20);

/// What a daemon takes of the system.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    pub resident_kib: u64,
    pub descriptors: u64,
}

impl Usage {
    pub fn of(pid: i32) -> Result<Usage> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let figure = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
        };
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd"))?.count() as u64;
        Ok(Usage { resident_kib: figure("VmRSS:"), descriptors })
    }
}

/// Samples the greatest usage until it is asked for.
pub struct Watch {
    is_over: Arc<AtomicBool>,
    greatest: Arc<[AtomicU64; 2]>,
    thread: JoinHandle<()>,
}

impl Watch {
    pub fn over(pid: i32) -> Watch {
        let is_over = Arc::new(AtomicBool::new(false));
        let greatest = Arc::new([const { AtomicU64::new(0) }; 2]);
        let thread = std::thread::spawn({
            let (is_over, greatest) = (Arc::clone(&is_over), Arc::clone(&greatest));
            move || {
                while !is_over.load(Ordering::Relaxed) {
                    if let Ok(usage) = Usage::of(pid) {
                        greatest[0].fetch_max(usage.resident_kib, Ordering::Relaxed);
                        greatest[1].fetch_max(usage.descriptors, Ordering::Relaxed);
                    }
                    std::thread::sleep(SAMPLED_EVERY);
                }
            }
        });
        Watch { is_over, greatest, thread }
    }

    /// KiB of resident memory, and descriptors.
    pub fn greatest(self) -> (u64, u64) {
        self.is_over.store(true, Ordering::Relaxed);
        let _ = self.thread.join();
        let [resident, descriptors] = &*self.greatest;
        (resident.load(Ordering::Relaxed), descriptors.load(Ordering::Relaxed))
    }
}

/// A client of this process, which is root's.
pub fn connect(socket: &Path) -> Result<Client> {
    let builder = Client::builder().socket(socket).deadline(PATIENCE).attach_deadline(PATIENCE);
    builder.connect().context("root cannot attach")
}

/// What the daemon itself finds wrong with its table.
pub fn violations(socket: &Path) -> Result<Vec<String>> {
    let report: Value = serde_json::from_str(&connect(socket)?.admin().check_json()?)?;
    let is_sound = report["violation_count"] == 0;
    Ok(if is_sound { vec![] } else { vec![format!("the table is damaged: {report}")] })
}

/// The daemon's figures.
pub fn stats(socket: &Path) -> Result<Value> {
    Ok(serde_json::from_str(&connect(socket)?.admin().stats_json()?)?)
}

/// The mappings of a process whose file has one of these names, and whether each is left out of
/// core dumps: `dd` among its flags.
pub fn mappings(pid: u32, names: &[&str]) -> Result<Vec<Map>> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps"))?;
    let mut maps: Vec<Map> = Vec::new();
    let mut is_named = false;
    for line in text.lines() {
        let first = line.split_whitespace().next().unwrap_or_default();
        if let Some((begin, end)) = first.split_once('-').filter(|_| !first.ends_with(':')) {
            is_named = names.iter().any(|name| line.contains(name));
            if is_named {
                let [begin, end] = [begin, end].map(|text| u64::from_str_radix(text, 16));
                let (range, name) = (begin?..end?, line.to_owned());
                maps.push(Map { range, name, is_dumped: true });
            }
        } else if is_named
            && let Some(flags) = line.strip_prefix("VmFlags:")
            && let Some(map) = maps.last_mut()
        {
            map.is_dumped = !flags.split_whitespace().any(|flag| flag == "dd");
        }
    }
    Ok(maps)
}

/// A mapping of a process.
#[derive(Debug, Clone)]
pub struct Map {
    pub range: std::ops::Range<u64>,
    pub name: String,
    pub is_dumped: bool,
}
