//! The mailbox from both sides, over the interleavings and weak orders that loom explores:
//! `./dev loom`.
//!
//! The hazards: a side that sleeps for ever because its wake was lost, a record that is read before
//! it is whole or written over before it was read, a reply that is read before it is whole.
//!
//! Each mechanism was taken out once, and a model failed:
//!
//! | taken out | the model that fails |
//! |---|---|
//! | the release before `produced`, or the acquire behind its load | records wrap |
//! | the fence of `must_ring`, or of `may_sleep` | a sleeping owner |
//! | the fence of `want_room`, or of `wakes_for_room` | a full ring |
//! | the exchange of `sleep_in` (a store instead), or the acquire of `reply` | a sleeping client |
//!
//! The release before `consumed` and the acquire behind its load keep the owner's copy of a record
//! before the client's stores over it. No model misses them, because loom never lets a load see a
//! store that comes later; they stay, because a weakly ordered processor may.
#![cfg(loom)]

use loom::sync::atomic::{AtomicU64, Ordering, fence};
use loom::thread;
use shm_layout::mailbox::lane::Wakes;
use shm_layout::mailbox::ring::{Consumer, Head, Kind, Producer};
use shm_layout::mailbox::{Exchange, Mailbox, Shape};
use shm_layout::{Memory, MemoryMut};
use std::sync::Arc;

/// Room for two records of one word each.
const SHAPE: Shape = Shape { ring_words: 4, lanes: 1, lane_bytes: 8, stripes: 1, stripe_words: 1 };

#[derive(Clone)]
struct Words(Arc<Vec<AtomicU64>>);

impl Memory for Words {
    unsafe fn load(&self, index: usize) -> u64 {
        self.0[index].load(Ordering::Relaxed)
    }
    fn fence_acquire(&self) {
        fence(Ordering::Acquire);
    }
}

impl MemoryMut for Words {
    unsafe fn store(&self, index: usize, word: u64) {
        self.0[index].store(word, Ordering::Relaxed);
    }
    fn fence_release(&self) {
        fence(Ordering::Release);
    }
}

impl Exchange for Words {
    fn fence_seq_cst(&self) {
        fence(Ordering::SeqCst);
    }
    unsafe fn swap(&self, index: usize, word: u64) -> u64 {
        self.0[index].swap(word, Ordering::AcqRel)
    }
    unsafe fn exchange(&self, index: usize, old: u64, new: u64) -> bool {
        let word = &self.0[index];
        word.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

fn mailbox() -> Mailbox<Words> {
    let words = (0..SHAPE.words()).map(|_| AtomicU64::new(0)).collect();
    // SAFETY: the model has the words of this shape.
    unsafe { Mailbox::new(Words(Arc::new(words)), SHAPE) }
}

fn head(sequence: u32) -> Head {
    Head { kind: Kind::Whole, lane: None, sequence }
}

/// Reads all records that are there; each must carry what its sequence says.
fn drain(consumer: &mut Consumer<Words>, next: &mut u32) {
    let mut bytes = [0; 8];
    while consumer.look().unwrap() {
        let (head, count) = consumer.next(&mut bytes).unwrap();
        assert_eq!((head.sequence, count), (*next, 8));
        assert_eq!(u64::from_le_bytes(bytes), u64::from(*next) + 100, "a record's bytes");
        *next += 1;
    }
}

fn push(producer: &mut Producer<Words>, sequence: u32) -> bool {
    producer.push(head(sequence), &(u64::from(sequence) + 100).to_le_bytes()).is_ok()
}

fn model(run: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(run);
}

/// Four records through a ring of two: each is whole, none is lost, none is written over.
#[test]
fn records_wrap_whole_and_in_order() {
    model(|| {
        let mailbox = mailbox();
        let mut producer = Producer::new(mailbox.clone());
        let producing = thread::spawn(move || {
            for sequence in 0..4 {
                while !push(&mut producer, sequence) {
                    thread::yield_now();
                }
            }
        });
        let mut consumer = Consumer::new(mailbox);
        let mut next = 0;
        while next < 4 {
            drain(&mut consumer, &mut next);
            thread::yield_now();
        }
        producing.join().unwrap();
    });
}

/// Whoever pushes rings, or the owner does not sleep: then it sees the record.
#[test]
fn a_sleeping_owner_is_rung() {
    model(|| {
        let mailbox = mailbox();
        let mut producer = Producer::new(mailbox.clone());
        let ringing = mailbox.clone();
        let producing = thread::spawn(move || {
            assert!(push(&mut producer, 0));
            ringing.must_ring()
        });
        let mut consumer = Consumer::new(mailbox);
        let mut next = 0;
        let sleeps = consumer.may_sleep().unwrap();
        if !sleeps {
            drain(&mut consumer, &mut next);
        }
        let rung = producing.join().unwrap();
        assert!(rung || !sleeps, "asleep, with a record, and nobody rings");
    });
}

/// Whoever waits for room is woken, or finds room before it sleeps.
#[test]
fn a_full_ring_wakes_who_waits_for_room() {
    model(|| {
        let mailbox = mailbox();
        let mut producer = Producer::new(mailbox.clone());
        assert!(push(&mut producer, 0) && push(&mut producer, 1) && !push(&mut producer, 2));
        let waiting = mailbox.clone();
        let producing = thread::spawn(move || {
            waiting.want_room();
            // Found no room: the thread would sleep.
            !push(&mut producer, 2)
        });
        let mut consumer = Consumer::new(mailbox);
        let mut next = 0;
        let mut bytes = [0; 8];
        assert!(consumer.look().unwrap());
        consumer.next(&mut bytes).unwrap();
        next += 1;
        let woken = consumer.wakes_for_room();
        let sleeps = producing.join().unwrap();
        assert!(!sleeps || woken, "the wake was lost");
        drain(&mut consumer, &mut next);
    });
}

/// A reply is whole when it is seen, and wakes whoever went to sleep before it.
#[test]
fn a_sleeping_client_is_woken_and_reads_the_whole_reply() {
    model(|| {
        let mailbox = mailbox();
        let client = mailbox.clone();
        client.open_lane(0, 7);
        let asking = thread::spawn(move || {
            let sleeps = client.sleep_in(0, 7).is_some();
            if let Some(piece) = client.reply(0, 7) {
                let mut bytes = [0; 8];
                client.take(0, &mut bytes);
                assert_eq!((piece.bytes, piece.more, bytes), (8, false, *b"answered"));
            } else {
                assert!(sleeps, "no reply, and the thread does not sleep");
            }
            sleeps
        });
        let wakes = mailbox.answer(0, 7, b"answered", false);
        let slept = asking.join().unwrap();
        assert!(!slept || wakes == Wakes::Thread, "the wake was lost");
    });
}
