//! An attack, and what it finds.

use nix::errno::Errno;
use serde::{Deserialize, Serialize};
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// One attack.
pub struct Attack {
    pub name: &'static str,
    /// It may attach: a member of the socket's group.
    pub is_member: bool,
    /// What holds it off.
    pub defence: &'static str,
    pub run: fn(&Target, &mut Found),
}

/// A running daemon, as its attacker knows it.
#[derive(Debug, Clone)]
pub struct Target {
    pub socket: PathBuf,
    pub status: PathBuf,
    /// The directory of the table.
    pub tables: PathBuf,
    pub pid: i32,
    /// Set when the attack is to end.
    pub is_over: Arc<AtomicBool>,
}

impl Target {
    pub fn goes_on(&self) -> bool {
        !self.is_over.load(Ordering::Relaxed)
    }

    /// Sleeps until the attack is to end.
    pub fn wait(&self) {
        while self.goes_on() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn table(&self) -> PathBuf {
        self.tables.join("table")
    }
}

/// What an attack has found out.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Found {
    /// Single attempts, and what came of them.
    pub attempts: Vec<String>,
    /// What should not have been possible.
    pub breaches: Vec<String>,
    /// How often the attack was repeated.
    pub repeats: u64,
}

impl Found {
    /// An attempt that the system must refuse, with one of these errors.
    pub fn refused<T>(&mut self, what: &str, outcome: nix::Result<T>, with: &[Errno]) {
        match outcome {
            Err(errno) if with.contains(&errno) => self.attempts.push(format!("{what}: {errno:?}")),
            Err(errno) => self.breaches.push(format!("{what}: {errno:?}, expected {with:?}")),
            Ok(_) => self.breaches.push(format!("{what}: succeeded")),
        }
    }

    /// An attempt that may succeed, because it does no harm.
    pub fn harmless<T>(&mut self, what: &str, outcome: nix::Result<T>) {
        let outcome =
            outcome.err().map_or("done, without harm".into(), |errno| format!("{errno:?}"));
        self.attempts.push(format!("{what}: {outcome}"));
    }

    pub fn says(&mut self, what: impl Display) {
        self.attempts.push(what.to_string());
    }

    pub fn expects(&mut self, holds: bool, what: impl Display) {
        if !holds {
            self.breaches.push(what.to_string());
        }
    }
}

/// What an error of the standard library was.
pub fn errno<T>(outcome: std::io::Result<T>) -> nix::Result<T> {
    outcome.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))
}

/// Opens a file, to say whether that is possible.
pub fn open(path: &Path, write: bool) -> nix::Result<std::fs::File> {
    errno(std::fs::OpenOptions::new().read(true).write(write).open(path))
}
