//! Requests: every pushed record comes out whole and in order, and a sleeping side is woken.

use super::words::{SHAPE, Words, drain, mailbox, mailbox_of, model, pull, push};
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread::{self, Thread};
use shm_layout::mailbox::ring::{Consumer, Head, Kind, Producer};
use shm_layout::mailbox::{Mailbox, Shape};
use std::sync::Arc;

/// Four records through a ring of two: each is whole, none is lost or overwritten.
#[test]
fn records_wrap_whole_and_in_order() {
    model(|| {
        let mailbox = mailbox();
        let mut producer = Producer::new(mailbox.clone());
        let producing = thread::spawn(move || {
            for sequence in 0..4 {
                while push(&mut producer, sequence).is_err() {
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

/// Records of three words in a ring of eight: the third one ends in the ring's first word.
#[test]
fn a_record_that_is_split_by_the_end_of_the_ring_is_whole() {
    const EIGHT: Shape = Shape { ring_words: 8, ..SHAPE };
    fn head(sequence: u32) -> Head {
        Head { kind: Kind::Whole, lane: None, sequence }
    }
    fn record(sequence: u32) -> [u8; 16] {
        [sequence.to_le_bytes(), *b"this", *b"that", (!sequence).to_le_bytes()]
            .concat()
            .try_into()
            .unwrap()
    }
    model(|| {
        let mailbox = mailbox_of(EIGHT);
        let mut producer = Producer::new(mailbox.clone());
        let mut consumer = Consumer::new(mailbox);
        let mut pull = move |sequence| {
            let mut found = [0; 16];
            while !consumer.look().unwrap() {
                thread::yield_now();
            }
            assert_eq!(consumer.next(&mut found), Ok((head(sequence), 16)));
            assert_eq!(found, record(sequence), "a record's bytes");
        };
        for sequence in 0..2 {
            producer.push(head(sequence), &record(sequence)).unwrap();
        }
        pull(0);
        let producing = thread::spawn(move || {
            // The second one would overwrite the record that has not been read yet.
            for sequence in 2..4 {
                while producer.push(head(sequence), &record(sequence)).is_err() {
                    thread::yield_now();
                }
            }
        });
        for sequence in 1..4 {
            pull(sequence);
        }
        producing.join().unwrap();
    });
}

/// Either the client sends a wakeup, or the owner does not sleep, because it sees the record.
#[test]
fn a_sleeping_owner_is_woken() {
    model(|| {
        let mailbox = mailbox();
        let mut producer = Producer::new(mailbox.clone());
        let ringing = mailbox.clone();
        let producing = thread::spawn(move || {
            push(&mut producer, 0).unwrap();
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

/// After the owner's last look, each of two threads rings for its record unless it was read.
#[test]
fn an_owner_that_ends_has_read_a_record_or_is_rung_for_it() {
    model(|| {
        let mailbox = mailbox();
        let producer = Arc::new(Locked::new(Producer::new(mailbox.clone())));
        let pushing = [0, 1].map(|sequence| {
            let (producer, mailbox) = (producer.clone(), mailbox.clone());
            thread::spawn(move || {
                let position = producer.with(|producer| {
                    push(producer, sequence).unwrap();
                    producer.position()
                });
                (position, mailbox.must_ring())
            })
        });
        let mut consumer = Consumer::new(mailbox.clone());
        while !consumer.may_end().unwrap() {
            consumer.next(&mut [0; 16]).unwrap();
        }
        let ended_at = mailbox.clone();
        for pushing in pushing {
            let (position, rung) = pushing.join().unwrap();
            assert!(rung || ended_at.is_consumed(position), "dropped, and nobody knows");
        }
    });
}

/// A thread that waits for room is woken, or finds room before it sleeps.
#[test]
fn a_full_ring_wakes_a_thread_that_waits_for_room() {
    model(|| {
        let mailbox = mailbox();
        let mut producer = Producer::new(mailbox.clone());
        let pushed = [0, 1, 2].map(|sequence| push(&mut producer, sequence).is_ok());
        assert_eq!(pushed, [true, true, false]);
        let waiting = mailbox.clone();
        let producing = thread::spawn(move || {
            waiting.want_room();
            // It found no room: the thread would sleep.
            push(&mut producer, 2).is_err()
        });
        let mut consumer = Consumer::new(mailbox);
        let mut next = 1;
        assert!(consumer.look().unwrap());
        pull(&mut consumer, 0);
        let woken = consumer.wakes_for_room();
        let sleeps = producing.join().unwrap();
        assert!(!sleeps || woken, "the wake was lost");
        drain(&mut consumer, &mut next);
    });
}

/// The client's end, for one thread at a time. loom's own lock is no use here: any unpark opens it.
struct Locked {
    is_taken: AtomicU64,
    producer: std::sync::Mutex<Producer<Words>>,
}

impl Locked {
    fn new(producer: Producer<Words>) -> Locked {
        Locked { is_taken: AtomicU64::new(0), producer: std::sync::Mutex::new(producer) }
    }

    fn with<R>(&self, work: impl FnOnce(&mut Producer<Words>) -> R) -> R {
        while self.is_taken.swap(1, Ordering::Acquire) == 1 {
            thread::yield_now();
        }
        let result = work(&mut self.producer.lock().unwrap());
        self.is_taken.swap(0, Ordering::Release);
        result
    }
}

/// Pushes like a client's thread: sleeps while there is no room, and wakes a sleeping owner.
fn push_or_sleep(mailbox: &Mailbox<Words>, producer: &Locked, sequence: u32, owner: &Thread) {
    let pushes = |producer: &mut Producer<Words>| {
        push(producer, sequence).is_ok() || {
            mailbox.want_room();
            push(producer, sequence).is_ok()
        }
    };
    while !producer.with(pushes) {
        thread::park();
    }
    if mailbox.must_ring() {
        owner.unpark();
    }
}

/// Reads `count` records like the owner: sleeps when there is none, and wakes threads that wait for
/// room. Passes each record to `take`.
fn read_or_sleep(
    consumer: &mut Consumer<Words>,
    count: u32,
    clients: &[&Thread],
    mut take: impl FnMut(&mut Consumer<Words>),
) {
    let mut read = 0;
    while read < count {
        while consumer.look().unwrap() {
            take(consumer);
            read += 1;
        }
        if consumer.wakes_for_room() {
            clients.iter().for_each(|client| client.unpark());
        }
        if read < count && consumer.may_sleep().unwrap() {
            thread::park();
        }
    }
}

/// In each round, either side falls asleep and is woken.
#[test]
fn all_records_arrive_though_both_sides_sleep_repeatedly() {
    const RECORDS: u32 = 4;
    model(|| {
        let mailbox = mailbox();
        let producer = Locked::new(Producer::new(mailbox.clone()));
        let (client, owner) = (mailbox.clone(), thread::current());
        let producing = thread::spawn(move || {
            for sequence in 0..RECORDS {
                push_or_sleep(&client, &producer, sequence, &owner);
            }
        });
        let mut consumer = Consumer::new(mailbox);
        let mut next = 0;
        read_or_sleep(&mut consumer, RECORDS, &[producing.thread()], |consumer| {
            pull(consumer, next);
            next += 1;
        });
        producing.join().unwrap();
    });
}

/// Two threads of a client find the ring full: one request for a wakeup covers both.
#[test]
fn all_threads_that_wait_for_room_are_woken() {
    model(|| {
        let mailbox = mailbox();
        let mut producer = Producer::new(mailbox.clone());
        for sequence in 0..2 {
            push(&mut producer, sequence).unwrap();
        }
        let producer = Arc::new(Locked::new(producer));
        let waiting = [2, 3].map(|sequence| {
            let (client, producer) = (mailbox.clone(), producer.clone());
            let owner = thread::current();
            thread::spawn(move || push_or_sleep(&client, &producer, sequence, &owner))
        });
        let mut consumer = Consumer::new(mailbox);
        let clients = waiting.each_ref().map(|thread| thread.thread());
        let mut found = 0;
        read_or_sleep(&mut consumer, 4, &clients, |consumer| {
            let (head, _) = consumer.next(&mut [0; 8]).unwrap();
            found |= 1 << head.sequence;
        });
        assert_eq!(found, 0b1111, "each record once");
        for thread in waiting {
            thread.join().unwrap();
        }
    });
}
