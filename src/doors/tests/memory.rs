//! The hazard: a peer makes the daemon hold more memory than it has sent.

use super::super::unix::Input;
use super::allocation::peak_bytes;
use super::peer::bytes;
use l1d_wire::protocol::Request;
use std::io::Write;
use std::os::unix::net::UnixStream;

const FRAME_BYTES_MAX: usize = 16 << 20;

fn pair() -> (UnixStream, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    (ours, theirs)
}

#[test]
fn announced_bytes_that_are_not_sent_take_no_memory() {
    let (mut ours, theirs) = pair();
    let announced = u32::try_from(FRAME_BYTES_MAX).unwrap();
    ours.write_all(&announced.to_le_bytes()).unwrap();
    ours.write_all(&[0; 100]).unwrap();
    let (mut input, mut scratch) = (Input::default(), vec![0; 4096]);
    let peak = peak_bytes(|| {
        input.receive(&theirs, FRAME_BYTES_MAX, &mut scratch).unwrap();
        input.shrink();
    });
    assert_eq!(input.next_frame(FRAME_BYTES_MAX), Ok(None));
    assert!(peak < 1000, "{peak} bytes");
}

#[test]
fn requests_that_never_pause_are_forgotten_when_they_are_handled() {
    let (mut ours, theirs) = pair();
    let (mut input, mut scratch) = (Input::default(), vec![0; 4096]);
    let sent = bytes(&Request::Get { key: &[b'k'; 1000] }).repeat(1000);
    let mut handled = 0;
    let peak = peak_bytes(|| {
        // Few pieces end where a request does, so the buffer is hardly ever empty.
        for piece in sent.chunks(1500) {
            ours.write_all(piece).unwrap();
            input.receive(&theirs, FRAME_BYTES_MAX, &mut scratch).unwrap();
            while let Ok(Some(frame)) = input.next_frame(FRAME_BYTES_MAX) {
                assert!(Request::decode(input.payload(frame.clone())).is_ok());
                input.advance(frame.end);
                handled += 1;
            }
            input.shrink();
        }
    });
    assert_eq!(handled, 1000);
    assert!(peak < sent.len() / 3, "{peak} bytes of {}", sent.len());
}
