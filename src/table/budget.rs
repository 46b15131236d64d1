//! Budgets: the share of the log that the entries of a policy, and all known absences, may take.
//!
//! A class that is over budget makes room among its own entries: a hand goes round the log and
//! drops those that were not used since it last passed (CLOCK: Corbató, 1968). So a flood under one
//! prefix evicts only that prefix.

use super::Table;
use super::links::Why;
use super::log::{Queue, words_of};
use shm_layout::entry::MARK_ABSENT;
use shm_layout::header::POLICIES;
use shm_layout::segment::Role;
use shm_layout::{EntryHeader, MemoryMut};

/// The class of known absences, of all policies.
const ABSENT: usize = POLICIES;
/// Entries that the hand inspects for one newcomer. If it passes more entries of other classes, the
/// class stays over its budget for a while, by at most one part in this many of the log.
const HAND_STEPS: u32 = 128;
/// Shares are in thousandths.
const WHOLE: u64 = 1000;

/// Entries that share a budget.
#[derive(Debug, Clone, Copy)]
struct Class {
    live_words: u64,
    /// Its part of the log, in thousandths; `None`: no limit.
    permille: Option<u16>,
    hand: Hand,
}

/// The position from which the next victim of a class is searched.
#[derive(Debug, Clone, Copy)]
struct Hand {
    segment: u32,
    sequence: u64,
    word: u32,
}

#[derive(Debug)]
pub(super) struct Budgets {
    classes: Vec<Class>,
    log_words: u64,
    /// Entries that were dropped because their class was over its budget.
    pub(super) evicted: u64,
}

impl Budgets {
    /// For a log of this size. No class has a limit.
    pub(super) fn new(log_words: u64) -> Budgets {
        let hand = Hand { segment: 0, sequence: 0, word: 0 };
        let class = Class { live_words: 0, permille: None, hand };
        Budgets { classes: vec![class; POLICIES + 1], log_words, evicted: 0 }
    }

    pub(super) fn count_live(&mut self, header: &EntryHeader) {
        for class in classes(header) {
            self.classes[class].live_words += u64::from(words_of(header));
        }
    }

    pub(super) fn count_dead(&mut self, header: &EntryHeader) {
        for class in classes(header) {
            let words = &mut self.classes[class].live_words;
            *words = words.saturating_sub(words_of(header).into());
        }
    }

    /// Bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(self.classes.as_slice())
    }

    /// The log has grown to this size.
    pub(super) fn set_log_words(&mut self, log_words: u64) {
        self.log_words = log_words;
    }

    fn limit(&mut self, class: usize, permille: Option<u16>) {
        self.classes[class].permille = permille;
    }

    /// Allows each class the same part of this log as of `other`'s.
    pub(super) fn inherit_limits(&mut self, other: &Budgets) {
        for (class, model) in self.classes.iter_mut().zip(&other.classes) {
            class.permille = model.permille;
        }
    }

    fn is_over(&self, class: usize, words: u64) -> bool {
        let class = &self.classes[class];
        let most = |permille| self.log_words * u64::from(permille) / WHOLE;
        class.permille.is_some_and(|part| class.live_words.saturating_add(words) > most(part))
    }
}

/// The classes of an entry: its policy, and for an absence also that of absences.
fn classes(header: &EntryHeader) -> impl Iterator<Item = usize> + use<> {
    let absent = (header.marks & MARK_ABSENT != 0).then_some(ABSENT);
    [usize::from(header.policy)].into_iter().chain(absent)
}

impl<M: MemoryMut> Table<M> {
    /// Limits the entries of a policy to `permille` thousandths of the log; `None`: no limit.
    /// Entries over the limit are evicted as new entries of the policy are stored.
    pub fn limit_policy(&mut self, policy: u8, permille: Option<u16>) {
        self.budgets.limit(policy.into(), permille);
    }

    /// Limits the known absences of all policies together, in the same way.
    pub fn limit_absences(&mut self, permille: Option<u16>) {
        self.budgets.limit(ABSENT, permille);
    }

    /// Bytes of the live entries of a policy; too low while [`TableStats::is_verifying`] holds.
    ///
    /// [`TableStats::is_verifying`]: l1d_wire::snapshot::TableStats::is_verifying
    #[must_use]
    pub fn policy_bytes(&self, policy: u8) -> u64 {
        self.budgets.classes[usize::from(policy)].live_words * 8
    }

    /// Bytes of known absences.
    pub(super) fn absent_bytes(&self) -> u64 {
        self.budgets.classes[ABSENT].live_words * 8
    }

    /// Makes room for a newcomer in the budgets of its classes. `false`: a class was over its
    /// budget, and the newcomer must not displace entries of others.
    pub(super) fn keep_budget(&mut self, header: &EntryHeader, now: u32) -> bool {
        let words = u64::from(words_of(header));
        let mut had_room = true;
        for class in classes(header) {
            if self.budgets.is_over(class, words) {
                had_room = false;
                self.make_room_in(class, words, now);
            }
        }
        had_room
    }

    fn make_room_in(&mut self, class: usize, words: u64, now: u32) {
        let segments = self.writer.geometry().segment_count();
        let mut steps = HAND_STEPS;
        while steps > 0 && self.budgets.is_over(class, words) {
            steps -= 1;
            let mut hand = self.budgets.classes[class].hand;
            let segment = self.log.segment(hand.segment);
            if segment.sequence != hand.sequence {
                hand = Hand { sequence: segment.sequence, word: 0, ..hand };
            }
            let is_used = segment.role != Role::Free;
            let next = is_used.then(|| self.next_entry(hand.segment, &mut hand.word)).flatten();
            if next.is_none() {
                hand = Hand { segment: (hand.segment + 1) % segments, sequence: 0, word: 0 };
            }
            self.budgets.classes[class].hand = hand;
            let Some((at, hash)) = next else { continue };
            let Some(found) = self.slot_of(hash, at).and_then(|slot| self.at_slot(slot)) else {
                continue;
            };
            if !classes(&found.header).any(|other| other == class) {
                continue;
            }
            let uses = self.eviction.uses.get(found.slot);
            if !self.is_visible(&found.header, now) {
                self.expire(&found, hash);
            } else if uses > 0 {
                self.set_uses(found.slot, at.segment, uses - 1);
            } else {
                self.unlink(&found, Why::OverShare);
            }
        }
    }

    /// The queue for an entry whose key is not in the table: see [`admit`](Self::admit). A class
    /// that is over its budget uses the small queue even while main has room.
    pub(super) fn queue_for(
        &mut self,
        hash: shm_layout::KeyHash,
        header: &EntryHeader,
        now: u32,
    ) -> Queue {
        let had_room = self.keep_budget(header, now);
        let queue = self.admit(hash, words_of(header), now);
        if had_room { queue } else { Queue::Small }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_sound, entry, geometry, new_table, read};
    use super::*;
    use shm_layout::{Entry, HeapTable};

    #[test]
    fn a_flood_under_one_prefix_or_of_absences_stays_in_its_budget_and_evicts_nobody_else() {
        for absent in [false, true] {
            let geometry = geometry(1000, 16 << 20);
            let heap = HeapTable::new(&geometry);
            let mut table = new_table(&heap, geometry);
            table.limit_policy(1, Some(200));
            table.limit_absences(Some(50));
            let (limit, policy) = if absent { (50, 2) } else { (200, 1) };
            let log = table.stats().log_bytes;
            let mine = log / 2 / 960;
            for n in 0..mine {
                table.put(&entry(format!("mine:{n}").as_bytes(), &[1; 900]), 0).unwrap();
            }
            let value: &[u8] = if absent { &[] } else { &[2; 900] };
            for n in 0..log * 3 / if absent { 40 } else { 960 } {
                let key = format!("flood:{n}");
                table.put(&Entry { policy, absent, ..entry(key.as_bytes(), value) }, 0).unwrap();
                assert!(table.contains(key.as_bytes(), 0));
                let most = table.policy_bytes(policy);
                // A little more while the hand passes what is not its own.
                assert!(most <= log * (limit + 10) / 1000, "{most} bytes of {log}");
            }
            let kept = |n: &u64| read(&heap, format!("mine:{n}").as_bytes(), 0).is_some();
            let kept = (0..mine).filter(kept).count() as u64;
            assert_eq!(kept, mine, "absences: {absent}; {:?}", table.stats());
            assert!(table.policy_bytes(policy) > log * limit / 1000 * 9 / 10);
            assert_sound(&mut table);
        }
    }

    #[test]
    fn within_a_budget_what_is_used_stays() {
        let geometry = geometry(1000, 16 << 20);
        let heap = HeapTable::new(&geometry);
        let mut table = new_table(&heap, geometry);
        table.limit_policy(1, Some(100));
        let flood = |n: u64| format!("flood:{n}");
        for n in 0..20_000 {
            let key = flood(n);
            table.put(&Entry { policy: 1, ..entry(key.as_bytes(), &[2; 900]) }, 0).unwrap();
            for used in 0..20 {
                table.hit(table.hash(flood(used).as_bytes()));
            }
        }
        assert!((0..20).all(|n| table.contains(flood(n).as_bytes(), 0)));
        // A limit that is taken back no longer holds.
        table.limit_policy(1, None);
        let before = table.stats().evicted_over_share;
        table.put(&Entry { policy: 1, ..entry(b"more", &[2; 900]) }, 0).unwrap();
        assert_eq!(table.stats().evicted_over_share, before);
    }

    #[test]
    fn what_an_earlier_owner_left_counts() {
        let geometry = geometry(1000, 16 << 20);
        let heap = HeapTable::new(&geometry);
        let mut table = new_table(&heap, geometry);
        for n in 0..3000u32 {
            let key = n.to_le_bytes();
            table.put(&Entry { policy: 1, ..entry(&key, &[2; 900]) }, 0).unwrap();
        }
        let bytes = table.policy_bytes(1);
        drop(table);
        // SAFETY: the heap has these bytes, and the table before is gone.
        let writer =
            unsafe { shm_layout::Writer::take_over(heap.memory_mut(), heap.bytes()) }.unwrap();
        let mut table = Table::take_over(writer);
        table.put(&Entry { policy: 1, ..entry(&7u32.to_le_bytes(), &[2; 900]) }, 0).unwrap();
        while table.sweep(0, 1000) {}
        assert_eq!(table.policy_bytes(1), bytes);
    }
}
