//! A mailbox whose words are loom's atomics.

use loom::sync::atomic::{AtomicU64, Ordering, fence};
use shm_layout::mailbox::ring::{Consumer, Full, Head, Kind, Producer};
use shm_layout::mailbox::{AtomicMemory, Mailbox, Shape};
use shm_layout::memory::LINE_WORDS;
use shm_layout::{Memory, MemoryMut};
use std::ops::Range;
use std::sync::Arc;

/// Room for two records of one word each.
pub const SHAPE: Shape =
    Shape { ring_words: 4, lanes: 1, lane_bytes: 8, stripes: 1, stripe_words: 1 };

/// The lines of words that both sides write, some by stores and some by swaps: from the owner's
/// request for a wakeup to the last lane.
fn both_write(shape: Shape) -> Range<usize> {
    2 * LINE_WORDS..(5 + shape.lanes) * LINE_WORDS
}

#[derive(Clone)]
pub struct Words {
    words: Arc<Vec<AtomicU64>>,
    both_write: Range<usize>,
}

impl Memory for Words {
    unsafe fn load(&self, index: usize) -> u64 {
        self.words[index].load(Ordering::Relaxed)
    }
    fn fence_acquire(&self) {
        fence(Ordering::Acquire);
    }
}

impl MemoryMut for Words {
    unsafe fn store(&self, index: usize, word: u64) {
        // Nothing can come between the load and the store of a swap. For a store by another thread
        // loom does not know that, and orders the swap's store before it as well as after it.
        if self.both_write.contains(&index) {
            self.words[index].swap(word, Ordering::Relaxed);
        } else {
            self.words[index].store(word, Ordering::Relaxed);
        }
    }
    fn fence_release(&self) {
        fence(Ordering::Release);
    }
}

impl AtomicMemory for Words {
    fn fence_seq_cst(&self) {
        fence(Ordering::SeqCst);
    }
    unsafe fn swap(&self, index: usize, word: u64) -> u64 {
        self.words[index].swap(word, Ordering::AcqRel)
    }
    unsafe fn compare_exchange(&self, index: usize, old: u64, new: u64) -> bool {
        let word = &self.words[index];
        word.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
    unsafe fn add(&self, index: usize, number: u64) -> u64 {
        self.words[index].fetch_add(number, Ordering::Relaxed)
    }
}

pub fn mailbox() -> Mailbox<Words> {
    mailbox_of(SHAPE)
}

pub fn mailbox_of(shape: Shape) -> Mailbox<Words> {
    let words = (0..shape.words()).map(|_| AtomicU64::new(0)).collect();
    let memory = Words { words: Arc::new(words), both_write: both_write(shape) };
    // SAFETY: the model has the words of this shape.
    unsafe { Mailbox::new(memory, shape) }
}

/// A request that carries its sequence number.
pub fn push(producer: &mut Producer<Words>, sequence: u32) -> Result<(), Full> {
    let head = Head { kind: Kind::Whole, lane: None, sequence };
    producer.push(head, &bytes(sequence))
}

fn bytes(sequence: u32) -> [u8; 8] {
    (u64::from(sequence) + 100).to_le_bytes()
}

/// Reads the next record, which must be the one with this sequence number, and its contents.
pub fn pull(consumer: &mut Consumer<Words>, sequence: u32) {
    let mut found = [0; 8];
    let (head, count) = consumer.next(&mut found).unwrap();
    assert_eq!((head.sequence, count), (sequence, 8));
    assert_eq!(found, bytes(sequence), "a record's bytes");
}

/// Reads all available records.
pub fn drain(consumer: &mut Consumer<Words>, next: &mut u32) {
    while consumer.look().unwrap() {
        pull(consumer, *next);
        *next += 1;
    }
}

pub fn model(run: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(run);
}
