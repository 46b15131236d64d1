//! The uses of entries: two bits for each slot of the index, private to the owner.
//!
//! A saturating count that hits raise, and that is lowered when the end of the queue passes: CLOCK
//! with a small counter, as in S3-FIFO (Yang et al., SOSP 2023). It belongs to the slot and not to
//! the entry, so that copying an entry forward or overwriting it need not move the count.

/// The highest count.
pub(in crate::table) const USES_MAX: u8 = 3;

#[derive(Debug)]
pub(in crate::table) struct Uses {
    packed: Vec<u8>,
    /// The first slot, as a word of the table.
    first: usize,
}

impl Uses {
    /// All counts are 0.
    pub(in crate::table) fn new(first: usize, slots: usize) -> Uses {
        Uses { packed: vec![0; slots.div_ceil(4)], first }
    }

    /// The count of a slot.
    pub(in crate::table) fn get(&self, slot: usize) -> u8 {
        let index = slot - self.first;
        self.packed[index / 4] >> shift(index) & USES_MAX
    }

    /// Prefetches the cache line with a slot's count.
    pub(in crate::table) fn prefetch(&self, slot: usize) {
        shm_layout::memory::prefetch(self.packed.as_ptr().wrapping_add((slot - self.first) / 4));
    }

    pub(in crate::table) fn set(&mut self, slot: usize, uses: u8) {
        let index = slot - self.first;
        let packed = &mut self.packed[index / 4];
        *packed = *packed & !(USES_MAX << shift(index)) | uses.min(USES_MAX) << shift(index);
    }

    /// Bytes of memory.
    pub(in crate::table) fn bytes(&self) -> usize {
        self.packed.len()
    }
}

const fn shift(index: usize) -> usize {
    index % 4 * 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_keep_their_counts() {
        let mut uses = Uses::new(100, 10);
        for slot in 100..110 {
            uses.set(slot, u8::try_from(slot % 4).unwrap());
        }
        uses.set(105, 200);
        for slot in 100..110 {
            let expected = if slot == 105 { USES_MAX } else { u8::try_from(slot % 4).unwrap() };
            assert_eq!(uses.get(slot), expected, "{slot}");
        }
    }
}
