//! The figures beneath the dashboards, of the last seconds.

use crate::play::Worker;
use crate::report::Report;
use crate::screen::{GOOD_FOR, SHOWN, Shown};
use crate::{Role, WAYS, Way};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The time that figures cover: long enough for every copy of 2 s to be fetched some times.
const COVERS: Duration = Duration::from_secs(10);

/// One process's last seconds.
#[derive(Debug, Default)]
pub struct Recent {
    reports: VecDeque<(Instant, Report)>,
    /// What its dashboard shows now.
    pub shown: Vec<Shown>,
}

impl Recent {
    pub fn add(&mut self, report: &Report) {
        self.reports.push_back((Instant::now(), report.clone()));
        while self.reports.front().is_some_and(|(at, _)| at.elapsed() > COVERS) {
            self.reports.pop_front();
        }
    }

    /// The sum of its reports, and the time that they cover.
    fn sum(&self) -> (Report, Duration) {
        let mut sum = Report::default();
        for (_, report) in &self.reports {
            sum.add(report);
        }
        let first = self.reports.front().map_or(Duration::ZERO, |(at, _)| at.elapsed());
        (sum, first)
    }
}

/// The page's figures. Names end in units.
pub fn of(elapsed: Duration, below: &str, workers: &[Worker], recent: &[Recent]) -> Value {
    let all = || workers.iter().zip(recent);
    json!({
        "elapsed_ms": u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
        "below_l1": below,
        "good_for_ms": u64::try_from(GOOD_FOR.as_millis()).unwrap_or(u64::MAX),
        "signals_shown": SHOWN,
        "ways": WAYS.map(|way| of_way(way, all().filter(|(worker, _)| worker.way == way))),
    })
}

fn of_way<'a>(way: Way, processes: impl Iterator<Item = (&'a Worker, &'a Recent)>) -> Value {
    let (mut web, mut covers) = (Report::default(), Duration::ZERO);
    let (mut monitor_shows, mut web_shows) = (&[][..], &[][..]);
    for (worker, recent) in processes {
        match worker.role {
            Role::Monitor => monitor_shows = &recent.shown,
            Role::Web => {
                let (sum, time) = recent.sum();
                web.add_process(&sum);
                covers = covers.max(time);
                // The first one's dashboard is on the page.
                if web_shows.is_empty() {
                    web_shows = &recent.shown;
                }
            }
        }
    }
    let seconds = covers.as_secs_f64().max(0.25);
    json!({
        "way": way,
        "title": way.title(),
        "monitor": monitor_shows,
        "monitor_good": good(monitor_shows),
        "web": web_shows,
        "web_good": good(web_shows),
        "stale_ratio": web.outdated_ratio(),
        "reads_per_second": web.reads as f64 / seconds,
        "reads_below_l1_per_second": (web.reads - web.hits) as f64 / seconds,
        "reads_below_l1_ratio": if web.reads == 0 { 0.0 } else { 1.0 - web.hit_ratio() },
        "read_p50_ns": web.read_ns.quantile(0.5),
        "read_p99_ns": web.read_ns.quantile(0.99),
    })
}

/// Signals that still tell something.
fn good(shown: &[Shown]) -> usize {
    shown.iter().filter(|shown| shown.is_good()).count()
}
