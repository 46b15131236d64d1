//! Samples for graphs of the last minutes.

use super::Owner;
use super::figures::{Counts, micros};
use crate::status::Samples;
use l1d_wire::snapshot::{Sample, TierStats};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The samples, and what the last of them covers.
#[derive(Debug)]
pub(super) struct History {
    samples: Samples,
    last: Counts,
    /// Since the last sample.
    longest_turn: Duration,
}

impl History {
    /// Nothing has been counted yet.
    pub(super) fn new(now: Instant) -> History {
        let last = Counts { at: Some(now), ..Counts::default() };
        History { samples: Samples::default(), last, longest_turn: Duration::ZERO }
    }
}

impl Owner {
    /// The samples, which go on growing.
    #[must_use]
    pub fn history(&self) -> Samples {
        self.history.samples.clone()
    }

    /// Once a second: adds what happened since the last sample, in which the longest turn was this.
    pub(super) fn add_to_history(&mut self, now: Counts, longest_turn: Duration) {
        let table = self.tables.current().stats();
        let tiers = self.below.as_ref().map(|below| below.stats()).unwrap_or_default();
        let latency = |tier: Option<TierStats>| tier.and_then(|tier| tier.latency_us);
        let history = &mut self.history;
        history.longest_turn = history.longest_turn.max(longest_turn);
        let last = &history.last;
        let covers = now.at.zip(last.at).map_or(Duration::ZERO, |(now, last)| now - last);
        let sample = Sample {
            at_ms: millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()),
            covers_ms: millis(covers),
            hits: now.hits.saturating_sub(last.hits),
            misses: now.misses - last.misses,
            writes: now.writes - last.writes,
            evicted: now.evicted.saturating_sub(last.evicted),
            live_bytes: table.live_bytes,
            dead_bytes: table.dead_bytes,
            free_bytes: table.free_bytes,
            longest_turn_us: micros(history.longest_turn),
            l2_latency_us: latency(tiers.l2),
            l3_latency_us: latency(tiers.l3),
        };
        if history.samples.try_add(sample) {
            history.last = now;
            history.longest_turn = Duration::ZERO;
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
