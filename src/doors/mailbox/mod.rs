//! A client's mailbox: requests come out of its ring, replies go into its lanes.
//!
//! Nothing in it is trusted (W9): the client can overwrite the ring and the states of the lanes at
//! any moment. A client that breaks their rules loses its connection, and nothing else happens.
//!
//! | part | place |
//! |---|---|
//! | polling of mailboxes, and budgets | `intake` |
//! | some requests at a time, with overlapping prefetches | `batch` |
//! | when a mailbox is worth polling | `pace` |
//! | requests and replies in pieces | `lane` |
//! | hit reports | `reports` |
//! | the memory itself | `memory` |

mod batch;
#[cfg(any(test, fuzzing))]
pub(super) mod fuzzing;
mod intake;
mod lane;
mod memory;
mod pace;
mod reports;

use l1d_wire::snapshot::{ClientReported, Figures};
use lane::{Lane, Received};
use memmap2::MmapRaw;
use pace::Pace;
use reports::Reports;
use rustix::thread::futex::{self, Flags};
use shm_layout::MappedMut;
use shm_layout::mailbox::lane::Wakes;
use shm_layout::mailbox::ring::{Broken, Consumer, Kind};
use shm_layout::mailbox::{Counter, Mailbox, SHAPE};
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Threads that wait for one reply.
const LANE_SLEEPERS_MAX: u32 = 1;
/// Threads that are woken when the ring has room. More find out by themselves when their slice of
/// sleep ends.
const ROOM_SLEEPERS_MAX: u32 = 64;
/// Memory that a mailbox may keep in buffers without being counted.
const BYTES_KEPT: usize = 64 << 10;

/// The daemon's end of a mailbox: the memory shared with the client, and the daemon's private
/// state, because it trusts nothing else.
#[derive(Debug)]
pub(super) struct OwnerEnd {
    shared: Mailbox<MappedMut>,
    ring: Consumer<MappedMut>,
    lanes: Vec<Lane>,
    reports: Reports,
    pace: Pace,
    /// Polls that found nothing.
    empty_polls: u64,
    /// System calls that woke the client.
    wakes: u64,
    /// First pieces of requests received, and pieces of replies taken: progress.
    pieces: u64,
    /// A reply came that the client polls for at its descriptor.
    notifies: bool,
    /// Lanes on which a thread sleeps that has its reply.
    sleepers: Vec<u8>,
    /// The owner's processor as last published to the client.
    told_cpu: Option<Option<u32>>,
    /// Work done in this turn, and work owed for requests that exceeded the budget of earlier ones.
    work: usize,
    /// Its user had had as much done in a round as it may, and it was not polled.
    pub(super) is_left: bool,
    /// It is polled in every turn. Otherwise the client sends a wakeup.
    pub(super) is_active: bool,
    /// Keeps the memory of `shared` mapped.
    _mapping: MmapRaw,
}

/// A record taken out of the ring.
#[derive(Debug)]
enum Taken {
    /// The ring is empty.
    Nothing,
    /// A piece of a request, or the request for the next piece of a reply.
    Piece,
    /// A request, whose payload is the first `bytes` of the scratch memory.
    Request { lane: Option<u8>, bytes: usize },
    /// A request that came in pieces.
    Assembled { lane: u8, payload: Vec<u8> },
}

impl OwnerEnd {
    /// A new mailbox, and the descriptor of its memory for the client.
    ///
    /// # Errors
    /// When the system has no such memory, or no descriptor.
    pub(super) fn create(now: Instant) -> io::Result<(OwnerEnd, OwnedFd)> {
        let (mapping, file) = memory::create()?;
        // SAFETY: page-aligned, and mapped as long as `mapping` lives, which is kept beside it.
        let memory = unsafe { MappedMut::new(mapping.as_mut_ptr()) };
        // SAFETY: `memory::create` maps as many bytes as a mailbox of this shape has.
        let shared = unsafe { Mailbox::new(memory, SHAPE) };
        let mailbox = OwnerEnd {
            ring: Consumer::new(shared.clone()),
            shared,
            lanes: (0..SHAPE.lanes).map(|_| Lane::default()).collect(),
            reports: Reports::new(),
            pace: Pace::new(now),
            empty_polls: 0,
            wakes: 0,
            pieces: 0,
            notifies: false,
            sleepers: Vec::new(),
            told_cpu: None,
            work: 0,
            is_left: false,
            is_active: false,
            _mapping: mapping,
        };
        Ok((mailbox, file))
    }

    /// Size of the shared memory, as the client is told.
    pub(super) fn bytes(&self) -> u64 {
        SHAPE.bytes() as u64
    }

    /// Returns whether the ring has another record.
    fn has_more(&mut self) -> Result<bool, Broken> {
        self.ring.look()
    }

    /// Takes the next record out of the ring. `scratch` has room for a piece.
    fn take(&mut self, scratch: &mut [u8], request_bytes_max: usize) -> Result<Taken, Broken> {
        if !self.ring.look()? {
            return Ok(Taken::Nothing);
        }
        let (head, bytes) = self.ring.next(scratch)?;
        let Some(number) = head.lane else {
            let is_whole = head.kind == Kind::Whole;
            return if is_whole { Ok(Taken::Request { lane: None, bytes }) } else { Err(Broken) };
        };
        let Some(lane) = self.lanes.get_mut(usize::from(number)) else { return Err(Broken) };
        let payload = scratch.get(..bytes).unwrap_or_default();
        match lane.receive(head, payload, request_bytes_max)? {
            Received::Request => Ok(Taken::Request { lane: Some(number), bytes }),
            Received::Assembled(payload) => Ok(Taken::Assembled { lane: number, payload }),
            Received::Piece => {
                self.pieces += u64::from(head.kind == Kind::First);
                Ok(Taken::Piece)
            }
            Received::NextPieceDue => {
                self.pieces += 1;
                self.send_piece(number);
                Ok(Taken::Piece)
            }
        }
    }

    /// The request on this lane wants no reply.
    fn expect_no_reply(&mut self, number: u8) {
        if let Some(lane) = self.lanes.get_mut(usize::from(number)) {
            lane.cancel();
        }
    }

    /// Replies to the request on a lane. Returns `false` if there is none. A thread that sleeps on
    /// it is woken by [`wake_sleepers`](Self::wake_sleepers).
    pub(super) fn reply(&mut self, number: u8, reply: &[u8]) -> bool {
        let Some(lane) = self.lanes.get_mut(usize::from(number)) else { return false };
        let Some(sequence) = lane.awaits_reply() else { return false };
        if reply.len() <= SHAPE.lane_bytes {
            lane.cancel();
            let wakes = self.shared.answer(number.into(), sequence, reply, false);
            self.note_wakes(number, wakes);
        } else {
            lane.begin_reply(reply);
            self.send_piece(number);
        }
        true
    }

    fn send_piece(&mut self, number: u8) {
        let Some(lane) = self.lanes.get_mut(usize::from(number)) else { return };
        let Some((sequence, piece, more)) = lane.next_piece(SHAPE.lane_bytes) else { return };
        let wakes = self.shared.answer(number.into(), sequence, piece, more);
        let bytes = piece.len();
        lane.sent_piece(bytes, more);
        self.note_wakes(number, wakes);
    }

    fn note_wakes(&mut self, number: u8, wakes: Wakes) {
        match wakes {
            Wakes::Nobody => {}
            Wakes::Thread => self.sleepers.push(number),
            Wakes::Descriptor => {
                self.wakes += 1;
                self.notifies = true;
            }
        }
    }

    /// Returns whether a thread sleeps on a lane that has its reply.
    pub(super) fn has_sleepers(&self) -> bool {
        !self.sleepers.is_empty()
    }

    /// Wakes the threads whose replies have come.
    pub(super) fn wake_sleepers(&mut self, now: Instant) {
        for number in std::mem::take(&mut self.sleepers) {
            self.pace.note_wake(now);
            self.futex_wake(self.shared.lane_word(number.into()), LANE_SLEEPERS_MAX);
        }
    }

    /// Returns whether a reply came that the client polls for at its descriptor, and resets that.
    pub(super) fn take_notification(&mut self) -> bool {
        std::mem::take(&mut self.notifies)
    }

    /// After records were taken out: wakes the threads that wait for room in the ring.
    fn made_room(&mut self) {
        if self.ring.wakes_for_room() {
            self.futex_wake(self.shared.room_word(), ROOM_SLEEPERS_MAX);
        }
    }

    /// Wakes up to `sleepers_max` threads. A client can have any number of them sleep on any word,
    /// and the kernel wakes them within this call.
    fn futex_wake(&mut self, index: usize, sleepers_max: u32) {
        self.wakes += 1;
        // SAFETY: `index` is a word of the mailbox; only the kernel uses the reference.
        let word = unsafe { self.shared.memory().futex(index) };
        let _ = futex::wake(word, Flags::empty(), sleepers_max);
    }

    /// Requests were found.
    fn note_requests(&mut self, now: Instant) {
        self.pace.note_requests(now);
    }

    /// Tells the client on which processor the owner runs; `None`: it is not to spin for replies.
    fn tell_clients(&mut self, owner_cpu: Option<u32>) {
        let told = Some(owner_cpu);
        if self.told_cpu != told {
            self.told_cpu = told;
            match owner_cpu {
                Some(cpu) => self.shared.set_owner_cpu(cpu),
                None => self.shared.discourage_spinning(),
            }
        }
    }

    /// Whether a request has no reply yet.
    fn awaits_replies(&self) -> bool {
        self.lanes.iter().any(Lane::is_pending)
    }

    /// A poll found no request.
    fn note_empty_poll(&mut self) {
        self.empty_polls += 1;
    }

    /// Returns whether to poll it again rather than wait for a wakeup: its next request is expected
    /// within `spin`, and from another processor.
    fn should_poll(&mut self, now: Instant, owner_cpu: Option<u32>, spin: Duration) -> bool {
        // A client that waits for a reply sends nothing else; another thread of the client sends a
        // wakeup.
        if self.awaits_replies() {
            return false;
        }
        let same_cpu = owner_cpu.is_some() && self.shared.client_cpu() == owner_cpu.map(u64::from);
        !same_cpu && self.pace.should_poll(now, spin)
    }

    /// Whether the client has asked for something lately.
    pub(super) fn is_in_use(&self, now: Instant) -> bool {
        self.pace.is_in_use(now)
    }

    /// Whether a next request is expected within `spin`, though the mailbox is not polled.
    pub(super) fn is_expected(&self, spin: Duration) -> bool {
        !self.is_active && self.pace.expects_request(spin)
    }

    /// Takes back the request for a wakeup, which would cost the client a system call: the mailbox
    /// is polled again.
    pub(super) fn stay_awake(&self) {
        self.ring.stay_awake();
    }

    /// Asks for a wakeup with the next request. Returns whether it need not be polled until then.
    fn may_sleep(&mut self) -> Result<bool, Broken> {
        let may = self.ring.may_sleep()?;
        if may {
            self.pace.note_sleep();
        }
        Ok(may)
    }

    /// Asks for a wakeup with every request from here on. Returns whether the ring is empty.
    fn may_end(&mut self) -> Result<bool, Broken> {
        self.ring.may_end()
    }

    /// Hands new hit reports to `take`: a key's hash, and the number of hits. If there are many,
    /// some are left for the next time.
    pub(super) fn drain_reports(&mut self, take: impl FnMut(u64, u32)) {
        self.reports.drain(&self.shared, take);
    }

    /// Figures of the client, apart from its requests.
    pub(super) fn figures(&self) -> Figures {
        Figures {
            empty_polls: self.empty_polls,
            wakes: self.wakes,
            hit_reports: self.reports.drained(),
            hit_reports_lost: self.reports.lost(),
            client_reported: ClientReported {
                hits: self.shared.hits(),
                rings: self.shared.counter(Counter::Wakeups),
                sleeps: self.shared.counter(Counter::Sleeps),
                ring_full: self.shared.counter(Counter::RingFull),
            },
            ..Figures::default()
        }
    }

    /// Lanes whose request has no reply yet.
    pub(super) fn pending_lanes(&self) -> impl Iterator<Item = u8> {
        let numbers = (0..).zip(&self.lanes);
        numbers.filter(|(_, lane)| lane.is_pending()).map(|(number, _)| number)
    }

    /// If a request or a reply is incomplete: a number that changes with each piece of progress.
    pub(super) fn pieces_pending(&self) -> Option<u64> {
        self.lanes.iter().any(Lane::is_partial).then_some(self.pieces)
    }

    /// Drops all requests and replies that are incomplete, and their memory.
    pub(super) fn cut(&mut self) {
        self.lanes.iter_mut().for_each(Lane::cut);
    }

    /// Memory held beyond what every connection may keep.
    pub(super) fn excess_bytes(&self) -> usize {
        self.lanes.iter().map(Lane::held_bytes).sum::<usize>().saturating_sub(BYTES_KEPT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shm_layout::mailbox::report::HITS_PER_REPORT_MAX;

    /// The hazard: a client whose counts make no sense stops the daemon, keeps it busy, or spoils
    /// the figures of others.
    #[test]
    fn marks_of_any_value_are_drained_a_stripe_at_a_time() {
        let (mut mailbox, file) = OwnerEnd::create(Instant::now()).unwrap();
        let file = std::fs::File::from(file);
        let fill = |byte| {
            let bytes = vec![byte; SHAPE.bytes()];
            std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0).unwrap();
        };
        fill(0x7f);
        for drain in 1..=SHAPE.stripes {
            let mut taken = 0;
            mailbox.drain_reports(|_, times| {
                assert!(u64::from(times) <= HITS_PER_REPORT_MAX);
                taken += 1;
            });
            assert_eq!(taken, SHAPE.stripe_words, "drain {drain}");
        }
        mailbox.drain_reports(|_, _| panic!("they were drained already"));
        // Counts wrap around, so this mark is below the last one, and announces nothing new.
        fill(0xff);
        for _ in 1..=SHAPE.stripes {
            mailbox.drain_reports(|_, _| panic!("they were drained already"));
        }
        let figures = mailbox.figures();
        assert_eq!(figures.hit_reports, (SHAPE.stripes * SHAPE.stripe_words) as u64);
        assert_eq!(figures.hit_reports_lost, 0);
    }
}
