//! The hazard: a byte from a peer that makes the other side panic, reserve memory without end, or
//! take half a message for a whole one.

use crate::policy::WriteMode;
use crate::protocol::{
    Attached, DecodeError, ErrorCode, Identity, Layouts, NotChanged, Operate, Operation, Request,
    Response, Set, frame,
};
use crate::snapshot::KeyOrder;
use proptest::collection::vec;
use proptest::prelude::*;
use shm_layout::Layout;
use std::time::Duration;

type Bytes = Vec<u8>;

/// Owned fields of any request: which one, its byte strings, its numbers.
fn request_parts() -> impl Strategy<Value = (u8, Vec<Bytes>, u64, u32, u8, bool)> {
    let strings = vec(vec(any::<u8>(), 0..40), 2..5);
    (1_u8..=18, strings, any::<u64>(), any::<u32>(), 0_u8..3, any::<bool>())
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
        15 => Request::Operate(Operate {
            key,
            operation: operation(number % 9, &strings[1], *ns, *number),
            ttl: (number % 2 == 0).then_some(Duration::from_nanos(*ns)),
        }),
        13 => Request::Advise,
        17 => Request::Keys {
            prefix: key,
            top: u16::try_from(number % 65_536).unwrap(),
            by: if *reply { KeyOrder::Hits } else { KeyOrder::Size },
        },
        16 => Request::ReloadPolicy,
        18 => Request::Access {
            of: reply.then(|| Identity {
                uid: *number,
                gid: number.wrapping_add(1),
                groups: strings.iter().map(|it| u32::try_from(it.len()).unwrap()).collect(),
            }),
        },
        12 => Request::Resize {
            table_bytes: reply.then_some(*ns),
            entry_bytes: (number % 2 == 0).then_some(*number),
        },
        _ => Request::Policy,
    }
}

fn operation(kind: u32, bytes: &[u8], word: u64, flags: u32) -> Operation<'_> {
    let by = word.cast_signed();
    match kind {
        0 => Operation::Add { value: bytes, flags },
        1 => Operation::Replace { value: bytes, flags },
        2 => Operation::CompareAndSet { version: word, value: bytes, flags },
        3 => Operation::DeleteIf { version: word },
        4 => Operation::Append { bytes },
        5 => Operation::Prepend { bytes },
        6 => Operation::Count { by, initial: word.is_multiple_of(2).then_some(by.wrapping_neg()) },
        7 => Operation::Touch,
        _ => Operation::GetAndTouch,
    }
}

/// Owned fields of any response.
type ResponseParts = (u8, Bytes, String, [u64; 4], u32, bool);

fn response_parts() -> impl Strategy<Value = ResponseParts> {
    let text = "\\PC{0,20}";
    (0_u8..11, vec(any::<u8>(), 0..60), text, any::<[u64; 4]>(), any::<u32>(), any::<bool>())
}

fn response(parts: &ResponseParts) -> Response<'_> {
    const CODES: [ErrorCode; 12] = [
        ErrorCode::Other,
        ErrorCode::Malformed,
        ErrorCode::TooLarge,
        ErrorCode::Refused,
        ErrorCode::TierFailed,
        ErrorCode::UnknownOutcome,
        ErrorCode::Busy,
        ErrorCode::Internal,
        ErrorCode::WrongProtocol,
        ErrorCode::LoadFailed,
        ErrorCode::Full,
        ErrorCode::Denied,
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
        3 => {
            Response::Error { code: CODES[usize::try_from(words[0] % 12).unwrap()], message: text }
        }
        4 => Response::Attached(Attached {
            protocol: if *mark { 4 } else { 5 + number % 3 },
            table_id: words[0],
            table_bytes: words[1],
            instance: words[2],
            clock_ns: words[3],
            mailbox_bytes: words[0],
            policy: bytes,
            layouts: (!mark).then_some(Layouts {
                table: Layout { version: *number, fingerprint: words[1] },
                mailbox: Layout { version: 1, fingerprint: words[2] },
            }),
            policy_epoch: (!mark).then_some(words[3]),
        }),
        5 => Response::Stored {
            version: words[0],
            degraded: *mark,
            life: (words[2] % 2 == 0).then(|| Duration::from_nanos(words[1])),
        },
        6 => Response::Deleted { existed: *mark, degraded: words[0] % 2 == 0 },
        7 => Response::Changed {
            version: words[0],
            number: mark.then_some(words[1].cast_signed()),
            degraded: words[2] % 2 == 0,
            life: (words[3] % 2 == 0).then(|| Duration::from_nanos(words[3])),
        },
        8 => Response::NotChanged {
            reason: [NotChanged::Exists, NotChanged::Absent, NotChanged::Conflict]
                [usize::try_from(words[0] % 3).unwrap()],
        },
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
        inside in vec(
            (0_u8..4, vec(any::<u8>(), 0..9), "\\PC{0,9}", any::<[u64; 4]>(), any::<u32>(),
                any::<bool>()),
            0..5
        ),
        garbage in any::<u8>(),
    ) {
        let many = Response::Many(inside.iter().map(response).collect());
        for message in [response(&parts), many] {
            let mut sent = Vec::new();
            message.encode(&mut sent).unwrap();
            let payload = payload(&sent);
            prop_assert_eq!(&Response::decode(payload).unwrap(), &message);

            // These end with eight bytes that may be missing.
            let has_last = match &message {
                Response::Attached(attached) => attached.policy_epoch.is_some(),
                Response::Stored { life, .. } | Response::Changed { life, .. } => life.is_some(),
                _ => false,
            };
            for end in 0..payload.len() {
                let is_whole = has_last && end + 8 == payload.len();
                let is_refused = Response::decode(&payload[..end]).is_err();
                prop_assert_eq!(is_refused, !is_whole, "cut at {}", end);
            }
            let mut longer = payload.to_vec();
            longer.push(garbage);
            let is_extensible =
                matches!(&message, Response::Attached(attached) if attached.protocol >= 5);
            match Response::decode(&longer) {
                Ok(longer) => prop_assert!(is_extensible && longer == message),
                Err(_) => prop_assert!(!is_extensible),
            }
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

/// What version 4 says and understands, byte by byte, recorded from its last build.
const ATTACH_4: [u8; 10] = [6, 0, 0, 0, 1, 4, 0, 0, 0, 1];
#[rustfmt::skip]
const ATTACHED_4: [u8; 55] = [
    51, 0, 0, 0, 129, 4, 0, 0, 0,
    0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88,
    0, 0, 0, 16, 0, 0, 0, 0,
    3, 0, 0, 0, 0, 0, 0, 0,
    0xff, 0xee, 0, 0, 0, 0, 0, 0,
    0, 0x60, 6, 0, 0, 0, 0, 0,
    2, 0, 0, 0, 0xaa, 0xbb,
];
/// Version 5 ends with the two layouts, as version and fingerprint.
const LAYOUTS_5: [u8; 24] = [
    1, 0, 0, 0, 9, 8, 7, 6, 5, 4, 3, 2, 2, 0, 0, 0, 0x19, 0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12,
];

fn attached(
    protocol: u32,
    layouts: Option<Layouts>,
    policy_epoch: Option<u64>,
) -> Response<'static> {
    Response::Attached(Attached {
        protocol,
        table_id: 0x8877_6655_4433_2211,
        table_bytes: 256 << 20,
        instance: 3,
        clock_ns: 0xeeff,
        mailbox_bytes: 0x6_6000,
        policy: &[0xaa, 0xbb],
        layouts,
        policy_epoch,
    })
}

#[test]
fn version_4_reads_and_writes_the_bytes_of_its_last_build() {
    let attach = Request::Attach { protocol: 4, mailbox: true };
    let mut sent = Vec::new();
    attach.encode(&mut sent).unwrap();
    assert_eq!(sent, ATTACH_4);
    assert_eq!(Request::decode(&ATTACH_4[4..]), Ok(attach));

    let attached = attached(4, None, None);
    let mut sent = Vec::new();
    attached.encode(&mut sent).unwrap();
    assert_eq!(sent, ATTACHED_4);
    assert_eq!(Response::decode(&ATTACHED_4[4..]), Ok(attached));
    let longer = [&ATTACHED_4[4..], &[0]].concat();
    assert_eq!(Response::decode(&longer), Err(DecodeError::Trailing { bytes: 1 }));
}

#[test]
fn an_attach_of_any_version_has_the_form_of_version_4() {
    for protocol in [5, 6, 99, u32::MAX] {
        let mut sent = Vec::new();
        Request::Attach { protocol, mailbox: true }.encode(&mut sent).unwrap();
        let mut expected = ATTACH_4;
        expected[5..9].copy_from_slice(&protocol.to_le_bytes());
        assert_eq!(sent, expected);
    }
}

#[test]
fn version_5_adds_the_layouts_and_the_policys_epoch_and_later_fields_are_skipped() {
    let layouts = Layouts {
        table: Layout { version: 1, fingerprint: 0x0203_0405_0607_0809 },
        mailbox: Layout { version: 2, fingerprint: 0x1213_1415_1617_1819 },
    };
    for protocol in [5_u32, 6, 99] {
        let mut payload = [&ATTACHED_4[4..], &LAYOUTS_5].concat();
        payload[1..5].copy_from_slice(&protocol.to_le_bytes());
        // Earlier builds of version 5 end there.
        assert_eq!(
            Response::decode(&payload).as_ref(),
            Ok(&attached(protocol, Some(layouts), None))
        );
        payload.extend_from_slice(&0x2122_2324_2526_2728_u64.to_le_bytes());
        let attached = attached(protocol, Some(layouts), Some(0x2122_2324_2526_2728));
        let mut sent = Vec::new();
        attached.encode(&mut sent).unwrap();
        assert_eq!(sent[4..], payload);
        assert_eq!(Response::decode(&payload).as_ref(), Ok(&attached));
        payload.extend_from_slice(b"added later");
        assert_eq!(Response::decode(&payload).as_ref(), Ok(&attached));
    }
}

#[test]
fn an_unknown_error_code_is_an_error_with_its_message() {
    for code in [0, 12, 255] {
        let payload = [&[137, code, 5, 0, 0, 0][..], b"later"].concat();
        let other = Response::Error { code: ErrorCode::Other, message: "later" };
        assert_eq!(Response::decode(&payload), Ok(other));
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

#[test]
fn an_operation_or_a_reason_that_is_not_known_is_refused() {
    let mut sent = Vec::new();
    let operation = Operation::Touch;
    Request::Operate(Operate { key: b"k", operation, ttl: None }).encode(&mut sent).unwrap();
    for kind in [0, 10, 255] {
        *sent.last_mut().unwrap() = kind;
        let refused = Request::decode(payload(&sent));
        assert_eq!(refused, Err(DecodeError::Meaningless { field: "operation" }));
    }
    for reason in [0, 4, 255] {
        let sent = [139, reason];
        let refused = Response::decode(&sent);
        assert_eq!(refused, Err(DecodeError::Meaningless { field: "reason" }));
    }
}

proptest! {
    #[test]
    fn messages_about_loads_come_back_as_they_went(
        (key, value) in (vec(any::<u8>(), 0..40), vec(any::<u8>(), 0..40)),
        error in "\\PC{0,20}",
        (token, ns, flags) in (any::<u64>(), any::<u64>(), any::<u32>()),
    ) {
        let ttl = (ns % 2 == 0).then_some(Duration::from_nanos(ns));
        let set = Set { key: &key, value: &value, ttl, flags, write: None, reply: true };
        let lease = Duration::from_nanos(ns);
        for request in [
            Request::Reserve { key: &key, lease, waits_for: token },
            Request::Fill { token, set },
            Request::Abandon { key: &key, token, error: &error },
        ] {
            let mut sent = Vec::new();
            request.encode(&mut sent).unwrap();
            let payload = payload(&sent);
            for end in 0..payload.len() {
                prop_assert!(Request::decode(&payload[..end]).is_err(), "cut at {}", end);
            }
            prop_assert_eq!(Request::decode(payload).unwrap(), request);
        }
        for response in [
            Response::Reserved { token },
            Response::Loading { token },
            Response::Done,
            Response::Error { code: ErrorCode::LoadFailed, message: &error },
        ] {
            let mut sent = Vec::new();
            response.encode(&mut sent).unwrap();
            prop_assert_eq!(Response::decode(payload(&sent)).unwrap(), response);
        }
    }
}
