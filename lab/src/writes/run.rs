//! The client's side of each figure.

use super::figure::Figure;
use super::owner::owner_set;
use super::peer::Peer;
use super::{BURSTS, VALUE_BYTES, median};
use anyhow::Result;
use l1d_client::{Client, Error, Lifetime, SetOptions};
use std::time::{Duration, Instant};

/// Pause before each request that is to find the other side asleep.
const PAUSE: Duration = Duration::from_millis(2);
const NO_WAIT: SetOptions =
    SetOptions { lifetime: Lifetime::Rule, flags: 0, write: None, no_wait: true };

/// The processes that take part.
pub struct Run {
    /// The other side of the limits.
    pub peer: Peer,
    /// A client with a mailbox.
    pub client: Client,
    /// A client without one.
    pub socket_client: Client,
    /// Hot keys that are written repeatedly.
    pub keys: Vec<Vec<u8>>,
    /// Number of requests of each kind.
    pub requests: usize,
}

impl Run {
    /// One round of a figure, in ns.
    ///
    /// # Errors
    /// The daemon refuses a request, or has gone.
    pub fn measure(&mut self, figure: Figure) -> Result<f64> {
        let value = [7; VALUE_BYTES];
        let asleep = self.requests / 100;
        match figure {
            Figure::SpinRoundTrip => {
                Ok(median(self.peer.round_trips(u32::try_from(self.requests)?, None)?))
            }
            Figure::FutexRoundTrip => {
                Ok(median(self.peer.round_trips(u32::try_from(asleep)?, Some(PAUSE))?))
            }
            Figure::SetAwake => {
                self.each(self.requests, None, |key| self.client.set(key, value).map(drop))
            }
            Figure::SetAsleep => {
                self.each(asleep, Some(PAUSE), |key| self.client.set(key, value).map(drop))
            }
            Figure::SetOverSocket => self
                .each(self.requests / 10, None, |key| self.socket_client.set(key, value).map(drop)),
            Figure::GetMissAwake => self.each(self.requests, None, |key| {
                let unknown = [b"unknown:", key].concat();
                self.client.get(&unknown).map(drop)
            }),
            Figure::SetNoWait => self.sustained(&value),
            Figure::SetMany => self.together(&value),
            Figure::OwnerSet => owner_set(&self.keys, &value, self.requests),
        }
    }

    /// The median of single requests.
    fn each(
        &self,
        count: usize,
        pause: Option<Duration>,
        request: impl Fn(&[u8]) -> Result<(), Error>,
    ) -> Result<f64> {
        let mut ns = Vec::with_capacity(count);
        for key in self.keys.iter().cycle().take(count) {
            if let Some(pause) = pause {
                std::thread::sleep(pause);
            }
            let begun = Instant::now();
            request(key)?;
            ns.push(begun.elapsed().as_nanos() as f64);
        }
        Ok(median(ns))
    }

    /// Unacknowledged sets, in bursts that end when the daemon has done all of them. The median of
    /// the bursts' means: a shared machine takes a core away for milliseconds, which only affects a
    /// few.
    fn sustained(&self, value: &[u8]) -> Result<f64> {
        let mut ns = Vec::with_capacity(BURSTS);
        for _ in 0..BURSTS {
            let begun = Instant::now();
            for key in self.keys.iter().cycle().take(self.requests) {
                tell(&self.client, key, value)?;
            }
            // Comes last in the ring, so its acknowledgement covers all.
            self.client.set(b"last", value)?;
            ns.push(begun.elapsed().as_nanos() as f64 / self.requests as f64);
        }
        Ok(median(ns))
    }

    fn together(&self, value: &[u8]) -> Result<f64> {
        let entries: Vec<(&[u8], &[u8])> =
            self.keys.iter().take(1000).map(|key| (key.as_slice(), value)).collect();
        let mut ns = Vec::new();
        for _ in 0..20 {
            let begun = Instant::now();
            for stored in self.client.set_many(&entries)? {
                stored?;
            }
            ns.push(begun.elapsed().as_nanos() as f64 / entries.len() as f64);
        }
        Ok(median(ns))
    }
}

/// Sets without waiting for the answer; retries while the daemon is busy.
///
/// # Errors
/// Any other error of the daemon.
pub fn tell(client: &Client, key: &[u8], value: &[u8]) -> Result<()> {
    loop {
        match client.set_with(key, value, &NO_WAIT) {
            Ok(_) => return Ok(()),
            Err(Error::Busy { .. }) => std::hint::spin_loop(),
            Err(error) => return Err(error.into()),
        }
    }
}
