//! This process's side of its mailbox: requests out, replies in, by any number of threads.
//!
//! | part | file |
//! |---|---|
//! | requests into the ring | `mod` |
//! | a request that waits, on its lane | `exchange` |
//! | waiting for a reply, or for room in the ring | `wait` |
//! | the memory, verified before it is trusted | `memory` |
//!
//! The lock is held for the copy of one record and never while anything is waited for.

mod exchange;
mod memory;
mod wait;

pub(crate) use exchange::Exchange;

use crate::connection::Connection;
use crate::deadline::Deadline;
use crate::failure::{Failure, Reason};
use l1d_wire::protocol::Request;
use l1d_wire::protocol::frame::HEADER_BYTES;
use memmap2::MmapRaw;
use shm_layout::MappedMut;
use shm_layout::mailbox::ring::{Head, Kind, Producer};
use shm_layout::mailbox::{Mailbox, Told};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Buffers over this size are given back after use.
const BUFFER_BYTES_KEPT: usize = 64 << 10;
/// The most records that are pushed without an answer, and without the daemon having read any,
/// before the daemon is asked whether it is still there. As often it is told where they come from.
const UNWATCHED_MAX: u32 = 32;

/// A mailbox, and the connection whose end is the end of it.
pub(crate) struct ClientEnd {
    words: Mailbox<MappedMut>,
    socket: Connection,
    sender: Mutex<Sender>,
    /// A lane became free.
    freed: Condvar,
    /// The daemon is gone, or has made no sense; somebody else opens another one.
    is_dead: AtomicBool,
    /// How long a reply is waited for before the thread sleeps.
    spin: Duration,
    /// How long recent replies took, in ns: of reads, of writes.
    latency_ns: [AtomicU64; 2],
    /// By [`Told`].
    counts: [AtomicU64; 3],
    /// Tasks that wait at the descriptor.
    #[cfg(feature = "tokio")]
    pub(crate) waiters: crate::waiters::Waiters,
    /// Mapped as long as `words` is used.
    _mapping: MmapRaw,
}

struct Sender {
    producer: Producer<MappedMut>,
    /// Lanes without a request.
    free: Vec<Lane>,
    /// Lanes whose thread has stopped waiting; the reply may still come.
    abandoned: Vec<Lane>,
    /// A request without an answer, being written.
    frame: Vec<u8>,
    unwatched: Unwatched,
}

/// Requests without an answer since the daemon was last seen to read.
#[derive(Default)]
struct Unwatched {
    position: u64,
    count: u32,
}

/// A request at a time.
#[derive(Default)]
struct Lane {
    number: u8,
    sequence: u32,
    /// A piece of the reply was taken, and the next one not yet asked for.
    owes_more: bool,
    request: Vec<u8>,
    reply: Vec<u8>,
}

/// Why a request without an answer was not sent.
#[derive(Debug)]
pub(crate) enum Unsent {
    /// The ring has no room.
    Busy,
    Failed(Failure),
}

impl ClientEnd {
    /// The mailbox that came over `socket`.
    ///
    /// # Errors
    /// The reason not to trust it.
    pub(crate) fn open(
        file: &OwnedFd,
        bytes: u64,
        socket: Connection,
        spin: Duration,
    ) -> Result<ClientEnd, String> {
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
            spin,
            latency_ns: [const { AtomicU64::new(0) }; 2],
            counts: [const { AtomicU64::new(0) }; 3],
            #[cfg(feature = "tokio")]
            waiters: Default::default(),
            _mapping: mapping,
        })
    }

    /// Whether another one has to be opened.
    pub(crate) fn is_dead(&self) -> bool {
        self.is_dead.load(Ordering::Relaxed)
    }

    /// Whether the daemon has hung up.
    pub(crate) fn is_hung_up(&self) -> bool {
        self.socket.is_closed()
    }

    /// Nobody is to ask this mailbox any more.
    pub(crate) fn give_up(&self) {
        self.is_dead.store(true, Ordering::Relaxed);
    }

    /// Reports a hit that stands for `hits` of them.
    pub(crate) fn report(&self, stripe: usize, hash: u64, hits: u64) {
        self.words.report(stripe, hash, hits);
    }

    /// Counts what the daemon shows to people. Only where there is a system call or a wait anyway.
    fn count(&self, what: Told) {
        if let Some(count) = self.counts.get(what as usize) {
            // Of two threads, one may publish the lesser count last, until the next one counts.
            self.words.tell(what, count.fetch_add(1, Ordering::Relaxed) + 1);
        }
    }

    /// Nothing panics while it holds this lock; a caller's panic elsewhere must not end the cache.
    fn lock(&self) -> MutexGuard<'_, Sender> {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a request and waits for its reply, whose payload `take` sees. `None` where all lanes
    /// were in use until the deadline.
    pub(crate) fn call<T>(
        &self,
        request: &Request<'_>,
        is_write: bool,
        deadline: &Deadline,
        take: impl FnOnce(&[u8]) -> T,
    ) -> Result<Option<T>, Failure> {
        let Some(lane) = self.lease(Some(deadline)) else { return Ok(None) };
        let mut exchange = Exchange::on(self, lane);
        exchange.send(request, deadline)?;
        exchange.wait(usize::from(is_write), deadline)?;
        Ok(Some(take(exchange.reply())))
    }

    /// Sends a request whose reply is waited for at [`ClientEnd::descriptor`]. `None` where all
    /// lanes are in use.
    pub(crate) fn begin(
        self: Arc<ClientEnd>,
        request: &Request<'_>,
        deadline: &Deadline,
    ) -> Result<Option<Exchange<Arc<ClientEnd>>>, Failure> {
        let Some(lane) = self.lease(None) else { return Ok(None) };
        self.tell_processor();
        let mut exchange = Exchange::on(self, lane);
        exchange.is_polled = true;
        exchange.send(request, deadline)?;
        Ok(Some(exchange))
    }

    /// Whether a lane is free, so that a request can be sent now.
    pub(crate) fn has_free_lane(&self) -> bool {
        let mut sender = self.lock();
        if sender.free.is_empty() {
            self.reclaim(&mut sender);
        }
        !sender.free.is_empty()
    }

    /// Becomes readable when a reply comes that is waited for here, or the daemon goes.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.descriptor()
    }

    /// Takes what made the descriptor readable.
    pub(crate) fn hear_rings(&self) {
        let heard = self.socket.hear_rings();
        // Whoever hears it hears it for all.
        #[cfg(feature = "tokio")]
        if heard {
            self.waiters.wake();
        }
        let _ = heard;
    }

    /// Sends a request that has no answer. Does not wait where the ring is full, unless the request
    /// has begun: one that is larger than a piece.
    pub(crate) fn tell(
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
            return self.tell_in_pieces(request, &deadline());
        }
        let head = Head { kind: Kind::Whole, lane: None, sequence: 0 };
        let pushed = producer.push(head, payload);
        let position = producer.position();
        let due = pushed.is_ok() && unwatched.is_due();
        let is_watched = !due || unwatched.is_watched(&self.words, position);
        drop(sender);
        if pushed.is_err() {
            self.count(Told::Full);
            self.check(position + 1).map_err(Unsent::Failed)?;
            return Err(Unsent::Busy);
        }
        if due {
            self.tell_processor();
        }
        if !is_watched {
            self.check(position).map_err(Unsent::Failed)?;
        }
        self.ring(position).map_err(Unsent::Failed)
    }

    fn tell_in_pieces(&self, request: &Request<'_>, deadline: &Deadline) -> Result<(), Unsent> {
        // Put together in a lane, which nothing comes back to.
        let lane = self.lease(None).ok_or(Unsent::Busy)?;
        self.tell_processor();
        let mut exchange = Exchange::on(self, lane);
        let sent = exchange.send(request, deadline);
        exchange.expect_nothing();
        sent.map_err(Unsent::Failed)
    }

    /// Puts a record into the ring, when there is room before the deadline, and rings if the daemon
    /// sleeps. Where the record ends.
    fn push(
        &self,
        lane: &Lane,
        kind: Kind,
        bytes: &[u8],
        deadline: &Deadline,
    ) -> Result<u64, Failure> {
        let head = Head { kind, lane: Some(lane.number), sequence: lane.sequence };
        loop {
            let mut sender = self.lock();
            let mut pushed = sender.producer.push(head, bytes);
            if pushed.is_err() {
                self.words.want_room();
                pushed = sender.producer.push(head, bytes);
            }
            let position = sender.producer.position();
            drop(sender);
            if pushed.is_ok() {
                self.ring(position)?;
                return Ok(position);
            }
            self.count(Told::Full);
            self.wait_for_room(deadline).map_err(Failure::NotSent)?;
        }
    }

    /// Wakes the daemon if it sleeps, because of what was pushed up to `position`.
    fn ring(&self, position: u64) -> Result<(), Failure> {
        if !self.words.must_ring() {
            return Ok(());
        }
        self.count(Told::Rings);
        // Before it wakes and decides whether to look out for the next request.
        self.tell_processor();
        self.socket.ring().map_err(|reason| self.end(reason, position))
    }

    /// Fails when the daemon is gone.
    fn check(&self, position: u64) -> Result<(), Failure> {
        if self.socket.is_closed() { Err(self.end(Reason::Closed, position)) } else { Ok(()) }
    }

    /// What the end of the daemon means to a request that ends at `position`: what was not read by
    /// then was not acted on.
    fn end(&self, reason: Reason, position: u64) -> Failure {
        self.give_up();
        match self.words.is_consumed(position) {
            true => Failure::NoReply(reason),
            false => Failure::NotSent(reason),
        }
    }

    /// A lane, when one is free before the deadline, or now.
    fn lease(&self, deadline: Option<&Deadline>) -> Option<Lane> {
        let mut sender = self.lock();
        loop {
            if sender.free.is_empty() {
                self.reclaim(&mut sender);
            }
            if let Some(lane) = sender.free.pop() {
                return Some(lane);
            }
            let deadline = deadline.filter(|deadline| !deadline.has_passed())?;
            // In slices, as nobody tells when the reply for an abandoned lane comes.
            let slice = deadline.remaining().min(wait::SLICE);
            let waited = self.freed.wait_timeout(sender, slice);
            sender = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Frees lanes that nobody waits for and whose whole reply has come.
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
                // A daemon that is gone is found so by whoever asks next.
                let _ = self.ring(sender.producer.position());
            }
            sender.abandoned.push(lane);
        }
    }
}

impl Unwatched {
    /// Counts a request. Whether the daemon is to be looked at: now and then only, as the word that
    /// tells is on its side of the memory.
    fn is_due(&mut self) -> bool {
        self.count += 1;
        self.count >= UNWATCHED_MAX
    }

    /// Whether the daemon has read from the ring since this was last asked.
    fn is_watched(&mut self, words: &Mailbox<MappedMut>, position: u64) -> bool {
        let is_watched = words.is_consumed(self.position + 1);
        *self = Unwatched { position, count: 0 };
        is_watched
    }
}
