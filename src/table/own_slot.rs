//! A key's own slot, which a read tries first.

use super::Table;
use shm_layout::fault_point;
use shm_layout::{KeyHash, MemoryMut};

impl<M: MemoryMut> Table<M> {
    /// Moves a key that was hit to its own slot, by a swap within its first line, if it is used
    /// more than the entry there: the most popular keys are found with one load.
    pub(super) fn give_own_slot(&mut self, hash: KeyHash, slot: usize) {
        let [first, _] = self.writer.geometry().buckets(hash);
        let own = first.slot(hash.own_slot());
        let (uses, uses_there) = (self.eviction.uses.get(slot), self.eviction.uses.get(own));
        if uses <= uses_there || self.bucket_of(slot) != self.bucket_of(own) {
            return;
        }
        // A kill in the middle of a swap loses the entry that stands there.
        if self.pins.is_any() && self.at_slot(own).is_some_and(|at| self.pins.holds(&at.header)) {
            return;
        }
        fault_point!("own.swap");
        self.writer.swap_slots(slot, own);
        self.eviction.uses.set(own, uses);
        self.eviction.uses.set(slot, uses_there);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::tests::{Mortal, assert_sound, entry, geometry, new_table, read, small};
    use shm_layout::{HeapTable, Writer};
    use std::cell::Cell;

    /// Two keys with the same own slot.
    fn rivals<M: MemoryMut>(table: &Table<M>) -> [Vec<u8>; 2] {
        let own = |key: &[u8]| {
            let hash = table.hash(key);
            table.writer().geometry().buckets(hash)[0].slot(hash.own_slot())
        };
        let first = b"key:0".to_vec();
        let wanted = own(&first);
        let key = |number: u32| format!("key:{number}").into_bytes();
        let second = (1..).map(key).find(|key| own(key) == wanted).unwrap();
        [first, second]
    }

    fn stands_in_own_slot<M: MemoryMut>(table: &Table<M>, key: &[u8]) -> bool {
        let hash = table.hash(key);
        let own = table.writer().geometry().buckets(hash)[0].slot(hash.own_slot());
        table.find(key, hash).unwrap().slot == own
    }

    /// The hazard: a kill in the middle of the swap loses what is never evicted.
    #[test]
    fn no_key_takes_its_own_slot_from_one_that_is_never_evicted() {
        let (_heap, mut table) = small();
        table.pin(&[(1, 200)], 0);
        let [first, second] = rivals(&table);
        table.put(&shm_layout::Entry { policy: 1, ..entry(&first, b"value") }, 0).unwrap();
        table.put(&entry(&second, b"value"), 0).unwrap();
        for _ in 0..3 {
            table.hit(table.hash(&second));
        }
        assert!(stands_in_own_slot(&table, &first) && !stands_in_own_slot(&table, &second));
    }

    #[test]
    fn a_key_takes_its_own_slot_from_one_that_is_used_less() {
        let (heap, mut table) = small();
        let [first, second] = rivals(&table);
        for key in [&first, &second] {
            table.put(&entry(key, key), 0).unwrap();
        }
        assert!(stands_in_own_slot(&table, &first) && !stands_in_own_slot(&table, &second));
        let hit = |table: &mut Table<_>, key: &[u8]| table.hit(table.hash(key));
        hit(&mut table, &second);
        assert!(!stands_in_own_slot(&table, &first) && stands_in_own_slot(&table, &second));
        // Used as often is not used more; and the uses went with the entries.
        hit(&mut table, &first);
        assert!(stands_in_own_slot(&table, &second));
        hit(&mut table, &first);
        assert!(stands_in_own_slot(&table, &first));
        for key in [&first, &second] {
            assert_eq!(read(&heap, key, 0).as_ref(), Some(key));
        }
        assert!(table.remove(&second, 0) && !table.remove(&second, 0));
        assert_sound(&mut table);
    }

    /// The hazard: a kill in the middle of a swap leaves two slots for a key, the next daemon
    /// changes one of them, and readers find the other.
    #[test]
    fn a_kill_in_the_middle_of_a_swap_leaves_no_second_slot() {
        let geometry = geometry(1000, 5 << 20);
        let heap = HeapTable::new(&geometry);
        let mut table = new_table(&heap, geometry);
        let keys = rivals(&table);
        for key in &keys {
            table.put(&entry(key, b"old"), 0).unwrap();
        }
        drop(table);
        // Each time the one that is not in its own slot is hit.
        for (kills, store) in [0, 1, 1, 1, 2].into_iter().enumerate() {
            let stores_left = Cell::new(u64::MAX);
            let memory = Mortal { memory: heap.memory_mut(), stores_left: &stores_left };
            // SAFETY: the heap has these bytes; nothing else writes.
            let writer = unsafe { Writer::take_over(memory, heap.bytes()) }.unwrap();
            let mut table = Table::take_over(writer);
            for key in &keys {
                if table.find(key, table.hash(key)).is_none() {
                    table.put(&entry(key, b"old"), 0).unwrap();
                }
            }
            let key = keys.iter().find(|key| !stands_in_own_slot(&table, key)).unwrap().clone();
            stores_left.set(store);
            table.hit(table.hash(&key));
            drop(table);

            // SAFETY: as above.
            let writer = unsafe { Writer::take_over(heap.memory_mut(), heap.bytes()) }.unwrap();
            let mut table = Table::take_over(writer);
            assert_eq!(read(&heap, &key, 0).as_deref(), Some(&b"old"[..]), "kill {kills}");
            table.put(&entry(&key, b"new"), 0).unwrap();
            assert_eq!(read(&heap, &key, 0).as_deref(), Some(&b"new"[..]), "kill {kills}");
            assert!(table.remove(&key, 0));
            assert_eq!(read(&heap, &key, 0), None, "kill {kills}");
            assert_sound(&mut table);
        }
    }
}
