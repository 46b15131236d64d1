//! A worker's bookkeeping between two reports.

use super::report::{Message, Report};
use super::store::{Answer, Store};
use super::{scenario, signal_interval, stamped};
use crate::clock::monotonic_ns;
use anyhow::Result;
use std::io::Write;
use std::time::{Duration, Instant};

const REPORT_INTERVAL: Duration = Duration::from_millis(250);

/// A signal that is older than this beyond its interval has been followed by another, which is not
/// yet counted against anyone while it may still be on its way.
const OUTDATED_SLACK_US: u64 = 100_000;

/// Counts what a worker does, and tells its parent.
pub struct Tally {
    report: Report,
    next: Instant,
    /// What measuring takes by itself.
    clock_ns: u64,
    /// Age from which a signal is out of date.
    outdated_us: u64,
    /// The newest version that was seen of each key.
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
            // Version 1 of every key is there before the play begins, so seeing it is no news.
            newest: vec![1; keys],
            value: Vec::new(),
        }
    }

    /// Reads a key, and takes note of what it gave and how long it took.
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
                self.look_at(store, position);
            }
            Err(error) => report.failed(&error),
        }
    }

    /// Writes a value, and takes note of how long it took or that it failed.
    ///
    /// # Errors
    /// Why it was not taken.
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

    /// A new value of a signal is out.
    pub fn signal_published(&mut self) {
        self.report.signals += 1;
    }

    /// What the value just read says of itself.
    fn look_at(&mut self, store: &Store, position: usize) {
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

    /// Tells the parent, when it is time to.
    pub fn report(&mut self, store: &Store, out: &mut impl Write) -> Result<()> {
        if Instant::now() < self.next {
            return Ok(());
        }
        self.next = Instant::now() + REPORT_INTERVAL;
        self.report_now(store, out)
    }

    /// Tells the parent what it does not know yet.
    pub fn report_now(&mut self, store: &Store, out: &mut impl Write) -> Result<()> {
        let mut report = Box::new(std::mem::take(&mut self.report));
        (report.copies, report.copies_bytes) = store.copies();
        send(&Message::Report(report), out)
    }
}

impl Report {
    fn failed(&mut self, error: &anyhow::Error) {
        self.errors += 1;
        self.last_error = Some(format!("{error:#}"));
    }
}

/// One line to the parent.
pub fn send(message: &Message, out: &mut impl Write) -> Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    out.write_all(&line)?;
    Ok(out.flush()?)
}

/// The least time between two looks at the clock.
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
