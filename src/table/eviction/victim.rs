//! Choosing the segment to reclaim when the log needs one, and what to keep of it.

use super::super::Table;
use super::super::log::{Queue, Segment};
use super::reclaim::{Fate, Job};
use shm_layout::MemoryMut;

/// A segment with at least this much dead memory, in percent, is compacted before anything is
/// evicted: compaction then frees at least as much as it copies.
const DEAD_PERCENT_CHEAP: u64 = 50;
/// While this much of the log is dead, in percent, nothing live is evicted: the segment with the
/// most dead memory has at least as much (LFS cleaning: Rosenblum and Ousterhout, SOSP 1991). Above
/// 25, its live part and the largest entry always fit one segment (W1).
const DEAD_PERCENT_MAX: u64 = 33;
/// A segment with less dead memory than this, in percent, is never compacted.
const DEAD_PERCENT_MIN: u64 = 26;
/// A segment is kept whole if at least this many of its entries would be kept, in percent.
const WHOLE_PERCENT: u64 = 80;
/// After each such number of segments that yielded no room, entries need one more use to be kept.
const ENDS_PER_USE: u32 = 8;
/// Dead memory is compacted only while at most this many segments are free.
const FREE_BEFORE_COMPACTION: usize = 2;
/// Newcomers go to main again with at least this many free segments, or a tenth of all.
const FILLING_SEGMENTS_MIN: usize = 4;

impl<M: MemoryMut> Table<M> {
    /// The segment to reclaim before `asking` may open another; `None`: none.
    pub(super) fn next_job(&mut self, asking: Queue, now: u32) -> Option<Job> {
        if let Some(number) = self.eviction.passed.take()
            && self.log.closed(Queue::Main).contains(&number)
        {
            return Some(self.end_of_queue(number, 0));
        }
        if let Some(number) = self.find_counted(|segment| segment.live_entries == 0) {
            return Some(Job::emptied(number, self.log.segment(number).filled_words));
        }
        self.update_filling();
        let free = self.log.free.len().saturating_sub(self.spare_segments());
        // One at a time, when memory is needed: no put waits for everything that has expired.
        if free <= FREE_BEFORE_COMPACTION
            && let Some(number) = self.find_counted(|segment| segment.latest_expiry <= now)
        {
            return Some(Job::new(number, Fate::Drop));
        }
        let small = self.log.count(Queue::Small);
        let target = self.small_target();
        let small_is_full = asking == Queue::Small && !self.eviction.is_filling && small >= target;
        if (free <= FREE_BEFORE_COMPACTION || small_is_full)
            && let Some(number) = self.worth_compacting()
        {
            return Some(Job::new(number, Fate::Keep));
        }
        if free <= FREE_BEFORE_COMPACTION
            && asking == Queue::Pinned
            && let Some(number) = self.worth_compacting_among_pins(DEAD_PERCENT_MAX)
        {
            return Some(Job::new(number, Fate::Keep));
        }
        let oldest = |table: &Self, queue| table.log.closed(queue).front().copied();
        if small_is_full && let Some(number) = oldest(self, Queue::Small) {
            return Some(self.end_of_queue(number, 0));
        }
        if free > 1 {
            return None;
        }
        let (first, then) =
            if small > target { (Queue::Small, Queue::Main) } else { (Queue::Main, Queue::Small) };
        let Some(number) = oldest(self, first).or_else(|| oldest(self, then)) else {
            let number = self.worth_compacting_among_pins(DEAD_PERCENT_MIN)?;
            return Some(Job::new(number, Fate::Keep));
        };
        let raised = u8::try_from(self.eviction.ends / ENDS_PER_USE).unwrap_or(u8::MAX);
        self.eviction.ends += 1;
        Some(self.end_of_queue(number, raised))
    }

    /// Segments that the small queue should have.
    pub(in crate::table) fn small_target(&self) -> usize {
        self.eviction.share.segments(self.log.usable())
    }

    /// Filling ends when only the small queue's missing segments are free, and begins again when
    /// many are: otherwise a main that is not full would refuse returning keys.
    pub(in crate::table) fn update_filling(&mut self) {
        let missing = self.small_target().saturating_sub(self.log.count(Queue::Small));
        let free = self.log.free.len();
        let many = FILLING_SEGMENTS_MIN.max(self.log.usable() / 10);
        if free >= missing + many {
            self.eviction.is_filling = true;
        } else if free <= missing + 1 {
            self.eviction.is_filling = false;
        }
    }

    /// The job for the segment at the end of a queue.
    ///
    /// If everything is in use, all segments would go round in turn; `raised` demands more uses, so
    /// that the search ends.
    fn end_of_queue(&self, number: u32, raised: u8) -> Job {
        let segment = &self.log.segments[number as usize];
        let segment_words = self.writer.geometry().segment_words() as u64;
        let is_full = u64::from(segment.live_words) * 100 >= segment_words * WHOLE_PERCENT;
        let kept = u64::from(segment.kept_entries) * 100;
        let is_kept = kept >= u64::from(segment.live_entries) * WHOLE_PERCENT;
        let fate = if raised == 0 && is_full && is_kept {
            Fate::Requeue
        } else {
            Fate::KeepUsed { least: segment.queue.uses_kept().saturating_add(raised) }
        };
        Job::new(number, fate)
    }

    /// The segment with the most dead memory of those of pinned entries, if that is enough and they
    /// have this much of it, in percent.
    fn worth_compacting_among_pins(&self, percent: u64) -> Option<u32> {
        let segment_words = self.writer.geometry().segment_words() as u64;
        let dead = |segment: &Segment| segment_words.saturating_sub(u64::from(segment.live_words));
        let pinned = || self.counted().filter(|(_, segment)| segment.queue == Queue::Pinned);
        let (number, deadest) = pinned().max_by_key(|(_, segment)| dead(segment))?;
        let (all, all_dead) = pinned().fold((0, 0), |(all, all_dead), (_, segment)| {
            (all + segment_words, all_dead + dead(segment))
        });
        let is_worth = dead(deadest) * 100 >= segment_words * DEAD_PERCENT_MIN
            && all_dead * 100 >= all * percent;
        is_worth.then_some(number)
    }

    fn counted(&self) -> impl Iterator<Item = (u32, &Segment)> {
        let segments = self.log.all_closed().map(|n| (n, &self.log.segments[n as usize]));
        segments.filter(|(_, segment)| segment.is_counted)
    }

    fn find_counted(&self, is_sought: impl Fn(&Segment) -> bool) -> Option<u32> {
        self.counted().find(|(_, segment)| is_sought(segment)).map(|(number, _)| number)
    }

    /// The segment with the most dead memory, if that is enough in the segment or in the whole log.
    fn worth_compacting(&self) -> Option<u32> {
        let segment_words = self.writer.geometry().segment_words() as u64;
        let dead = |segment: &Segment| segment_words.saturating_sub(u64::from(segment.live_words));
        let (number, deadest) = self.counted().max_by_key(|(_, segment)| dead(segment))?;
        let percent = dead(deadest) * 100 / segment_words;
        let all_dead: u64 = self.counted().map(|(_, segment)| dead(segment)).sum();
        let all_percent = all_dead * 100 / self.usable_words().max(1);
        let is_paid = u64::from(deadest.live_words) <= self.eviction.credit;
        let is_worth = percent >= DEAD_PERCENT_CHEAP
            || percent >= DEAD_PERCENT_MIN && (all_percent >= DEAD_PERCENT_MAX || is_paid);
        is_worth.then_some(number)
    }
}
