//! l1d's own figures: the time until a client sees its own set, beside the bounds of that.

use crate::daemon::Daemon;
use crate::hot_key::view::value;
use crate::reads::workload::{KEY_BYTES, VALUE_BYTES, key};
use crate::writes::{Peer, median, owner_set, tell};
use anyhow::{Result, ensure};
use l1d_client::Client;
use std::time::{Duration, Instant};

/// Timeout until a value is seen.
const PATIENCE: Duration = Duration::from_secs(5);

/// One figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Figure {
    /// A round trip of two processes that spin.
    SpinRoundTrip,
    /// A set by the owner of the table.
    OwnerSet,
    /// An unacknowledged set, until its writer's own peek finds the value.
    OwnPeek,
    /// An acknowledged set, whose value every process then sees.
    Acknowledged,
}

impl Figure {
    /// All figures, in the order of their turns.
    pub const ALL: [Figure; 4] =
        [Figure::SpinRoundTrip, Figure::OwnerSet, Figure::OwnPeek, Figure::Acknowledged];

    /// The name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Figure::SpinRoundTrip => "spin_round_trip",
            Figure::OwnerSet => "owner_set",
            Figure::OwnPeek => "visibility",
            Figure::Acknowledged => "set_acknowledged",
        }
    }

    /// The texts in tables: the figure, and the process that sees the value.
    pub fn text(self) -> [&'static str; 2] {
        match self {
            Figure::SpinRoundTrip => ["limit: round trip, both spin", "-"],
            Figure::OwnerSet => ["limit: set by the owner of a table itself", "-"],
            Figure::OwnPeek => ["l1d set not waited for", "its writer, who spins on peek"],
            Figure::Acknowledged => ["l1d set acknowledged", "everyone, when it returns"],
        }
    }
}

/// The processes that take part.
pub struct Own {
    peer: Peer,
    writer: Client,
    /// A separate client, which sees the writer's values as any other process does.
    other: Client,
    keys: Vec<[u8; KEY_BYTES]>,
    /// Number of the last value.
    last: u64,
    requests: usize,
}

impl Own {
    /// The measurement with this daemon.
    ///
    /// # Errors
    /// The daemon cannot be reached.
    pub fn of(daemon: &Daemon, peer: Peer, keys: u32, requests: usize) -> Result<Own> {
        Ok(Own {
            peer,
            writer: daemon.client()?,
            other: daemon.client()?,
            keys: (0..keys).map(key).collect(),
            last: 0,
            requests,
        })
    }

    /// One round of a figure, in ns.
    ///
    /// # Errors
    /// The daemon refuses a request, has gone, or does not show a value that it acknowledged.
    pub fn measure(&mut self, figure: Figure) -> Result<f64> {
        match figure {
            Figure::SpinRoundTrip => {
                Ok(median(self.peer.round_trips(u32::try_from(self.requests)?, None)?))
            }
            Figure::OwnerSet => owner_set(&self.keys, &[7; VALUE_BYTES], self.requests),
            Figure::OwnPeek => self.own_peek(),
            Figure::Acknowledged => self.acknowledged(),
        }
    }

    fn own_peek(&mut self) -> Result<f64> {
        let (mut ns, mut seen) = (Vec::with_capacity(self.requests), Vec::new());
        for key in self.keys.iter().cycle().take(self.requests) {
            self.last += 1;
            let value = value(self.last);
            let begun = Instant::now();
            tell(&self.writer, key, &value)?;
            while self.writer.peek_into(key, &mut seen).is_none() || *seen != value {
                ensure!(begun.elapsed() < PATIENCE, "a set is not seen within {PATIENCE:?}");
            }
            ns.push(begun.elapsed().as_nanos() as f64);
        }
        Ok(median(ns))
    }

    fn acknowledged(&mut self) -> Result<f64> {
        let (mut ns, mut seen) = (Vec::with_capacity(self.requests), Vec::new());
        for key in self.keys.iter().cycle().take(self.requests) {
            self.last += 1;
            let value = value(self.last);
            let begun = Instant::now();
            self.writer.set(key, value)?;
            ns.push(begun.elapsed().as_nanos() as f64);
            for client in [&self.writer, &self.other] {
                let is_seen = client.peek_into(key, &mut seen).is_some() && *seen == value;
                ensure!(is_seen, "an acknowledged set is not seen by everyone");
            }
        }
        Ok(median(ns))
    }
}
