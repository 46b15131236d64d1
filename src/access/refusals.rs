//! Refusals in the log: who was refused what. A client that tries without end must not fill the
//! log, and must not hide another's refusals.

use super::Right;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// A user's refusals of one kind are logged once in this time.
const INTERVAL: Duration = Duration::from_secs(10);
/// Users and kinds that are told apart. While more are refused, these are counted, not logged.
const PLACES_MAX: usize = 1024;

/// The refusals of late.
#[derive(Debug, Default)]
pub struct Refusals {
    places: HashMap<(u32, Kind), Place>,
}

/// A refusal of a right, or of more than a limit allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Right(Right),
    Quota(&'static str),
}

#[derive(Debug)]
struct Place {
    logged: Instant,
    since: u64,
}

impl Refusals {
    /// A client was refused `right` for keys like `keys`.
    pub fn denied(&mut self, who: (u32, u32, i32), right: Right, keys: &str) {
        if let Some(times) = self.is_due(who.0, Kind::Right(right), Instant::now()) {
            let ((uid, gid, pid), right) = (who, right.name());
            let program = program(pid);
            tracing::warn!(uid, gid, pid, program, right, keys, times, "a request is denied");
        }
    }

    /// A user has all that the limit `limit` allows.
    pub fn over_quota(&mut self, who: (u32, u32, i32), limit: &'static str, most: usize) {
        if let Some(times) = self.is_due(who.0, Kind::Quota(limit), Instant::now()) {
            let (uid, gid, pid) = who;
            let program = program(pid);
            tracing::warn!(
                uid,
                gid,
                pid,
                program,
                limit,
                most,
                times,
                "a user has as much under way as it may"
            );
        }
    }

    /// How many refusals of this kind a line would tell of; `None`: none is due.
    fn is_due(&mut self, uid: u32, kind: Kind, now: Instant) -> Option<u64> {
        let is_over = |place: &Place| now.saturating_duration_since(place.logged) >= INTERVAL;
        if let Some(place) = self.places.get_mut(&(uid, kind)) {
            place.since += 1;
            if !is_over(place) {
                return None;
            }
            place.logged = now;
            return Some(std::mem::take(&mut place.since));
        }
        if self.places.len() >= PLACES_MAX {
            self.places.retain(|_, place| !is_over(place));
        }
        if self.places.len() >= PLACES_MAX {
            return None;
        }
        self.places.insert((uid, kind), Place { logged: now, since: 0 });
        Some(1)
    }
}

/// The name of a process's program, as far as this process may see it. A process can choose its
/// name freely, including control characters.
fn program(pid: i32) -> String {
    let name = std::fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    String::from_utf8_lossy(name.trim_ascii_end()).escape_debug().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_that_tries_without_end_is_told_of_now_and_then_and_hides_nobody() {
        let mut refusals = Refusals::default();
        let begun = Instant::now();
        let write = Kind::Right(Right::Write);
        assert_eq!(refusals.is_due(7, write, begun), Some(1));
        for _ in 0..1000 {
            assert_eq!(refusals.is_due(7, write, begun), None);
        }
        assert_eq!(refusals.is_due(7, Kind::Right(Right::Delete), begun), Some(1));
        assert_eq!(refusals.is_due(8, write, begun), Some(1));
        assert_eq!(refusals.is_due(7, write, begun + INTERVAL), Some(1001));
        for uid in 100..10_000 {
            let _ = refusals.is_due(uid, write, begun);
        }
        assert_eq!(refusals.places.len(), PLACES_MAX, "bounded");
        assert_eq!(refusals.is_due(9, write, begun + 2 * INTERVAL), Some(1), "old ones make room");
    }
}
