//! The goals of reads, writes within the host, and the table.

use super::figures::*;
use super::{Goal, goal};
use crate::statistics::Spread;

/// All of them.
pub const GOALS: &[Goal] = &[
    goal!(
        "hit-10k",
        "hit, dependent, 10k zipf, times the limit",
        "read",
        1.6,
        |d| { ratio_to(d, "10k-zipf", "dependent", "limit") },
        Some(|d| is_within_limit(d, "10k-zipf"))
    ),
    goal!(
        "hit-1M",
        "hit, dependent, 1M uniform, times the limit",
        "read",
        1.05,
        |d| { ratio_to(d, "1M-uniform", "dependent", "limit") },
        Some(|d| is_within_limit(d, "1M-uniform"))
    ),
    goal!(
        "hit-5M",
        "hit, dependent, 5M uniform, times the limit",
        "read-5M",
        1.05,
        |d| { ratio_to(d, "5M-uniform", "dependent", "limit") },
        Some(|d| is_within_limit(d, "5M-uniform"))
    ),
    goal!("rivals-10k", "hit, dependent, 10k zipf, times quick_cache", "read", 1.0, |d| {
        ratio_to(d, "10k-zipf", "dependent", "quick_cache")
    }),
    goal!("rivals-1M", "hit, dependent, 1M uniform, times the fastest rival", "read", 1.0, |d| {
        to_fastest(d, "1M-uniform")
    }),
    goal!(
        "rivals-5M",
        "hit, dependent, 5M uniform, times the fastest rival",
        "read-5M",
        1.0,
        |d| { to_fastest(d, "5M-uniform") }
    ),
    goal!(
        "independent",
        "hit, independent, 10k zipf, without expiry, times the limit with hash",
        "costs",
        2.0,
        |d| { cost(d, "l1d peek_into, entries without expiry") }
    ),
    goal!("independent-expiry", "the same with expiry", "costs", 2.7, |d| cost(d, L1D)),
    goal!(
        "scaling",
        "two readers: the limit's scaling, times l1d's, worst case",
        "read",
        1.0 / 0.95,
        scaling
    ),
    goal!(
        "scaling-hot",
        "two readers of one key: the limit's scaling, times l1d's",
        "hot-key",
        1.0 / 0.95,
        hot_scaling
    ),
    goal!(
        "written",
        "reader alone, owner sets 100,000 a second, times without",
        "written-keys",
        1.1,
        |d| {
            row(
                d,
                &[
                    ("case", "written"),
                    ("contestant", "l1d table, owner alone"),
                    ("yardstick", "quiet"),
                ],
            )
        }
    ),
    goal!("miss", "miss, 1M, times quick_cache's", "cases", 1.0, |d| {
        case(d, "miss", "independent", L1D, "quick_cache")
    }),
    goal!("batch", "get_many_into of 16, 1M, per key, times the limit's", "cases", 1.2, |d| {
        case(d, "batch", "independent", "l1d get_many_into", "limit")
    }),
    goal!("copy-1KiB", "1 KiB read, times memcpy from a known place", "cases", 1.05, |d| {
        case(d, "copy 1 KiB", "dependent", L1D, "memcpy")
    }),
    goal!("copy-16KiB", "16 KiB read, times memcpy from a known place", "cases", 1.05, |d| {
        case(d, "copy 16 KiB", "dependent", L1D, "memcpy")
    }),
    goal!("in-place", "8 bytes of 16 KiB in place, times quick_cache's Arc", "cases", 1.5, |d| {
        case(d, "in-place", "dependent", "l1d read_with", "quick_cache")
    }),
    goal!("decoded", "decoded object of 16 KiB, times quick_cache's Arc", "cases", 1.5, |d| {
        case(d, "decoded", "dependent", "l1d decoded", "quick_cache")
    }),
    goal!("set-awake", "set acknowledged, daemon awake, ns", "write", 1000.0, |d| set_ns(
        d,
        "set_awake"
    )),
    goal!(
        "set-asleep",
        "set acknowledged, daemon asleep, times a futex round trip",
        "write",
        1.2,
        |d| { set_times(d, "set_asleep") }
    ),
    goal!(
        "set-no-wait",
        "set not waited for, sustained, ns (5 million a second)",
        "write",
        200.0,
        |d| { set_ns(d, "set_no_wait") }
    ),
    goal!(
        "visibility",
        "visible, times spin round trip + 2 owner's sets",
        "visibility",
        1.0,
        |d| { set_times(d, "visibility") }
    ),
    goal!("idle", "daemon idle, % of a core", "idle", 0.1, |d| {
        let all = list(d, "rows").iter().filter(|row| is(row, "thread", "all"));
        spread(all.filter_map(|row| row.get("cpu_percent")?.as_f64()).collect())
    }),
    // Its timer ticks once a second: 21 times at most within 20 s.
    goal!("idle-wake-ups", "daemon idle, wake-ups a second (its timer: 1)", "idle", 1.05, wakeups),
    goal!("hit-ratio", "best rival's mean hit ratio, times l1d's", "hit-ratio", 1.0, best_rival),
    goal!(
        "hit-ratio-gap",
        "mean gap to the best rival of each point, points",
        "hit-ratio",
        2.0,
        |d| { number(d, "/object_hits/gap_mean") }
    ),
    goal!("hit-ratio-gap-max", "greatest gap, points", "hit-ratio", 8.0, |d| {
        number(d, "/object_hits/gap_max")
    }),
    goal!(
        "optimum",
        "part of the offline optimum that is missed (0.17: a fraction of 0.83)",
        "hit-ratio",
        0.17,
        |d| { Some(one(1.0 - mean(d, "l1d", "of_optimum")?)) }
    ),
    goal!("advise", "greatest error of an estimate, points", "advise", 2.0, |d| number(
        d,
        "/greatest_error"
    )),
    goal!("bytes", "bytes beyond key and value", "bytes", 40.0, |d| number(
        d,
        "/overhead_bytes_per_entry"
    )),
    goal!(
        "dead",
        "most of the log that was dead when a live entry was evicted, %",
        "copied",
        35.0,
        |d| { greatest(d, "dead_percent_at_eviction") }
    ),
    goal!("copied", "bytes copied for each byte overwritten, at most", "copied", 1.0, |d| {
        greatest(d, "copied_per_byte")
    }),
    goal!("turn", "longest turn with a million expirations, ms", "turns", 2.0, |d| {
        let turn =
            written(line(d, "experiment", "full load, expirations")?.get("longest_turn_us")?)?;
        Some(Spread { median: turn.median / 1e3, min: turn.min / 1e3, max: turn.max / 1e3 })
    }),
    goal!("resize", "a reader's p99 while 1 GiB moves, times before", "turns", 2.0, |d| {
        let lines = list(d, "lines").iter();
        let mut found = lines.filter_map(|line| written(line.get("reader_p99_times_before")?));
        found.rfind(|times| times.median > 0.0)
    }),
];
