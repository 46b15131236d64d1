//! The owner's side: configuration, submission, figures, stopping.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::LocalSet;

use super::redis_connection::parse_url;
use super::run::{self, L2, L3};
use super::stats::{Figures, TiersStats};
use super::{Done, Job, Tier};

/// Jobs submitted and not yet done; more are turned away. As many as the owner can have under way: what it
/// has taken on is not refused here.
pub const JOBS_MAX: usize = 16_384;

/// Which tiers there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TiersConfig {
    /// memcached, if any.
    pub l2: Option<L2Config>,
    /// Redis, if any.
    pub l3: Option<L3Config>,
}

/// Where memcached is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct L2Config {
    /// `host:port`; an IPv6 address in brackets.
    pub address: String,
    /// Longest time for an exchange, connecting included.
    pub deadline: Duration,
}

/// Where Redis is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct L3Config {
    /// `redis://[user:password@]host:port[/db]` or `redis+unix:///path`.
    pub url: String,
    /// Longest time for an exchange, connecting included.
    pub deadline: Duration,
}

/// Why the tiers could not be started. Servers that are down are no reason.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TiersError {
    /// The address of memcached is not one.
    #[error("L2 address {0:?} is not `host:port`; write for example \"127.0.0.1:11211\"")]
    Address(String),
    /// The URL of Redis is not one, or needs what is not supported. The URL is left out, as it may
    /// hold a password.
    #[error("L3 URL cannot be used: {0}; write for example \"redis://127.0.0.1:6379\"")]
    Url(String),
    /// A deadline of zero answers nothing.
    #[error("the deadline of {0} is zero; write for example \"50ms\"")]
    Deadline(Tier),
    /// The thread could not be started.
    #[error(
        "cannot start the thread of the tiers: {0}; check the limits on threads and open files"
    )]
    Thread(#[from] std::io::Error),
}

/// The owner's handle. Dropping it turns new jobs away, lets those in progress end within their
/// deadlines, and stops the thread.
#[derive(Debug)]
pub struct Tiers {
    jobs: Option<mpsc::UnboundedSender<Job>>,
    waiting: Arc<AtomicUsize>,
    l2: Option<Arc<Figures>>,
    l3: Option<Arc<Figures>>,
    thread: Option<JoinHandle<()>>,
}

impl Tiers {
    /// Starts the thread `l1d-tiers`. It calls `done` once for each job; `done` must not block.
    pub fn start(
        config: TiersConfig,
        done: impl Fn(Done) + Send + 'static,
    ) -> Result<Tiers, TiersError> {
        let mut grace = Duration::ZERO;
        let l2 = match config.l2 {
            None => None,
            Some(l2) => {
                let has_port = l2
                    .address
                    .rsplit_once(':')
                    .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
                if !has_port {
                    return Err(TiersError::Address(l2.address));
                }
                check_deadline(Tier::L2, l2.deadline)?;
                grace += l2.deadline * 2;
                Some(L2 {
                    address: l2.address,
                    deadline: l2.deadline,
                    figures: Arc::new(Figures::new()),
                })
            }
        };
        let l3 = match config.l3 {
            None => None,
            Some(l3) => {
                check_deadline(Tier::L3, l3.deadline)?;
                grace += l3.deadline * 2;
                let server = parse_url(&l3.url).map_err(TiersError::Url)?;
                Some(L3 { server, deadline: l3.deadline, figures: Arc::new(Figures::new()) })
            }
        };
        let (jobs, queue) = mpsc::unbounded_channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let mut tiers = Tiers {
            jobs: Some(jobs),
            waiting: Arc::clone(&waiting),
            l2: l2.as_ref().map(|l2| Arc::clone(&l2.figures)),
            l3: l3.as_ref().map(|l3| Arc::clone(&l3.figures)),
            thread: None,
        };
        let thread = std::thread::Builder::new().name("l1d-tiers".into()).spawn(move || {
            let local = LocalSet::new();
            local.block_on(&runtime, run::run(l2, l3, queue, waiting, Box::new(done), grace));
            drop(local);
            // A name that is being resolved must not hold the stop.
            runtime.shutdown_background();
        })?;
        tiers.thread = Some(thread);
        Ok(tiers)
    }

    /// Hands a job over; never blocks. `Err` gives it back when [`JOBS_MAX`] wait already.
    pub fn submit(&self, job: Job) -> Result<(), Job> {
        let Some(jobs) = &self.jobs else {
            return Err(job);
        };
        if self.waiting.fetch_add(1, Ordering::AcqRel) >= JOBS_MAX {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
            return Err(job);
        }
        jobs.send(job).map_err(|refused| {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
            refused.0
        })
    }

    /// Whether the tier is configured.
    pub fn has(&self, tier: Tier) -> bool {
        self.figures(tier).is_some()
    }

    /// Whether the tier is configured and its breaker lets requests through.
    pub fn available(&self, tier: Tier) -> bool {
        self.figures(tier).is_some_and(Figures::available)
    }

    /// Rises with each lost connection and each opening of the breaker (P3, P5); 0 for a tier that
    /// is not configured.
    pub fn epoch(&self, tier: Tier) -> u64 {
        self.figures(tier).map_or(0, |figures| figures.epoch.load(Ordering::Acquire))
    }

    /// The figures now.
    pub fn stats(&self) -> TiersStats {
        TiersStats {
            l2: self.l2.as_ref().map(|figures| figures.snapshot()),
            l3: self.l3.as_ref().map(|figures| figures.snapshot()),
            jobs_waiting: self.waiting.load(Ordering::Relaxed),
        }
    }

    fn figures(&self, tier: Tier) -> Option<&Figures> {
        match tier {
            Tier::L2 => self.l2.as_deref(),
            Tier::L3 => self.l3.as_deref(),
        }
    }
}

impl Drop for Tiers {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported by the thread itself.
            let _ = thread.join();
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Tier::L2 => "L2 (memcached)",
            Tier::L3 => "L3 (Redis)",
        })
    }
}

fn check_deadline(tier: Tier, deadline: Duration) -> Result<(), TiersError> {
    if deadline.is_zero() { Err(TiersError::Deadline(tier)) } else { Ok(()) }
}
