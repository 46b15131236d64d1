//! The figures that issue-level goals name, beside what must hold while they are taken. Each test
//! has a short form, which checks what must hold, and prints its figures; `L1D_GOALS=long` takes
//! the figures that `lab/RESULTS-GOALS.md` lists. Times are compared only within one run, between
//! rounds that alternate, because the machine may have other work.
//!
//! `L1D_GOALS=long cargo test --release --test goals -- --test-threads 1 --nocapture`

mod batches;
mod child;
mod counters;
mod loads;
mod log_reader;
mod preparation;
mod reloads;
mod restart;
mod scrapes;
mod viewers;

use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_l1d");

/// Whether to take figures that last.
fn is_long() -> bool {
    std::env::var("L1D_GOALS").is_ok_and(|wanted| wanted == "long")
}

/// The time that each of some operations took.
#[derive(Default)]
struct Times(Vec<Duration>);

impl Times {
    fn time<T>(&mut self, operation: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let result = operation();
        self.0.push(begun.elapsed());
        result
    }

    /// The time that this many thousandths of the operations did not exceed.
    fn at(&mut self, permille: usize) -> Duration {
        let place = (self.0.len() * permille / 1000).min(self.0.len() - 1);
        *self.0.select_nth_unstable(place).1
    }

    fn show(&mut self) -> String {
        let [p50, p99, p999] = [500, 990, 999].map(|permille| self.at(permille));
        format!("{} operations, p50 {p50:?}, p99 {p99:?}, p99.9 {p999:?}", self.0.len())
    }
}

/// The median of some figures.
fn median<T: Copy + PartialOrd>(mut figures: Vec<T>) -> T {
    figures.sort_by(|a, b| a.partial_cmp(b).expect("figures are numbers"));
    figures[figures.len() / 2]
}

fn ratio(of: Duration, to: Duration) -> f64 {
    of.as_secs_f64() / to.as_secs_f64()
}
