//! The hazard: some words in a mailbox, or some change of them between two loads, send either side
//! out of its memory or into a panic. A target of `./dev fuzz` as well.
//!
//! An input is steps: stores of the other side, which come between later accesses, and calls of
//! either side.

use super::guarded::{Bounded, Guarded};
use super::shifting::{Shifting, Store};
use fuzz_driver::Input;
use shm_layout::mailbox::report::{HITS_PER_REPORT_MAX, Seen};
use shm_layout::mailbox::ring::{Consumer, Head, Kind, Producer};
use shm_layout::mailbox::{Counter, Mailbox, Shape};

const SHAPE: Shape =
    Shape { ring_words: 64, lanes: 4, lane_bytes: 64, stripes: 2, stripe_words: 4 };

/// Uses both ends of a mailbox in which anything may be written at any time.
pub fn use_any_mailbox(data: &[u8]) {
    let mut input = Input::new(data);
    let guarded = Guarded::new(SHAPE.bytes());
    let memory = Bounded { memory: guarded.memory_mut(), words: SHAPE.words() };
    let memory = Shifting::new(memory);
    // SAFETY: the memory has the words of this shape, whose sizes are powers of two.
    let mailbox = unsafe { Mailbox::new(memory.clone(), SHAPE) };
    let (mut producer, mut consumer) =
        (Producer::new(mailbox.clone()), Consumer::new(mailbox.clone()));
    let mut seen = [Seen::default(); SHAPE.stripes];
    let mut is_broken = false;
    while !input.is_empty() {
        match input.byte() % 4 {
            0 => memory.add(Store {
                after: u32::from(input.byte() % 8),
                word: input.below(SHAPE.words()),
                to: input.word(),
            }),
            1 => of_client(&mailbox, &mut producer, &mut input),
            _ if !is_broken => {
                is_broken = of_owner(&mailbox, &mut consumer, &mut seen, &mut input).is_none();
            }
            _ => return,
        }
    }
}

fn of_client(
    mailbox: &Mailbox<Shifting>,
    producer: &mut Producer<Shifting>,
    input: &mut Input<'_>,
) {
    let (choice, lane) = (input.byte(), usize::from(input.byte()) % SHAPE.lanes);
    let sequence = u32::from(input.byte() % 4);
    match choice % 7 {
        0 => {
            let kinds = [Kind::Whole, Kind::First, Kind::Next, Kind::Last, Kind::More];
            let kind = kinds[input.below(kinds.len())];
            let head = Head { kind, lane: u8::try_from(lane).ok(), sequence };
            let bytes = vec![7; input.below(SHAPE.piece_bytes() + 1)];
            let _ = producer.push(head, &bytes);
            mailbox.must_ring();
            mailbox.is_consumed(producer.position());
        }
        1 => mailbox.open_lane(lane, sequence),
        2 => mailbox.open_polled_lane(lane, sequence),
        3 => {
            if let Some(piece) = mailbox.reply(lane, sequence) {
                assert!(piece.bytes <= SHAPE.lane_bytes);
                mailbox.take(lane, &mut vec![0; piece.bytes]);
            }
        }
        4 => drop(mailbox.sleep_in(lane, sequence)),
        5 => mailbox.report(lane, &[1, 2, 3, 4, 5, 6], u64::from(sequence)),
        _ => {
            mailbox.want_room();
            mailbox.may_spin(1);
            mailbox.set_client_cpu(u32::MAX);
        }
    }
}

/// `None`: the client has broken the rules.
fn of_owner(
    mailbox: &Mailbox<Shifting>,
    consumer: &mut Consumer<Shifting>,
    seen: &mut [Seen],
    input: &mut Input<'_>,
) -> Option<()> {
    let mut bytes = vec![0; SHAPE.piece_bytes()];
    let choice = input.byte();
    match choice % 6 {
        0..2 => {
            if consumer.look().ok()? {
                let (head, count) = consumer.next(&mut bytes).ok()?;
                assert!(count <= bytes.len());
                assert!(head.lane.is_none_or(|lane| usize::from(lane) < SHAPE.lanes));
            }
        }
        2 => {
            let reply = &bytes[..input.below(SHAPE.lane_bytes + 1)];
            let lane = usize::from(choice / 8) % SHAPE.lanes;
            mailbox.answer(lane, u32::from(input.byte() % 4), reply, choice >= 128);
        }
        3 => {
            let stripe = usize::from(choice / 8) % SHAPE.stripes;
            let mut taken = 0;
            mailbox.drain(stripe, &mut seen[stripe], |_, hits| {
                taken += 1;
                assert!(u64::from(hits) <= HITS_PER_REPORT_MAX);
            });
            assert!(taken <= SHAPE.stripe_words);
            mailbox.hits();
        }
        4 => {
            consumer.may_sleep().ok()?;
            consumer.stay_awake();
        }
        _ => {
            consumer.wakes_for_room();
            mailbox.client_cpu();
            mailbox.counter(Counter::Sleeps);
        }
    }
    Some(())
}

fn seeds() -> Vec<Vec<u8>> {
    let push = |bytes: u8| vec![1, 0, 1, 1, 0, 0, bytes, 0];
    let next = || vec![2, 0];
    let answer = |bytes: u8| vec![2, 8 + 2, bytes, 0, 1];
    let store = |after: u8, word: u16, to: u64| {
        [&[0, after][..], &word.to_le_bytes(), &to.to_le_bytes()].concat()
    };
    vec![
        [push(9), next(), answer(60), vec![1, 3, 1, 1], push(100), next()].concat(),
        [push(120), next(), push(120), next(), push(120), next(), push(120), next()].concat(),
        [push(9), store(2, 0, 60), next(), next()].concat(),
        // A record of 400 bytes, more than a piece.
        [store(1, 0, 60), store(1, 128, 400 | 1 << 16 | 0xff << 24), next(), next()].concat(),
        [push(9), store(4, 140, u64::MAX), next(), next()].concat(),
        [vec![1, 1, 1, 1], answer(30), store(1, 48, 7 | 1 << 40), vec![1, 3, 1, 1]].concat(),
        [vec![1, 5, 0, 2], vec![2, 3], store(0, 72, 1 << 60), vec![2, 3, 2, 3]].concat(),
        [store(1, 0, 1), vec![2, 4], store(1, 0, 2), vec![2, 4], vec![1, 4, 2, 1]].concat(),
    ]
}

#[test]
fn either_side_may_meet_anything() {
    fuzz_driver::short_run("mailbox_words", &seeds(), use_any_mailbox);
}
