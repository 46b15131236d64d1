//! The daemon's log, on standard error, or in the journal if that leads there. Serving never waits
//! for the log's reader (S10): lines go through a bounded queue to a thread of their own, and lines
//! without room in it are dropped and counted.

mod journal;
mod prefixed;
mod repeats;
mod writer;

use crate::config::{DaemonConfig, LogFormat};
use journal::{Journal, JournalLayer};
use prefixed::Prefixed;
use repeats::Repeats;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt::Display;
use std::io::{self, IsTerminal, Write, stderr};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};
use tracing::Level;
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, registry};
use writer::{Drops, Stopping, Writer};

/// Lines that wait for the reader; about 1 MiB of memory.
const LINES_MAX: usize = 4096;
/// A pipe that polls as writable takes this much without blocking (PIPE_BUF).
const PIPE_BYTES: usize = 4096;
/// How long the end of the process waits for a reader that has stopped.
const PATIENCE_AT_END: Duration = Duration::from_millis(500);

/// The drops of this process's log.
static DROPS: OnceLock<Arc<Drops>> = OnceLock::new();

/// Lines that were dropped so far, because the log's reader had stopped or was too slow.
#[must_use]
pub fn lines_dropped() -> u64 {
    DROPS.get().map_or(0, |drops| drops.count())
}

static REPEATS: OnceLock<Repeats> = OnceLock::new();

/// Logs how many lines were left out because they repeat, if that is due: to be called every second,
/// because whoever fell silent for that reason causes no line.
pub fn tell_left_out() {
    tell_of(false);
}

fn tell_of(is_end: bool) {
    let repeats = REPEATS.get();
    if let Some(lines) = repeats.and_then(|repeats| repeats.take_left_out(Instant::now(), is_end)) {
        tracing::warn!(lines, "lines like others of the last minute were left out");
    }
}

/// The log in use. Dropping it writes what is left, for half a second at most.
#[must_use]
#[derive(Debug)]
pub struct Log {
    queue: NonBlocking,
    worker: Option<WorkerGuard>,
    stopping: Arc<Stopping>,
    output: Output,
}

/// Where lines go, and in what form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Output {
    /// Standard error, as configured.
    Plain,
    /// Standard error, which systemd reads: with priorities in front.
    Prefixed,
    /// The journal, in its own protocol.
    Journal,
}

impl Log {
    /// Starts logging, and logs panics as well: the default hook would wait for the reader. If
    /// standard error is the journal's and the format is text, events go to the journal with their
    /// fields and priorities. The environment variable `L1D_LOG` overrides the configured level.
    ///
    /// This starts a thread, which inherits the signal mask of its caller. Call it once.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(config: &DaemonConfig) -> io::Result<Log> {
        // Tried first, because the library panics if its thread cannot be started.
        let _ = thread::Builder::new().spawn(|| ())?.join();
        let stopping = Arc::new(Stopping::default());
        let drops = Arc::clone(DROPS.get_or_init(Arc::default));
        let repeats = REPEATS.get_or_init(Repeats::default).clone();
        let shared = (Arc::clone(&stopping), Arc::clone(&drops));
        let builder = NonBlockingBuilder::default()
            .buffered_lines_limit(LINES_MAX)
            .lossy(true)
            .thread_name("l1d-log");
        let is_for_journal = config.log_format == LogFormat::Text && journal::has_stderr();
        let journal = if is_for_journal { Journal::connect().ok() } else { None };
        let (output, (queue, worker)) = match journal {
            Some(journal) => {
                // Each event is one datagram.
                (Output::Journal, builder.finish(Writer::new(journal, usize::MAX, shared)))
            }
            None => {
                let output = if is_for_journal { Output::Prefixed } else { Output::Plain };
                (output, builder.finish(Writer::new(stderr(), PIPE_BYTES, shared)))
            }
        };
        drops.watch(queue.error_counter());

        let filter = EnvFilter::try_from_env("L1D_LOG")
            .unwrap_or_else(|_| EnvFilter::default().add_directive(config.log.into()));
        let layer = layer(output, config.log_format, queue.clone());
        registry().with(layer.with_filter(repeats).with_filter(filter)).init();
        std::panic::set_hook(Box::new(|panic| {
            let backtrace = Backtrace::capture();
            match backtrace.status() {
                BacktraceStatus::Captured => tracing::error!("{panic}\n{backtrace}"),
                _ => tracing::error!("{panic}"),
            }
        }));
        Ok(Log { queue, worker: Some(worker), stopping, output })
    }

    /// Writes a line that is no log message, after all messages so far.
    pub fn print(&self, line: impl Display) {
        let line = match self.output {
            Output::Plain => format!("{line}\n").into_bytes(),
            Output::Prefixed => {
                format!("<{}>{line}\n", journal::priority(Level::ERROR)).into_bytes()
            }
            Output::Journal => journal::encode(Level::ERROR, &line.to_string(), b""),
        };
        // In one call: each call is an element of the queue. It cannot fail.
        let _ = self.queue.clone().write_all(&line);
    }
}

/// Writes events to `queue` in this form.
fn layer(
    output: Output,
    format: LogFormat,
    queue: NonBlocking,
) -> Box<dyn Layer<Registry> + Send + Sync> {
    let text = fmt::layer();
    match (output, format) {
        (Output::Journal, _) => JournalLayer { queue }.boxed(),
        // The journal notes times itself.
        (Output::Prefixed, _) => text
            .with_ansi(false)
            .without_time()
            .with_level(false)
            .with_writer(Prefixed(queue))
            .boxed(),
        (Output::Plain, LogFormat::Text) => {
            text.with_ansi(stderr().is_terminal()).with_writer(queue).boxed()
        }
        (Output::Plain, LogFormat::Json) => text.json().with_writer(queue).boxed(),
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        tell_of(true);
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
