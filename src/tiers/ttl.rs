//! Lives of entries, as each tier writes them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// memcached takes more seconds than these for a moment of Unix time.
const RELATIVE_SECONDS_MAX: u64 = 30 * 24 * 60 * 60;
/// A shorter life is never given as a moment: the lag of memcached's clock would take a good part
/// of it.
pub const MOMENT_SECONDS_MIN: u64 = 10;
/// How far memcached's clock may be behind: it ticks once a second, and starts from whole seconds.
const CLOCK_LAG_SECONDS_MAX: u64 = 3;
/// memcached reads a TTL as a signed 32-bit number.
const WIRE_MAX: u64 = i32::MAX as u64;
/// Above this Redis' sum with the clock could overflow; more than a century.
const REDIS_MS_MAX: u64 = 1 << 42;

/// `ttl` for memcached: whole seconds, rounded down but never to 0, which would mean for ever; a
/// moment of Unix time beyond 30 days, early enough that memcached's slow clock does not add to the
/// life; at most what memcached can express. With `as_moment` a moment already from
/// [`MOMENT_SECONDS_MIN`] on: then a store that memcached carries out late does not live longer.
pub fn memcached_seconds(ttl: Duration, now: SystemTime, as_moment: bool) -> u64 {
    let seconds = ttl.as_secs().max(1);
    let relative_max = if as_moment { MOMENT_SECONDS_MIN - 1 } else { RELATIVE_SECONDS_MAX };
    if seconds <= relative_max {
        return seconds;
    }
    let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let seconds = seconds - CLOCK_LAG_SECONDS_MAX;
    now.saturating_add(seconds).min(WIRE_MAX)
}

/// `ttl` for Redis: whole milliseconds, rounded down but never to 0, which Redis refuses.
pub fn redis_ms(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).clamp(1, REDIS_MS_MAX)
}

/// What memcached's `t` says remains; -1 is for ever. No answer counts as nothing remaining.
pub fn from_memcached_seconds(seconds: Option<i64>) -> Option<Duration> {
    match seconds {
        Some(-1) => None,
        other => Some(Duration::from_secs(other.and_then(|s| u64::try_from(s).ok()).unwrap_or(0))),
    }
}

/// What Redis' PTTL says remains; -1 is for ever, -2 no such key.
pub fn from_redis_ms(ms: i64) -> Option<Duration> {
    match ms {
        -1 => None,
        other => Some(Duration::from_millis(u64::try_from(other).unwrap_or(0))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memcached_rounds_down_but_never_to_for_ever() {
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let month = Duration::from_secs(RELATIVE_SECONDS_MAX);
        assert_eq!(memcached_seconds(Duration::ZERO, now, false), 1);
        assert_eq!(memcached_seconds(Duration::from_millis(1), now, false), 1);
        assert_eq!(memcached_seconds(Duration::from_millis(2_999), now, false), 2);
        assert_eq!(memcached_seconds(month, now, false), RELATIVE_SECONDS_MAX);
        assert_eq!(memcached_seconds(month + Duration::from_secs(1), now, false), 1_802_591_998);
        assert_eq!(memcached_seconds(Duration::MAX, now, false), WIRE_MAX);
    }

    #[test]
    fn a_copy_expires_at_a_moment_unless_it_is_short_lived() {
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        assert_eq!(memcached_seconds(Duration::from_millis(9_999), now, true), 9);
        assert_eq!(memcached_seconds(Duration::from_secs(10), now, true), 1_800_000_007);
        assert_eq!(memcached_seconds(Duration::from_secs(300), now, true), 1_800_000_297);
        assert_eq!(memcached_seconds(Duration::MAX, now, true), WIRE_MAX);
    }

    #[test]
    fn redis_rounds_down_but_never_to_zero() {
        assert_eq!(redis_ms(Duration::from_micros(1)), 1);
        assert_eq!(redis_ms(Duration::from_micros(2_999)), 2);
        assert_eq!(redis_ms(Duration::MAX), REDIS_MS_MAX);
    }

    #[test]
    fn answers_that_are_missing_or_odd_leave_nothing() {
        assert_eq!(from_memcached_seconds(Some(-1)), None);
        assert_eq!(from_memcached_seconds(Some(7)), Some(Duration::from_secs(7)));
        assert_eq!(from_memcached_seconds(Some(-5)), Some(Duration::ZERO));
        assert_eq!(from_memcached_seconds(None), Some(Duration::ZERO));
        assert_eq!(from_redis_ms(-1), None);
        assert_eq!(from_redis_ms(-2), Some(Duration::ZERO));
        assert_eq!(from_redis_ms(1500), Some(Duration::from_millis(1500)));
    }
}
