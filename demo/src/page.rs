//! The work of a web process: serve pages at an even pace, and watch for new signals.

use super::clock::monotonic_ns;
use super::scenario;
use super::store::Store;
use super::tally::Tally;

/// The time between two pages of one process: 200 pages a second.
pub const INTERVAL_NS: u64 = 5_000_000;

/// Signals that are read with each page, in turn: at 200 pages a second, each of the 200 signals is
/// read twice between two values of it.
const WATCHED: usize = 2;

/// The pages of one web process. Every process has its own slot in the interval, so that pages of
/// different processes do not wait for each other.
pub struct Pages {
    next_ns: u64,
    random: u64,
    watched: usize,
    signals: Vec<usize>,
}

impl Pages {
    /// The pages of the process in slot `slot` of `slots`.
    pub fn new(store: &Store, slot: u32, slots: u32) -> Pages {
        let offset_ns = INTERVAL_NS * u64::from(slot) / u64::from(slots.max(1));
        let begun_ns = monotonic_ns();
        let keys = store.keys().iter().enumerate();
        Pages {
            next_ns: begun_ns - begun_ns % INTERVAL_NS + INTERVAL_NS + offset_ns,
            random: u64::from(slot) + 1,
            watched: 0,
            signals: keys
                .filter(|(_, key)| key.feed == scenario::SIGNALS)
                .map(|(position, _)| position)
                .collect(),
        }
    }

    /// When the next page is due, on CLOCK_MONOTONIC.
    pub fn next_ns(&self) -> u64 {
        self.next_ns
    }

    /// Serves a page. If it took too long, the pages that were due meanwhile are skipped.
    pub fn serve(&mut self, store: &mut Store, tally: &mut Tally) {
        let symbol = scenario::symbol_viewed(self.draw());
        for position in scenario::page(symbol) {
            tally.read(store, position);
        }
        for _ in 0..WATCHED {
            if let Some(&position) = self.signals.get(self.watched % self.signals.len().max(1)) {
                tally.read(store, position);
            }
            self.watched += 1;
        }
        self.next_ns += INTERVAL_NS;
        let now_ns = monotonic_ns();
        if now_ns > self.next_ns {
            let missed = (now_ns - self.next_ns).div_ceil(INTERVAL_NS);
            self.next_ns += missed * INTERVAL_NS;
        }
    }

    /// SplitMix64: random enough to choose pages, and the same in every run.
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.random;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }
}
