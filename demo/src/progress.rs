//! Progress while the demo plays: on a terminal a few lines that are redrawn, elsewhere a line for
//! each way every few seconds. It goes to stderr, so that stdout has only the result.

use super::play::Worker;
use super::text::{count, duration_ns, duration_us, percent};
use super::{Options, Role, WAYS, Way};
use anstream::AutoStream;
use std::fmt::Write as _;
use std::io::{IsTerminal, Stderr, Write, stderr};
use std::time::{Duration, Instant};

const DRAW_INTERVAL: Duration = Duration::from_millis(250);
const SAY_INTERVAL: Duration = Duration::from_secs(5);

const BOLD: &str = "\x1b[1m";
const PLAIN: &str = "\x1b[0m";

/// Shows the progress of the play. Errors are ignored: the demo goes on without its display.
pub struct Progress {
    out: AutoStream<Stderr>,
    mode: Mode,
    seconds: u64,
    next: Instant,
}

enum Mode {
    /// Overwrites the lines that were drawn last.
    Redraw {
        lines: usize,
    },
    /// Adds a line for each way.
    Append,
    Silent,
}

impl Progress {
    pub fn new(options: &Options) -> Progress {
        let mode = match (stderr().is_terminal(), options.json) {
            // The page shows it.
            _ if options.page => Mode::Silent,
            (true, _) => Mode::Redraw { lines: 0 },
            (false, false) => Mode::Append,
            (false, true) => Mode::Silent,
        };
        let first = if matches!(mode, Mode::Append) { SAY_INTERVAL } else { DRAW_INTERVAL };
        let next = Instant::now() + first;
        Progress { out: AutoStream::auto(stderr()), mode, seconds: options.seconds, next }
    }

    /// Shows the state of all processes, when it is time to.
    pub fn show(&mut self, elapsed: Duration, workers: &[Worker]) {
        if Instant::now() < self.next {
            return;
        }
        match &mut self.mode {
            Mode::Redraw { lines } => {
                self.next = Instant::now() + DRAW_INTERVAL;
                let text = drawing(elapsed, self.seconds, workers);
                let erase = match *lines {
                    0 => String::new(),
                    lines => format!("\x1b[{lines}A\x1b[J"),
                };
                *lines = text.lines().count();
                self.write(&format!("{erase}{text}"));
            }
            Mode::Append => {
                self.next = Instant::now() + SAY_INTERVAL;
                self.write(&lines(elapsed, self.seconds, workers));
            }
            Mode::Silent => {}
        }
    }

    /// Erases the drawing, to make room for the result.
    pub fn end(&mut self) {
        if let Mode::Redraw { lines } = &mut self.mode {
            let drawn = std::mem::take(lines);
            if drawn > 0 {
                self.write(&format!("\x1b[{drawn}A\x1b[J"));
            }
        }
    }

    /// Adds a text.
    pub fn say(&mut self, text: &str) {
        self.write(text);
    }

    fn write(&mut self, text: &str) {
        let _ = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
    }
}

fn published(workers: &[Worker], way: Way) -> u64 {
    let monitor = workers.iter().find(|worker| worker.way == way && worker.role == Role::Monitor);
    monitor.map_or(0, |worker| worker.total.signals)
}

/// One line for each process, at most 80 characters wide: a wrapped line could not be erased.
fn drawing(elapsed: Duration, seconds: u64, workers: &[Worker]) -> String {
    let mut text = format!(
        "{BOLD}{} s of {seconds} s{PLAIN}\n{:<14}{:>17}{:>10}{:>9}{:>9}{:>9}{:>12}\n",
        elapsed.as_secs(),
        "",
        "signals seen",
        "their age",
        "at most",
        "a read",
        "from L1",
        "own copies"
    );
    for way in WAYS {
        let published = published(workers, way);
        let _ = writeln!(text, "{BOLD}{}{PLAIN}", way.title());
        for worker in workers.iter().filter(|worker| worker.way == way) {
            let total = &worker.total;
            let (name, signals, ages) = match worker.role {
                Role::Monitor => {
                    let ages = ["-".to_owned(), "-".to_owned()];
                    ("monitoring".to_owned(), format!("{} published", count(published)), ages)
                }
                Role::Web => (
                    format!("web {}", worker.number),
                    format!("{} of {}", count(total.signals), count(published)),
                    [total.signal_age_us.quantile(0.5), total.signal_age_us.max()].map(duration_us),
                ),
            };
            let [age, age_max] = ages;
            let _ = writeln!(
                text,
                "  {name:<12}{signals:>17}{age:>10}{age_max:>9}{:>9}{:>9}{:>12}",
                duration_ns(total.read_ns.quantile(0.5)),
                percent(total.hit_ratio()),
                count(total.copies),
            );
        }
    }
    text
}

/// One line for each way, with the sum of its web processes.
fn lines(elapsed: Duration, seconds: u64, workers: &[Worker]) -> String {
    let mut text = String::new();
    for way in WAYS {
        let mut webs = 0;
        let mut total = super::report::Report::default();
        for worker in workers.iter().filter(|worker| worker.way == way && worker.role == Role::Web)
        {
            total.add_process(&worker.total);
            webs += 1;
        }
        let _ = writeln!(
            text,
            "{} s of {seconds} s, {}: {} of {} signals seen, at most {} old; a read {}, {} from L1",
            elapsed.as_secs(),
            way.title(),
            count(total.signals),
            count(published(workers, way) * webs),
            duration_us(total.signal_age_us.max()),
            duration_ns(total.read_ns.quantile(0.5)),
            percent(total.hit_ratio()),
        );
    }
    text
}
