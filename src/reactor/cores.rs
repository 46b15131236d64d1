//! Detects whether the machine has a core to spare for polling.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// Time between two looks. One costs 2 us, as much as eight empty polls.
const INTERVAL: Duration = Duration::from_micros(100);
/// Queries between two measurements: a loop that hardly polls has nothing to save.
const QUESTIONS: u32 = 32;
/// Counts are kept in this fraction of a thread.
const UNIT: usize = 16;
/// More runnable threads than any machine has cores.
const UNKNOWN: usize = usize::MAX / 2;

/// The mean number of runnable threads on the machine in the last millisecond, from
/// `/proc/loadavg`, against the cores that this process may use. A mean, because a single look
/// finds threads that are about to sleep.
#[derive(Debug)]
pub struct Cores {
    loadavg: Option<File>,
    cores: usize,
    looked: Option<Instant>,
    /// Questions since then.
    asked: u32,
    /// Mean number of runnable threads, in units.
    runnable: usize,
}

impl Cores {
    /// Finds out how many cores there are.
    #[must_use]
    pub fn new() -> Cores {
        Cores {
            loadavg: File::open("/proc/loadavg").ok(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            looked: None,
            asked: 0,
            runnable: UNKNOWN,
        }
    }

    /// Hardly any thread waits for a core while the caller, which is running, keeps its own, and
    /// `more` sleeping threads could run as well. `false` if that cannot be known.
    pub fn has_spare(&mut self, more: usize, now: Instant) -> bool {
        if self.cores < 2 {
            return false;
        }
        self.asked = self.asked.saturating_add(1);
        let is_due = self.asked >= QUESTIONS
            && self.looked.is_some_and(|looked| now.saturating_duration_since(looked) >= INTERVAL);
        if is_due || self.looked.is_none() {
            (self.looked, self.asked) = (Some(now), 0);
            self.runnable = match self.look() {
                Some(seen) if self.runnable == UNKNOWN => seen * UNIT,
                Some(seen) => (self.runnable * 7 + seen * UNIT) / 8,
                None => UNKNOWN,
            };
        }
        self.runnable + more * UNIT <= self.cores * UNIT + UNIT / 2
    }

    /// Runnable threads, the caller among them.
    fn look(&self) -> Option<usize> {
        let mut text = [0; 64];
        let bytes = self.loadavg.as_ref()?.read_at(&mut text, 0).ok()?;
        // "0.20 0.18 0.12 1/80 11206": runnable threads stand before the slash.
        let fourth = text.get(..bytes)?.split(|&byte| byte == b' ').nth(3)?;
        let runnable = fourth.split(|&byte| byte == b'/').next()?;
        std::str::from_utf8(runnable).ok()?.parse().ok()
    }
}

impl Default for Cores {
    fn default() -> Cores {
        Cores::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caller_itself_is_runnable() {
        assert!(Cores::new().look().unwrap() >= 1);
    }

    #[test]
    fn one_core_is_never_spare() {
        let mut cores = Cores { cores: 1, ..Cores::new() };
        assert!(!cores.has_spare(0, Instant::now()));
    }
}
