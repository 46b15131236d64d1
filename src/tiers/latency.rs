//! How long a server takes to answer, and so how to wait for it.
//!
//! Sleeping in the kernel costs a wake, which on a virtual machine takes longer than a server on
//! the same host takes to answer; polling costs the core that the server may need. So the loop
//! polls only while a reply is due soon, and only if the machine has a core to spare
//! ([`Cores`](crate::reactor::Cores)).

use std::time::{Duration, Instant};

/// A server that takes longer is slept on: it is not on this host.
const POLL_MAX: Duration = Duration::from_micros(150);
/// Polling goes on for this many times the usual latency, then the reply is late and the loop
/// sleeps.
const PATIENCE: u32 = 3;

/// The recent latency of one server.
#[derive(Debug)]
pub struct Latency {
    /// Weighted mean of the recent past, from send to reply.
    mean: Duration,
    /// The same without a limit for outliers, to show; `None` before the first reply.
    shown: Option<Duration>,
}

impl Latency {
    /// Of a server that has not been asked yet: as of one on the same host.
    pub fn new() -> Latency {
        Latency { mean: Duration::from_micros(50), shown: None }
    }

    /// A reply took this long.
    pub fn note(&mut self, took: Duration) {
        self.shown = Some(self.shown.map_or(took, |shown| (shown * 31 + took) / 32));
        // One outlier, as of a server that was stopped, must not end polling for long.
        let took = took.min(POLL_MAX * 4);
        self.mean = (self.mean * 7 + took) / 8;
    }

    /// How long replies take, to show.
    pub fn shown(&self) -> Option<Duration> {
        self.shown
    }

    /// Whether the reply to what was sent at `sent_at` is expected so soon that polling is worth
    /// it.
    pub fn should_poll(&self, sent_at: Instant, now: Instant) -> bool {
        self.mean < POLL_MAX && now.saturating_duration_since(sent_at) < self.mean * PATIENCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_on_this_host_is_polled_for_and_a_distant_one_is_not() {
        let sent_at = Instant::now();
        let mut latency = Latency::new();
        assert!(latency.should_poll(sent_at, sent_at));
        for _ in 0..50 {
            latency.note(Duration::from_micros(500));
        }
        assert!(!latency.should_poll(sent_at, sent_at));
        for _ in 0..50 {
            latency.note(Duration::from_micros(20));
        }
        assert!(latency.should_poll(sent_at, sent_at + Duration::from_micros(50)));
        assert!(!latency.should_poll(sent_at, sent_at + Duration::from_micros(70)));
    }

    #[test]
    fn one_late_reply_does_not_end_polling() {
        let sent_at = Instant::now();
        let mut latency = Latency::new();
        for _ in 0..50 {
            latency.note(Duration::from_micros(20));
        }
        latency.note(Duration::from_secs(2));
        assert!(latency.should_poll(sent_at, sent_at));
    }
}
