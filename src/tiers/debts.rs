//! Keys that L2 owes a delete: the store of record has taken a change that L2 has not, or may still
//! carry out something older (P12, P13). L2 is not read for such a key, nor written to, until it
//! has confirmed a delete.
//!
//! The keys are bounded. If they overflow, L2 is not read at all until every value that it can hold
//! has expired.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rapidhash::RapidHashMap;

/// The most keys remembered.
const KEYS_MAX: usize = 10_000;
/// The most bytes of keys remembered.
const BYTES_MAX: usize = 16 << 20;
/// Deletes under way at once: those who wait for L2 come first.
const SETTLING_MAX: usize = 64;
/// Pause after a delete that failed.
const PAUSE: Duration = Duration::from_millis(100);

/// What L2 owes.
#[derive(Debug)]
pub struct Debts {
    /// `true`: its delete is under way.
    keys: RapidHashMap<Arc<[u8]>, bool>,
    /// Those whose delete is not under way.
    due: VecDeque<Arc<[u8]>>,
    bytes: usize,
    paused_until: Option<Instant>,
    left_out_until: Option<Instant>,
    /// No value of L2 lives longer.
    life_max: Duration,
}

impl Debts {
    /// No debts. No value that l1d stores in L2 lives longer than `life_max`.
    pub fn new(life_max: Duration) -> Debts {
        Debts {
            keys: RapidHashMap::default(),
            due: VecDeque::new(),
            bytes: 0,
            paused_until: None,
            left_out_until: None,
            life_max,
        }
    }

    /// Values may live in L2 for as long as `life` from now on.
    pub fn allow_life(&mut self, life: Duration) {
        self.life_max = self.life_max.max(life);
    }

    /// L2 owes a delete of `key`.
    pub fn owe(&mut self, key: &Arc<[u8]>, now: Instant) {
        if self.keys.contains_key(key) {
            return;
        }
        if self.keys.len() >= KEYS_MAX || self.bytes + key.len() > BYTES_MAX {
            return self.leave_out(now);
        }
        self.bytes += key.len();
        self.keys.insert(key.clone(), false);
        self.due.push_back(key.clone());
    }

    /// Forgets the keys and leaves L2 out until whatever it holds or may still take has expired.
    pub fn leave_out(&mut self, now: Instant) {
        if self.left_out_until.is_none() {
            tracing::warn!(
                seconds = self.life_max.as_secs(),
                "too many changes are not known to have reached L2, or to have ended; it is not \
                 read until all that it holds has expired"
            );
        }
        self.left_out_until = Some(now + self.life_max);
        self.keys.clear();
        self.due.clear();
        self.bytes = 0;
    }

    /// Whether L2 must not be read for `key`.
    pub fn holds(&self, key: &[u8]) -> bool {
        self.left_out_until.is_some() || self.owes(key)
    }

    /// Whether L2 owes a delete of `key`. If it is left out altogether, changes go to it all the
    /// same.
    pub fn owes(&self, key: &[u8]) -> bool {
        !self.keys.is_empty() && self.keys.contains_key(key)
    }

    /// Whether there are any.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.left_out_until.is_none()
    }

    /// Number of keys.
    pub fn count(&self) -> usize {
        self.keys.len()
    }

    /// For how long L2 is left out altogether.
    pub fn left_out_for(&self, now: Instant) -> Option<Duration> {
        Some(self.left_out_until?.saturating_duration_since(now))
    }

    /// A key to delete from L2 now, if it is time for one.
    pub fn next(&mut self, now: Instant) -> Option<Arc<[u8]>> {
        let under_way = self.keys.len() - self.due.len();
        if under_way >= SETTLING_MAX || self.paused_until.is_some_and(|until| until > now) {
            return None;
        }
        let key = self.due.pop_front()?;
        if let Some(is_under_way) = self.keys.get_mut(&key) {
            *is_under_way = true;
        }
        Some(key)
    }

    /// The delete of `key` has ended.
    pub fn settled(&mut self, key: &Arc<[u8]>, is_deleted: bool, now: Instant) {
        if is_deleted {
            if self.keys.remove(key).is_some() {
                self.bytes -= key.len();
            }
            return;
        }
        self.paused_until = Some(now + PAUSE);
        // Forgotten meanwhile if they overflowed.
        if let Some(is_under_way) = self.keys.get_mut(key)
            && std::mem::take(is_under_way)
        {
            self.due.push_back(key.clone());
        }
    }

    /// Ends what has expired. Returns when something is due next, given that L2 takes deletes now.
    pub fn advance(&mut self, now: Instant, takes_deletes: bool) -> Option<Instant> {
        if self.left_out_until.is_some_and(|until| until <= now) {
            self.left_out_until = None;
            tracing::info!("all that L2 held has expired; it is read again");
        }
        if self.paused_until.is_some_and(|until| until <= now) {
            self.paused_until = None;
        }
        let paused = self.paused_until.filter(|_| takes_deletes && !self.due.is_empty());
        [paused, self.left_out_until].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Duration = Duration::from_secs(300);

    fn key(n: usize) -> Arc<[u8]> {
        n.to_string().into_bytes().into()
    }

    #[test]
    fn a_key_is_owed_until_its_delete_is_confirmed() {
        let (mut debts, now) = (Debts::new(LIFE), Instant::now());
        debts.owe(&key(1), now);
        debts.owe(&key(1), now);
        assert_eq!(debts.next(now), Some(key(1)));
        assert_eq!(debts.next(now), None, "its delete is under way");
        assert!(debts.holds(b"1") && !debts.holds(b"2"));
        debts.settled(&key(1), false, now);
        assert!(debts.holds(b"1"));
        assert_eq!(debts.next(now), None, "a pause after a failure");
        let due = debts.advance(now, true).unwrap();
        debts.advance(due, true);
        assert_eq!(debts.next(due), Some(key(1)));
        debts.settled(&key(1), true, due);
        assert!(debts.is_empty() && !debts.holds(b"1"));
    }

    #[test]
    fn too_many_keys_leave_l2_out_for_the_longest_life() {
        let (mut debts, now) = (Debts::new(LIFE), Instant::now());
        for n in 0..=KEYS_MAX {
            debts.owe(&key(n), now);
        }
        assert_eq!(debts.count(), 0);
        assert!(debts.holds(b"never written"));
        let later = now + Duration::from_secs(1);
        debts.owe(&key(1), later);
        assert!(debts.holds(b"1") && debts.next(later) == Some(key(1)));
        debts.settled(&key(1), true, later);
        assert_eq!(debts.advance(now + LIFE - Duration::from_millis(1), true), Some(now + LIFE));
        assert!(debts.holds(b"1"));
        debts.advance(now + LIFE, true);
        assert!(debts.is_empty());
    }

    #[test]
    fn deletes_under_way_are_bounded() {
        let (mut debts, now) = (Debts::new(LIFE), Instant::now());
        for n in 0..1000 {
            debts.owe(&key(n), now);
        }
        let first: Vec<_> = std::iter::from_fn(|| debts.next(now)).collect();
        assert_eq!(first.len(), SETTLING_MAX);
        debts.settled(&first[0], true, now);
        assert!(debts.next(now).is_some() && debts.next(now).is_none());
    }
}
