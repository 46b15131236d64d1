//! The report as tables.

use super::report::{Figures, Report, StaleAges};
use crate::distance;
use crate::statistics::Spread;
use crate::table::table;
use bytesize::ByteSize;
use comfy_table::Table;

/// The tables.
pub fn of(report: &Report) -> String {
    let mut text = format!(
        "{}, kernel {}, {} cores. {} over {} keys, {} readers as fast as they can, a writer at \
         {} writes/s;\n\
         memcached below, Redis below that, {}.\n{}\n\
         Stale: a newer value was acknowledged to the writer before the read began; its age is \
         how long ago.\n\
         By policy: the same of keys that each process keeps for 30 s, by l1d too, since none \
         needs them fresh.\n{}\n\
         Requests as the servers count them. Memory: readers, writer and daemon with shared \
         pages once, and l1d's table.\n{}",
        report.machine.cpu,
        report.machine.kernel,
        report.machine.cores.len(),
        report.workload,
        report.keys,
        report.readers,
        count(report.writes_per_second_wanted),
        distance::place(report.distance_ms),
        speed(report),
        staleness(report),
        cost(report),
    );
    for figures in &report.contestants {
        text.extend(remarks(figures, report));
        text.extend(distance::remark(figures.contestant.title(), &figures.proxy));
    }
    text
}

fn speed(report: &Report) -> Table {
    let header = [
        "contestant",
        "reads/s",
        "p50",
        "p99",
        "p99.9",
        "L1",
        "L2",
        "L3",
        "joined",
        "none",
        "writes/s",
        "write p50",
    ];
    let mut speed = table(1, header);
    for figures in &report.contestants {
        let (times, hits) = (&figures.read_ns, &figures.hits);
        let mut row = vec![figures.contestant.title().to_owned(), reads_per_second(figures)];
        row.extend([times.p50, times.p99, times.p999].map(duration));
        row.extend([hits.l1, hits.l2, hits.l3, hits.joined, hits.missing].map(percent));
        row.extend([count(figures.writes_per_second), duration(figures.write_ns.p50)]);
        speed.add_row(row);
    }
    speed
}

fn staleness(report: &Report) -> Table {
    let header = [
        "contestant",
        "stale",
        "of reads",
        "age p50",
        "age p99",
        "age max",
        "by policy",
        "damaged",
        "errors",
    ];
    let mut staleness = table(1, header);
    for figures in &report.contestants {
        let stale = figures.stale_shared;
        let mut row = vec![figures.contestant.title().to_owned(), stale.to_string()];
        row.push(percent(stale as f64 / figures.reads.max(1) as f64));
        row.extend(ages(figures.stale_shared_ms.as_ref()));
        let by_policy = figures.stale - stale;
        row.extend([by_policy, figures.damaged, figures.errors].map(|count| count.to_string()));
        staleness.add_row(row);
    }
    staleness
}

fn cost(report: &Report) -> Table {
    let header = [
        "contestant",
        "L2 gets/s",
        "sets/s",
        "L3 gets/s",
        "sets/s",
        "copies in L1",
        "bytes",
        "memory of all",
    ];
    let mut cost = table(1, header);
    for figures in &report.contestants {
        let (requests, memory) = (&figures.tier_requests_per_second, &figures.memory);
        let mut row = vec![figures.contestant.title().to_owned()];
        row.extend(
            [requests.l2_gets, requests.l2_sets, requests.l3_gets, requests.l3_sets].map(count),
        );
        row.push(memory.copies.to_string());
        row.extend([memory.copies_bytes, memory.bytes].map(|bytes| ByteSize(bytes).to_string()));
        cost.add_row(row);
    }
    cost
}

/// Remarks below the tables.
fn remarks(figures: &Figures, report: &Report) -> Vec<String> {
    let name = figures.contestant.title();
    let mut remarks = Vec::new();
    if let Some(error) = &figures.last_error {
        remarks.push(format!("\n{name}: {} errors, the last: {error}", figures.errors));
    }
    let requests = report.trace_requests.unwrap_or(0) * u64::from(report.rounds);
    if figures.reads + figures.errors < requests {
        let reads = figures.reads;
        remarks.push(format!("\n{name}: --seconds ended it after {reads} of {requests} requests"));
    }
    remarks
}

fn reads_per_second(figures: &Figures) -> String {
    let rounds = &figures.reads_per_second_by_round;
    let spread = Spread::of(rounds.clone());
    if rounds.len() < 2 {
        return count(spread.median);
    }
    format!("{} ({}-{})", count(spread.median), count(spread.min), count(spread.max))
}

fn ages(ages: Option<&StaleAges>) -> [String; 3] {
    let ms = ages.map(|ages| [ages.p50, ages.p99, ages.max]);
    ms.map_or(["-", "-", "-"].map(str::to_owned), |ms| ms.map(|ms| format!("{ms:.1} ms")))
}

fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

/// Four digits are enough.
fn count(number: f64) -> String {
    match number {
        number if number >= 1e6 => format!("{:.2}M", number / 1e6),
        number if number >= 1e4 => format!("{:.1}k", number / 1e3),
        number => format!("{number:.0}"),
    }
}

fn duration(ns: u64) -> String {
    match ns as f64 {
        ns if ns >= 1e6 => format!("{:.1} ms", ns / 1e6),
        ns if ns >= 1e3 => format!("{:.1} us", ns / 1e3),
        ns => format!("{ns} ns"),
    }
}
