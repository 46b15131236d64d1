//! The daemon's log, on standard error. Serving never waits for the log's reader (S10): lines go
//! through a bounded queue to a thread of their own, and lines without room in it are dropped and
//! counted.

mod writer;

use crate::config::{DaemonConfig, LogFormat};
use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt::Display;
use std::io::{IsTerminal, Write, stderr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use writer::{Drops, Stopping, Writer};

/// Lines that wait for the reader; about 1 MiB of memory.
const LINES_MAX: usize = 4096;
/// How long the end of the process waits for a reader that has stopped.
const PATIENCE_AT_END: Duration = Duration::from_millis(500);

/// The drops of this process's log.
static DROPS: OnceLock<Arc<Drops>> = OnceLock::new();

/// Lines that were dropped so far, because the log's reader had stopped or was too slow.
#[must_use]
pub fn lines_dropped() -> u64 {
    DROPS.get().map_or(0, |drops| drops.count())
}

/// The log in use. Dropping it writes what is left, for half a second at most.
#[must_use]
#[derive(Debug)]
pub struct Log {
    queue: NonBlocking,
    worker: Option<WorkerGuard>,
    stopping: Arc<Stopping>,
}

impl Log {
    /// Starts logging to standard error, and logs panics as well: the default hook would wait for
    /// the reader. The environment variable `L1D_LOG` overrides the configured level.
    ///
    /// This starts a thread, which inherits the signal mask of its caller. Call it once.
    pub fn start(config: &DaemonConfig) -> Log {
        let stopping = Arc::new(Stopping::default());
        let drops = Arc::clone(DROPS.get_or_init(Arc::default));
        let writer = Writer::new(stderr(), Arc::clone(&stopping), Arc::clone(&drops));
        let (queue, worker) = NonBlockingBuilder::default()
            .buffered_lines_limit(LINES_MAX)
            .lossy(true)
            .thread_name("l1d-log")
            .finish(writer);
        drops.watch(queue.error_counter());

        let filter = EnvFilter::try_from_env("L1D_LOG")
            .unwrap_or_else(|_| EnvFilter::default().add_directive(config.log.into()));
        let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(queue.clone());
        match config.log_format {
            LogFormat::Text => log.with_ansi(stderr().is_terminal()).init(),
            LogFormat::Json => log.json().init(),
        }
        std::panic::set_hook(Box::new(|panic| {
            let backtrace = Backtrace::capture();
            match backtrace.status() {
                BacktraceStatus::Captured => tracing::error!("{panic}\n{backtrace}"),
                _ => tracing::error!("{panic}"),
            }
        }));
        Log { queue, worker: Some(worker), stopping }
    }

    /// Writes a line that is no log message, after all messages so far.
    pub fn print(&self, line: impl Display) {
        // In one call: each call is an element of the queue. It cannot fail.
        let _ = self.queue.clone().write_all(format!("{line}\n").as_bytes());
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.stopping.begin(PATIENCE_AT_END);
        // An idle writer notices that it is to stop.
        let _ = self.queue.write(&[]);
        let Some(worker) = self.worker.take() else { return };
        if self.stopping.wait(PATIENCE_AT_END * 2) {
            drop(worker);
        } else {
            // The writer is stuck in a system call, with a full queue. The worker's guard would
            // wait for it, and then print to standard output, which may be the same full pipe.
            std::mem::forget(worker);
        }
    }
}
