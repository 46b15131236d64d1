//! The result of the play: the ways side by side.

use super::durations::Durations;
use super::play::Worker;
use super::report::Report;
use super::scenario::keys;
use super::text::{bytes, count, duration_ns, duration_us, percent};
use super::{Options, Role, WAYS, Way, page, signal_interval};
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::time::Duration;

/// The whole play.
pub struct Summary<'a> {
    options: &'a Options,
    elapsed: Duration,
    ways: Vec<WaySummary<'a>>,
}

struct WaySummary<'a> {
    way: Way,
    workers: Vec<&'a Worker>,
    /// The monitoring process.
    monitor: Report,
    /// The sum of all web processes.
    web: Report,
    copies: u64,
    copies_bytes: u64,
}

impl<'a> Summary<'a> {
    /// `in_table`: number of l1d's values in the table, and the bytes of their keys and values.
    pub fn of(
        options: &'a Options,
        elapsed: Duration,
        workers: &'a [Worker],
        in_table: (u64, u64),
    ) -> Summary<'a> {
        let way_summary = |way| {
            let workers: Vec<&Worker> = workers.iter().filter(|worker| worker.way == way).collect();
            let (mut monitor, mut web) = (Report::default(), Report::default());
            for worker in &workers {
                match worker.role {
                    Role::Monitor => monitor.add_process(&worker.total),
                    Role::Web => web.add_process(&worker.total),
                }
            }
            let (shared, shared_bytes) = if way == Way::L1d { in_table } else { (0, 0) };
            WaySummary {
                way,
                copies: shared + monitor.copies + web.copies,
                copies_bytes: shared_bytes + monitor.copies_bytes + web.copies_bytes,
                workers,
                monitor,
                web,
            }
        };
        Summary { options, elapsed, ways: WAYS.into_iter().map(way_summary).collect() }
    }

    /// A text for people: what was played, the table, and how to read it.
    pub fn text(&self) -> String {
        let interval = duration_ns(u64::try_from(signal_interval().as_nanos()).unwrap_or(u64::MAX));
        let mut text = format!(
            "\n{:.0} s of a dashboard, played in three ways side by side. In each, a monitoring\n\
             process publishes {} keys, and {} web processes serve {} pages a second each.\n\
             l1d: one L1 for all of them. own L1: one in each process, with that TTL for what\n\
             another process writes. Below L1: {}.\n\n{}\n\n\
             signals seen: by a web process, of those published; each looks twice a second.\n\
             their age: each symbol has a new signal every {interval}, so up to that is fresh.\n\
             served out of date: more than 0.1 s after the next one was out.\n\
             copies in L1: of all processes together, with the bytes of keys and values.\n",
            self.elapsed.as_secs_f64(),
            count(keys().len() as u64),
            self.options.web,
            1_000_000_000 / page::INTERVAL_NS,
            self.options.below(),
            self.table(),
        );
        for way in &self.ways {
            for report in [&way.monitor, &way.web] {
                if report.errors > 0 {
                    let _ = writeln!(
                        text,
                        "{}: {} reads or writes failed; the last said: {}",
                        way.way.title(),
                        count(report.errors),
                        report.last_error.as_deref().unwrap_or_default()
                    );
                }
            }
        }
        text
    }

    /// The result as JSON. Names end in units.
    pub fn json(&self) -> Value {
        json!({
            "seconds": self.elapsed.as_secs_f64(),
            "keys": keys().len(),
            "web_processes": self.options.web,
            "pages_per_second": 1_000_000_000 / page::INTERVAL_NS,
            "signal_interval_ms": u64::try_from(signal_interval().as_millis()).unwrap_or(u64::MAX),
            "below_l1": self.options.below(),
            "ways": self.ways.iter().map(WaySummary::json).collect::<Vec<_>>(),
        })
    }

    fn table(&self) -> Table {
        type Show = fn(&WaySummary<'_>) -> String;
        let rows: [(&str, Show); 8] = [
            ("signals seen", |way| percent(way.signals_seen())),
            ("their age (p50 / max)", |way| {
                let age = &way.web.signal_age_us;
                [age.quantile(0.5), age.max()].map(duration_us).join(" / ")
            }),
            ("served out of date", |way| percent(way.web.outdated_ratio())),
            ("reads answered by L1", |way| percent(way.web.hit_ratio())),
            ("a read (p50 / p99)", |way| times(&way.web.read_ns)),
            ("a publish (p50 / p99)", |way| times(&way.monitor.write_ns)),
            ("copies in L1", |way| format!("{} ({})", count(way.copies), bytes(way.copies_bytes))),
            ("damaged values", |way| count(way.monitor.damaged + way.web.damaged)),
        ];
        let mut table = Table::new();
        table.load_style(UTF8_FULL_CONDENSED);
        table.set_content_arrangement(ContentArrangement::Disabled);
        let titles = self.ways.iter().map(|way| way.way.label().to_owned());
        table.set_header(std::iter::once(String::new()).chain(titles));
        for (name, show) in rows {
            table.add_row(std::iter::once(name.to_owned()).chain(self.ways.iter().map(show)));
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }
}

impl WaySummary<'_> {
    /// Share of the published signals that a web process saw, on average; 0 if there were none.
    fn signals_seen(&self) -> f64 {
        let webs = self.workers.iter().filter(|worker| worker.role == Role::Web).count() as u64;
        match self.monitor.signals * webs {
            0 => 0.0,
            published => self.web.signals as f64 / published as f64,
        }
    }

    fn json(&self) -> Value {
        json!({
            "way": self.way,
            "signals_published": self.monitor.signals,
            "signals_seen_ratio": self.signals_seen(),
            "copies": self.copies,
            "copies_bytes": self.copies_bytes,
            "web": report(&self.web),
            "processes": self.workers.iter().map(|worker| {
                let mut process = report(&worker.total);
                process["role"] = json!(worker.role);
                process["number"] = json!(worker.number);
                process
            }).collect::<Vec<_>>(),
        })
    }
}

fn report(report: &Report) -> Value {
    json!({
        "reads": report.reads,
        "hit_ratio": report.hit_ratio(),
        "missing": report.missing,
        "damaged": report.damaged,
        "errors": report.errors,
        "last_error": report.last_error,
        "writes": report.writes,
        "signals": report.signals,
        "own_copies": report.copies,
        "own_copies_bytes": report.copies_bytes,
        "read_ns": quantiles(&report.read_ns),
        "write_ns": quantiles(&report.write_ns),
        "signal_age_us": quantiles(&report.signal_age_us),
        "signals_outdated_ratio": report.outdated_ratio(),
    })
}

fn quantiles(durations: &Durations) -> Value {
    json!({
        "count": durations.count(),
        "p50": durations.quantile(0.5),
        "p99": durations.quantile(0.99),
        "max": durations.max(),
    })
}

fn times(ns: &Durations) -> String {
    [ns.quantile(0.5), ns.quantile(0.99)].map(duration_ns).join(" / ")
}
