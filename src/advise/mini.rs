//! A simulated cache without values. It evicts as the table does (`table::eviction`), but entry by
//! entry instead of segment by segment.

use super::{CLASSES, Known, Shares};
use shm_layout::entry::NEVER;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

const USES_MAX: u8 = 3;
/// An entry at the end of the small queue moves to main if it has at least this many uses.
const USES_KEPT: u8 = 2;
const EPOCHS: u64 = 4;
const EPOCHS_F: f64 = 4.0;
/// The part of the log that live entries occupy when it is full.
const LIVE_PART: f64 = 0.9;
const SHARE_START: f64 = 0.05;
const SHARE_LEAST: f64 = 0.01;
const SHARE_MOST: f64 = 0.90;
const MARGIN: f64 = 0.05;
const OLD_PART: u32 = 20;
const LATE_HIT_WEIGHT: f64 = 2.0;
const HAND_STEPS: usize = 64;
/// Bytes that the hand may pass for each byte stored, and the most that it may save up, as a part
/// of the log: a segment, which the table reclaims at this pace.
const HAND_PACE: u64 = 6;
const HAND_PART: u64 = 128;
/// Dropped keys remembered for each entry, and bytes of the log for each of them.
const GHOSTS_PER_ENTRY: usize = 4;
const BYTES_PER_GHOST: u64 = 80;
/// A dropped key is forgotten after this many epochs.
const GHOST_EPOCHS: u32 = 31;
const EXPIRED: u32 = u32::MAX;
/// Filling ends when less than 1/FREE_LEAST of the capacity is free, and resumes at 1/FREE_MUCH.
const FREE_LEAST: u64 = 128;
const FREE_MUCH: u64 = 10;
/// Stale places that a queue may have in addition to one for each object.
const PLACES_MIN: usize = 64;
/// Places that are examined for a newcomer whose share is used up.
const SHARE_STEPS: u32 = 128;

#[derive(Debug, Clone, Copy)]
struct Object {
    known: Known,
    is_main: bool,
    uses: u8,
    born: u32,
    /// Its place in its queue. A place with another number is stale.
    number: u32,
}

#[derive(Debug, Clone, Copy)]
struct Dropped {
    /// The epoch in which it was inserted, or [`EXPIRED`].
    born: u32,
    number: u32,
}

/// A hasher that does nothing: keys are hashes already.
#[derive(Debug, Default, Clone, Copy)]
struct Same(u64);

impl Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {}
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

type Map<T> = HashMap<u64, T, BuildHasherDefault<Same>>;
type Queue = VecDeque<(u64, u32)>;

/// The simulated cache.
#[derive(Debug)]
pub(super) struct Mini {
    capacity: u64,
    used: u64,
    used_small: u64,
    objects: Map<Object>,
    small: Queue,
    main: Queue,
    ghosts: Map<Dropped>,
    ghost_order: Queue,
    share: f64,
    is_filling: bool,
    clock: u64,
    /// Bytes that the hand may pass at present.
    hand_credit: u64,
    next_number: u32,
    /// Bytes of each class that can have a share, and where the search for its next victim begins.
    used_of: Vec<u64>,
    share_hand: usize,
}

impl Mini {
    pub(super) fn new(capacity: u64) -> Mini {
        Mini {
            capacity,
            used: 0,
            used_small: 0,
            objects: Map::default(),
            small: Queue::new(),
            main: Queue::new(),
            ghosts: Map::default(),
            ghost_order: Queue::new(),
            share: SHARE_START,
            is_filling: true,
            clock: 0,
            hand_credit: 0,
            next_number: 0,
            used_of: vec![0; CLASSES],
            share_hand: 0,
        }
    }

    pub(super) fn set_capacity(&mut self, bytes: u64) {
        // Time continues from its present value, in epochs and fractions of one.
        let clock = u128::from(self.clock) * u128::from(bytes) / u128::from(self.capacity.max(1));
        self.clock = u64::try_from(clock).unwrap_or(u64::MAX);
        self.capacity = bytes;
        self.make_room(0);
    }

    pub(super) fn objects(&self) -> usize {
        self.objects.len()
    }

    /// Returns whether a newcomer must displace other entries.
    pub(super) fn is_full(&self) -> bool {
        !self.is_filling
    }

    pub(super) fn bytes(&self) -> usize {
        let queues = self.small.capacity() + self.main.capacity() + self.ghost_order.capacity();
        queues * size_of::<(u64, u32)>()
            + size_of_val(self.used_of.as_slice())
            + self.objects.capacity() * (size_of::<(u64, Object)>() + 1)
            + self.ghosts.capacity() * (size_of::<(u64, Dropped)>() + 1)
    }

    pub(super) fn clear(&mut self) {
        *self = Mini { share: self.share, ..Mini::new(self.capacity) };
    }

    /// Forgets the keys that are no longer sampled.
    pub(super) fn retain(&mut self, is_sampled: impl Fn(u64) -> bool) {
        let gone: Vec<u64> =
            self.objects.keys().copied().filter(|hash| !is_sampled(*hash)).collect();
        gone.into_iter().for_each(|hash| self.remove(hash));
        self.ghosts.retain(|hash, _| is_sampled(*hash));
        for queue in [&mut self.small, &mut self.main, &mut self.ghost_order] {
            queue.retain(|(hash, _)| is_sampled(*hash));
            queue.shrink_to_fit();
        }
        self.objects.shrink_to_fit();
        self.ghosts.shrink_to_fit();
    }

    /// Returns whether the key is present and not expired, and counts a use.
    pub(super) fn read(&mut self, hash: u64, now: u32) -> bool {
        let Some(object) = self.objects.get_mut(&hash) else { return false };
        if object.known.expiry != NEVER && object.known.expiry <= now {
            let was_used = object.is_main || object.uses >= USES_KEPT;
            self.remove(hash);
            if was_used {
                self.remember(hash, EXPIRED);
            }
            return false;
        }
        if object.uses == USES_MAX {
            return true;
        }
        object.uses += 1;
        let object = *object;
        if object.uses == 1 && object.is_main && !self.is_filling {
            let oldest = self.main.front().map_or(object.number, |first| first.1);
            let newest = self.main.back().map_or(object.number, |last| last.1);
            if object.number.wrapping_sub(oldest) <= newest.wrapping_sub(oldest) / OLD_PART {
                let part = LATE_HIT_WEIGHT * self.part(object.known.bytes);
                self.share = (self.share - part).max(SHARE_LEAST);
            }
        }
        true
    }

    /// Returns whether the key is present with exactly these properties.
    pub(super) fn holds(&self, hash: u64, known: Known) -> bool {
        self.objects.get(&hash).is_some_and(|object| {
            object.known.bytes == known.bytes && object.known.expiry == known.expiry
        })
    }

    /// Stores a key, or updates its properties.
    pub(super) fn store(&mut self, hash: u64, known: Known, shares: &Shares) {
        if let Some(object) = self.objects.get_mut(&hash) {
            let was = *object;
            object.known = known;
            let is = *object;
            self.take_off(&was);
            self.put_on(&is);
            return self.make_room(0);
        }
        if u64::from(known.bytes) > self.capacity {
            return;
        }
        let had_room = self.keep_shares(known, shares);
        let is_main = self.admit(hash, known.bytes) && had_room;
        self.make_room(known.bytes.into());
        self.insert(hash, Object { known, is_main, uses: 0, born: 0, number: 0 });
        self.update_filling();
    }

    pub(super) fn remove(&mut self, hash: u64) {
        if let Some(object) = self.objects.remove(&hash) {
            self.take_off(&object);
        }
    }

    fn put_on(&mut self, object: &Object) {
        let bytes = u64::from(object.known.bytes);
        self.used += bytes;
        if !object.is_main {
            self.used_small += bytes;
        }
        for class in object.known.classes() {
            self.used_of[class] += bytes;
        }
    }

    fn take_off(&mut self, object: &Object) {
        let bytes = u64::from(object.known.bytes);
        self.used -= bytes;
        if !object.is_main {
            self.used_small -= bytes;
        }
        for class in object.known.classes() {
            self.used_of[class] -= bytes;
        }
    }

    /// Adds a key at the new end of its queue.
    fn insert(&mut self, hash: u64, object: Object) {
        self.next_number = self.next_number.wrapping_add(1);
        let object = Object { born: self.epoch(), number: self.next_number, ..object };
        self.put_on(&object);
        self.objects.insert(hash, object);
        let queue = if object.is_main { &mut self.main } else { &mut self.small };
        queue.push_back((hash, object.number));
        // Removed and expired keys leave stale places, and eviction, which drops them, may never
        // run.
        if queue.len() > 2 * self.objects.len() + PLACES_MIN {
            let objects = &self.objects;
            queue.retain(|(hash, number)| {
                objects.get(hash).is_some_and(|object| object.number == *number)
            });
        }
    }

    /// Makes a class that has used up its share evict its own entries, as the table's budgets do.
    /// Returns whether there was room from the start.
    fn keep_shares(&mut self, known: Known, shares: &Shares) -> bool {
        let bytes = u64::from(known.bytes);
        let mut had_room = true;
        for class in known.classes() {
            let Some(permille) = shares[class] else { continue };
            let most = self.log_bytes() * u64::from(permille) / 1000;
            let mut steps = SHARE_STEPS;
            while self.used_of[class] + bytes > most && steps > 0 {
                had_room = false;
                steps -= 1;
                self.pass_one_of(class);
            }
        }
        had_room
    }

    /// Advances the share hand by one place. An entry of this class there loses a use, or is
    /// dropped if it has none.
    fn pass_one_of(&mut self, class: usize) {
        self.share_hand += 1;
        if self.share_hand >= self.small.len() + self.main.len() {
            self.share_hand = 0;
        }
        let in_small = self.small.get(self.share_hand);
        let place = in_small.or_else(|| self.main.get(self.share_hand - self.small.len()));
        let Some(&(hash, number)) = place else { return };
        let Some(object) = self.objects.get_mut(&hash) else { return };
        if object.number != number || !object.known.classes().any(|other| other == class) {
            return;
        }
        if object.uses == 0 {
            self.remove(hash);
        } else {
            object.uses -= 1;
        }
    }

    /// Returns whether a newcomer goes to main.
    fn admit(&mut self, hash: u64, bytes: u32) -> bool {
        self.clock += u64::from(bytes);
        let most = (self.capacity / HAND_PART).max(bytes.into());
        self.hand_credit = (self.hand_credit + HAND_PACE * u64::from(bytes)).min(most);
        let epoch = self.epoch();
        let past = self.ghosts.remove(&hash);
        if self.is_filling {
            return true;
        }
        let age = match past {
            None => return false,
            Some(Dropped { born: EXPIRED, .. }) => return true,
            Some(Dropped { born, .. }) => epoch.saturating_sub(born),
        };
        let age = if age > GHOST_EPOCHS { return false } else { f64::from(age) };
        if age <= (self.share + MARGIN) * EPOCHS_F {
            self.share = (self.share + self.part(bytes)).min(SHARE_MOST);
        }
        let Some((victim, victim_age)) = self.main_victim(epoch) else {
            return self.main.is_empty();
        };
        let victims = f64::from(bytes) / f64::from(victim.known.bytes.max(1));
        let age = if victims > 2.0 { (age + 0.5) * victims } else { age };
        if age < 0.7 * victim_age {
            // The hand has passed it, so it is the next to go.
            self.evict_main();
            return true;
        }
        false
    }

    /// The entry that main would drop next; used entries before it start another round.
    fn main_victim(&mut self, epoch: u32) -> Option<(Object, f64)> {
        for _ in 0..HAND_STEPS {
            let (hash, number) = *self.main.front()?;
            let object = self.objects.get(&hash).copied();
            match object.filter(|object| object.is_main && object.number == number) {
                None => drop(self.main.pop_front()),
                Some(object) if object.uses == 0 => {
                    return Some((object, epoch.saturating_sub(object.born).into()));
                }
                Some(object) => {
                    let bytes = u64::from(object.known.bytes);
                    self.hand_credit = self.hand_credit.checked_sub(bytes)?;
                    self.evict_main();
                }
            }
        }
        None
    }

    fn make_room(&mut self, bytes: u64) {
        while self.used + bytes > self.capacity && !self.objects.is_empty() {
            let of_small = self.used_small > self.small_target() || self.used == self.used_small;
            let went = if of_small { self.evict_small() } else { self.evict_main() };
            if !(went || self.evict_small() || self.evict_main()) {
                return;
            }
        }
    }

    /// Moves the entry at the old end of the small queue to main, or drops it. Returns whether
    /// there was one.
    fn evict_small(&mut self) -> bool {
        while let Some((hash, number)) = self.small.pop_front() {
            let found = self.objects.get(&hash).copied();
            let Some(object) = found.filter(|object| !object.is_main && object.number == number)
            else {
                continue;
            };
            self.remove(hash);
            if object.uses >= USES_KEPT {
                self.insert(hash, Object { is_main: true, uses: 0, ..object });
            } else {
                self.remember(hash, object.born);
            }
            return true;
        }
        false
    }

    /// Drops the entry at main's old end, or moves it to the new end if it was used. Returns
    /// whether there was one.
    fn evict_main(&mut self) -> bool {
        while let Some((hash, number)) = self.main.pop_front() {
            let found = self.objects.get(&hash).copied();
            let Some(object) = found.filter(|object| object.is_main && object.number == number)
            else {
                continue;
            };
            self.remove(hash);
            if object.uses > 0 {
                self.insert(hash, Object { uses: object.uses - 1, ..object });
            }
            return true;
        }
        false
    }

    fn remember(&mut self, hash: u64, born: u32) {
        self.next_number = self.next_number.wrapping_add(1);
        let number = self.next_number;
        self.ghosts.insert(hash, Dropped { born, number });
        self.ghost_order.push_back((hash, number));
        let by_bytes = usize::try_from(self.log_bytes() / BYTES_PER_GHOST).unwrap_or(usize::MAX);
        let most = (self.objects.len() * GHOSTS_PER_ENTRY).min(by_bytes).max(16);
        while self.ghosts.len() > most || self.ghost_order.len() > 2 * most {
            let Some((oldest, number)) = self.ghost_order.pop_front() else { break };
            if self.ghosts.get(&oldest).is_some_and(|ghost| ghost.number == number) {
                self.ghosts.remove(&oldest);
            }
        }
    }

    fn update_filling(&mut self) {
        let missing = self.small_target().saturating_sub(self.used_small);
        let free = self.capacity.saturating_sub(self.used);
        if free >= missing + self.capacity / FREE_MUCH {
            self.is_filling = true;
        } else if free <= missing + self.capacity / FREE_LEAST {
            self.is_filling = false;
        }
    }

    fn small_target(&self) -> u64 {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a part of the capacity, which need not be exact"
        )]
        let bytes = (self.capacity as f64 * self.share) as u64;
        bytes
    }

    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an estimate"
    )]
    fn log_bytes(&self) -> u64 {
        (self.capacity as f64 / LIVE_PART) as u64
    }

    fn epoch(&self) -> u32 {
        let epoch = self.clock / (self.log_bytes() / EPOCHS).max(1);
        // Less than the mark EXPIRED.
        u32::try_from(epoch).unwrap_or(u32::MAX - 1)
    }

    fn part(&self, bytes: u32) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let log = self.log_bytes().max(1) as f64;
        f64::from(bytes) / log
    }
}
