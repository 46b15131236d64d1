//! `l1d demo --page`: the dashboard of each way, side by side on one page.
//!
//! The page asks for [`Dashboard::show`]'s figures twice a second. Nobody needs to look at it: the
//! play goes on in any case.

mod figures;
mod server;

use super::Options;
use super::play::Worker;
use super::report::Report;
use super::screen::Screen;
use anyhow::Result;
use figures::Recent;
use server::Server;
use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_millis(500);

/// The page's server, and what it shows.
pub struct Dashboard {
    server: Server,
    below: String,
    next: Instant,
    recent: Vec<Recent>,
}

impl Dashboard {
    /// Opens the port.
    ///
    /// # Errors
    /// Something else listens there, or the system refuses.
    pub fn open(options: &Options) -> Result<Dashboard> {
        let server = Server::start(options.page_port)?;
        Ok(Dashboard { server, below: options.below(), next: Instant::now(), recent: Vec::new() })
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://{}/", self.server.address())
    }

    /// Takes the report of a process.
    pub fn reported(&mut self, worker: usize, report: &Report) {
        self.of(worker).add(report);
    }

    /// Takes what a process's dashboard shows.
    pub fn shown(&mut self, worker: usize, screen: Screen) {
        self.of(worker).show(screen);
    }

    /// Shows how things stand, when it is time to.
    pub fn show(&mut self, elapsed: Duration, workers: &[Worker]) {
        if Instant::now() < self.next {
            return;
        }
        self.next = Instant::now() + INTERVAL;
        let figures = figures::of(elapsed, &self.below, workers, &self.recent);
        self.server.show(&figures);
    }

    fn of(&mut self, worker: usize) -> &mut Recent {
        if self.recent.len() <= worker {
            self.recent.resize_with(worker + 1, Recent::default);
        }
        &mut self.recent[worker]
    }
}
