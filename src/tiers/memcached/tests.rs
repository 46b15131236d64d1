use super::super::connection::testing;
use super::*;
use proptest::prelude::*;

fn decode(pieces: &[&[u8]]) -> Result<Vec<Message>, Failure> {
    testing::decode(&Memcached::new(false, 1 << 20), pieces)
}

const STREAM: &[u8] = b"EN\r\nVA 12 t-1 f7 O1\r\nline\r\nin it\n\r\nHD O2\r\n\
    SERVER_ERROR object too large for cache\r\nVA 0 t5 f0 O3\r\n\r\nMN\r\n";

proptest! {
    /// The hazard: a response that arrives in pieces is read as another one.
    #[test]
    fn responses_are_the_same_however_they_are_cut(
        cuts in prop::collection::vec(0..STREAM.len(), 0..9)
    ) {
        let pieces = testing::cut(STREAM, cuts);
        let whole = decode(&[STREAM]).unwrap();
        prop_assert_eq!(whole.len(), 6);
        prop_assert_eq!(whole[1].as_ref().unwrap().1.as_deref(), Some(&b"line\r\nin it\n"[..]));
        prop_assert!(whole[3].is_err());
        prop_assert_eq!(decode(&pieces).unwrap(), whole);
    }

    /// The hazard: a server that talks nonsense ends the daemon.
    #[test]
    fn nonsense_ends_in_an_error_at_worst(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&[&bytes]);
    }
}

/// Bytes of values that may share an exchange.
const SMALL: usize = 100;

fn asked(key: &str) -> Asked {
    let request = Request { key: key.as_bytes().into(), ask: Ask::Get };
    Asked::new(Some(1), request)
}

/// The answers to `asked`, when the server says this; the last message must be the last.
fn answers(asked: &[Asked], stream: &[u8]) -> Result<Vec<Answer>, Failure> {
    let mut memcached = Memcached::new(false, 1 << 20);
    let (covered, mut shape) = memcached.encode(asked, SMALL, &mut Vec::new()).unwrap();
    assert_eq!(covered, asked.len());
    let mut answers = Vec::new();
    let mut is_last = false;
    for message in decode(&[stream])? {
        assert!(!is_last, "a message behind the last one");
        is_last = memcached.answer(asked, &mut shape, message, &mut answers)?;
    }
    assert!(is_last);
    Ok(answers)
}

#[test]
fn gets_that_wait_together_are_quiet_and_end_with_a_no_op() {
    let many = ["a", "b", "c"].map(asked);
    let mut out = Vec::new();
    let mut memcached = Memcached::new(false, 1 << 20);
    memcached.encode(&many, SMALL, &mut out).unwrap();
    let commands = "mg a v t f q O0\r\nmg b v t f q O1\r\nmg c v t f q O2\r\nmn\r\n";
    assert_eq!(String::from_utf8_lossy(&out), commands);
    out.clear();
    let (covered, _) = memcached.encode(&many[..2], SMALL, &mut out).unwrap();
    assert_eq!((covered, &out[..]), (1, &b"mg a v t f O3\r\n"[..]));
    let (covered, _) = memcached.encode(&many, 1 << 20, &mut out).unwrap();
    assert_eq!(covered, 1, "the first of some large values would wait for the last");
}

proptest! {
    /// The hazard: a key that breaks the line that it stands in, or that memcached holds under
    /// another name.
    #[test]
    fn a_get_is_what_the_crate_would_send(key in prop::collection::vec(any::<u8>(), 1..260)) {
        let request = Request { key: key.into(), ask: Ask::Get };
        let mut memcached = Memcached { next_opaque: u32::MAX, ..Memcached::new(false, 1 << 20) };
        let mut out = Vec::new();
        memcached.encode_get(&request, false, &mut out).unwrap();
        prop_assert_eq!(out, command(&request, u32::MAX, false).encode().unwrap());
        prop_assert_eq!(memcached.next_opaque, 0);
    }
}

/// The hazard: an answer goes to another key than the one that was asked for.
#[test]
fn quiet_gets_are_answered_by_their_tokens_and_misses_by_silence() {
    let many = ["a", "b", "c", "d"].map(asked);
    let found = answers(&many, b"VA 1 t9 f7 O2\r\nx\r\nVA 0 t-1 f0 O0\r\n\r\nMN\r\n").unwrap();
    assert!(matches!(&found[0], Answer::Hit { value, remaining: None, .. } if value.is_empty()));
    assert!(matches!(&found[2], Answer::Hit { value, flags: 7, .. } if **value == *b"x"));
    for index in [1, 3] {
        assert!(matches!(found[index], Answer::Miss { absent: true }), "{index}");
    }
    let refused = answers(&many, b"VA 1 t9 f0 O0\r\nx\r\nSERVER_ERROR busy\r\nMN\r\n").unwrap();
    assert!(matches!(refused[0], Answer::Hit { .. }));
    assert!(refused[1..].iter().all(|answer| matches!(answer, Answer::AskAgain(_))));
    for stream in [
        &b"VA 1 t9 f0 O4\r\nx\r\nMN\r\n"[..],
        b"VA 1 t9 f0\r\nx\r\nMN\r\n",
        b"VA 1 t9 f0 O1\r\nx\r\nVA 1 t9 f0 O1\r\nx\r\nMN\r\n",
    ] {
        assert!(answers(&many, stream).is_err(), "{}", String::from_utf8_lossy(stream));
    }

    let mut again = many.map(|asked| Asked { again: Some(Again::Alone), ..asked });
    let mut out = Vec::new();
    let (covered, _) = Memcached::new(false, 1 << 20).encode(&again, SMALL, &mut out).unwrap();
    assert_eq!((covered, &out[..]), (1, &b"mg a v t f O0\r\n"[..]), "by itself");
    again[0].again = None;
    let (covered, _) = Memcached::new(false, 1 << 20).encode(&again, SMALL, &mut out).unwrap();
    assert_eq!(covered, 1);
}

#[test]
fn lines_without_an_end_and_lengths_that_lie_are_refused() {
    let line = vec![b'x'; LINE_BYTES_MAX + 1];
    assert!(decode(&[&line]).is_err());
    assert!(decode(&[b"VA 3 f0\r\nabcde"]).is_err(), "no line end behind the value");
    assert!(decode(&[b"VA 99999999999999999999 f0\r\n"]).is_err());
    assert_eq!(decode(&[b"VA 1000000000 f0\r\nabc"]).unwrap(), [], "reserves little ahead");
}
