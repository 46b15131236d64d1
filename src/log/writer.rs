//! The end of the log's queue: writes lines where they can be written without waiting for the
//! reader beyond the end of the process.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tracing_appender::non_blocking::ErrorCounter;

/// How often a writer that waits for the reader looks whether it is to stop.
const LOOK_MS: u16 = 50;
/// Reports of drops while the reader is slow are at least this far apart.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Lines that nobody will read.
#[derive(Debug, Default)]
pub(super) struct Drops {
    /// Those that found no room in the queue.
    queue: OnceLock<ErrorCounter>,
    /// Those that could not be written.
    writer: AtomicU64,
}

impl Drops {
    /// Counts the drops of a queue as well.
    pub(super) fn watch(&self, queue: ErrorCounter) {
        let _ = self.queue.set(queue);
    }

    pub(super) fn count(&self) -> u64 {
        let queue = self.queue.get().map_or(0, ErrorCounter::dropped_lines);
        // Relaxed: a figure for people, which orders nothing.
        queue as u64 + self.writer.load(Ordering::Relaxed)
    }

    fn add_one(&self) {
        // Relaxed: as above.
        self.writer.fetch_add(1, Ordering::Relaxed);
    }
}

/// The agreement on when the writer stops waiting for the reader.
#[derive(Debug, Default)]
pub(super) struct Stopping {
    /// From then on, what cannot be written at once is dropped.
    ends: OnceLock<Instant>,
    /// The queue was empty after that was set.
    is_drained: Mutex<bool>,
    drained: Condvar,
}

impl Stopping {
    /// Lines are given up `patience` from now.
    pub(super) fn begin(&self, patience: Duration) {
        let _ = self.ends.set(Instant::now() + patience);
    }

    /// Waits until the queue is empty. Returns `false` if it is not after `patience`.
    pub(super) fn wait(&self, patience: Duration) -> bool {
        let drained = self.is_drained.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.drained.wait_timeout_while(drained, patience, |drained| !*drained);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn has_ended(&self) -> bool {
        self.ends.get().is_some_and(|ends| *ends <= Instant::now())
    }

    fn queue_is_empty(&self) {
        if self.ends.get().is_some() {
            *self.is_drained.lock().unwrap_or_else(PoisonError::into_inner) = true;
            self.drained.notify_all();
        }
    }
}

/// Writes lines to `output`. Each call of `write` brings one line, and `flush` is called when the
/// queue is empty.
pub(super) struct Writer<W> {
    output: W,
    /// Bytes that it takes without blocking when it polls as writable.
    piece_bytes: usize,
    stopping: Arc<Stopping>,
    drops: Arc<Drops>,
    /// The drops that the log has told of, and when.
    told: (u64, Option<Instant>),
    /// The last line was written.
    is_read: bool,
}

impl<W: Write + AsFd> Writer<W> {
    pub(super) fn new(
        output: W,
        piece_bytes: usize,
        (stopping, drops): (Arc<Stopping>, Arc<Drops>),
    ) -> Writer<W> {
        let told = (0, None);
        Writer { output, piece_bytes, stopping, drops, told, is_read: false }
    }

    fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        for piece in line.chunks(self.piece_bytes) {
            self.wait()?;
            self.output.write_all(piece)?;
        }
        Ok(())
    }

    /// Waits for room; until the end of the process, not after it.
    fn wait(&self) -> io::Result<()> {
        loop {
            let has_ended = self.stopping.has_ended();
            let timeout = PollTimeout::from(if has_ended { 0 } else { LOOK_MS });
            match poll(&mut [PollFd::new(self.output.as_fd(), PollFlags::POLLOUT)], timeout) {
                Ok(0) if has_ended => return Err(io::ErrorKind::TimedOut.into()),
                Ok(0) | Err(Errno::EINTR) => {}
                // Also if the pipe is closed: writing says so.
                Ok(_) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Logs how many lines were dropped, if that has changed. If the message finds no room in the
    /// queue, it counts as dropped, and the next one tells of it too.
    fn tell_drops(&mut self) {
        let dropped = self.drops.count();
        if dropped != self.told.0 && self.is_read {
            let since_last = dropped - self.told.0;
            self.told = (dropped, Some(Instant::now()));
            tracing::warn!(
                since_last,
                in_all = dropped,
                "log lines were dropped because the log's reader did not keep up"
            );
        }
    }
}

impl<W: Write + AsFd> Write for Writer<W> {
    /// Never fails: a line that cannot be written is counted.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.is_read = self.write_line(line).is_ok();
        if !self.is_read {
            self.drops.add_one();
        }
        // A queue that is never empty must not hide that lines are missing.
        if self.told.1.is_none_or(|told| told.elapsed() >= REPORT_INTERVAL) {
            self.tell_drops();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.tell_drops();
        self.stopping.queue_is_empty();
        Ok(())
    }
}
