//! Replies: whole when they are seen, and a sleeping client is woken.

use super::words::{SHAPE, Words, mailbox, mailbox_of, model};
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread::{self, Thread};
use shm_layout::mailbox::lane::{Piece, Wakes};
use shm_layout::mailbox::ring::{Consumer, Head, Kind, Producer};
use shm_layout::mailbox::{Mailbox, Shape};
use std::sync::Arc;

fn take(mailbox: &Mailbox<Words>, lane: usize, piece: Piece) -> Vec<u8> {
    let mut bytes = vec![0; piece.bytes];
    mailbox.take(lane, &mut bytes);
    bytes
}

/// A reply is whole when it is seen, and wakes a thread that went to sleep before it.
#[test]
fn a_sleeping_client_is_woken_and_reads_the_whole_reply() {
    model(|| {
        let mailbox = mailbox();
        let client = mailbox.clone();
        client.open_lane(0, 7);
        let asking = thread::spawn(move || {
            let sleeps = client.sleep_in(0, 7).is_some();
            if let Some(piece) = client.reply(0, 7) {
                assert_eq!((take(&client, 0, piece), piece.more), (b"answered".to_vec(), false));
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

/// A sleep also ends after a time slice; its thread checks and goes to sleep again.
#[test]
fn a_client_that_slept_in_vain_is_woken_from_its_next_sleep() {
    model(|| {
        let mailbox = mailbox();
        let client = mailbox.clone();
        client.open_lane(0, 7);
        let asking = thread::spawn(move || {
            let slept = client.sleep_in(0, 7).is_some();
            let sleeps = client.sleep_in(0, 7).is_some();
            assert!(slept || !sleeps, "asleep over a reply that had come");
            let is_there = client.reply(0, 7).is_some();
            assert!(sleeps || is_there, "no reply, and the thread does not sleep");
            sleeps
        });
        let wakes = mailbox.answer(0, 7, b"answered", false);
        assert!(!asking.join().unwrap() || wakes == Wakes::Thread, "the wake was lost");
    });
}

/// A client gives up, and its lane is asked again while the reply to the former request arrives.
#[test]
fn a_lane_that_is_asked_again_shows_no_reply_to_the_former_request() {
    model(|| {
        let mailbox = mailbox();
        let client = mailbox.clone();
        client.open_lane(0, 7);
        let asking = thread::spawn(move || {
            client.open_lane(0, 8);
            let slept = client.sleep_in(0, 8).is_some();
            assert_eq!(client.reply(0, 8), None, "a reply to another request");
            slept
        });
        let wakes = mailbox.answer(0, 7, b"answered", false);
        let slept = asking.join().unwrap();
        // A thread that sleeps on the next request is not woken by this reply.
        assert!(slept || wakes == Wakes::Nobody, "a thread that does not sleep is woken");
        assert_ne!(wakes, Wakes::Thread);
    });
}

/// Waits like a client's thread: sleeps until there is a piece.
fn wait(client: &Mailbox<Words>) -> Piece {
    loop {
        if let Some(piece) = client.reply(0, 7) {
            return piece;
        }
        if client.sleep_in(0, 7).is_some() {
            thread::park();
        }
    }
}

/// Continues like a client that has taken a piece: opens the lane before it tells the owner.
fn ask_for_more(mailbox: &Mailbox<Words>, producer: &mut Producer<Words>, lane: u8, open: Open) {
    open(mailbox, lane.into(), 7);
    producer.push(Head { kind: Kind::More, lane: Some(lane), sequence: 7 }, &[]).unwrap();
}

type Open = fn(&Mailbox<Words>, usize, u32);

/// Waits like the owner: sleeps until the client has taken a piece.
fn wait_for_more(consumer: &mut Consumer<Words>) {
    loop {
        if consumer.look().unwrap() {
            let (head, _) = consumer.next(&mut [0; 8]).unwrap();
            assert_eq!((head.kind, head.sequence), (Kind::More, 7));
            return;
        }
        if consumer.may_sleep().unwrap() {
            thread::park();
        }
    }
}

const PIECES: [&[u8]; 3] = [b"piece 1,", b"piece 2,", b"the end"];

/// Each piece overwrites the one before, and either side may be asleep when the other is done.
#[test]
fn a_reply_in_pieces_arrives_whole_however_often_either_side_sleeps() {
    model(|| {
        let mailbox = mailbox();
        let mut producer = Producer::new(mailbox.clone());
        let (client, owner) = (mailbox.clone(), thread::current());
        client.open_lane(0, 7);
        let asking = thread::spawn(move || {
            let mut reply = Vec::new();
            loop {
                let piece = wait(&client);
                reply.extend(take(&client, 0, piece));
                if !piece.more {
                    break;
                }
                ask_for_more(&client, &mut producer, 0, Mailbox::open_lane);
                if client.must_ring() {
                    owner.unpark();
                }
            }
            assert_eq!(reply, PIECES.concat());
        });
        let mut consumer = Consumer::new(mailbox.clone());
        for (index, piece) in PIECES.iter().enumerate() {
            if index > 0 {
                wait_for_more(&mut consumer);
            }
            let more = index + 1 < PIECES.len();
            if mailbox.answer(0, 7, piece, more) == Wakes::Thread {
                asking.thread().unpark();
            }
        }
        asking.join().unwrap();
    });
}

/// The descriptor of a client, as the number of bytes waiting in it.
#[derive(Clone)]
struct Descriptor(Arc<AtomicU64>);

impl Descriptor {
    fn ring(&self, client: &Thread) {
        self.0.fetch_add(1, Ordering::AcqRel);
        client.unpark();
    }

    fn hear(&self) {
        self.0.swap(0, Ordering::AcqRel);
    }

    fn wait_until_readable(&self) {
        while self.0.load(Ordering::Acquire) == 0 {
            thread::park();
        }
    }
}

/// Two requests that no thread sleeps on share a descriptor; the reply to the first has two pieces.
/// A thread that waits for the descriptor drains it, checks both lanes, and waits again.
#[test]
fn replies_that_are_polled_for_make_the_descriptor_readable() {
    const TWO: Shape = Shape { lanes: 2, ..SHAPE };
    model(|| {
        let mailbox = mailbox_of(TWO);
        let descriptor = Descriptor(Arc::new(AtomicU64::new(0)));
        let mut producer = Producer::new(mailbox.clone());
        for lane in 0..2 {
            mailbox.open_polled_lane(lane, 7);
        }
        let (client, polled, owner) = (mailbox.clone(), descriptor.clone(), thread::current());
        let asking = thread::spawn(move || {
            let mut replies = [Vec::new(), Vec::new()];
            let mut waited_for = vec![0, 1];
            loop {
                polled.hear();
                waited_for.retain(|&lane| {
                    while let Some(piece) = client.reply(lane.into(), 7) {
                        replies[usize::from(lane)].extend(take(&client, lane.into(), piece));
                        if !piece.more {
                            return false;
                        }
                        ask_for_more(&client, &mut producer, lane, Mailbox::open_polled_lane);
                        if client.must_ring() {
                            owner.unpark();
                        }
                    }
                    true
                });
                if waited_for.is_empty() {
                    break;
                }
                polled.wait_until_readable();
            }
            assert_eq!(replies, [b"piece 1,the end".to_vec(), b"answered".to_vec()]);
        });
        let answer = |lane, bytes, more| {
            let wakes = mailbox.answer(lane, 7, bytes, more);
            assert_eq!(wakes, Wakes::Descriptor, "nobody is told");
            descriptor.ring(asking.thread());
        };
        let mut consumer = Consumer::new(mailbox.clone());
        answer(0, PIECES[0], true);
        answer(1, b"answered", false);
        wait_for_more(&mut consumer);
        answer(0, PIECES[2], false);
        asking.join().unwrap();
    });
}
