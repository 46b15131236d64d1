//! Messages from the processes of the demo to their parent, one JSON document per line.

use super::durations::Durations;
use super::screen::Screen;
use serde::{Deserialize, Serialize};

/// One line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "message", rename_all = "kebab-case")]
pub enum Message {
    /// Everything that must precede the play is done.
    Ready,
    /// Counts since the last report.
    Report(Box<Report>),
    /// What its dashboard shows.
    Screen(Screen),
    /// The process cannot continue.
    Failed {
        /// Why.
        reason: String,
        /// A tier is to blame.
        tier: bool,
    },
}

/// Counts since the last report; `copies` and `copies_bytes` are current values.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Report {
    pub reads: u64,
    /// Reads that L1 answered.
    pub hits: u64,
    /// Reads that found no value.
    pub missing: u64,
    /// Values that were torn or belonged to another key.
    pub damaged: u64,
    /// Reads and writes that failed.
    pub errors: u64,
    /// The message of the last error.
    pub last_error: Option<String>,
    pub writes: u64,
    /// New values of signals: published by a monitoring process, seen for the first time by a web
    /// process.
    pub signals: u64,
    /// Reads of a signal that returned an old value although a newer one had been published.
    pub outdated: u64,
    /// Values in this process's own L1.
    pub copies: u64,
    /// Bytes of their keys and values.
    pub copies_bytes: u64,
    /// Duration of a read, in ns.
    pub read_ns: Durations,
    /// Duration of a write, in ns.
    pub write_ns: Durations,
    /// Age of a signal at each read, in µs.
    pub signal_age_us: Durations,
}

impl Report {
    /// Adds a later report of the same process.
    pub fn add(&mut self, later: &Report) {
        self.add_counts(later);
        (self.copies, self.copies_bytes) = (later.copies, later.copies_bytes);
    }

    /// Adds only the new signals of a later report.
    pub fn add_news(&mut self, later: &Report) {
        self.signals += later.signals;
    }

    /// Adds the report of another process: copies add up.
    pub fn add_process(&mut self, other: &Report) {
        self.add_counts(other);
        self.copies += other.copies;
        self.copies_bytes += other.copies_bytes;
    }

    /// Share of reads that L1 answered, 0 to 1.
    pub fn hit_ratio(&self) -> f64 {
        if self.reads == 0 { 0.0 } else { self.hits as f64 / self.reads as f64 }
    }

    /// Share of the signals read that were out of date, 0 to 1.
    pub fn outdated_ratio(&self) -> f64 {
        match self.signal_age_us.count() {
            0 => 0.0,
            reads => self.outdated as f64 / reads as f64,
        }
    }

    fn add_counts(&mut self, other: &Report) {
        self.reads += other.reads;
        self.hits += other.hits;
        self.missing += other.missing;
        self.damaged += other.damaged;
        self.errors += other.errors;
        if other.last_error.is_some() {
            self.last_error.clone_from(&other.last_error);
        }
        self.writes += other.writes;
        self.signals += other.signals;
        self.outdated += other.outdated;
        self.read_ns.add(&other.read_ns);
        self.write_ns.add(&other.write_ns);
        self.signal_age_us.add(&other.signal_age_us);
    }
}
