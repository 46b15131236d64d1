//! The report as tables.

use super::contestant::Contestant;
use super::report::{Ratio, Report, Row};
use crate::distance;
use crate::statistics::Spread;
use crate::table::table;
use comfy_table::Table;

/// The tables.
pub fn of(report: &Report) -> String {
    let mut text = format!(
        "{}, kernel {}, {} cores. Values of {} bytes, keys that L1 does not hold; medians of {} \
         rounds of {} s \
         (least-greatest). Tiers: {}.\nCPU: processor time for each operation, of all client \
         processes, the daemon or \
         forwarder, and both servers.\n{}\nOf the same rounds:\n{}",
        report.machine.cpu,
        report.machine.kernel,
        report.machine.cores.len(),
        report.value_bytes,
        report.rounds,
        report.seconds,
        distance::place(report.distance_ms),
        figures(report),
        ratios(report),
    );
    for row in &report.rows {
        let who = format!(
            "{}, {} processes, {}",
            row.operation.name(),
            row.processes,
            row.contestant.name()
        );
        text.extend(distance::remark(&who, &row.proxy));
    }
    for row in report.rows.iter().filter(|row| row.errors > 0) {
        let last = row.last_error.as_deref().unwrap_or_default();
        text += &format!(
            "\n{}, {} processes, {}: {} operations failed; the last: {last}",
            row.operation.name(),
            row.processes,
            row.contestant.name(),
            row.errors
        );
    }
    text
}

fn figures(report: &Report) -> Table {
    let header =
        ["operation", "processes", "contestant", "operations/s", "p50, us", "p99, us", "CPU, us"];
    let mut lines = table(1, header);
    for row in &report.rows {
        let Row { per_second, p50_us, p99_us, cpu_us, .. } = row;
        let spread = |figures: &Vec<f64>| Spread::of(figures.clone());
        lines.add_row([
            row.operation.name().to_owned(),
            row.processes.to_string(),
            row.contestant.name().to_owned(),
            format!("{:.0}", spread(per_second)),
            spread(p50_us).to_string(),
            spread(p99_us).to_string(),
            spread(cpu_us).to_string(),
        ]);
    }
    lines
}

fn ratios(report: &Report) -> Table {
    let header = [
        "operation",
        "processes",
        "l1d / direct: rate",
        "p50",
        "CPU",
        "l1d / forwarder: rate",
        "forwarder / direct: rate",
        "p50",
        "CPU",
    ];
    let mut lines = table(1, header);
    let mut rows: Vec<_> =
        report.ratios.iter().map(|ratio| (ratio.operation, ratio.processes)).collect();
    rows.dedup();
    for (operation, processes) in rows {
        let find = |of, to| {
            report.ratios.iter().find(|ratio| {
                (ratio.operation, ratio.processes, ratio.of, ratio.to)
                    == (operation, processes, of, to)
            })
        };
        let three = |ratio: Option<&Ratio>| {
            ["per_second", "p50", "cpu"].map(|figure| {
                ratio.map_or_else(
                    || "-".to_owned(),
                    |ratio| {
                        let spread = match figure {
                            "per_second" => ratio.per_second,
                            "p50" => ratio.p50,
                            _ => ratio.cpu,
                        };
                        format!("{spread:.2}")
                    },
                )
            })
        };
        let l1d = three(find(Contestant::L1d, Contestant::Direct));
        let [limit, ..] = three(find(Contestant::L1d, Contestant::Forwarder));
        let forwarder = three(find(Contestant::Forwarder, Contestant::Direct));
        let names = [operation.name().to_owned(), processes.to_string()];
        lines.add_row(names.into_iter().chain(l1d).chain([limit]).chain(forwarder));
    }
    lines
}
