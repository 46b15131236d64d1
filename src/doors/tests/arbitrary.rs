//! The hazard: some sequence of bytes that no test names stops the daemon or costs it much memory.

use super::super::unix::Input;
use super::allocation::peak_bytes;
use super::peer::bytes;
use super::*;
use l1d_wire::protocol::{Request, Set, frame};
use proptest::collection::vec;
use proptest::prelude::*;
use std::cell::RefCell;
use std::io::Write;
use std::os::unix::net::UnixStream;

const FRAME_BYTES_MAX: usize = 8 << 10;
const SCRATCH_BYTES: usize = 4 << 10;

/// Random bytes, biased to look like frames.
fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    let number = prop_oneof![0_u32..20, 0_u32..10_000, any::<u32>()];
    let word = number.prop_map(|number| number.to_le_bytes().to_vec());
    let kind = (0_u8..12).prop_map(|kind| vec![kind]);
    let noise = vec(any::<u8>(), 0..30);
    let bulk = (any::<u8>(), 0_usize..9000).prop_map(|(byte, count)| vec![byte; count]);
    let part = prop_oneof![4 => word, 4 => kind, 2 => noise, 1 => bulk];
    vec(part, 0..20).prop_map(|parts| parts.concat())
}

/// An encoded request with some bytes changed and its end cut off.
fn damaged_request() -> impl Strategy<Value = Vec<u8>> {
    let whole = (vec(any::<u8>(), 0..50), 0_usize..2000).prop_map(|(key, count)| {
        let keys = vec![key.as_slice(); count];
        bytes(&Request::GetMany { keys })
    });
    (whole, vec((any::<prop::sample::Index>(), any::<u8>()), 0..4), any::<prop::sample::Index>())
        .prop_map(|(mut whole, changes, end)| {
            for (place, byte) in changes {
                let place = place.index(whole.len());
                whole[place] = byte;
            }
            whole.truncate(end.index(whole.len() + 1));
            whole
        })
}

proptest! {
    #[test]
    fn decoding_takes_no_more_memory_than_the_longest_honest_request(
        payload in prop_oneof![any_bytes(), damaged_request(), damaged_request().prop_map(|mut b| {
            b.drain(..b.len().min(frame::HEADER_BYTES));
            b
        })],
    ) {
        let peak = peak_bytes(|| {
            let _ = Request::decode(&payload);
        });
        // As many sets as one request may have, and the text of the error.
        let allowed = frame::MANY_KEYS * size_of::<Set<'_>>() + 256;
        prop_assert!(peak <= allowed, "{peak} bytes for a payload of {}", payload.len());
    }

    #[test]
    fn frames_come_out_the_same_however_they_come_in(
        sent in prop_oneof![any_bytes(), damaged_request()],
        cuts in vec(1_usize..5000, 1..10),
    ) {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        let mut scratch = vec![0; SCRATCH_BYTES];
        let mut frames: Vec<Vec<u8>> = Vec::new();
        let mut refused = false;
        let mut input = Input::default();
        let mut rest = sent.as_slice();
        let mut cuts = cuts.iter().cycle();
        while !rest.is_empty() && !refused {
            let (piece, after) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
            ours.write_all(piece).unwrap();
            rest = after;
            let mut received = 0;
            while received < piece.len() && !refused {
                let mut count = 0;
                let peak = peak_bytes(|| {
                    count = input.receive(&theirs, FRAME_BYTES_MAX, &mut scratch).unwrap().0;
                });
                received += count;
                // Twice, as a vector doubles; once more while it is reallocated.
                let allowed = 3 * (FRAME_BYTES_MAX + frame::HEADER_BYTES + SCRATCH_BYTES);
                prop_assert!(peak <= allowed, "{peak} bytes for {received} received");
                loop {
                    match input.next_frame(FRAME_BYTES_MAX) {
                        Ok(Some(frame)) => {
                            frames.push(input.payload(frame.clone()).to_vec());
                            input.advance(frame.end);
                        }
                        Ok(None) => break,
                        Err(_) => {
                            refused = true;
                            break;
                        }
                    }
                }
                input.shrink();
            }
        }
        let mut expected = Vec::new();
        let mut whole = sent.as_slice();
        while let Ok(Some(frame)) = frame::split(whole, FRAME_BYTES_MAX) {
            expected.push(whole[frame.clone()].to_vec());
            whole = &whole[frame.end..];
        }
        prop_assert_eq!(refused, frame::split(whole, FRAME_BYTES_MAX).is_err());
        prop_assert_eq!(frames, expected);
    }
}

#[test]
fn the_next_peer_is_served_whatever_one_sends() {
    let daemon = Daemon::start(Limits { frame_bytes_max: FRAME_BYTES_MAX, ..limits() });
    let other = RefCell::new(Peer::attached(&daemon));
    let sent = prop_oneof![any_bytes(), damaged_request()];
    proptest!(ProptestConfig::with_cases(200), |(sent in sent, attaches in any::<bool>())| {
        let mut peer = if attaches { Peer::attached(&daemon) } else { Peer::connect(&daemon) };
        // The daemon may hang up before it has read everything.
        let _ = peer.stream.write_all(&sent);
        let _ = peer.stream.shutdown(std::net::Shutdown::Write);
        other.borrow_mut().assert_is_served();
        peer.drain();
        other.borrow_mut().assert_is_served();
    });
}
