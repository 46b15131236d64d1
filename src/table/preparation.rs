//! Allocating the rest of a table's segments while it is in use (W1).
//!
//! Clearing the memory of a large table takes seconds. So a new one is opened with its first
//! segments, and a thread allocates the others, one by one; the owner adds each to the log. When
//! memory is short, the table stays smaller, and the rest is tried again later. The daemon that
//! takes over such a table does the same.

use super::file::Opened;
use super::pages::Allocator;
use l1d_wire::mapping::Mapping;
use l1d_wire::pages::Pages;
use l1d_wire::words;
use nix::errno::Errno;
use nix::time::{ClockId, clock_gettime};
use shm_layout::Geometry;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A table of at most this size is allocated before it is opened.
const AT_ONCE: u64 = 256 << 20;
/// Of a larger one, beside the index, as many segments as have room for this, and at least
/// [`SEGMENTS_FIRST`].
const LOG_BYTES_FIRST: u64 = 32 << 20;
/// One for each stream of the log, and one to copy to.
const SEGMENTS_FIRST: u32 = 4;
/// How often to check for more memory while a thread allocates it.
const PAUSE: Duration = Duration::from_millis(2);
/// How often to try again when memory is short.
const RETRY: Duration = Duration::from_secs(3);
/// The thread's nice value.
const NICE: i32 = 5;
/// The thread rests for this many times as long as it has worked, because the kernel clears a large
/// page without letting anybody else run: a read or set that needs that processor waits.
const REST_QUIET: u32 = 2;
/// The most while clients are served. If the thread takes the processor of a client or of the
/// owner, the scheduler moves the two onto one processor, and sets take ten times as long, also for
/// some time afterwards. At this share of the time, that concerns less than one set in a hundred.
const REST_MAX: u32 = 36;
/// While clients are served it works for so long at a time, because each rest that ends disturbs
/// them. In processor time.
const WORK: Duration = Duration::from_millis(8);
/// It rests at least this long, and never longer than that.
const RESTS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(500));
/// With so few free segments it does not rest.
const FREE_MIN: usize = 2;
/// Clients are served if a request or a reported hit came within this time.
const LATELY: Duration = Duration::from_millis(20);

/// Segments of a new table that are allocated before it is opened.
pub(super) fn segments_at_once(geometry: &Geometry) -> u32 {
    let identity = geometry.identity();
    if identity.table_bytes <= AT_ONCE {
        return geometry.segment_count();
    }
    let first = LOG_BYTES_FIRST.div_ceil(identity.segment_bytes);
    let first = u32::try_from(first).unwrap_or(u32::MAX).max(SEGMENTS_FIRST);
    first.min(geometry.segment_count())
}

/// How far the memory of the table in force is allocated.
#[derive(Debug)]
pub(super) struct Preparation {
    state: State,
    /// A shortage was reported, and has not ended.
    is_short: bool,
}

#[derive(Debug)]
enum State {
    /// All of it.
    Done,
    Running(Running),
    /// Memory was short; to be tried again then.
    Paused(Instant),
}

/// A thread at work.
#[derive(Debug)]
struct Running {
    /// The number of usable segments, each time that it has risen.
    usable: Receiver<u32>,
    thread: JoinHandle<Result<Option<Pages>, Errno>>,
    /// How many times as long as it works the thread rests. Dropped with the table: the thread then
    /// ends soon.
    rest: Arc<AtomicU32>,
    /// The requests and hits that the owner had counted, and when that rose last.
    served: (u64, Option<Instant>),
}

impl Preparation {
    /// Begins to allocate what this table lacks.
    pub(super) fn of(opened: &Opened) -> Preparation {
        Preparation { state: State::begin(opened), is_short: false }
    }

    /// Adds what was allocated since the last call. `served` is the number of requests and hits so
    /// far. Returns when to call it again; `None`: all is allocated.
    pub(super) fn advance(
        &mut self,
        opened: &mut Opened,
        now: Instant,
        served: u64,
    ) -> Option<Instant> {
        match &mut self.state {
            State::Done => return None,
            State::Paused(until) if now < *until => return Some(*until),
            State::Paused(_) => self.state = State::begin(opened),
            State::Running(running) => {
                // Asked first: what it has sent before its end is received below.
                let has_ended = running.thread.is_finished();
                while let Ok(usable) = running.usable.try_recv() {
                    opened.table.add_usable(usable);
                }
                running.set_pace(opened.table.free_segments(), now, served);
                if has_ended && let State::Running(running) = self.take() {
                    self.end(running, opened, now);
                }
            }
        }
        match &self.state {
            State::Done => None,
            State::Running(_) => Some(now + PAUSE),
            State::Paused(until) => Some(*until),
        }
    }

    fn take(&mut self) -> State {
        std::mem::replace(&mut self.state, State::Done)
    }

    fn end(&mut self, running: Running, opened: &mut Opened, now: Instant) {
        // A panic has been logged; the table stays as it is.
        let result = running.thread.join().unwrap_or(Err(Errno::ENOMEM));
        let stats = opened.table.stats();
        let (usable_bytes, table_bytes) = (stats.usable_bytes, stats.table_bytes);
        match result {
            Ok(pages) => {
                opened.file.set_pages(pages);
                match pages {
                    Some(pages) => tracing::info!("the whole table is allocated: {pages}"),
                    None => tracing::info!("the whole table is allocated"),
                }
            }
            Err(errno) => {
                self.state = State::Paused(now + RETRY);
                if !std::mem::replace(&mut self.is_short, true) {
                    tracing::warn!(
                        usable_bytes,
                        table_bytes,
                        "the table is smaller than configured, because memory is short ({}): free \
                         some of its file system or of the host, or set a smaller table size; the \
                         rest is tried again every {} s",
                        errno.desc(),
                        RETRY.as_secs()
                    );
                }
            }
        }
    }
}

impl State {
    fn begin(opened: &Opened) -> State {
        let geometry = *opened.table.writer().geometry();
        let usable = opened.table.writer().usable_segments();
        if usable == geometry.segment_count() {
            return State::Done;
        }
        match Running::begin(opened, geometry, usable) {
            Ok(running) => State::Running(running),
            Err(error) => {
                let error = words::of(&error);
                tracing::warn!(
                    error,
                    "no thread to allocate the rest of the table with; trying again: raise the \
                     limit on threads (TasksMax=) if it stays"
                );
                State::Paused(Instant::now() + RETRY)
            }
        }
    }
}

impl Running {
    fn begin(opened: &Opened, geometry: Geometry, usable: u32) -> io::Result<Running> {
        let allocator = opened.file.allocator(geometry.bytes_up_to(usable));
        let mapping = opened.file.mapping();
        let rest = Arc::new(AtomicU32::new(REST_QUIET));
        let watched = Arc::downgrade(&rest);
        let (sender, receiver) = channel();
        let thread = thread::Builder::new().name("l1d-rest".into()).spawn(move || {
            be_nice();
            allocate(allocator, &mapping, (&geometry, usable), &sender, &watched)
        })?;
        Ok(Running { usable: receiver, thread, rest, served: (0, None) })
    }

    /// Tells the thread how much to rest. The fewer segments are free, the less it does.
    fn set_pace(&mut self, free_segments: usize, now: Instant, served: u64) {
        let (before, since) = &mut self.served;
        if served != std::mem::replace(before, served) {
            *since = Some(now);
        }
        let is_quiet = since.is_none_or(|since| now.saturating_duration_since(since) > LATELY);
        let rest = rest_for(free_segments, is_quiet);
        // Relaxed: nothing else is communicated by it.
        if self.rest.swap(rest, Ordering::Relaxed) > rest {
            self.thread.thread().unpark();
        }
    }
}

/// How many times as long as it works the thread rests.
fn rest_for(free_segments: usize, is_quiet: bool) -> u32 {
    let free = u32::try_from(free_segments.saturating_sub(FREE_MIN)).unwrap_or(u32::MAX);
    // Rises slowly at first: a log that is filled fast finds its balance at the rest that it needs.
    free.saturating_mul(free).min(if is_quiet { REST_QUIET } else { REST_MAX })
}

/// The thread: allocates segment after segment, from `usable` on.
fn allocate(
    mut allocator: Allocator,
    mapping: &Mapping,
    (geometry, usable): (&Geometry, u32),
    sender: &Sender<u32>,
    rest: &Weak<AtomicU32>,
) -> Result<Option<Pages>, Errno> {
    let mut worked = cpu_time();
    let mut pause = || {
        let Some(rest) = rest.upgrade() else { return false };
        let rest = rest.load(Ordering::Relaxed);
        let work = cpu_time().saturating_sub(worked);
        if rest > REST_QUIET && work < WORK {
            return true;
        }
        if rest > 0 {
            // Ends early when the owner wants it to rest less.
            thread::park_timeout((work * rest).clamp(RESTS.0, RESTS.1));
        }
        worked = cpu_time();
        true
    };
    for segments in usable + 1..=geometry.segment_count() {
        // The channel orders the allocation before the owner's first use of the segment.
        let is_done = allocator.allocate(geometry.bytes_up_to(segments), &mut pause)?;
        if !is_done || sender.send(segments).is_err() {
            return Ok(None);
        }
    }
    Ok(Pages::of(mapping))
}

/// The time that this thread has run; on a busy host, more has passed.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// Lowers the priority of this thread, if the system allows that.
fn be_nice() {
    // SAFETY: no pointers; on Linux, process 0 is the calling thread.
    unsafe { nix::libc::setpriority(nix::libc::PRIO_PROCESS, 0, NICE) };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hazards: sets suffer from memory that nobody needs yet, or wait for what they need.
    #[test]
    fn the_thread_rests_while_clients_are_served_but_not_when_the_log_needs_room() {
        let rests = |is_quiet| [0, FREE_MIN, 3, 4, 5, 8, 500].map(|free| rest_for(free, is_quiet));
        assert_eq!(rests(false), [0, 0, 1, 4, 9, REST_MAX, REST_MAX]);
        assert_eq!(rests(true), [0, 0, 1, 2, 2, REST_QUIET, REST_QUIET]);
    }
}
