//! The hazard: a byte from a peer that makes the other side panic, reserve memory without end, or
//! take half a message for a whole one.

use crate::policy::WriteMode;
use crate::protocol::{Attached, DecodeError, ErrorCode, Request, Response, Set, frame};
use proptest::collection::vec;
use proptest::prelude::*;
use std::time::Duration;

type Bytes = Vec<u8>;

/// Owned fields of any request: which one, its byte strings, its numbers.
fn request_parts() -> impl Strategy<Value = (u8, Vec<Bytes>, u64, u32, u8, bool)> {
    let strings = vec(vec(any::<u8>(), 0..40), 2..5);
    (1_u8..=14, strings, any::<u64>(), any::<u32>(), 0_u8..3, any::<bool>())
}

fn request(parts: &(u8, Vec<Bytes>, u64, u32, u8, bool)) -> Request<'_> {
    let (kind, strings, ns, number, choice, reply) = parts;
    let key = strings[0].as_slice();
    let set = |key| Set {
        key,
        value: &strings[1],
        ttl: (number % 2 == 0).then_some(Duration::from_nanos(*ns)),
        flags: *number,
        write: [None, Some(WriteMode::Through), Some(WriteMode::L1Only)][usize::from(*choice)],
        reply: *reply,
    };
    match kind {
        1 => Request::Attach { protocol: *number, mailbox: *reply },
        2 => Request::Get { key },
        3 => Request::GetMany { keys: strings.iter().map(Vec::as_slice).collect() },
        4 => Request::Set(set(key)),
        11 => Request::SetMany { sets: strings.iter().map(|key| set(key)).collect() },
        5 => Request::Delete { key },
        6 => Request::Flush { prefix: key },
        7 => Request::Stats,
        14 => Request::Clients,
        8 => Request::Explain { key },
        9 => Request::Check,
        13 => Request::Advise,
        12 => Request::Resize {
            table_bytes: reply.then_some(*ns),
            entry_bytes: (number % 2 == 0).then_some(*number),
        },
        _ => Request::Policy,
    }
}

/// Owned fields of any response.
type ResponseParts = (u8, Bytes, String, [u64; 4], u32, bool);

fn response_parts() -> impl Strategy<Value = ResponseParts> {
    let text = "\\PC{0,20}";
    (0_u8..9, vec(any::<u8>(), 0..60), text, any::<[u64; 4]>(), any::<u32>(), any::<bool>())
}

fn response(parts: &ResponseParts) -> Response<'_> {
    const CODES: [ErrorCode; 8] = [
        ErrorCode::Malformed,
        ErrorCode::TooLarge,
        ErrorCode::Refused,
        ErrorCode::TierFailed,
        ErrorCode::UnknownOutcome,
        ErrorCode::Busy,
        ErrorCode::Internal,
        ErrorCode::WrongProtocol,
    ];
    let (kind, bytes, text, words, number, mark) = parts;
    match kind {
        0 => Response::Found {
            value: bytes,
            flags: *number,
            version: words[0],
            ttl: Duration::from_nanos(words[1]),
        },
        1 => Response::Absent { ttl: Duration::from_nanos(words[1]) },
        2 => Response::Unknown,
        3 => Response::Error { code: CODES[usize::try_from(words[0] % 8).unwrap()], message: text },
        4 => Response::Attached(Attached {
            protocol: *number,
            table_id: words[0],
            table_bytes: words[1],
            instance: words[2],
            clock_ns: words[3],
            mailbox_bytes: words[0],
            policy: bytes,
        }),
        5 => Response::Stored { version: words[0], degraded: *mark },
        6 => Response::Deleted { existed: *mark, degraded: words[0] % 2 == 0 },
        _ => Response::Json(text),
    }
}

fn payload(frame_bytes: &[u8]) -> &[u8] {
    let range = frame::split(frame_bytes, usize::MAX).unwrap().unwrap();
    assert_eq!(range.end, frame_bytes.len(), "one frame and nothing else");
    &frame_bytes[range]
}

proptest! {
    #[test]
    fn requests_come_back_as_they_went(parts in request_parts(), garbage in any::<u8>()) {
        let request = request(&parts);
        let mut sent = Vec::new();
        request.encode(&mut sent).unwrap();
        let payload = payload(&sent);
        prop_assert_eq!(Request::decode(payload).unwrap(), request);

        for end in 0..payload.len() {
            prop_assert!(Request::decode(&payload[..end]).is_err(), "cut at {}", end);
        }
        let mut longer = payload.to_vec();
        longer.push(garbage);
        prop_assert_eq!(Request::decode(&longer), Err(DecodeError::Trailing { bytes: 1 }));
        prop_assert!(Response::decode(payload).is_err(), "a request passed for a response");
    }

    #[test]
    fn responses_come_back_as_they_went(
        parts in response_parts(),
        inside in vec((0_u8..4, vec(any::<u8>(), 0..9), "\\PC{0,9}", any::<[u64; 4]>(), any::<u32>(), any::<bool>()), 0..5),
        garbage in any::<u8>(),
    ) {
        let many = Response::Many(inside.iter().map(response).collect());
        for message in [response(&parts), many] {
            let mut sent = Vec::new();
            message.encode(&mut sent).unwrap();
            let payload = payload(&sent);
            prop_assert_eq!(&Response::decode(payload).unwrap(), &message);

            for end in 0..payload.len() {
                prop_assert!(Response::decode(&payload[..end]).is_err(), "cut at {}", end);
            }
            let mut longer = payload.to_vec();
            longer.push(garbage);
            prop_assert_eq!(Response::decode(&longer), Err(DecodeError::Trailing { bytes: 1 }));
            prop_assert!(Request::decode(payload).is_err(), "a response passed for a request");
        }
    }

    #[test]
    fn arbitrary_bytes_are_answered_without_panic(
        kind in any::<u8>(),
        bytes in vec(prop_oneof![Just(0_u8), Just(255), Just(1), any::<u8>()], 0..80),
    ) {
        let mut payload = vec![kind];
        payload.extend_from_slice(&bytes);
        let _ = Request::decode(&payload);
        let _ = Response::decode(&payload);
        let _ = frame::split(&bytes, 1 << 20);
    }
}

#[test]
fn a_many_inside_a_many_is_refused() {
    let nested = Response::Many(vec![Response::Many(vec![])]);
    let mut sent = Vec::new();
    nested.encode(&mut sent).unwrap();
    let refused = Response::decode(payload(&sent));
    assert_eq!(refused, Err(DecodeError::UnknownKind { kind: 133 }));
}

#[test]
fn a_false_count_reserves_nothing_much() {
    // GetMany of 4 billion keys, in nine bytes; then of as many as are allowed.
    let refused = Request::decode(&[3, 255, 255, 255, 255, 0, 0, 0, 0]);
    assert!(matches!(refused, Err(DecodeError::TooMany { field: "keys", .. })), "{refused:?}");
    let refused = Request::decode(&[3, 0, 4, 0, 0, 0, 0, 0, 0]);
    assert_eq!(refused, Err(DecodeError::Truncated { field: "keys" }));
}

#[test]
fn a_request_for_more_keys_than_allowed_is_refused() {
    for (count, is_allowed) in [(frame::MANY_KEYS, true), (frame::MANY_KEYS + 1, false)] {
        let mut sent = Vec::new();
        Request::GetMany { keys: vec![b"k"; count] }.encode(&mut sent).unwrap();
        assert_eq!(Request::decode(payload(&sent)).is_ok(), is_allowed, "{count} keys");
    }
}
