//! One client's mailbox: requests out of its ring, replies into its lanes.
//!
//! Nothing in it is believed (W9): the ring and the lanes' states are the client's to destroy. A client
//! that breaks their rules loses its attachment, and nothing else happens.

mod intake;
mod pace;

use super::figures::{Figures, Told};
use memmap2::{MmapOptions, MmapRaw};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::ftruncate;
use pace::Pace;
use rustix::thread::futex::{self, Flags};
use shm_layout::MappedMut;
use shm_layout::mailbox::lane::Wakes;
use shm_layout::mailbox::report::Seen;
use shm_layout::mailbox::ring::{Broken, Consumer, Head, Kind};
use shm_layout::mailbox::{Mailbox as Words, SHAPE, Told as Says};
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Hit reports, after which a look ends with the stripe that they came from.
const REPORTS_AT_A_LOOK: u64 = 256;
/// More reports than that were not written since the last look: a mark went back, or anywhere.
const REPORTS_LOST_MAX: u64 = 1 << 32;
/// Buffers over this size are given back after use.
const BYTES_KEPT: usize = 64 << 10;

/// A mailbox, and what of it is the daemon's own.
#[derive(Debug)]
pub(in crate::doors) struct Mailbox {
    words: Words<MappedMut>,
    consumer: Consumer<MappedMut>,
    lanes: Vec<Lane>,
    /// Hit reports seen in each stripe.
    reports_seen: Vec<Seen>,
    /// The stripe to be looked at next.
    stripe: usize,
    /// Reports found, reports lost.
    reports: (u64, u64),
    /// Looks that found nothing.
    looks_in_vain: u64,
    /// How often the client was woken.
    wakes: u64,
    /// When the next request is to be expected.
    pace: Pace,
    /// Requests in pieces that were begun, and pieces of replies that were taken: progress.
    moved: u64,
    /// A reply came for which the client's descriptor is to be made readable.
    rings: bool,
    /// Work done in this turn, or owed for what an earlier one took too much.
    pub(in crate::doors) work: usize,
    /// Looked at in every turn, and not waiting to be rung.
    pub(in crate::doors) is_active: bool,
    /// Mapped as long as `words` is used.
    _mapping: MmapRaw,
}

/// What is under way on a lane.
#[derive(Debug, Default)]
struct Lane {
    /// Sequence of the request that waits for its answer, or for the rest of it.
    asked: Option<u32>,
    /// Sequence and bytes of a request that has come in part.
    part: Option<(u32, Vec<u8>)>,
    /// The reply, while pieces of it are left, and how much of it has gone.
    reply: Vec<u8>,
    replied: usize,
}

/// What was found in the ring.
#[derive(Debug)]
pub(in crate::doors) enum Found {
    /// Nothing now.
    Nothing,
    /// Something that is no request yet.
    Part,
    /// A request; its payload are so many bytes of the scratch memory.
    Whole(Option<u8>, usize),
    /// A request that came in pieces.
    Pieces(u8, Vec<u8>),
}

impl Mailbox {
    /// A new mailbox, and the descriptor for its client: of memory that can neither grow nor shrink,
    /// and that nobody else can open.
    ///
    /// # Errors
    /// When the system has no such memory, or no descriptor.
    pub(in crate::doors) fn create(now: Instant) -> io::Result<(Mailbox, OwnedFd)> {
        let file =
            memfd_create("l1d-mailbox", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
        fchmod(&file, Mode::S_IRUSR | Mode::S_IWUSR)?;
        let bytes = SHAPE.bytes();
        ftruncate(&file, i64::try_from(bytes).map_err(io::Error::other)?)?;
        let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
        let mapping = MmapOptions::new().len(bytes).map_raw(&file)?;
        // SAFETY: page-aligned, and mapped as long as the mapping lives, which is kept beside it.
        let memory = unsafe { MappedMut::new(mapping.as_mut_ptr()) };
        // SAFETY: the mapping has the bytes of this shape.
        let words = unsafe { Words::new(memory, SHAPE) };
        let mailbox = Mailbox {
            consumer: Consumer::new(words.clone()),
            words,
            lanes: (0..SHAPE.lanes).map(|_| Lane::default()).collect(),
            reports_seen: vec![Seen::default(); SHAPE.stripes],
            stripe: 0,
            reports: (0, 0),
            looks_in_vain: 0,
            wakes: 0,
            pace: Pace::new(now),
            moved: 0,
            rings: false,
            work: 0,
            is_active: false,
            _mapping: mapping,
        };
        Ok((mailbox, file))
    }

    /// Its size, as the client is told.
    pub(in crate::doors) fn bytes(&self) -> u64 {
        SHAPE.bytes() as u64
    }

    /// Whether there is a record that was not taken out.
    pub(in crate::doors) fn has_more(&mut self) -> Result<bool, Broken> {
        self.consumer.look()
    }

    /// Takes the next record out of the ring; `scratch` has room for a piece.
    pub(in crate::doors) fn next(
        &mut self,
        scratch: &mut [u8],
        request_bytes_max: usize,
    ) -> Result<Found, Broken> {
        if !self.consumer.look()? {
            return Ok(Found::Nothing);
        }
        let (head, bytes) = self.consumer.next(scratch)?;
        let Some(number) = head.lane else {
            return if head.kind == Kind::Whole {
                Ok(Found::Whole(None, bytes))
            } else {
                Err(Broken)
            };
        };
        let Some(lane) = self.lanes.get_mut(usize::from(number)) else { return Err(Broken) };
        match head.kind {
            Kind::More => return self.more(number, head),
            // One request at a time: the lane's reply is still to come, or to be taken.
            _ if lane.asked.is_some() => return Err(Broken),
            Kind::Whole => {
                lane.part = None;
                lane.asked = Some(head.sequence);
                return Ok(Found::Whole(Some(number), bytes));
            }
            Kind::First => {
                self.moved += 1;
                lane.part = Some((head.sequence, Vec::new()));
            }
            Kind::Next | Kind::Last => {}
        }
        let Some((sequence, part)) = &mut lane.part else { return Err(Broken) };
        if *sequence != head.sequence || part.len() + bytes > request_bytes_max {
            return Err(Broken);
        }
        part.extend_from_slice(scratch.get(..bytes).unwrap_or_default());
        if head.kind != Kind::Last {
            return Ok(Found::Part);
        }
        lane.asked = Some(head.sequence);
        let part = lane.part.take().map(|(_, part)| part).unwrap_or_default();
        Ok(Found::Pieces(number, part))
    }

    /// The client has taken a piece of a reply.
    fn more(&mut self, number: u8, head: Head) -> Result<Found, Broken> {
        let lane = self.lanes.get(usize::from(number)).ok_or(Broken)?;
        if lane.asked != Some(head.sequence) || lane.reply.is_empty() {
            return Err(Broken);
        }
        self.moved += 1;
        self.send_piece(number);
        Ok(Found::Part)
    }

    /// The request on this lane wants no answer.
    pub(in crate::doors) fn expect_nothing(&mut self, number: u8) {
        if let Some(lane) = self.lanes.get_mut(usize::from(number)) {
            lane.asked = None;
        }
    }

    /// Answers the request on a lane. `false`: there is none.
    pub(in crate::doors) fn answer(&mut self, number: u8, reply: &[u8]) -> bool {
        let Some(lane) = self.lanes.get_mut(usize::from(number)) else { return false };
        let Some(sequence) = lane.asked.filter(|_| lane.reply.is_empty()) else { return false };
        if reply.len() <= SHAPE.lane_bytes {
            lane.asked = None;
            self.put(number, sequence, reply, false);
        } else {
            lane.reply = reply.to_vec();
            lane.replied = 0;
            self.send_piece(number);
        }
        true
    }

    fn send_piece(&mut self, number: u8) {
        let Some(lane) = self.lanes.get_mut(usize::from(number)) else { return };
        let Some(sequence) = lane.asked else { return };
        let rest = lane.reply.get(lane.replied..).unwrap_or_default();
        let piece = rest.get(..SHAPE.lane_bytes).unwrap_or(rest);
        let more = piece.len() < rest.len();
        let wakes = self.words.answer(number.into(), sequence, piece, more);
        lane.replied += piece.len();
        if !more {
            lane.asked = None;
            lane.reply = Vec::new();
        }
        self.tell(number, wakes);
    }

    fn put(&mut self, number: u8, sequence: u32, bytes: &[u8], more: bool) {
        let wakes = self.words.answer(number.into(), sequence, bytes, more);
        self.tell(number, wakes);
    }

    fn tell(&mut self, number: u8, wakes: Wakes) {
        match wakes {
            Wakes::Nobody => {}
            Wakes::Thread => {
                self.pace.note_wake();
                self.wake(self.words.lane_word(number.into()));
            }
            Wakes::Descriptor => {
                self.wakes += 1;
                self.rings = true;
            }
        }
    }

    /// Whether a reply came for which the client's descriptor is to be made readable. Says so once.
    pub(in crate::doors) fn take_ring(&mut self) -> bool {
        std::mem::take(&mut self.rings)
    }

    /// After requests were taken out: wakes those who wait for room.
    pub(in crate::doors) fn made_room(&mut self) {
        if self.consumer.wakes_for_room() {
            self.wake(self.words.room_word());
        }
    }

    fn wake(&mut self, index: usize) {
        self.wakes += 1;
        // SAFETY: a word of the mailbox; only the kernel uses the reference.
        let word = unsafe { self.words.memory().futex(index) };
        // All of them: at a lane there is one, and everybody who waits for room may find some.
        let _ = futex::wake(word, Flags::empty(), i32::MAX.cast_unsigned());
    }

    /// Requests were found.
    pub(in crate::doors) fn note_use(&mut self, now: Instant, owner_cpu: Option<u32>) {
        self.pace.note_use(now);
        if let Some(cpu) = owner_cpu {
            self.words.set_owner_cpu(cpu);
        }
    }

    /// There was none.
    pub(in crate::doors) fn note_look_in_vain(&mut self) {
        self.looks_in_vain += 1;
    }

    /// Whether it is worth looking at without being rung: the next request is expected within the spin,
    /// and from another processor.
    pub(in crate::doors) fn is_worth_a_look(
        &mut self,
        now: Instant,
        owner_cpu: Option<u32>,
        spin: Duration,
    ) -> bool {
        let shares = owner_cpu.is_some() && self.words.client_cpu() == owner_cpu.map(u64::from);
        !shares && self.pace.is_worth_a_look(now, spin)
    }

    /// Asks to be rung; `true`: it may be left alone until then.
    pub(in crate::doors) fn may_sleep(&mut self) -> Result<bool, Broken> {
        let may = self.consumer.may_sleep()?;
        if may {
            self.pace.note_sleep();
        }
        Ok(may)
    }

    /// Hands new hit reports to `take`: of all stripes, unless there are many, then the rest next time.
    pub(in crate::doors) fn drain_reports(&mut self, mut take: impl FnMut(u64, u32)) {
        let mut taken = 0;
        for _ in 0..SHAPE.stripes {
            let stripe = self.stripe;
            self.stripe = (stripe + 1) % SHAPE.stripes;
            let Some(seen) = self.reports_seen.get_mut(stripe) else { return };
            let new = self.words.drain(stripe, seen, &mut take);
            if new > 0 {
                let kept = new.min(SHAPE.stripe_words as u64);
                let lost = Some(new - kept).filter(|lost| *lost <= REPORTS_LOST_MAX);
                self.reports.0 = self.reports.0.saturating_add(kept);
                self.reports.1 = self.reports.1.saturating_add(lost.unwrap_or(0));
                taken += kept;
            }
            if taken >= REPORTS_AT_A_LOOK {
                return;
            }
        }
    }

    /// What is known of its client besides its requests.
    pub(in crate::doors) fn figures(&self) -> Figures {
        let hits = self.reports_seen.iter().map(|seen| seen.hits).fold(0, u64::saturating_add);
        Figures {
            looks_in_vain: self.looks_in_vain,
            wakes: self.wakes,
            hit_reports: self.reports.0,
            hit_reports_lost: self.reports.1,
            told: Told {
                hits,
                rings: self.words.told(Says::Rings),
                sleeps: self.words.told(Says::Sleeps),
                ring_full: self.words.told(Says::Full),
            },
            ..Figures::default()
        }
    }

    /// Lanes whose request has no answer yet.
    pub(in crate::doors) fn asked(&self) -> impl Iterator<Item = u8> {
        let numbers = (0..).zip(&self.lanes);
        numbers.filter(|(_, lane)| lane.asked.is_some()).map(|(number, _)| number)
    }

    /// Whether the daemon waits for the rest of a request, or for a piece of a reply to be taken; with
    /// what changes when there is progress.
    pub(in crate::doors) fn waits_for_more(&self) -> Option<u64> {
        let waits = |lane: &Lane| lane.part.is_some() || !lane.reply.is_empty();
        self.lanes.iter().any(waits).then_some(self.moved)
    }

    /// Memory held beyond what every connection may keep.
    pub(in crate::doors) fn excess_bytes(&self) -> usize {
        let held = |lane: &Lane| {
            lane.reply.capacity() + lane.part.as_ref().map_or(0, |(_, part)| part.capacity())
        };
        self.lanes.iter().map(held).sum::<usize>().saturating_sub(BYTES_KEPT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shm_layout::mailbox::report::HITS_PER_REPORT_MAX;

    /// The hazard: a client that counts what cannot be ends the daemon, makes it work without end, or
    /// spoils figures that are not its own.
    #[test]
    fn marks_of_any_value_are_drained_a_stripe_at_a_time() {
        let (mut mailbox, file) = Mailbox::create(Instant::now()).unwrap();
        let file = std::fs::File::from(file);
        let fill = |byte| {
            let bytes = vec![byte; SHAPE.bytes()];
            std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0).unwrap();
        };
        fill(0x7f);
        for look in 1..=SHAPE.stripes {
            let mut taken = 0;
            mailbox.drain_reports(|_, times| {
                assert!(u64::from(times) <= HITS_PER_REPORT_MAX);
                taken += 1;
            });
            assert_eq!(taken, SHAPE.stripe_words, "look {look}");
        }
        mailbox.drain_reports(|_, _| panic!("they were taken already"));
        // Less than before, as counts go on from the largest number to 0: tells of nothing new.
        fill(0xff);
        for _ in 1..=SHAPE.stripes {
            mailbox.drain_reports(|_, _| panic!("they were taken already"));
        }
        let figures = mailbox.figures();
        assert_eq!(figures.hit_reports, (SHAPE.stripes * SHAPE.stripe_words) as u64);
        assert_eq!(figures.hit_reports_lost, 0);
    }
}
