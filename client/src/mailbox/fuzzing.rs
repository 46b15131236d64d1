//! Target: this process's end of a mailbox into which the other side writes whatever it likes.
//!
//! An input is steps: of the client, none of which waits, and of the other side, which answers
//! honestly or overwrites any word.

use super::{ClientEnd, LaneRequest};
use crate::connection::Connection;
use crate::deadline::Deadline;
use fuzz_driver::Input;
use l1d_wire::protocol::Request;
use memmap2::MmapOptions;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::ftruncate;
use shm_layout::mailbox::{Mailbox, SHAPE};
use shm_layout::{MappedMut, MemoryMut};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

/// Words that are not payload: positions, marks, states of lanes.
const CONTROL_WORDS: usize = 400;
/// Requests under way at a time.
const REQUESTS: usize = 4;

/// Sends requests through a mailbox in which anything may be written.
pub fn client(data: &[u8]) {
    let file = memory();
    let theirs = MmapOptions::new().len(SHAPE.bytes()).map_raw(&file).expect("a mapping");
    // SAFETY: page-aligned, and mapped as long as `theirs` lives.
    let words = unsafe { MappedMut::new(theirs.as_mut_ptr()) };
    // SAFETY: the mapping has the bytes of this shape.
    let daemon = unsafe { Mailbox::new(words, SHAPE) };
    let (ours, _their_socket) = UnixStream::pair().expect("a pair of sockets");
    let connection = Connection::of(ours.into()).expect("a connection");
    let end = ClientEnd::open(&file, SHAPE.bytes() as u64, connection, Duration::ZERO);
    let end = Arc::new(end.expect("a mailbox"));
    let mut requests: [Option<LaneRequest<Arc<ClientEnd>>>; REQUESTS] = [const { None }; REQUESTS];
    let mut input = Input::new(data);
    while !input.is_empty() {
        match input.byte() % 3 {
            0 => {
                let (place, word) = (input.short(), input.word());
                let index = usize::from(place);
                let index = index % if place < 0x8000 { CONTROL_WORDS } else { SHAPE.words() };
                // SAFETY: a word of the mailbox, as the other side may write it.
                unsafe { words.store(index, word) };
            }
            1 => {
                let (lane, sequence) = (usize::from(input.byte()) % SHAPE.lanes, input.byte() % 8);
                let (bytes, more) = (input.below(SHAPE.lane_bytes + 1), input.byte() % 4 == 3);
                daemon.answer(lane, sequence.into(), &vec![133; bytes], more);
            }
            _ => step(&end, &mut requests[input.below(REQUESTS)], input.byte()),
        }
    }
}

fn step(end: &Arc<ClientEnd>, place: &mut Option<LaneRequest<Arc<ClientEnd>>>, choice: u8) {
    let key = vec![b'k'; if choice < 192 { 20 } else { 40_000 }];
    let request = Request::Get { key: &key };
    let (soon, late) = (Deadline::after(Duration::ZERO), Deadline::after(Duration::from_secs(60)));
    match choice % 8 {
        0 | 1 => {
            // Dropped before its reply has come.
            *place = None;
            *place = Arc::clone(end).begin(&request, &late).ok().flatten();
        }
        2..5 => {
            let polled = place.as_mut().map(|request| request.poll(&late));
            match polled {
                Some(Ok(true)) => {
                    let answered = place.take();
                    let reply = answered.as_ref().map_or(&[][..], LaneRequest::reply);
                    let _ = crate::reply::decode(reply);
                }
                Some(Ok(false)) | None => {}
                Some(Err(_)) => *place = None,
            }
        }
        5 => {
            let _ = end.call(&request, false, &soon, |reply| reply.len());
        }
        6 => {
            let _ = end.post(&request, || soon);
        }
        _ => {
            end.has_free_lane();
            end.report(usize::from(choice), &[1, 2, 3], 1);
            end.drain_wakeups();
            end.is_hung_up();
        }
    }
}

/// A mailbox's memory, as a daemon makes it.
fn memory() -> OwnedFd {
    let file = memfd_create(c"mailbox", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING);
    let file = file.expect("memory");
    ftruncate(&file, i64::try_from(SHAPE.bytes()).expect("a small size")).expect("room");
    fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK)).expect("seals");
    file
}

#[cfg(test)]
fn seeds() -> Vec<Vec<u8>> {
    let step = |place: u8, choice: u8| vec![2, place, 0, choice];
    let answer = |sequence, bytes: u16, more| {
        [&[1, 0, sequence][..], &bytes.to_le_bytes(), &[more]].concat()
    };
    let store =
        |place: u16, word: u64| [&[0][..], &place.to_le_bytes(), &word.to_le_bytes()].concat();
    vec![
        [step(0, 0), answer(1, 20, 0), step(0, 2)].concat(),
        [step(0, 0), answer(1, 8192, 3), step(0, 2), answer(1, 5, 0), step(0, 2)].concat(),
        [step(0, 192), step(0, 2), answer(1, 100, 0), step(0, 2)].concat(),
        [
            step(0, 0),
            step(0, 0),
            answer(1, 9000, 3),
            step(1, 7),
            step(1, 0),
            answer(1, 0, 0),
            step(1, 7),
        ]
        .concat(),
        [step(0, 6), step(0, 198), step(0, 6), step(0, 5), step(0, 7)].concat(),
        [store(8, u64::MAX), step(0, 0), store(40, u64::MAX), step(0, 2)].concat(),
        [step(0, 0), store(40, 0x4000_0000_0000_0007), step(0, 2), step(0, 2)].concat(),
        [store(24, 5), store(16, 1), step(0, 6), step(1, 0)].concat(),
    ]
}

#[test]
fn the_other_side_may_write_anything() {
    fuzz_driver::short_run("mailbox_client", &seeds(), client);
}
