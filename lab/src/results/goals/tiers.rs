//! The goals for requests that go through the tiers: misses, writes, and the loads of `compare`.

use super::figures::{is, list, one, written};
use super::{Goal, goal};
use crate::statistics::Spread;
use serde_json::Value;

/// l1d's ratio to `to`; `None` if the proxy may have limited either.
fn ratio(
    document: &Value,
    operation: &str,
    processes: u64,
    to: &str,
    figure: &str,
) -> Option<Spread> {
    let is_here = |row: &&Value| {
        is(row, "operation", operation)
            && row.get("processes").and_then(Value::as_u64) == Some(processes)
    };
    let mut rows = list(document, "rows").iter().filter(is_here);
    if rows.any(|row| list(row, "proxy").iter().any(|load| is_heavy(load).unwrap_or(true))) {
        return None;
    }
    let mut ratios = list(document, "ratios").iter().filter(is_here);
    written(ratios.find(|ratio| is(ratio, "of", "l1d") && is(ratio, "to", to))?.get(figure)?)
}

fn is_heavy(load: &Value) -> Option<bool> {
    let figure = |name| load.get(name)?.as_f64();
    Some(figure("per_second")? * 3.0 > figure("capacity_per_second")?)
}

/// The greatest ratio to direct over several operations.
fn most(document: &Value, operations: &[&str], processes: u64, figure: &str) -> Option<Spread> {
    let all = operations.iter().map(|name| ratio(document, name, processes, "direct", figure));
    all.reduce(|a, b| greater(a?, b?))?
}

fn greater(a: Spread, b: Spread) -> Option<Spread> {
    Some(if a.median >= b.median { a } else { b })
}

/// Inverts a ratio: the other's rate divided by l1d's.
fn inverse(Spread { median, min, max }: Spread) -> Spread {
    Spread { median: 1.0 / median, min: 1.0 / max, max: 1.0 / min }
}

/// direct's rate divided by l1d's; the worst of several operations.
fn rate(document: &Value, operations: &[&str], processes: u64) -> Option<Spread> {
    let all = operations
        .iter()
        .map(|name| ratio(document, name, processes, "direct", "per_second").map(inverse));
    all.reduce(|a, b| greater(a?, b?))?
}

const BOTH: &[&str] = &["absent", "set"];
const MISSES: &[&str] = &["absent", "in-l2"];
const THREE: &[&str] = &["absent", "set", "in-l2"];

/// The forwarder's rate divided by l1d's; the worst of the rows that have a goal.
fn forwarder(document: &Value) -> Option<Spread> {
    let rows = THREE.iter().flat_map(|name| [1, 4, 8, 16].map(|processes| (name, processes)));
    let all = rows.map(|(operation, processes)| {
        ratio(document, operation, processes, "forwarder", "per_second").map(inverse)
    });
    all.reduce(|a, b| greater(a?, b?))?
}

/// The daemon's system calls per operation; the most of several operations.
fn calls(document: &Value, operations: &[&str], processes: u64) -> Option<Spread> {
    let of = |operation: &&str| {
        let rows = list(document, "syscalls");
        let row = rows.iter().find(|row| {
            is(row, "operation", operation)
                && row.get("processes").and_then(Value::as_u64) == Some(processes)
        });
        row?.get("total")?.as_f64()
    };
    operations.iter().map(of).reduce(|a, b| Some(a?.max(b?)))?.map(one)
}

/// A figure of `compare`: l1d's, and those of the two contestants with an L1 in each process.
fn compared(document: &Value, path: &str) -> Option<(f64, [f64; 2])> {
    let of = |name: &str| {
        let contestants = list(document, "contestants");
        let contestant = contestants.iter().find(|one| is(one, "contestant", name))?;
        if list(contestant, "proxy").iter().any(|load| is_heavy(load).unwrap_or(true)) {
            return None;
        }
        contestant.pointer(path)?.as_f64()
    };
    Some((of("l1d")?, [of("own-30s")?, of("own-2s")?]))
}

/// Reads per second of the better one with its own L1s, divided by l1d's.
fn reads(document: &Value) -> Option<Spread> {
    let (l1d, [first, second]) = compared(document, "/reads_per_second")?;
    Some(one(first.max(second) / l1d))
}

/// A time of l1d, divided by the shorter one of the two with their own L1s.
fn time(document: &Value, path: &str) -> Option<Spread> {
    let (l1d, [first, second]) = compared(document, path)?;
    Some(one(l1d / first.min(second)))
}

fn stale(document: &Value) -> Option<Spread> {
    compared(document, "/stale_shared").map(|(l1d, _)| one(l1d))
}

fn p99(document: &Value) -> Option<Spread> {
    time(document, "/read_ns/p99")
}

fn write_p50(document: &Value) -> Option<Spread> {
    time(document, "/write_ns/p50")
}

/// All of them.
pub const GOALS: &[Goal] = &[
    goal!(
        "through-16",
        "absent and set, 16 processes: direct's rate, times l1d's, the worse",
        "misses",
        1.0 / 1.3,
        |d| rate(d, BOTH, 16)
    ),
    goal!(
        "through-8",
        "absent and set, 8 processes: direct's rate, times l1d's, the worse",
        "misses",
        1.0,
        |d| rate(d, BOTH, 8)
    ),
    goal!(
        "through-4",
        "absent and set, 4 processes: direct's rate, times l1d's, the worse",
        "misses",
        1.0 / 0.75,
        |d| rate(d, BOTH, 4)
    ),
    goal!(
        "in-l2-16",
        "found in L2, 16 processes: direct's rate, times l1d's",
        "misses",
        1.0 / 1.1,
        |d| rate(d, &["in-l2"], 16)
    ),
    goal!(
        "in-l2-8",
        "found in L2, 8 processes: direct's rate, times l1d's",
        "misses",
        1.0 / 0.85,
        |d| rate(d, &["in-l2"], 8)
    ),
    goal!(
        "in-l2-4",
        "found in L2, 4 processes: direct's rate, times l1d's",
        "misses",
        1.0 / 0.75,
        |d| rate(d, &["in-l2"], 4)
    ),
    goal!(
        "miss-p50",
        "absent, set, in L2, one process: p50, times direct's, the worst",
        "misses",
        1.4,
        |d| most(d, THREE, 1, "p50")
    ),
    goal!(
        "forwarder",
        "absent, set, in L2, all processes: the forwarder's rate, times l1d's, the worst",
        "misses",
        1.0,
        forwarder
    ),
    goal!(
        "miss-cpu",
        "absent and in L2, 8 processes: processor time, times direct's, the worse",
        "misses",
        0.7,
        |d| most(d, MISSES, 8, "cpu")
    ),
    goal!(
        "get-many-cold",
        "get_many of 64 cold keys, one process: p50, times direct's multiget",
        "misses",
        1.2,
        |d| most(d, &["get-many-64"], 1, "p50")
    ),
    goal!(
        "calls-in-l2",
        "daemon's system calls, found in L2, one process",
        "misses-syscalls",
        5.0,
        |d| calls(d, &["in-l2"], 1)
    ),
    goal!(
        "calls-absent",
        "daemon's system calls, absent, one process",
        "misses-syscalls",
        8.0,
        |d| calls(d, &["absent"], 1)
    ),
    goal!(
        "calls-8",
        "daemon's system calls, absent and in L2, 8 processes, the more",
        "misses-syscalls",
        1.5,
        |d| calls(d, MISSES, 8)
    ),
    goal!(
        "away-rate",
        "tiers 0.5 ms away, absent and in L2, 8 processes: direct's rate, times l1d's, the worse",
        "misses-away",
        1.0,
        |d| rate(d, MISSES, 8)
    ),
    goal!("away-p50", "the same: p50, times direct's, the worse", "misses-away", 1.1, |d| most(
        d, MISSES, 8, "p50"
    )),
    goal!(
        "replay-reads",
        "replay, tiers on the host: the better own L1's reads/s, times l1d's",
        "replay",
        1.0,
        reads
    ),
    goal!(
        "replay-p99",
        "replay, tiers on the host: read p99, times the better own L1's",
        "replay",
        1.0,
        p99
    ),
    goal!(
        "replay-stale",
        "replay, tiers on the host: stale reads of shared keys",
        "replay",
        0.0,
        stale
    ),
    goal!(
        "replay-away-reads",
        "replay, tiers 0.5 ms away: the better own L1's reads/s, times l1d's",
        "replay-away",
        1.0 / 1.1,
        reads
    ),
    goal!(
        "replay-away-p99",
        "replay, tiers 0.5 ms away: read p99, times the better own L1's",
        "replay-away",
        1.0,
        p99
    ),
    goal!(
        "replay-away-stale",
        "replay, tiers 0.5 ms away: stale reads of shared keys",
        "replay-away",
        0.0,
        stale
    ),
    goal!(
        "zipf-reads",
        "zipf, tiers on the host: the better own L1's reads/s, times l1d's",
        "zipf",
        1.0 / 1.1,
        reads
    ),
    goal!(
        "zipf-write",
        "zipf, tiers on the host: write p50, times the better own L1's",
        "zipf",
        1.4,
        write_p50
    ),
    goal!("zipf-stale", "zipf, tiers on the host: stale reads of shared keys", "zipf", 0.0, stale),
    goal!(
        "zipf-away-reads",
        "zipf, tiers 0.5 ms away: the better own L1's reads/s, times l1d's",
        "zipf-away",
        1.0 / 1.1,
        reads
    ),
    goal!(
        "zipf-away-write",
        "zipf, tiers 0.5 ms away: write p50, times the better own L1's",
        "zipf-away",
        1.1,
        write_p50
    ),
    goal!(
        "zipf-away-stale",
        "zipf, tiers 0.5 ms away: stale reads of shared keys",
        "zipf-away",
        0.0,
        stale
    ),
    goal!(
        "dashboard-reads",
        "dashboard, tiers on the host: the better own L1's reads/s, times l1d's",
        "dashboard",
        1.0 / 1.1,
        reads
    ),
    goal!(
        "dashboard-write",
        "dashboard, tiers on the host: write p50, times the better own L1's",
        "dashboard",
        1.4,
        write_p50
    ),
    goal!(
        "dashboard-stale",
        "dashboard, tiers on the host: stale reads of shared keys",
        "dashboard",
        0.0,
        stale
    ),
    goal!(
        "dashboard-away-reads",
        "dashboard, tiers 0.5 ms away: the better own L1's reads/s, times l1d's",
        "dashboard-away",
        1.0 / 1.1,
        reads
    ),
    goal!(
        "dashboard-away-write",
        "dashboard, tiers 0.5 ms away: write p50, times the better own L1's",
        "dashboard-away",
        1.1,
        write_p50
    ),
    goal!(
        "dashboard-away-stale",
        "dashboard, tiers 0.5 ms away: stale reads of shared keys",
        "dashboard-away",
        0.0,
        stale
    ),
];
