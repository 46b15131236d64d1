//! Waiting: a short spin, then sleep, always within the deadline and with regular checks that the
//! daemon is still there.
//!
//! Spinning pays only if the daemon replies from another processor and about as fast as a thread
//! falls asleep and wakes: then a reply costs a fraction of a microsecond instead of two wakeups.
//!
//! A thread that must not keep its processor, because the daemon or a tier may need it, yields it
//! between two looks at the reply. Others run as if it slept, but the reply needs no wakeup, and
//! the processor does not halt, which in a virtual machine takes longer than a tier's answer.

use super::{ClientEnd, Counter, Lane};
use crate::deadline::Deadline;
use crate::failure::{Failure, Reason};
use rustix::io::Errno;
use rustix::thread::futex::{self, Flags, Timespec};
use shm_layout::mailbox::lane::Piece;
use std::hint::spin_loop;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Longest sleep without checking on the daemon (W9).
pub(super) const SLICE: Duration = Duration::from_millis(50);
/// Spin time while replies take long: enough to notice when they become fast again.
const SPIN_SHORT: Duration = Duration::from_micros(3);
/// A thread that yields waits for this many times as long as one that spins: for a tier on the same
/// host, not for a distant one.
const YIELD_FACTOR: u32 = 4;
/// Checks of the reply between two clock readings.
const CHECKS: u32 = 32;

impl ClientEnd {
    /// Publishes this thread's processor, so that the daemon does not poll for requests from its
    /// own processor.
    pub(super) fn publish_processor(&self) -> Option<u32> {
        let here = nix::sched::sched_getcpu().ok().and_then(|cpu| u32::try_from(cpu).ok());
        if let Some(here) = here {
            self.words.set_client_cpu(here);
        }
        here
    }

    /// Spinning takes no core from the daemon or from a tier.
    fn may_spin(&self) -> bool {
        self.publish_processor().is_none_or(|here| self.words.may_spin(here))
    }

    /// Waits for the reply in `lane`, or a piece of it; the request ends at `position`.
    pub(super) fn wait_for_reply(
        &self,
        lane: &Lane,
        position: u64,
        is_write: usize,
        deadline: &Deadline,
    ) -> Result<Piece, Failure> {
        let begun = Instant::now();
        let piece = match self.spin_for_reply(lane, is_write, begun) {
            Some(piece) => piece,
            None => self.sleep_for_reply(lane, position, deadline)?,
        };
        let took = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        if let Some(latency) = self.latency_ns.get(is_write) {
            // The new value has a weight of 1/8. Racing threads lose an update, which does not
            // matter.
            let before = latency.load(Ordering::Relaxed);
            latency.store(before - before / 8 + took.min(1 << 40) / 8, Ordering::Relaxed);
        }
        Ok(piece)
    }

    fn spin_for_reply(&self, lane: &Lane, is_write: usize, begun: Instant) -> Option<Piece> {
        let number = lane.number.into();
        if let Some(piece) = self.words.reply(number, lane.sequence) {
            return Some(piece);
        }
        // Called even if the thread will not spin, because it publishes the processor.
        let keeps_processor = self.may_spin();
        let recent = self.latency_ns.get(is_write).map_or(0, |ns| ns.load(Ordering::Relaxed));
        let time = spin_time(self.spin, keeps_processor, Duration::from_nanos(recent));
        if time.is_zero() {
            return None;
        }
        loop {
            for _ in 0..if keeps_processor { CHECKS } else { 1 } {
                if let Some(piece) = self.words.reply(number, lane.sequence) {
                    return Some(piece);
                }
                spin_loop();
            }
            if begun.elapsed() >= time {
                return None;
            }
            if !keeps_processor {
                // It does not fail on Linux.
                let _ = nix::sched::sched_yield();
            }
        }
    }

    fn sleep_for_reply(
        &self,
        lane: &Lane,
        position: u64,
        deadline: &Deadline,
    ) -> Result<Piece, Failure> {
        let number = lane.number.into();
        loop {
            if let Some(piece) = self.words.reply(number, lane.sequence) {
                return Ok(piece);
            }
            if deadline.has_passed() {
                return Err(Failure::NoReply(Reason::Deadline));
            }
            if let Some(word) = self.words.sleep_in(number, lane.sequence)
                && self
                    .sleep(self.words.lane_word(number), word, deadline)
                    .map_err(Failure::NoReply)?
            {
                continue;
            }
            if self.socket.is_closed() {
                // The daemon's last act may have been the reply.
                return match self.words.reply(number, lane.sequence) {
                    Some(piece) => Ok(piece),
                    None => Err(self.end(Reason::Closed, position)),
                };
            }
        }
    }

    /// Waits until the ring has room, or a time slice has passed.
    pub(super) fn wait_for_room(&self, deadline: &Deadline) -> Result<(), Reason> {
        if deadline.has_passed() {
            return Err(Reason::Deadline);
        }
        self.sleep(self.words.room_word(), 1, deadline)?;
        if self.socket.is_closed() {
            self.give_up();
            return Err(Reason::Closed);
        }
        Ok(())
    }

    /// Sleeps while the low half of the word is `value`, for a slice at most. Returns whether it
    /// was woken: then the reply or the room is more likely to be there than the daemon to be gone.
    fn sleep(&self, index: usize, value: u32, deadline: &Deadline) -> Result<bool, Reason> {
        self.count(Counter::Sleeps);
        let slice = deadline.remaining().min(SLICE);
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(slice.subsec_nanos()) };
        // SAFETY: a word of the mailbox; only the kernel uses the reference.
        let word = unsafe { self.words.memory().futex(index) };
        match futex::wait(word, Flags::empty(), value, Some(&timeout)) {
            Ok(()) => Ok(true),
            Err(Errno::INTR | Errno::TIMEDOUT) => deadline.go_on().map(|()| false),
            // The word has changed already.
            Err(_) => Ok(false),
        }
    }
}

/// How long to look for a reply before sleeping, if recent ones took `recent` on average.
fn spin_time(spin: Duration, keeps_processor: bool, recent: Duration) -> Duration {
    let yields = spin * YIELD_FACTOR;
    match keeps_processor {
        true if recent <= 2 * spin => spin,
        true => spin.min(SPIN_SHORT),
        false if recent <= 2 * yields => yields,
        false => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hazard: a client burns its processor time for a tier that is far away.
    #[test]
    fn only_replies_that_come_soon_are_waited_for_awake() {
        let us = Duration::from_micros;
        let time = |keeps_processor, recent| spin_time(us(50), keeps_processor, us(recent));
        assert_eq!([time(true, 1), time(true, 100), time(true, 101)], [us(50), us(50), SPIN_SHORT]);
        assert_eq!([time(false, 1), time(false, 400), time(false, 401)], [us(200), us(200), us(0)]);
        for keeps_processor in [true, false] {
            assert_eq!(spin_time(us(0), keeps_processor, us(1)), us(0), "spin = 0 turns it off");
        }
    }
}
