//! What one process's dashboard shows at a moment: some of the signals, as the process reads them.

use super::clock::monotonic_ns;
use super::report::Message;
use super::scenario::{SIGNALS, SYMBOLS};
use super::stamped;
use super::store::{Answer, Store};
use super::tally::send;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::time::{Duration, Instant};

/// Signals on a dashboard.
pub const SHOWN: usize = 20;

const INTERVAL: Duration = Duration::from_millis(250);

/// A dashboard at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Screen {
    /// CLOCK_MONOTONIC before the first signal was read.
    pub at_ns: u64,
    /// The signals, always the same ones.
    pub signals: Vec<Shown>,
}

/// A signal as a process reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// Number of its symbol.
    pub symbol: usize,
    /// Which of the symbol's signals it is, from 1; 0: there is no value.
    pub version: u64,
    /// Its age in milliseconds.
    pub age_ms: u64,
}

/// Sends the parent what the dashboard of this process shows, some times a second.
pub struct Screens {
    next: Option<Instant>,
    positions: Vec<usize>,
    value: Vec<u8>,
}

impl Screens {
    /// Without `is_shown` it sends nothing.
    pub fn new(store: &Store, is_shown: bool) -> Screens {
        // They are spread over all symbols, because a feed's keys take turns within its interval.
        let keys = store.keys().iter().enumerate().filter(|(_, key)| key.feed == SIGNALS);
        let positions = keys.map(|(position, _)| position).step_by(SYMBOLS / SHOWN).collect();
        Screens { next: is_shown.then(Instant::now), positions, value: Vec::new() }
    }

    /// Reads the signals and sends them, when it is time to. These reads are not counted.
    ///
    /// # Errors
    /// The parent is gone.
    pub fn show(&mut self, store: &mut Store, out: &mut impl Write) -> Result<()> {
        let Some(next) = self.next.filter(|next| Instant::now() >= *next) else { return Ok(()) };
        self.next = Some(next.max(Instant::now()) + INTERVAL);
        let first = self.positions.first().copied().unwrap_or(0);
        let at_ns = monotonic_ns();
        let mut signals = Vec::with_capacity(SHOWN);
        for &position in &self.positions {
            let answer = store.read(position, &mut self.value);
            let is_there = answer.is_ok_and(|answer| answer != Answer::Missing);
            let stamp = stamped::decode(store.name(position), &self.value).ok();
            let stamp = stamp.filter(|_| is_there);
            signals.push(Shown {
                symbol: position - first,
                version: stamp.map_or(0, |stamp| stamp.version),
                age_ms: stamp.map_or(0, |stamp| {
                    monotonic_ns().saturating_sub(stamp.published_ns) / 1_000_000
                }),
            });
        }
        send(&Message::Screen(Screen { at_ns, signals }), out)
    }
}
