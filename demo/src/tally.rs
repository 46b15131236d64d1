//! A worker's counts between two reports.

use super::clock::monotonic_ns;
use super::report::{Message, Report};
use super::store::{Answer, Store};
use super::{scenario, signal_interval, stamped};
use anyhow::Result;
use l1d_wire::words;
use std::io::Write;
use std::time::{Duration, Instant};

const REPORT_INTERVAL: Duration = Duration::from_millis(250);

/// A signal counts as outdated when its age exceeds the interval by more than this: until then, its
/// successor may still be under way.
const OUTDATED_SLACK_US: u64 = 100_000;

/// Counts a worker's reads and writes, and reports them to its parent.
pub struct Tally {
    report: Report,
    next: Instant,
    /// The time that reading the clock takes.
    clock_ns: u64,
    /// Age above which a signal is outdated.
    outdated_us: u64,
    /// The newest version seen of each key.
    newest: Vec<u64>,
    value: Vec<u8>,
}

impl Tally {
    pub fn new(keys: usize) -> Tally {
        Tally {
            report: Report::default(),
            next: Instant::now() + REPORT_INTERVAL,
            clock_ns: clock_ns(),
            outdated_us: microseconds(signal_interval()) + OUTDATED_SLACK_US,
            // Version 1 of every key exists before the play begins.
            newest: vec![1; keys],
            value: Vec::new(),
        }
    }

    /// Reads a key, and records the answer and the time.
    pub fn read(&mut self, store: &mut Store, position: usize) {
        let before = Instant::now();
        let answer = store.read(position, &mut self.value);
        let ns = nanoseconds(before.elapsed()).saturating_sub(self.clock_ns);
        let report = &mut self.report;
        report.reads += 1;
        match answer {
            Ok(Answer::Missing) => report.missing += 1,
            Ok(answer) => {
                report.read_ns.record(ns);
                report.hits += u64::from(answer == Answer::L1);
                self.check_stamp(store, position);
            }
            Err(error) => report.failed(&error),
        }
    }

    /// Writes a value, and records the time or the failure.
    ///
    /// # Errors
    /// The value was not stored.
    pub fn write(&mut self, store: &mut Store, position: usize, value: &[u8]) -> Result<()> {
        let before = Instant::now();
        let written = store.write(position, value);
        let ns = nanoseconds(before.elapsed());
        match written {
            Ok(()) => {
                self.report.writes += 1;
                self.report.write_ns.record(ns);
                Ok(())
            }
            Err(error) => {
                self.report.failed(&error);
                Err(error)
            }
        }
    }

    /// Counts a published signal.
    pub fn signal_published(&mut self) {
        self.report.signals += 1;
    }

    /// Checks the stamp of the value just read.
    fn check_stamp(&mut self, store: &Store, position: usize) {
        let report = &mut self.report;
        let Ok(stamp) = stamped::decode(store.name(position), &self.value) else {
            report.damaged += 1;
            return;
        };
        let is_signal = store.keys().get(position).is_some_and(|key| key.feed == scenario::SIGNALS);
        if !is_signal {
            return;
        }
        let age_us = monotonic_ns().saturating_sub(stamp.published_ns) / 1000;
        report.signal_age_us.record(age_us);
        report.outdated += u64::from(age_us > self.outdated_us);
        if let Some(newest) = self.newest.get_mut(position)
            && stamp.version > *newest
        {
            *newest = stamp.version;
            report.signals += 1;
        }
    }

    /// Reports to the parent when a report is due.
    pub fn report(&mut self, store: &Store, out: &mut impl Write) -> Result<()> {
        if Instant::now() < self.next {
            return Ok(());
        }
        self.next = Instant::now() + REPORT_INTERVAL;
        self.report_now(store, out)
    }

    /// Reports to the parent all counts since the last report.
    pub fn report_now(&mut self, store: &Store, out: &mut impl Write) -> Result<()> {
        let mut report = Box::new(std::mem::take(&mut self.report));
        (report.copies, report.copies_bytes) = store.copies();
        send(&Message::Report(report), out)
    }
}

impl Report {
    fn failed(&mut self, error: &anyhow::Error) {
        self.errors += 1;
        self.last_error = Some(words::chain(error.as_ref()));
    }
}

/// Sends one line to the parent.
pub fn send(message: &Message, out: &mut impl Write) -> Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    out.write_all(&line)?;
    Ok(out.flush()?)
}

/// The shortest time between two readings of the clock.
fn clock_ns() -> u64 {
    let least = (0..1000).map(|_| Instant::now().elapsed()).min();
    least.map_or(0, nanoseconds)
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
