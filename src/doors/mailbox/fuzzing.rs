//! Target: the daemon's end of a mailbox whose client writes whatever it likes.
//!
//! An input is steps: of the client, which pushes honest records or overwrites any word, and of the
//! daemon.

use super::{OwnerEnd, Taken};
use fuzz_driver::Input;
use memmap2::MmapOptions;
use shm_layout::mailbox::report::HITS_PER_REPORT_MAX;
use shm_layout::mailbox::ring::{Broken, Head, Kind, Producer};
use shm_layout::mailbox::{Mailbox, SHAPE};
use shm_layout::{MappedMut, MemoryMut};
use std::time::{Duration, Instant};

/// Low, so that inputs reach it.
const REQUEST_BYTES_MAX: usize = 40_000;
/// Words that are not payload: positions, marks, states of lanes.
const CONTROL_WORDS: usize = 400;

/// Serves a mailbox until its client breaks the rules.
pub fn owner(data: &[u8]) {
    let (mut end, file) = OwnerEnd::create(Instant::now()).expect("memory for a mailbox");
    let theirs = MmapOptions::new().len(SHAPE.bytes()).map_raw(&file).expect("a mapping");
    // SAFETY: page-aligned, and mapped as long as `theirs` lives.
    let memory = unsafe { MappedMut::new(theirs.as_mut_ptr()) };
    // SAFETY: the mapping has the bytes of this shape.
    let mut client = Producer::new(unsafe { Mailbox::new(memory, SHAPE) });
    let mut input = Input::new(data);
    let mut scratch = vec![0; SHAPE.piece_bytes()];
    while !input.is_empty() {
        match input.byte() % 8 {
            0 => {
                let (place, word) = (input.short(), input.word());
                let words = if place < 0x8000 { CONTROL_WORDS } else { SHAPE.words() };
                // SAFETY: a word of the mailbox, as the client may write it.
                unsafe { memory.store(usize::from(place) % words, word) };
            }
            1 => {
                push(&mut client, &mut input);
            }
            _ if serve(&mut end, &mut scratch, &mut input) == Err(Broken) => return,
            _ => {}
        }
        let held_max = SHAPE.lanes * 2 * (REQUEST_BYTES_MAX + SHAPE.piece_bytes());
        assert!(end.excess_bytes() <= held_max, "{} bytes are held", end.excess_bytes());
    }
}

/// Pushes a record as an honest client does.
fn push(client: &mut Producer<MappedMut>, input: &mut Input<'_>) {
    let kinds = [Kind::Whole, Kind::First, Kind::Next, Kind::Last, Kind::More];
    let kind = kinds[input.below(kinds.len())];
    let lane = input.byte();
    let lane = (lane < 200).then_some(lane % 16);
    let head = Head { kind, lane, sequence: u32::from(input.byte() % 4) };
    let bytes = match input.byte() {
        small @ ..192 => small.into(),
        large => usize::from(large - 191) * 1024,
    };
    // A full ring: nothing is pushed.
    let _ = client.push(head, &vec![7; bytes.min(SHAPE.piece_bytes())]);
}

fn serve(end: &mut OwnerEnd, scratch: &mut [u8], input: &mut Input<'_>) -> Result<(), Broken> {
    let choice = input.byte();
    match choice % 8 {
        0..3 => match end.take(scratch, REQUEST_BYTES_MAX)? {
            Taken::Request { lane, bytes } => {
                assert!(bytes <= scratch.len());
                if lane.is_some_and(|lane| lane % 5 == 4) {
                    end.expect_no_reply(lane.unwrap_or(0));
                }
            }
            Taken::Assembled { payload, .. } => assert!(payload.len() <= REQUEST_BYTES_MAX),
            Taken::Nothing | Taken::Piece => {}
        },
        3 => {
            let reply = vec![9; usize::from(input.short()) % 20_000];
            end.reply(input.byte() % 16, &reply);
            end.wake_sleepers(Instant::now());
        }
        4 => end.drain_reports(|_, hits| assert!(u64::from(hits) <= HITS_PER_REPORT_MAX)),
        5 => {
            end.may_sleep()?;
            end.stay_awake();
        }
        6 => {
            end.made_room();
            end.should_poll(Instant::now(), Some(1), Duration::from_micros(50));
            end.tell_clients(Some(u32::from(choice)));
            end.figures();
            end.pieces_pending();
        }
        _ => end.cut(),
    }
    Ok(())
}

/// Requests and replies, whole and in pieces, and words that no client writes.
#[cfg(test)]
pub fn seeds() -> Vec<Vec<u8>> {
    let push = |kind: u16, lane, sequence, size| {
        [&[1][..], &kind.to_le_bytes(), &[lane, sequence, size]].concat()
    };
    let take = || vec![2, 0];
    let reply = |bytes: u16, lane| [&[2, 3][..], &bytes.to_le_bytes(), &[lane]].concat();
    let store =
        |place: u16, word: u64| [&[0][..], &place.to_le_bytes(), &word.to_le_bytes()].concat();
    vec![
        [push(0, 1, 1, 20), take(), reply(50, 1), push(0, 1, 2, 20), take()].concat(),
        [push(0, 255, 0, 100), push(0, 255, 0, 100), take(), take(), take()].concat(),
        [push(1, 2, 1, 210), take(), push(2, 2, 1, 210), push(3, 2, 1, 3), take(), take()].concat(),
        [
            push(0, 3, 1, 9),
            take(),
            reply(19_000, 3),
            push(4, 3, 1, 0),
            take(),
            push(4, 3, 1, 0),
            take(),
        ]
        .concat(),
        [push(1, 2, 1, 210), take(), vec![2, 7], push(3, 2, 1, 3), take()].concat(),
        [push(4, 2, 1, 0), take()].concat(),
        [store(0, 5), take(), take()].concat(),
        [store(0, u64::MAX), take()].concat(),
        [push(0, 1, 1, 20), store(8, 1 << 40), take(), vec![2, 5, 2, 6]].concat(),
        [store(170, 0x7f7f), vec![2, 4], store(170, 0), vec![2, 4]].concat(),
    ]
}
