//! Both ends of the mailbox in one thread: every valid record of a client arrives unchanged, and
//! everything else it writes is refused without further effect.

use proptest::prelude::*;
use shm_layout::mailbox::lane::Wakes;
use shm_layout::mailbox::report::Seen;
use shm_layout::mailbox::ring::{Broken, Consumer, Full, Head, Kind, Producer};
use shm_layout::mailbox::{Mailbox, SHAPE, Shape};
use shm_layout::{MappedMut, MemoryMut};
use std::collections::VecDeque;

const SMALL: Shape =
    Shape { ring_words: 64, lanes: 2, lane_bytes: 64, stripes: 2, stripe_words: 8 };

#[repr(align(64))]
#[derive(Clone, Copy)]
struct Line([u64; 8]);

/// A mailbox on the heap.
struct Heap {
    lines: Vec<Line>,
    shape: Shape,
}

impl Heap {
    fn new(shape: Shape) -> Heap {
        Heap { lines: vec![Line([0; 8]); shape.words().div_ceil(8)], shape }
    }

    fn mailbox(&mut self) -> Mailbox<MappedMut> {
        assert_eq!(self.lines[0].0.len(), 8);
        // SAFETY: aligned to a line; used no longer than `self`, which does not move meanwhile.
        let memory = unsafe { MappedMut::new(self.lines.as_mut_ptr().cast()) };
        // SAFETY: the memory has the words of the shape.
        unsafe { Mailbox::new(memory, self.shape) }
    }
}

#[test]
fn the_shape_in_use_is_whole() {
    assert!(SHAPE.ring_words.is_power_of_two() && SHAPE.stripe_words.is_power_of_two());
    assert!(SHAPE.lane_bytes.is_multiple_of(8) && SHAPE.lanes <= 64);
    assert_eq!(SHAPE.bytes() % 64, 0, "whole lines");
    assert_eq!(SHAPE.piece_bytes(), 16 << 10);
}

#[derive(Debug, Clone)]
enum Step {
    Push(Kind, Option<u8>, u32, Vec<u8>),
    Pop,
}

fn step() -> impl Strategy<Value = Step> {
    let kinds = [Kind::Whole, Kind::First, Kind::Next, Kind::Last, Kind::More];
    let kind = (0..kinds.len()).prop_map(move |index| kinds[index]);
    let bytes = prop::collection::vec(any::<u8>(), 0..=SMALL.piece_bytes());
    prop_oneof![
        (kind, prop::option::of(0..2u8), any::<u32>(), bytes)
            .prop_map(|(kind, lane, sequence, bytes)| Step::Push(kind, lane, sequence, bytes)),
        Just(Step::Pop),
    ]
}

proptest! {
    /// The hazard: a record that changes on its way, around the ring's end or in a full ring.
    #[test]
    fn records_arrive_as_they_were(steps in prop::collection::vec(step(), 1..200)) {
        let mut heap = Heap::new(SMALL);
        let mailbox = heap.mailbox();
        let (mut producer, mut consumer) = (Producer::new(mailbox.clone()), Consumer::new(mailbox));
        let mut expected = VecDeque::new();
        let mut words = 0;
        let mut bytes = vec![0; SMALL.piece_bytes()];
        for step in steps {
            match step {
                Step::Push(kind, lane, sequence, bytes) => {
                    let head = Head { kind, lane, sequence };
                    let size = 1 + bytes.len().div_ceil(8);
                    let fits = words + size <= SMALL.ring_words;
                    let outcome = if fits { Ok(()) } else { Err(Full) };
                    prop_assert_eq!(producer.push(head, &bytes), outcome);
                    if fits {
                        words += size;
                        expected.push_back((head, bytes));
                    }
                }
                Step::Pop => {
                    prop_assert_eq!(consumer.look(), Ok(!expected.is_empty()));
                    let Some((head, wanted)) = expected.pop_front() else { continue };
                    let (found, count) = consumer.next(&mut bytes).unwrap();
                    prop_assert_eq!((found, &bytes[..count]), (head, &wanted[..]));
                    words -= 1 + count.div_ceil(8);
                }
            }
        }
    }

    /// The hazard: an index or a length of a hostile client that points outside the ring (W9).
    #[test]
    fn nonsense_is_refused(
        produced: u64, low in 0..200u64, use_low: bool,
        words in prop::collection::vec(any::<u64>(), 64),
        plausible in prop::collection::vec((0..8u64, 0..300u64, 0..4u64), 64),
    ) {
        let mut heap = Heap::new(SMALL);
        let mailbox = heap.mailbox();
        let memory = *mailbox.memory();
        let ring = SMALL.words() - SMALL.ring_words;
        for (index, word) in words.iter().enumerate() {
            let (kind, bytes, lane) = plausible[index];
            let word = if word % 3 == 0 { *word } else { bytes | kind << 16 | lane << 24 };
            // SAFETY: a word of the mailbox.
            unsafe { memory.store(ring + index, word) };
        }
        // SAFETY: as above; word 0 is the client's write position.
        unsafe { memory.store(0, if use_low { low } else { produced }) };
        let mut consumer = Consumer::new(mailbox);
        let mut bytes = vec![0; SMALL.piece_bytes()];
        let mut records = 0;
        loop {
            match consumer.look() {
                Ok(true) => {}
                Ok(false) => break,
                Err(Broken) => break,
            }
            let Ok((head, count)) = consumer.next(&mut bytes) else { break };
            prop_assert!(count <= SMALL.piece_bytes() && head.lane.is_none_or(|lane| lane < 2));
            records += 1;
            prop_assert!(records <= SMALL.ring_words);
        }
    }
}

#[test]
fn a_reply_longer_than_a_lane_comes_in_pieces() {
    let mut heap = Heap::new(SMALL);
    let mailbox = heap.mailbox();
    mailbox.open_lane(1, 5);
    assert_eq!(mailbox.reply(1, 5), None);
    assert_eq!(mailbox.answer(1, 5, &[7; 64], true), Wakes::Nobody);
    assert_eq!(mailbox.reply(1, 4), None, "an answer to another request");
    let piece = mailbox.reply(1, 5).unwrap();
    assert_eq!((piece.bytes, piece.more), (64, true));
    let mut bytes = [0; 64];
    mailbox.take(1, &mut bytes);
    assert_eq!(bytes, [7; 64]);
    mailbox.open_lane(1, 5);
    let word = mailbox.sleep_in(1, 5).expect("no reply yet");
    assert_eq!(mailbox.sleep_in(1, 5), Some(word), "woken without a reply, it sleeps again");
    assert_eq!(mailbox.answer(1, 5, b"end", false), Wakes::Thread);
    assert_eq!(mailbox.sleep_in(1, 5), None);
    assert_eq!(mailbox.reply(1, 5).map(|piece| (piece.bytes, piece.more)), Some((3, false)));
    mailbox.open_polled_lane(1, 6);
    assert_eq!(mailbox.answer(1, 6, b"", false), Wakes::Descriptor);
}

#[test]
fn reports_arrive_until_they_are_written_over() {
    let mut heap = Heap::new(SMALL);
    let mailbox = heap.mailbox();
    let mut seen = Seen::default();
    let mut drained = Vec::new();
    for hash in 1..=5 {
        mailbox.report(1, &[hash], 3);
    }
    assert_eq!(mailbox.drain(1, &mut seen, |hash, hits| drained.push((hash, hits))), 5);
    assert_eq!(drained, [(1, 3), (2, 3), (3, 3), (4, 3), (5, 3)]);
    assert_eq!(
        mailbox.drain(0, &mut Seen::default(), |_, _| unreachable!()),
        0,
        "stripes are apart"
    );
    drained.clear();
    for hash in 10..30 {
        mailbox.report(1, &[hash], 3);
    }
    assert_eq!(
        mailbox.drain(1, &mut seen, |hash, hits| drained.push((hash, hits))),
        20,
        "counted, though lost"
    );
    // The eight that are left stand for the hits of all twenty.
    assert_eq!(drained, (22..30).map(|hash| (hash, 7)).collect::<Vec<_>>());
    assert_eq!(mailbox.drain(1, &mut seen, |_, _| unreachable!()), 0);
    mailbox.report(0, &[1, 2, 3], 7);
    assert_eq!(mailbox.hits(), 25 * 3 + 3 * 7);
}
