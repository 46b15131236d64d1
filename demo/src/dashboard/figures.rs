//! The figures beneath the dashboards, of the last seconds.

use crate::play::Worker;
use crate::report::Report;
use crate::screen::{SHOWN, Screen, Shown};
use crate::{Role, WAYS, Way};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The time that figures cover: long enough for every copy of 2 s to be fetched some times.
const COVERS: Duration = Duration::from_secs(10);

/// A signal is live until its successor has been out for this long.
const SLACK: Duration = Duration::from_millis(500);

/// Screens that are kept of a process: about as many as come in [`COVERS`].
const SCREENS_MAX: usize = 40;

/// One process's last seconds.
#[derive(Debug, Default)]
pub struct Recent {
    reports: VecDeque<(Instant, Report)>,
    /// The latest last.
    screens: VecDeque<Screen>,
}

impl Recent {
    pub fn add(&mut self, report: &Report) {
        self.reports.push_back((Instant::now(), report.clone()));
        while self.reports.front().is_some_and(|(at, _)| at.elapsed() > COVERS) {
            self.reports.pop_front();
        }
    }

    pub fn show(&mut self, screen: Screen) {
        self.screens.push_back(screen);
        if self.screens.len() > SCREENS_MAX {
            self.screens.pop_front();
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
        "slack_ms": u64::try_from(SLACK.as_millis()).unwrap_or(u64::MAX),
        "signals_shown": SHOWN,
        "ways": WAYS.map(|way| of_way(way, all().filter(|(worker, _)| worker.way == way))),
    })
}

fn of_way<'a>(way: Way, processes: impl Iterator<Item = (&'a Worker, &'a Recent)>) -> Value {
    let (mut web, mut covers) = (Report::default(), Duration::ZERO);
    let (mut monitors, mut webs) = (None, None);
    for (worker, recent) in processes {
        match worker.role {
            Role::Monitor => monitors = Some(&recent.screens),
            Role::Web => {
                let (sum, time) = recent.sum();
                web.add_process(&sum);
                covers = covers.max(time);
                // The first one's dashboard is on the page.
                webs = webs.or(Some(&recent.screens));
            }
        }
    }
    let all = webs.into_iter().flatten().map(|screen| live(monitors, screen));
    let all: Vec<Vec<bool>> = all.collect();
    let now = webs.and_then(VecDeque::back).map_or(&[][..], |screen| &screen.signals);
    let is_live = all.last().map_or(&[][..], |live| live);
    let signals: Vec<Value> = now.iter().zip(is_live).map(shown).collect();
    let is_stale = || all.iter().flatten().map(|is_live| !is_live);
    let stale = is_stale().filter(|is_stale| *is_stale).count();
    let seconds = covers.as_secs_f64().max(0.25);
    json!({
        "way": way,
        "title": way.title(),
        "monitor_live": monitors.and_then(VecDeque::back).map_or(0, published),
        "web_live": is_live.iter().filter(|is_live| **is_live).count(),
        "signals": signals,
        "stale_ratio": stale as f64 / is_stale().count().max(1) as f64,
        "reads_per_second": web.reads as f64 / seconds,
        "reads_below_l1_per_second": (web.reads - web.hits) as f64 / seconds,
        "reads_below_l1_ratio": if web.reads == 0 { 0.0 } else { 1.0 - web.hit_ratio() },
        "read_p50_ns": web.read_ns.quantile(0.5),
        "read_p99_ns": web.read_ns.quantile(0.99),
    })
}

/// How many signals the monitoring process has published.
fn published(screen: &Screen) -> usize {
    screen.signals.iter().filter(|signal| signal.version > 0).count()
}

fn shown((signal, is_live): (&Shown, &bool)) -> Value {
    let mut shown = json!(signal);
    shown["is_live"] = (*is_live).into();
    shown
}

/// Which signals on a screen are live: at least those that the monitoring process had published some
/// time before.
fn live(monitors: Option<&VecDeque<Screen>>, web: &Screen) -> Vec<bool> {
    let slack_ns = u64::try_from(SLACK.as_nanos()).unwrap_or(u64::MAX);
    let is_before = |screen: &&Screen| screen.at_ns.saturating_add(slack_ns) <= web.at_ns;
    let before = monitors.and_then(|screens| screens.iter().rev().find(is_before));
    let signals = web.signals.iter().enumerate();
    let signals = signals.map(|(place, signal)| {
        let published = before.and_then(|screen| screen.signals.get(place));
        let least = published.map_or(1, |published| published.version.max(1));
        signal.version >= least
    });
    signals.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn screen(at_ms: u64, versions: [u64; 2]) -> Screen {
        let shown = |(symbol, version)| Shown { symbol, version, age_ms: 0 };
        let signals = versions.into_iter().enumerate().map(shown).collect();
        Screen { at_ns: at_ms * 1_000_000, signals }
    }

    #[test]
    fn a_signal_is_live_until_its_successor_has_been_out_for_a_while() {
        let monitors = VecDeque::from([screen(1000, [3, 3]), screen(1600, [4, 3])]);
        let live = |web: Screen| live(Some(&monitors), &web);
        assert_eq!(live(screen(1400, [2, 0])), [true, false]);
        assert_eq!(live(screen(2000, [3, 2])), [true, false]);
        assert_eq!(live(screen(2100, [3, 3])), [false, true]);
        assert_eq!(live(screen(2100, [4, 4])), [true, true]);
    }
}
