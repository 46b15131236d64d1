//! This process's side of its mailbox: requests out, replies in, by any number of threads.
//!
//! | part | file |
//! |---|---|
//! | requests into the ring | `mod` |
//! | a request that waits, on its lane | `lane_request` |
//! | waiting for a reply, or for room in the ring | `wait` |
//! | the memory, verified before it is trusted | `memory` |
//!
//! The lock is held while one record is copied, and never while waiting.

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod lane_request;
mod memory;
mod wait;

pub(crate) use lane_request::LaneRequest;
pub(crate) use memory::NoMailbox;

use crate::connection::Connection;
use crate::deadline::Deadline;
use crate::failure::{Failure, Reason};
use crate::sentinel::ProcessMark;
use l1d_wire::protocol::Request;
use l1d_wire::protocol::frame::HEADER_BYTES;
use memmap2::MmapRaw;
use shm_layout::MappedMut;
use shm_layout::mailbox::ring::{Head, Kind, Producer};
use shm_layout::mailbox::{Counter, Mailbox};
use std::mem::ManuallyDrop;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Larger buffers are freed after use.
const BUFFER_BYTES_KEPT: usize = 64 << 10;
/// The most records that are pushed without a reply, and without the daemon having read any, before
/// the client checks that the daemon is still there. The client's processor is published as often.
const UNWATCHED_MAX: u32 = 32;

/// A mailbox, and the connection that keeps it alive.
pub(crate) struct ClientEnd {
    words: Mailbox<MappedMut>,
    socket: Connection,
    sender: Mutex<Sender>,
    /// A lane became free.
    freed: Condvar,
    /// The daemon is gone, or has violated the protocol; another mailbox must be opened.
    is_dead: AtomicBool,
    /// Calls of [`is_hung_up`](Self::is_hung_up).
    looks: AtomicU64,
    /// How long to spin for a reply before the thread sleeps.
    spin: Duration,
    /// Moving averages of the latency of reads and of writes, in ns.
    latency_ns: [AtomicU64; 2],
    /// Indexed by [`Counter`].
    counts: [AtomicU64; 3],
    /// Tasks that wait for the descriptor.
    #[cfg(feature = "tokio")]
    pub(crate) waiters: crate::waiters::Waiters,
    /// Of which process it is: in a child its memory is not mapped, and a thread of the parent may
    /// have held its lock at the fork (R9).
    process: ProcessMark,
    /// Mapped as long as `words` is used.
    mapping: ManuallyDrop<MmapRaw>,
}

impl Drop for ClientEnd {
    fn drop(&mut self) {
        // In a child, something else may be where it was.
        if self.is_own() {
            // SAFETY: not used after this, because the value is being dropped.
            unsafe { ManuallyDrop::drop(&mut self.mapping) };
        }
    }
}

struct Sender {
    producer: Producer<MappedMut>,
    /// Lanes without a request.
    free: Vec<Lane>,
    /// Lanes whose thread has stopped waiting; their reply may still arrive.
    abandoned: Vec<Lane>,
    /// The encoding buffer of a request without a reply.
    frame: Vec<u8>,
    unwatched: Unwatched,
}

/// Requests without a reply since the daemon was last seen to read.
#[derive(Default)]
struct Unwatched {
    position: u64,
    count: u32,
}

/// A lane, which carries one request at a time.
#[derive(Default)]
struct Lane {
    number: u8,
    sequence: u32,
    /// A piece of the reply was taken, and the next one has not been requested yet.
    owes_more: bool,
    request: Vec<u8>,
    reply: Vec<u8>,
}

/// The reason why a request without a reply was not sent.
#[derive(Debug)]
pub(crate) enum Unsent {
    /// The ring has no room.
    Busy,
    Failed(Failure),
}

impl ClientEnd {
    /// Opens the mailbox that came over `socket`.
    ///
    /// # Errors
    /// The reason not to trust it, or the system's not to map it.
    pub(crate) fn open(
        file: &OwnedFd,
        bytes: u64,
        socket: Connection,
        spin: Duration,
    ) -> Result<ClientEnd, NoMailbox> {
        let (words, mapping) = memory::map(file, bytes)?;
        let lanes = 0..u8::try_from(words.shape().lanes).unwrap_or(u8::MAX);
        let free = lanes.rev().map(|number| Lane { number, ..Lane::default() }).collect();
        Ok(ClientEnd {
            sender: Mutex::new(Sender {
                producer: Producer::new(words.clone()),
                free,
                abandoned: Vec::new(),
                frame: Vec::new(),
                unwatched: Unwatched::default(),
            }),
            words,
            socket,
            freed: Condvar::new(),
            is_dead: AtomicBool::new(false),
            looks: AtomicU64::new(0),
            spin,
            latency_ns: [const { AtomicU64::new(0) }; 2],
            counts: [const { AtomicU64::new(0) }; 3],
            #[cfg(feature = "tokio")]
            waiters: Default::default(),
            process: ProcessMark::own(),
            mapping: ManuallyDrop::new(mapping),
        })
    }

    /// Whether this process has opened it, and not its parent.
    fn is_own(&self) -> bool {
        self.process.is_own()
    }

    /// Another mailbox has to be opened.
    pub(crate) fn is_dead(&self) -> bool {
        self.is_dead.load(Ordering::Relaxed)
    }

    /// Whether the daemon has hung up. One system call; only every eighth call makes another, which
    /// checks that the socket is still this process's.
    pub(crate) fn is_hung_up(&self) -> bool {
        let looks = self.looks.fetch_add(1, Ordering::Relaxed);
        if looks % 8 == 7 { self.socket.is_closed() } else { self.socket.is_hung_up() }
    }

    /// Stops all further use of this mailbox.
    pub(crate) fn give_up(&self) {
        self.is_dead.store(true, Ordering::Relaxed);
    }

    /// Reports keys that were hit, each for `hits` hits.
    pub(crate) fn report(&self, stripe: usize, hashes: &[u64], hits: u64) {
        self.words.report(stripe, hashes, hits);
    }

    /// Increments a counter that the daemon displays. Only called next to a system call or a wait.
    fn count(&self, counter: Counter) {
        if let Some(count) = self.counts.get(counter as usize) {
            // If two threads race, the lower count may stay until the next increment.
            self.words.set_counter(counter, count.fetch_add(1, Ordering::Relaxed) + 1);
        }
    }

    /// Nothing panics while it holds this lock, and a caller's panic elsewhere must not end the
    /// cache.
    fn lock(&self) -> MutexGuard<'_, Sender> {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a request, waits for its reply and passes the payload to `take`. `None` if all lanes
    /// were in use until the deadline.
    pub(crate) fn call<T>(
        &self,
        request: &Request<'_>,
        is_write: bool,
        deadline: &Deadline,
        take: impl FnOnce(&[u8]) -> T,
    ) -> Result<Option<T>, Failure> {
        let lane = self.take_lane(Some(deadline)).map_err(Failure::NotSent)?;
        let Some(lane) = lane else { return Ok(None) };
        let mut lane_request = LaneRequest::on(self, lane);
        lane_request.send(request, deadline)?;
        lane_request.wait(usize::from(is_write), deadline)?;
        Ok(Some(take(lane_request.reply())))
    }

    /// Sends a request whose caller waits for the reply at [`ClientEnd::descriptor`], or as many of
    /// its pieces as the ring has room for. `None` if all lanes are in use.
    pub(crate) fn begin(
        self: Arc<ClientEnd>,
        request: &Request<'_>,
        deadline: &Deadline,
    ) -> Result<Option<LaneRequest<Arc<ClientEnd>>>, Failure> {
        let lane = self.take_lane(None).map_err(Failure::NotSent)?;
        let Some(lane) = lane else { return Ok(None) };
        self.publish_processor();
        let mut lane_request = LaneRequest::on(self, lane);
        lane_request.is_polled = true;
        lane_request.send(request, deadline)?;
        Ok(Some(lane_request))
    }

    /// A lane is free, so a request can be sent now.
    pub(crate) fn has_free_lane(&self) -> bool {
        let mut sender = self.lock();
        if sender.free.is_empty() {
            self.reclaim(&mut sender);
        }
        !sender.free.is_empty()
    }

    /// Becomes readable when a reply arrives for a request that waits here, or the daemon exits.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.descriptor()
    }

    /// Another descriptor of the same socket: each runtime can watch a descriptor only once.
    #[cfg(feature = "tokio")]
    pub(crate) fn other_descriptor(&self) -> std::io::Result<crate::socket::Socket> {
        self.socket.other_descriptor()
    }

    /// Drains the wakeups that made the descriptor readable.
    pub(crate) fn drain_wakeups(&self) {
        let drained = self.socket.drain_wakeups();
        // All tasks share the descriptor: the one that drains it wakes the others.
        #[cfg(feature = "tokio")]
        if drained {
            self.waiters.wake();
        }
        let _ = drained;
    }

    /// Sends a request that has no reply. Does not wait for room in the ring, except between the
    /// pieces of a request that is larger than one.
    pub(crate) fn post(
        &self,
        request: &Request<'_>,
        deadline: impl FnOnce() -> Deadline,
    ) -> Result<(), Unsent> {
        let mut sender = self.lock();
        let Sender { producer, frame, unwatched, .. } = &mut *sender;
        frame.clear();
        request.encode(frame).map_err(|error| Unsent::Failed(Failure::TooLarge(error)))?;
        let payload = frame.get(HEADER_BYTES..).unwrap_or_default();
        if payload.len() > self.words.shape().piece_bytes() {
            *frame = Vec::new();
            drop(sender);
            return self.post_in_pieces(request, &deadline());
        }
        let head = Head { kind: Kind::Whole, lane: None, sequence: 0 };
        let pushed = producer.push(head, payload);
        let position = producer.position();
        let due = pushed.is_ok() && unwatched.is_due();
        let is_watched = !due || unwatched.is_watched(&self.words, position);
        drop(sender);
        if pushed.is_err() {
            self.count(Counter::RingFull);
            self.check(position + 1).map_err(Unsent::Failed)?;
            return Err(Unsent::Busy);
        }
        if due {
            self.publish_processor();
        }
        if !is_watched {
            self.check(position).map_err(Unsent::Failed)?;
        }
        self.wake_daemon(position).map_err(Unsent::Failed)
    }

    fn post_in_pieces(&self, request: &Request<'_>, deadline: &Deadline) -> Result<(), Unsent> {
        // Assembled in a lane, to which no reply comes.
        let lane = self.take_lane(None).ok().flatten().ok_or(Unsent::Busy)?;
        self.publish_processor();
        let mut lane_request = LaneRequest::on(self, lane);
        let sent = lane_request.send(request, deadline);
        lane_request.expect_nothing();
        sent.map_err(Unsent::Failed)
    }

    /// Pushes a record, waiting for room in the ring until the deadline, and wakes the daemon if it
    /// sleeps. Returns the end of the record.
    fn push(
        &self,
        lane: &Lane,
        kind: Kind,
        bytes: &[u8],
        deadline: &Deadline,
    ) -> Result<u64, Failure> {
        loop {
            if let Some(position) = self.try_push(lane, kind, bytes, true)? {
                return Ok(position);
            }
            self.wait_for_room(deadline).map_err(Failure::NotSent)?;
        }
    }

    /// [`push`](Self::push) without waiting: `None` if the ring has no room. If the caller
    /// `sleeps` then, the daemon wakes it when there is some.
    fn try_push(
        &self,
        lane: &Lane,
        kind: Kind,
        bytes: &[u8],
        sleeps: bool,
    ) -> Result<Option<u64>, Failure> {
        let head = Head { kind, lane: Some(lane.number), sequence: lane.sequence };
        let mut sender = self.lock();
        let mut pushed = sender.producer.push(head, bytes);
        if pushed.is_err() && sleeps {
            self.words.want_room();
            pushed = sender.producer.push(head, bytes);
        }
        let position = sender.producer.position();
        drop(sender);
        if pushed.is_err() {
            self.count(Counter::RingFull);
            return Ok(None);
        }
        self.wake_daemon(position)?;
        Ok(Some(position))
    }

    /// Wakes the daemon if it sleeps, for the records up to `position`.
    fn wake_daemon(&self, position: u64) -> Result<(), Failure> {
        if !self.words.must_ring() {
            return Ok(());
        }
        self.count(Counter::Wakeups);
        // Before the daemon wakes and decides whether to poll for the next request.
        self.publish_processor();
        self.socket.send_wakeup().map_err(|reason| self.end(reason, position))
    }

    /// Fails if the daemon has gone.
    fn check(&self, position: u64) -> Result<(), Failure> {
        if self.socket.is_closed() { Err(self.end(Reason::Closed, position)) } else { Ok(()) }
    }

    /// The failure of a request that ends at `position` when the daemon has gone: a request that
    /// was not read was not executed.
    fn end(&self, reason: Reason, position: u64) -> Failure {
        self.give_up();
        match self.words.is_consumed(position) {
            true => Failure::NoReply(reason),
            false => Failure::NotSent(reason),
        }
    }

    /// Takes a free lane, or waits for one until the deadline; without a deadline it does not wait.
    fn take_lane(&self, deadline: Option<&Deadline>) -> Result<Option<Lane>, Reason> {
        let mut sender = self.lock();
        loop {
            if sender.free.is_empty() {
                self.reclaim(&mut sender);
            }
            if let Some(lane) = sender.free.pop() {
                return Ok(Some(lane));
            }
            let Some(deadline) = deadline.filter(|deadline| !deadline.has_passed()) else {
                return Ok(None);
            };
            // In slices, because nothing signals that the reply for an abandoned lane has arrived.
            let slice = deadline.remaining().min(wait::SLICE);
            let waited = self.freed.wait_timeout(sender, slice);
            let (held, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            sender = held;
            if timeout.timed_out() && deadline.may_be_interrupted() {
                drop(sender);
                deadline.go_on()?;
                sender = self.lock();
            }
        }
    }

    /// Frees abandoned lanes whose whole reply has arrived.
    fn reclaim(&self, sender: &mut Sender) {
        for mut lane in std::mem::take(&mut sender.abandoned) {
            if !lane.owes_more {
                match self.words.reply(lane.number.into(), lane.sequence) {
                    Some(piece) if piece.more => {
                        self.words.open_lane(lane.number.into(), lane.sequence);
                        lane.owes_more = true;
                    }
                    Some(_) => {
                        sender.free.push(lane);
                        continue;
                    }
                    None => {}
                }
            }
            if lane.owes_more {
                let number = Some(lane.number);
                let head = Head { kind: Kind::More, lane: number, sequence: lane.sequence };
                lane.owes_more = sender.producer.push(head, &[]).is_err();
                // If the daemon has gone, the next request will find out.
                let _ = self.wake_daemon(sender.producer.position());
            }
            sender.abandoned.push(lane);
        }
    }
}

impl Unwatched {
    /// Counts a request. Returns whether to check on the daemon: only now and then, because the
    /// word to check is on a line that the daemon writes.
    fn is_due(&mut self) -> bool {
        self.count += 1;
        self.count >= UNWATCHED_MAX
    }

    /// Returns whether the daemon has read from the ring since the last call.
    fn is_watched(&mut self, words: &Mailbox<MappedMut>, position: u64) -> bool {
        let is_watched = words.is_consumed(self.position + 1);
        *self = Unwatched { position, count: 0 };
        is_watched
    }
}
