//! Pins: values of rules that say `evict = "never"`. They leave the table only when they are
//! deleted, replaced or flushed, or expire.
//!
//! All that makes room for other entries passes them over: the ends of the queues and the shares
//! (`eviction`, `budget`), and full lines of the index (`index`). They have a queue of their own,
//! which is compacted and never evicted from. So that the log can always be reclaimed, what they
//! hold is bounded: each rule by its share, all together by [`Most`]. What would exceed that is
//! refused before anything is changed.
//!
//! What they hold is counted exactly and by expiry, so that expired and flushed entries do not
//! count from that moment on, although their memory is freed later.

use super::links::Why;
use super::log::{Queue, words_of};
use super::{Found, Table};
use l1d_wire::policy::PINNED_PERMILLE_MAX;
use shm_layout::entry::{MARK_ABSENT, NEVER};
use shm_layout::header::POLICIES;
use shm_layout::slot::SLOTS;
use shm_layout::{Entry, EntryHeader, Geometry, KeyHash, LayoutError, MemoryMut};
use std::collections::BTreeMap;

/// Shares are in thousandths.
const WHOLE: u64 = 1000;
/// Segments that other entries have open, or that are free. Pins may fill half of the rest: they get
/// no further segment while a third of the memory in theirs is dead, but that is compacted.
const OTHER_SEGMENTS: u64 = 3;

/// Why the table does not take an entry. Nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PutError {
    /// A key or value of an impossible size.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// Entries that are never evicted leave no room for it.
    #[error("entries that are never evicted leave no room")]
    Full(Full),
}

/// What entries that are never evicted have used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// The share of the entry's rule.
    Share,
    /// The part of the table that such entries may take, all rules together.
    Table,
    /// The slots that such entries may take, or all in which the key could be.
    Index,
}

/// Words and entries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Room {
    words: u64,
    entries: u64,
}

impl Room {
    fn add(&mut self, other: Room) {
        self.words += other.words;
        self.entries += other.entries;
    }

    fn subtract(&mut self, other: Room) {
        self.words = self.words.saturating_sub(other.words);
        self.entries = self.entries.saturating_sub(other.entries);
    }
}

/// The most that a table can hold of entries that are never evicted, all rules together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Most(Room);

impl Most {
    /// For a table of this shape, `usable` of whose segments have memory.
    pub(super) fn of(geometry: &Geometry, usable: usize) -> Most {
        let (segment_words, segments) = (geometry.segment_words() as u64, usable as u64);
        let part = |of: u64| of * u64::from(PINNED_PERMILLE_MAX) / WHOLE;
        let others = segments.saturating_sub(OTHER_SEGMENTS) * segment_words / 2;
        let slots = u64::from(geometry.bucket_count()) * SLOTS as u64;
        Most(Room { words: part(segments * segment_words).min(others), entries: part(slots) })
    }

    /// Bytes.
    pub(super) fn bytes(self) -> u64 {
        self.0.words * 8
    }

    /// Entries.
    pub(super) fn entries(self) -> u64 {
        self.0.entries
    }
}

/// A rule whose entries are never evicted.
#[derive(Debug)]
struct Pin {
    permille: u16,
    held: Room,
    /// The part of it that expires, by tick.
    expiring: BTreeMap<u32, Room>,
    /// Entries that were refused.
    refused: u64,
}

impl Pin {
    fn new(permille: u16) -> Pin {
        Pin { permille, held: Room::default(), expiring: BTreeMap::new(), refused: 0 }
    }
}

#[derive(Debug)]
pub(super) struct Pins {
    rules: Vec<Option<Box<Pin>>>,
    /// Of all rules.
    permille: u64,
    held: Room,
    most: Most,
    /// What the table that is being moved to can hold.
    most_in_successor: Option<Most>,
    /// Entries that expire by this tick are not counted any more.
    passed: u32,
}

impl Pins {
    /// No rule is pinned.
    pub(super) fn new(most: Most) -> Pins {
        let rules = std::iter::repeat_with(|| None).take(POLICIES).collect();
        Pins { rules, permille: 0, held: Room::default(), most, most_in_successor: None, passed: 0 }
    }

    /// Whether any rule is pinned.
    pub(super) fn is_any(&self) -> bool {
        self.permille > 0
    }

    /// Whether an entry is never evicted, as long as it is visible. A known absence may be.
    pub(super) fn holds(&self, header: &EntryHeader) -> bool {
        self.is_any()
            && header.marks & MARK_ABSENT == 0
            && self.rules[usize::from(header.policy)].is_some()
    }

    /// The same of an entry that is to be stored.
    pub(super) fn is_pinned(&self, entry: &Entry<'_>) -> bool {
        self.is_any() && !entry.absent && self.rules[usize::from(entry.policy)].is_some()
    }

    /// Pins the same rules as `other`.
    pub(super) fn inherit(&mut self, other: &Pins) {
        self.permille = other.permille;
        for (pin, model) in self.rules.iter_mut().zip(&other.rules) {
            *pin = model.as_ref().map(|model| Box::new(Pin::new(model.permille)));
        }
    }

    /// The table has grown.
    pub(super) fn set_most(&mut self, most: Most) {
        self.most = most;
    }

    /// A move to a table that can hold this has begun; `None`: it has ended.
    pub(super) fn set_most_in_successor(&mut self, most: Option<Most>) {
        self.most_in_successor = most;
    }

    /// Whether a table that can hold `most` has room for what is held now.
    pub(super) fn fit(&self, most: Most) -> bool {
        self.held.words <= most.0.words && self.held.entries <= most.0.entries
    }

    /// Whether the table that is being moved to has room for it, if there is one.
    pub(super) fn fit_successor(&self) -> bool {
        self.most_in_successor.is_none_or(|most| self.fit(most))
    }

    /// Continues the counts of refusals of the table before.
    pub(super) fn continue_refusals(&mut self, before: &Pins) {
        for (pin, before) in self.rules.iter_mut().zip(&before.rules) {
            if let (Some(pin), Some(before)) = (pin, before) {
                pin.refused += before.refused;
            }
        }
    }

    /// Bytes and entries held.
    pub(super) fn held(&self) -> (u64, u64) {
        (self.held.words * 8, self.held.entries)
    }

    /// Entries of a rule that were refused; `None`: it may be evicted from.
    pub(super) fn refused(&self, policy: u8) -> Option<u64> {
        self.rules[usize::from(policy)].as_ref().map(|pin| pin.refused)
    }

    /// Counts an entry that a slot refers to now, which is below its policy's floor if it is
    /// hidden.
    pub(super) fn count_live(&mut self, header: &EntryHeader, is_hidden: bool) {
        if !self.holds(header) || is_hidden || header.expiry <= self.passed {
            return;
        }
        let room = room_of(header);
        let Some(pin) = &mut self.rules[usize::from(header.policy)] else { return };
        if header.expiry != NEVER {
            pin.expiring.entry(header.expiry).or_default().add(room);
        }
        pin.held.add(room);
        self.held.add(room);
    }

    /// Counts an entry that its slot no longer refers to.
    pub(super) fn count_dead(&mut self, header: &EntryHeader, is_hidden: bool) {
        if !self.holds(header) || is_hidden {
            return;
        }
        let room = room_of(header);
        let Some(pin) = &mut self.rules[usize::from(header.policy)] else { return };
        if header.expiry != NEVER {
            // It has expired if the tick is not there.
            let Some(expiring) = pin.expiring.get_mut(&header.expiry) else { return };
            expiring.subtract(room);
            if expiring.entries == 0 {
                pin.expiring.remove(&header.expiry);
            }
        }
        pin.held.subtract(room);
        self.held.subtract(room);
    }

    /// Everything stored so far under a number is hidden by its floor.
    pub(super) fn hide(&mut self, policy: u8) {
        if let Some(pin) = &mut self.rules[usize::from(policy)] {
            self.held.subtract(std::mem::take(&mut pin.held));
            pin.expiring.clear();
        }
    }

    /// Entries that expire by `now` do not count any more.
    pub(super) fn pass(&mut self, now: u32) {
        self.passed = self.passed.max(now);
        for pin in self.rules.iter_mut().flatten() {
            while let Some(first) = pin.expiring.first_entry()
                && *first.key() <= now
            {
                let expired = first.remove();
                pin.held.subtract(expired);
                self.held.subtract(expired);
            }
        }
    }

    /// Whether a pinned entry may be stored in place of `old`, which is counted.
    fn admit(&mut self, new: &EntryHeader, old: Option<&EntryHeader>) -> Result<(), Full> {
        let (new_room, old_room) = (room_of(new), old.map(room_of).unwrap_or_default());
        if old.is_some() && new_room.words <= old_room.words {
            return Ok(());
        }
        let after = |mut held: Room| {
            held.subtract(old_room);
            held.add(new_room);
            held
        };
        let all = after(self.held);
        let log_words = self.most.0.words * WHOLE / u64::from(PINNED_PERMILLE_MAX);
        let most = [Some(self.most), self.most_in_successor].into_iter().flatten();
        let (words, entries) = most.fold((u64::MAX, u64::MAX), |(words, entries), most| {
            (words.min(most.0.words), entries.min(most.0.entries))
        });
        let Some(pin) = &mut self.rules[usize::from(new.policy)] else { return Ok(()) };
        let own = after(pin.held);
        let permille = u64::from(pin.permille);
        let full = if own.words > log_words * permille / WHOLE {
            Full::Share
        } else if all.words > words {
            Full::Table
        } else if all.entries > entries || own.entries > entries * permille / self.permille {
            // Each rule has its part of the slots, because many small entries fill the index first.
            Full::Index
        } else {
            return Ok(());
        };
        pin.refused += 1;
        Err(full)
    }

    /// Bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        let ticks: usize = self.rules.iter().flatten().map(|pin| pin.expiring.len()).sum();
        ticks * size_of::<(u32, Room)>()
    }
}

fn room_of(header: &EntryHeader) -> Room {
    Room { words: words_of(header).into(), entries: 1 }
}

impl<M: MemoryMut> Table<M> {
    /// Pins the rules with these numbers, whose shares are in thousandths of the log, and no
    /// others. If there are new ones, counts their entries, in one walk over the index. Entries
    /// beyond what the table can hold of them are dropped; returns their number.
    pub fn pin(&mut self, rules: &[(u8, u16)], now: u32) -> u64 {
        self.pins.pass(now);
        let is_pinned = |policy: usize| rules.iter().find(|rule| usize::from(rule.0) == policy);
        let (mut begun, mut ended) = (vec![false; POLICIES], false);
        for (policy, begun) in begun.iter_mut().enumerate() {
            let pin = &mut self.pins.rules[policy];
            match (is_pinned(policy), &mut *pin) {
                (Some((_, permille)), Some(pin)) => pin.permille = *permille,
                (Some((_, permille)), None) => {
                    *pin = Some(Box::new(Pin::new(*permille)));
                    *begun = true;
                }
                (None, Some(former)) => {
                    self.pins.held.subtract(former.held);
                    *pin = None;
                    ended = true;
                }
                (None, None) => {}
            }
        }
        self.pins.permille = rules.iter().map(|rule| u64::from(rule.1)).sum();
        if ended {
            // Its entries may be evicted again.
            self.log.join_main(&self.writer, self.eviction.epoch());
        }
        if begun.contains(&true) { self.count_pins(&begun, now) } else { 0 }
    }

    fn count_pins(&mut self, of: &[bool], now: u32) -> u64 {
        let mut dropped = 0;
        self.walk_whole_index(|table, found| {
            if !of[usize::from(found.header.policy)] || !table.is_kept(&found.header, now) {
                return;
            }
            let mut held = table.pins.held;
            held.add(room_of(&found.header));
            table.pins.count_live(&found.header, false);
            let most = table.pins.most.0;
            if held.words > most.words || held.entries > most.entries {
                table.unlink(found, Why::OverShare);
                dropped += 1;
            }
        });
        dropped
    }

    /// Entries of this rule that were refused; `None`: they make room for each other instead.
    #[must_use]
    pub fn refused_as_full(&self, policy: u8) -> Option<u64> {
        self.pins.refused(policy)
    }

    /// Whether an entry must stay: it is visible, and its rule is pinned.
    pub(super) fn is_kept(&self, header: &EntryHeader, now: u32) -> bool {
        self.pins.holds(header) && self.is_visible(header, now)
    }

    /// Whether there is room for an entry in place of `old`, as far as pins are concerned.
    ///
    /// # Errors
    /// Pins leave no room for it.
    pub(super) fn admit_beside_pins(
        &mut self,
        header: &EntryHeader,
        hash: KeyHash,
        old: Option<&Found>,
        now: u32,
    ) -> Result<(), PutError> {
        if !self.pins.is_any() {
            return Ok(());
        }
        if self.pins.holds(header) {
            self.pins.pass(now);
            let old = old.map(|old| &old.header);
            let old = old.filter(|old| old.policy == header.policy && self.is_kept(old, now));
            self.pins.admit(header, old).map_err(PutError::Full)?;
        }
        if old.is_some() || self.has_slot(hash, now) {
            return Ok(());
        }
        if let Some(pin) = &mut self.pins.rules[usize::from(header.policy)] {
            pin.refused += 1;
        }
        Err(PutError::Full(Full::Index))
    }

    /// Whether a pinned entry could be stored.
    ///
    /// # Errors
    /// The table would not take it.
    pub(super) fn would_admit(
        &mut self,
        entry: &Entry<'_>,
        hash: KeyHash,
        now: u32,
    ) -> Result<(), PutError> {
        if !self.pins.is_pinned(entry) {
            return Ok(());
        }
        let header = self.writer.prepare(entry)?.header();
        let old = self.find(entry.key, hash);
        self.admit_beside_pins(&header, hash, old.as_ref(), now)
    }

    /// Whether one of the slots of a key is empty or may be emptied.
    pub(super) fn has_slot(&self, hash: KeyHash, now: u32) -> bool {
        self.candidate_slots(hash).any(|slot| {
            self.writer.slot(slot).is_empty()
                || self.at_slot(slot).is_none_or(|found| !self.is_kept(&found.header, now))
        })
    }

    /// The queue of an entry that replaces one in `queue`.
    pub(super) fn queue_after(&self, queue: Queue, header: &EntryHeader) -> Queue {
        match queue {
            _ if self.pins.holds(header) => Queue::Pinned,
            Queue::Pinned => Queue::Main,
            queue => queue,
        }
    }
}

#[cfg(test)]
mod tests;
