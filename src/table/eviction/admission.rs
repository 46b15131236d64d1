//! Choosing the queue for a newcomer.
//!
//! It joins the small queue, as in S3-FIFO, but main while there is room, and main if it returns
//! after less time than main's next victim has gone unused (LIRS: Jiang and Zhang, SIGMETRICS 2002;
//! the hand is CLOCK-Pro's: Jiang et al., ATC 2005). Time is measured in words, so a newcomer that
//! displaces many victims must return proportionally sooner.

use super::super::Table;
use super::super::log::Queue;
use super::ghost::Past;
use shm_layout::segment::Role;
use shm_layout::{Location, MemoryMut};

/// Entries that the hand inspects for one newcomer.
const HAND_STEPS: usize = 64;

/// A segment with at most this many live entries is reclaimed at once, whatever the delay.
const SHORT_ENTRIES: u32 = 64;

/// The position from which main's next victim is searched.
#[derive(Debug, Default)]
pub(super) struct Hand {
    segment: u32,
    /// The segment's sequence number; 0 is no segment's.
    sequence: u64,
    word: u32,
}

impl<M: MemoryMut> Table<M> {
    /// The queue for an entry of `words` words whose key is not in the table.
    pub(in crate::table) fn admit(
        &mut self,
        hash: shm_layout::KeyHash,
        words: u32,
        now: u32,
    ) -> Queue {
        self.eviction.clock += u64::from(words);
        let epoch = self.eviction.epoch();
        let past = self.eviction.ghost.take(hash, epoch);
        self.eviction.ghost_hits += u64::from(past.is_some());
        if self.eviction.is_filling {
            return Queue::Main;
        }
        match past {
            None => Queue::Small,
            // Its dead copy frees as much room.
            Some(Past::Expired) => Queue::Main,
            Some(Past::Dropped { age }) => {
                let part = self.eviction.part_of_log(words.into());
                self.eviction.share.grow_if_missed(age, part);
                self.admit_returning(age, words, epoch, now)
            }
        }
    }

    fn admit_returning(&mut self, age: u32, words: u32, epoch: u32, now: u32) -> Queue {
        if self.log.closed(Queue::Main).is_empty() {
            return Queue::Main;
        }
        let Some(victim) = self.main_victim(now) else { return Queue::Small };
        let segment = &self.log.segments[victim.segment as usize];
        let victim_age = epoch.saturating_sub(segment.born);
        if is_better(age, words, victim_age, segment.live_words / segment.live_entries.max(1)) {
            self.pass(victim);
            return Queue::Main;
        }
        Queue::Small
    }

    /// The first entry from the hand on that was not used since the hand last passed it.
    fn main_victim(&mut self, now: u32) -> Option<Location> {
        for _ in 0..HAND_STEPS {
            let at = self.hand()?;
            let segment = &self.log.segments[at.segment as usize];
            let all_used = segment.is_counted && segment.kept_entries >= segment.live_entries;
            if at.word >= segment.filled_words || all_used {
                if !self.pass_segment(at.segment, now) {
                    return None;
                }
                continue;
            }
            let mut word = at.word;
            let Some((at, hash)) = self.next_entry(at.segment, &mut word) else {
                if !self.pass_segment(at.segment, now) {
                    return None;
                }
                continue;
            };
            if let Some(slot) = self.slot_of(hash, at)
                && self.eviction.uses.get(slot) == 0
            {
                return Some(at);
            }
            self.eviction.hand.word = word;
        }
        None
    }

    /// The hand's position, in the oldest segment of main that it has not passed.
    fn hand(&mut self) -> Option<Location> {
        let hand = &self.eviction.hand;
        let segment = self.log.segments.get(hand.segment as usize)?;
        let is_there = segment.role == Role::Closed
            && segment.queue == Queue::Main
            && segment.sequence == hand.sequence
            && !self.is_being_reclaimed(hand.segment);
        if !is_there {
            let main = self.log.closed(Queue::Main).iter();
            let next = main.copied().find(|number| !self.is_being_reclaimed(*number))?;
            let sequence = self.log.segment(next).sequence;
            self.eviction.hand = Hand { segment: next, sequence, word: 0 };
        }
        let Hand { segment, word, .. } = self.eviction.hand;
        Some(Location { segment, word })
    }

    fn pass(&mut self, at: Location) {
        let mut word = at.word;
        if self.next_entry(at.segment, &mut word).is_some() {
            self.eviction.hand.word = word;
        }
    }

    /// Schedules a segment that the hand has passed to be reclaimed next; its used entries begin
    /// another round. `false`: another segment must be reclaimed first, which would delay this
    /// newcomer too long.
    fn pass_segment(&mut self, number: u32, now: u32) -> bool {
        if let Some(before) = self.eviction.passed {
            if self.log.segment(before).live_entries > SHORT_ENTRIES {
                return false;
            }
            self.finish_reclaiming(now);
        }
        self.eviction.passed = Some(number);
        true
    }
}

/// Whether a newcomer that was away for `age` epochs is worth more than victims that were not used
/// for `victim_age` epochs. Both ages estimate the time to the next use; 0.7 is the hysteresis. A
/// large newcomer displaces many victims.
fn is_better(age: u32, words: u32, victim_age: u32, victim_words: u32) -> bool {
    let (age, victim_age) = (f64::from(age), f64::from(victim_age));
    let victims = f64::from(words) / f64::from(victim_words.max(1));
    // An age of 0 is less than an epoch, not nothing.
    let age = if victims > 2.0 { (age + 0.5) * victims } else { age };
    age < 0.7 * victim_age
}
