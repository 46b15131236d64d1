//! The ghost: fingerprints of keys that were dropped lately.
//!
//! S3-FIFO's ghost queue (Yang et al., SOSP 2023), but longer: like LIRS (Jiang and Zhang,
//! SIGMETRICS 2002), it remembers more keys than fit the table. Sixteen slots of two bytes make a
//! bucket, half a line:
//!
//! ```text
//!  15            5 4          0
//! +---------------+------------+
//! | fingerprint   | epoch      |    0: empty
//! +---------------+------------+
//! ```

use shm_layout::KeyHash;

const SLOTS: usize = 16;
const EPOCH_BITS: u32 = 5;
/// Distinguishable ages; the number after the last one marks keys that expired.
const EPOCHS: u32 = (1 << EPOCH_BITS) - 1;
const EXPIRED: u32 = EPOCHS;
/// An expired key is replaced like a key that was dropped this many epochs ago.
const EXPIRED_AGE: u32 = 4;
/// Slots for each entry that fits the table; more would gain nothing.
const SLOTS_PER_ENTRY: u64 = 4;
/// The ghost takes at most this part of the log: 2.5 %.
const LOG_BYTES_PER_BYTE: u64 = 40;

/// The past of a key that was in the table before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::table) enum Past {
    /// It was dropped; its segment was opened `age` epochs ago.
    Dropped { age: u32 },
    /// It was in use until it expired.
    Expired,
}

#[derive(Debug)]
pub(in crate::table) struct Ghost {
    slots: Vec<u16>,
}

impl Ghost {
    /// A ghost for a log of `log_bytes` bytes that holds about `entries` entries.
    pub(in crate::table) fn new(log_bytes: u64, entries: u64) -> Ghost {
        let slots = (entries * SLOTS_PER_ENTRY).min(log_bytes / LOG_BYTES_PER_BYTE / 2);
        let slots = usize::try_from(slots).unwrap_or(0).next_multiple_of(SLOTS).max(SLOTS);
        Ghost { slots: vec![0; slots] }
    }

    /// Forgets a key, and returns its past. `epoch` is the current one.
    pub(in crate::table) fn take(&mut self, hash: KeyHash, epoch: u32) -> Option<Past> {
        let (bucket, fingerprint) = self.place(hash);
        let slot = bucket.iter_mut().find(|slot| **slot >> EPOCH_BITS == fingerprint)?;
        let past = match u32::from(*slot) & EXPIRED {
            EXPIRED => Past::Expired,
            born => Past::Dropped { age: age(born, epoch) },
        };
        *slot = 0;
        Some(past)
    }

    /// Remembers a dropped key by the epoch in which its segment was opened.
    pub(in crate::table) fn dropped(&mut self, hash: KeyHash, born: u32, epoch: u32) {
        // Too old an epoch must not wrap around to a young one.
        let born = born.max((epoch + 1).saturating_sub(EPOCHS));
        self.put(hash, born % EPOCHS, epoch);
    }

    /// Remembers a key that expired while it was in use.
    pub(in crate::table) fn expired(&mut self, hash: KeyHash, epoch: u32) {
        self.put(hash, EXPIRED, epoch);
    }

    /// Stores a stamp in the key's slot, an empty one, or the oldest.
    fn put(&mut self, hash: KeyHash, stamp: u32, epoch: u32) {
        let (bucket, fingerprint) = self.place(hash);
        let rank = |slot: &u16| match u32::from(*slot) & EXPIRED {
            _ if *slot >> EPOCH_BITS == fingerprint => u32::MAX,
            _ if *slot == 0 => u32::MAX - 1,
            EXPIRED => EXPIRED_AGE,
            born => age(born, epoch),
        };
        if let Some(slot) = bucket.iter_mut().max_by_key(|slot| rank(slot)) {
            *slot = fingerprint << EPOCH_BITS | u16::try_from(stamp).unwrap_or(0);
        }
    }

    fn place(&mut self, hash: KeyHash) -> (&mut [u16], u16) {
        // Mixed, so that keys of one line are spread over the ghost.
        let mixed = (hash.0 ^ hash.0 >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
        let buckets = self.slots.len() / SLOTS;
        let bucket = usize::try_from(((mixed >> 32) * buckets as u64) >> 32).unwrap_or(0);
        let fingerprint = (mixed & 0x7ff) as u16;
        (&mut self.slots[bucket * SLOTS..][..SLOTS], fingerprint.max(1))
    }

    /// Bytes of memory.
    pub(in crate::table) fn bytes(&self) -> usize {
        size_of_val(self.slots.as_slice())
    }
}

/// Epochs since the latest one with this stamp.
fn age(stamp: u32, epoch: u32) -> u32 {
    (epoch % EPOCHS + EPOCHS - stamp) % EPOCHS
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hash(key: u64) -> KeyHash {
        shm_layout::hash::TableHasher::new(9).hash(&key.to_le_bytes())
    }

    #[test]
    fn a_dropped_key_is_known_once_with_its_age() {
        let mut ghost = Ghost::new(1 << 20, 1000);
        ghost.dropped(hash(1), 3, 5);
        ghost.expired(hash(2), 5);
        assert_eq!(ghost.take(hash(1), 9), Some(Past::Dropped { age: 6 }));
        assert_eq!(ghost.take(hash(1), 9), None);
        assert_eq!(ghost.take(hash(2), 9), Some(Past::Expired));
        assert_eq!(ghost.take(hash(3), 9), None);
    }

    #[test]
    fn a_full_ghost_keeps_the_youngest_and_takes_no_stranger_for_a_friend() {
        let entries = 4000;
        let mut ghost = Ghost::new(1 << 30, entries);
        assert_eq!(ghost.bytes() as u64, entries * 8);
        for key in 0..entries * 12 {
            let epoch = u32::try_from(key / (entries / 4)).unwrap();
            ghost.dropped(hash(key), epoch, epoch);
        }
        let known = |ghost: &mut Ghost, keys: std::ops::Range<u64>| {
            keys.filter(|key| ghost.take(hash(*key), 48).is_some()).count() as u64
        };
        let young = known(&mut ghost, entries * 10..entries * 12);
        assert!(young > entries * 2 * 98 / 100, "{young} of {}", entries * 2);
        let old = known(&mut ghost, 0..entries * 2);
        assert!(old < entries * 2 / 50, "{old}");
        let strangers = known(&mut ghost, entries * 100..entries * 110);
        assert!(strangers < entries * 10 / 100, "{strangers} of {}", entries * 10);
    }

    proptest! {
        #[test]
        fn an_age_is_right_or_the_greatest_there_is(
            born in 0..500u32, ages in 0..200u32, later in 0..31u32
        ) {
            let mut ghost = Ghost::new(1 << 20, 10);
            let at = born + ages;
            ghost.dropped(hash(1), born, at);
            let told = ages.min(EPOCHS - 1);
            let later = later % (EPOCHS - told);
            let expected = Some(Past::Dropped { age: told + later });
            prop_assert_eq!(ghost.take(hash(1), at + later), expected);
        }
    }
}
