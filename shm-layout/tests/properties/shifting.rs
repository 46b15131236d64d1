//! Memory that another process writes between any two accesses, always at the same ones.

use super::guarded::Bounded;
use shm_layout::mailbox::AtomicMemory;
use shm_layout::memory::{WORD_BYTES, words_for};
use shm_layout::{MappedMut, Memory, MemoryMut};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

/// A store of the other process, after so many more accesses of this one.
#[derive(Debug, Clone, Copy)]
pub struct Store {
    pub after: u32,
    pub word: usize,
    pub to: u64,
}

/// Bounded memory, and what will happen to it.
#[derive(Clone)]
pub struct Shifting {
    memory: Bounded<MappedMut>,
    stores: Rc<RefCell<VecDeque<Store>>>,
    /// Accesses until the first of them.
    left: Rc<Cell<u32>>,
    /// Words, and what they held before.
    overwritten: Rc<RefCell<Vec<(usize, u64)>>>,
}

impl Shifting {
    pub fn new(memory: Bounded<MappedMut>) -> Shifting {
        let left = Rc::new(Cell::new(u32::MAX));
        Shifting { memory, stores: Rc::default(), left, overwritten: Rc::default() }
    }

    /// Adds a store after those that are still to come.
    pub fn add(&self, store: Store) {
        let mut stores = self.stores.borrow_mut();
        if stores.is_empty() {
            self.left.set(store.after);
        }
        stores.push_back(store);
    }

    /// The other process stores now.
    pub fn overwrite(&self, word: usize, to: u64) {
        // SAFETY: bounded memory panics unless this is one of its words.
        unsafe {
            self.overwritten.borrow_mut().push((word, self.memory.load(word)));
            self.memory.store(word, to);
        }
    }

    /// Takes back all that the other process has stored.
    pub fn restore(&self) {
        self.stores.borrow_mut().clear();
        for (word, held) in self.overwritten.borrow_mut().drain(..).rev() {
            // SAFETY: as in `overwrite`.
            unsafe { self.memory.store(word, held) };
        }
    }

    /// The other process has its turn before an access to this many words.
    fn turn(&self, words: u32) {
        let left = self.left.get();
        if left > words {
            return self.left.set(left.saturating_sub(words));
        }
        let mut stores = self.stores.borrow_mut();
        if let Some(store) = stores.pop_front() {
            self.overwrite(store.word % self.memory.words, store.to);
        }
        self.left.set(stores.front().map_or(u32::MAX, |store| store.after));
    }
}

impl Memory for Shifting {
    unsafe fn load(&self, index: usize) -> u64 {
        self.turn(1);
        // SAFETY: passed on unchanged.
        unsafe { self.memory.load(index) }
    }

    fn fence_acquire(&self) {
        self.memory.fence_acquire();
    }

    unsafe fn match_tag(&self, bucket: usize, tag: u16) -> u32 {
        self.turn(1);
        // SAFETY: passed on unchanged.
        unsafe { self.memory.match_tag(bucket, tag) }
    }

    unsafe fn copy_out(&self, from: usize, to: *mut u8, bytes: usize) {
        // In two parts, with a turn between them.
        let half = words_for(bytes) / 2;
        let first = (half * WORD_BYTES).min(bytes);
        self.turn(1);
        // SAFETY: the first words of those that the caller vouches for.
        unsafe { self.memory.copy_out(from, to, first) };
        self.turn(1);
        // SAFETY: the rest of them.
        unsafe { self.memory.copy_out(from + half, to.add(first), bytes - first) };
    }

    unsafe fn equals(&self, from: usize, bytes: &[u8]) -> bool {
        self.turn(1);
        // SAFETY: passed on unchanged.
        unsafe { self.memory.equals(from, bytes) }
    }
}

impl MemoryMut for Shifting {
    unsafe fn store(&self, index: usize, word: u64) {
        self.turn(1);
        // SAFETY: passed on unchanged.
        unsafe { self.memory.store(index, word) }
    }

    fn fence_release(&self) {
        self.memory.fence_release();
    }
}

impl AtomicMemory for Shifting {
    fn fence_seq_cst(&self) {
        self.memory.memory.fence_seq_cst();
    }

    unsafe fn swap(&self, index: usize, word: u64) -> u64 {
        // SAFETY: bounded memory panics unless this is one of its words.
        unsafe {
            self.load(index);
            self.memory.memory.swap(index, word)
        }
    }

    unsafe fn compare_exchange(&self, index: usize, old: u64, new: u64) -> bool {
        // SAFETY: as in `swap`.
        unsafe {
            self.load(index);
            self.memory.memory.compare_exchange(index, old, new)
        }
    }

    unsafe fn add(&self, index: usize, number: u64) -> u64 {
        // SAFETY: as in `swap`.
        unsafe {
            self.load(index);
            self.memory.memory.add(index, number)
        }
    }
}
