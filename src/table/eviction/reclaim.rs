//! Reclaiming a segment (W4), some entries at a time, so that no put waits for a whole one.
//!
//! Entries that are kept are copied to the end of a queue, and their slots are updated; the slots
//! of the rest are cleared. When no slot refers to the segment any more, its generation passes
//! through odd to the next even number, and the segment is free.

use super::super::links::Why;
use super::super::log::{Queue, Stream, words_of};
use super::super::{Found, Table};
use shm_layout::fault_point;
use shm_layout::{KeyHash, Location, MemoryMut};

/// Entries looked up together, so that the cache misses on their index lines overlap.
const BATCH: usize = 16;
/// Reclaiming begins when this part of the open segment is left, as a divisor.
const LEAD: usize = 4;
/// Words of a segment that are walked for each word appended: a whole segment and some more while
/// the last part of the open one fills. Multiplied if segment after segment yields no room.
const PACE: usize = LEAD + 2;
/// Largest multiple of [`PACE`].
const PACE_TIMES_MAX: usize = 8;
/// Segments that are reclaimed for one newcomer at most, as a multiple of all segments.
const JOBS_MAX: usize = 8;
/// With fewer segments, survivors have no stream of their own beside that of pinned entries.
const SEGMENTS_FOR_ALL_STREAMS: usize = 8;
/// Words that may be copied only to gain space, in percent of the words stored.
const CREDIT_PERCENT: u64 = 60;

/// What happens to a segment's visible entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// All are dropped; usually there are none.
    Drop,
    /// All move to the end of the queue that they are in.
    Keep,
    /// Entries with at least `least` uses move to the young end of main, the rest is dropped.
    KeepUsed { least: u8 },
    /// The segment itself moves to the young end of main, because nearly all of it would be copied.
    Requeue,
}

/// A segment that is being reclaimed.
#[derive(Debug)]
pub(super) struct Job {
    victim: u32,
    fate: Fate,
    word: u32,
}

impl Job {
    pub(super) fn new(victim: u32, fate: Fate) -> Job {
        Job { victim, fate, word: 0 }
    }

    /// For a segment that no slot refers to: nothing need be walked.
    pub(super) fn emptied(victim: u32, filled_words: u32) -> Job {
        Job { victim, fate: Fate::Drop, word: filled_words }
    }
}

impl<M: MemoryMut> Table<M> {
    /// Room for `words` words at the end of a queue. Reclaims segments if needed. `None`: all is
    /// taken by entries that are never evicted.
    pub(in crate::table) fn reserve(
        &mut self,
        words: usize,
        queue: Queue,
        now: u32,
    ) -> Option<Location> {
        let segment_words = self.writer.geometry().segment_words();
        let stream = Stream::from(queue);
        let mut jobs = 0;
        loop {
            if let Some(at) = self.log.room(stream, words, segment_words) {
                return Some(at);
            }
            while self.log.free.len() <= 1 + self.spare_segments()
                && self.log.room(stream, words, segment_words).is_none()
            {
                if self.eviction.job.is_none() {
                    self.eviction.job = self.next_job(queue, now);
                }
                // Where much is pinned, job after job may yield nothing.
                if self.eviction.job.is_none() || jobs > self.log.segments.len() * JOBS_MAX {
                    break;
                }
                jobs += 1;
                let before = (self.log.free.len(), self.eviction.reclaimed);
                self.finish_job(now);
                if before == (self.log.free.len(), self.eviction.reclaimed) {
                    // There is no room for what must be kept of it.
                    break;
                }
            }
            if self.log.room(stream, words, segment_words).is_none()
                && !self.open_segment(stream, now)
            {
                return None;
            }
        }
    }

    /// Free segments that are kept for copies of pinned entries.
    pub(in crate::table) fn spare_segments(&self) -> usize {
        usize::from(self.pins.is_any())
    }

    fn may_open(&self, stream: Stream) -> bool {
        let spare = if stream == Stream::Pinned { 0 } else { self.spare_segments() };
        self.log.free.len() > spare
    }

    /// Frees a segment although there is no room to copy to, which is so only after a kill in the
    /// middle of reclaiming, and while few segments have memory.
    fn drop_oldest(&mut self, stream: Stream, now: u32) {
        self.eviction.job = None;
        let queues = [Queue::Small, Queue::Main].into_iter();
        let oldest: Vec<u32> = queues.flat_map(|queue| self.log.closed(queue).clone()).collect();
        for victim in oldest {
            if self.may_open(stream) {
                return;
            }
            self.eviction.job = Some(Job::new(victim, Fate::Drop));
            self.finish_job(now);
        }
    }

    fn open_segment(&mut self, stream: Stream, now: u32) -> bool {
        if !self.may_open(stream) {
            self.drop_oldest(stream, now);
        }
        if !self.may_open(stream) && self.log.free.is_empty() {
            // Each segment holds pinned entries, and none is free to copy them to. No slot has ever
            // referred to anything after the end of a segment, so that may be written (S4).
            self.log.reopen(&self.writer, Stream::Pinned);
            self.drop_oldest(stream, now);
        }
        // With few segments, all that could be reclaimed may be open.
        let closed = self.log.closed(Queue::Small).len() + self.log.closed(Queue::Main).len();
        if self.log.free.is_empty() || closed > 0 && !self.may_open(stream) {
            return false;
        }
        self.log.open_next(&self.writer, stream, self.eviction.epoch());
        self.eviction.is_behind = !self.eviction.is_ready;
        self.eviction.is_ready = false;
        self.eviction.ends = 0;
        self.update_filling();
        true
    }

    /// Reclaims ahead of need, after `words` words were appended to `queue`.
    pub(in crate::table) fn keep_pace(&mut self, words: usize, queue: Queue, now: u32) {
        let stored = words as u64 * CREDIT_PERCENT / 100;
        let segment_words = self.writer.geometry().segment_words();
        self.eviction.credit = (self.eviction.credit + stored).min(4 * segment_words as u64);
        let left = self.log.words_left(queue.into(), segment_words);
        let is_late = self.eviction.is_behind || left * LEAD <= segment_words;
        let is_due = !self.eviction.is_ready && is_late;
        if self.eviction.job.is_none() && (is_due || self.eviction.passed.is_some()) {
            self.eviction.job = self.next_job(queue, now);
            self.eviction.is_ready = self.eviction.job.is_none();
            self.eviction.is_behind &= !self.eviction.is_ready;
        }
        if self.eviction.job.is_some() {
            let pace = PACE * (1 + self.eviction.ends as usize).min(PACE_TIMES_MAX);
            self.reclaim(words * pace, now);
        }
    }

    /// Whether a segment is being reclaimed, or will be next.
    pub(super) fn is_being_reclaimed(&self, number: u32) -> bool {
        self.eviction.passed == Some(number)
            || self.eviction.job.as_ref().is_some_and(|job| job.victim == number)
    }

    /// Finishes the job under way, and reclaims the segment that the hand has passed.
    pub(super) fn finish_reclaiming(&mut self, now: u32) {
        self.finish_job(now);
        if self.eviction.passed.is_some() {
            self.eviction.job = self.next_job(Queue::Main, now);
            self.finish_job(now);
        }
    }

    /// Keeps what is left of the segment that is being reclaimed, because there is room again.
    pub(in crate::table) fn give_up_reclaiming(&mut self) {
        self.eviction.job = None;
        self.eviction.passed = None;
        self.eviction.is_ready = false;
    }

    fn finish_job(&mut self, now: u32) {
        while self.eviction.job.is_some() {
            self.reclaim(usize::MAX, now);
        }
    }

    fn stream_of_survivors(&self) -> Stream {
        let is_short = self.pins.is_any() && self.log.usable() < SEGMENTS_FOR_ALL_STREAMS;
        if is_short { Stream::Main } else { Stream::Survivors }
    }

    /// Walks about `words` words of the segment that is being reclaimed, at least one batch.
    fn reclaim(&mut self, words: usize, now: u32) {
        let Some(mut job) = self.eviction.job.take() else { return };
        let until = (job.word as usize).saturating_add(words);
        loop {
            let batch = self.walk(job.victim, &mut job.word);
            if batch.is_empty() {
                return self.end_job(&job);
            }
            for (at, hash) in batch {
                let Some(slot) = self.slot_of(hash, at) else { continue };
                let Some(found) = self.at_slot(slot) else { continue };
                if !self.decide(&found, hash, job.fate, now) {
                    return;
                }
                self.eviction.reclaimed += 1;
            }
            if job.word as usize >= until {
                self.eviction.job = Some(job);
                return;
            }
        }
    }

    fn end_job(&mut self, job: &Job) {
        let victim = job.victim;
        if job.fate == Fate::Requeue {
            let epoch = self.eviction.epoch();
            return self.log.requeue(&self.writer, victim, Queue::Main, epoch);
        }
        let is_torn = job.word != self.log.segment(victim).filled_words;
        fault_point!("reclaim.odd");
        self.writer.begin_recycling(victim);
        if is_torn {
            self.clear_slots_of(victim);
        }
        fault_point!("reclaim.even");
        self.writer.end_recycling(victim);
        self.log.release(&self.writer, victim);
        self.counters.recycled += 1;
    }

    /// Returns `false` if there is no room for an entry that must be kept: the segment cannot be
    /// reclaimed now.
    fn decide(&mut self, found: &Found, hash: KeyHash, fate: Fate, now: u32) -> bool {
        if !self.is_visible(&found.header, now) {
            self.expire(found, hash);
            return true;
        }
        let number = found.at.segment;
        let uses = self.eviction.uses.get(found.slot);
        let queue = self.log.segment(number).queue;
        let is_kept = match fate {
            _ if fate != Fate::Requeue && self.pins.holds(&found.header) => {
                if !self.copy_forward(found, hash, Stream::Pinned, uses) {
                    return false;
                }
                true
            }
            Fate::Drop => false,
            Fate::Keep => {
                let words = u64::from(words_of(&found.header));
                self.eviction.credit = self.eviction.credit.saturating_sub(words);
                let stream = match queue {
                    Queue::Small => Stream::Small,
                    Queue::Main | Queue::Pinned => self.stream_of_survivors(),
                };
                self.copy_forward(found, hash, stream, uses)
            }
            Fate::KeepUsed { least } if uses >= least => {
                self.copy_forward(found, hash, Stream::Main, uses_after(queue, uses))
            }
            Fate::KeepUsed { .. } => false,
            Fate::Requeue => {
                self.set_uses(found.slot, number, uses_after(queue, uses));
                true
            }
        };
        if is_kept {
            return true;
        }
        if queue == Queue::Small {
            let born = self.log.segment(number).born;
            self.eviction.ghost.dropped(hash, born, self.eviction.epoch());
        }
        self.unlink(found, Why::Evicted);
        true
    }

    /// Unlinks an invisible entry. The ghost remembers the key if it was in use, because it will
    /// return.
    pub(in crate::table) fn expire(&mut self, found: &Found, hash: KeyHash) {
        let queue = self.log.segment(found.at.segment).queue;
        if queue == Queue::Main || self.eviction.uses.get(found.slot) >= queue.uses_kept() {
            self.eviction.ghost.expired(hash, self.eviction.epoch());
        }
        self.unlink(found, Why::Expired);
    }

    /// Copies an entry to the end of a stream, under the same version, and points its slot there.
    /// `false` if there is no room.
    fn copy_forward(&mut self, found: &Found, hash: KeyHash, stream: Stream, uses: u8) -> bool {
        let words = found.header.words();
        let segment_words = self.writer.geometry().segment_words();
        if self.log.room(stream, words, segment_words).is_none() && self.may_open(stream) {
            self.log.open_next(&self.writer, stream, self.eviction.epoch());
            self.eviction.is_ready = false;
        }
        let Some(to) = self.log.room(stream, words, segment_words) else { return false };
        fault_point!("forward.copy");
        if self.writer.copy(found.at, to, words).is_err() {
            return false;
        }
        self.log.fill(&self.writer, to, &found.header);
        fault_point!("forward.publish");
        self.writer.publish(found.slot, hash, to);
        self.count_dead(found);
        self.count_live(found.slot, to, &found.header, uses);
        self.counters.copied_forward_bytes += found.header.bytes() as u64;
        true
    }

    /// The next entries of a segment and their hashes; prefetches their index lines. Leaves `start`
    /// after them: at the end of the segment, or at an implausible header, if there are none.
    pub(in crate::table) fn walk(
        &mut self,
        segment: u32,
        start: &mut u32,
    ) -> Vec<(Location, KeyHash)> {
        let mut batch = Vec::with_capacity(BATCH);
        while batch.len() < BATCH
            && let Some((at, hash)) = self.next_entry(segment, start)
        {
            self.writer.prefetch_index(hash);
            batch.push((at, hash));
        }
        batch
    }

    /// The entry at `start`, which is advanced past it.
    pub(in crate::table) fn next_entry(
        &mut self,
        segment: u32,
        start: &mut u32,
    ) -> Option<(Location, KeyHash)> {
        let filled = self.log.segment(segment).filled_words;
        let at = Location { segment, word: *start };
        let header = (at.word < filled).then(|| self.writer.header_at(at)).flatten()?;
        let end = at.word + words_of(&header);
        if end > filled {
            return None;
        }
        let hasher = *self.writer.geometry().hasher();
        *start = end;
        Some((at, hasher.hash(self.key_at(at, &header))))
    }

    /// Clears every slot that refers to a segment, by a scan of the whole index. Only for a segment
    /// whose entries cannot be walked.
    fn clear_slots_of(&mut self, segment: u32) {
        for bucket in 0..self.writer.geometry().bucket_count() {
            for index in 0..shm_layout::slot::SLOTS {
                let slot = self.writer.geometry().bucket(bucket).slot(index);
                let word = self.writer.slot(slot);
                let place = self.writer.geometry().locate(word.position());
                if !word.is_empty() && place.is_some_and(|(_, at)| at.segment == segment) {
                    self.unlink_torn(slot);
                }
            }
        }
    }
}

/// The uses of an entry that was kept at the end of `queue`: from small it starts at 0, and in main
/// each round costs one use.
fn uses_after(queue: Queue, uses: u8) -> u8 {
    match queue {
        Queue::Small => 0,
        Queue::Main | Queue::Pinned => uses.saturating_sub(1),
    }
}
