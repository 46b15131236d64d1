//! Target: what either side sends over the control socket, in every version.

use l1d_wire::policy::PolicySet;
use l1d_wire::protocol::{Attached, Request, Response, frame};

const FRAME_BYTES_MAX: usize = 8 << 10;

/// Splits a stream into frames, and takes each for a request and for a response.
pub fn frames(data: &[u8]) {
    let mut rest = data;
    while let Ok(Some(payload)) = frame::split(rest, FRAME_BYTES_MAX) {
        let end = payload.end;
        decode(&rest[payload]);
        rest = &rest[end..];
    }
    // Mutations seldom keep the length right.
    decode(data);
    decode(data.get(frame::HEADER_BYTES..).unwrap_or_default());
}

fn decode(payload: &[u8]) {
    if let Ok(request) = Request::decode(payload) {
        let mut again = Vec::new();
        request.encode(&mut again).expect("it came in a frame");
        // Not the same bytes: numbers beyond what a field can mean are taken for the largest.
        assert_eq!(Request::decode(&again[frame::HEADER_BYTES..]).as_ref(), Ok(&request));
    }
    let Ok(response) = Response::decode(payload) else { return };
    let mut again = Vec::new();
    response.encode(&mut again).expect("it came in a frame");
    let decoded = Response::decode(&again[frame::HEADER_BYTES..]);
    assert_eq!(decoded.as_ref(), Ok(&response));
    match response {
        // It may end with what a newer daemon has added, or with an error of a newer kind.
        Response::Attached(Attached { policy, .. }) => {
            if let Ok(policy) = PolicySet::decode(policy) {
                assert_eq!(PolicySet::decode(&policy.encode()), Ok(policy));
            }
        }
        Response::Error { .. } | Response::Many(_) => {}
        _ => assert_eq!(&again[frame::HEADER_BYTES..], payload, "{response:?}"),
    }
}

/// Messages of both directions, as the encoders write them.
#[cfg(test)]
pub fn seeds() -> Vec<Vec<u8>> {
    use l1d_wire::policy::{Rule, Scope, WriteMode};
    use l1d_wire::protocol::{ErrorCode, Layouts, NotChanged, Operate, Operation, Set};
    use std::time::Duration;

    let (key, value) = (&b"key"[..], &b"value"[..]);
    let ttl = Duration::from_secs(5);
    let set =
        Set { key, value, ttl: Some(ttl), flags: 7, write: Some(WriteMode::Through), reply: true };
    let operate = |operation| Request::Operate(Operate { key, operation, ttl: None });
    let requests = [
        Request::Attach { protocol: 4, mailbox: true },
        Request::Attach { protocol: 5, mailbox: false },
        Request::GetMany { keys: vec![key, b"", b"other"] },
        Request::SetMany { sets: vec![set.clone(), Set { ttl: None, write: None, ..set.clone() }] },
        Request::Set(set.clone()),
        operate(Operation::CompareAndSet { version: 9, value, flags: 1 }),
        operate(Operation::Count { by: -1, initial: Some(3) }),
        Request::Reserve { key, lease: ttl, waits_for: 2 },
        Request::Fill { token: 4, set },
        Request::Abandon { key, token: 4, error: "no" },
        Request::Resize { table_bytes: Some(1 << 30), entry_bytes: None },
        Request::Explain { key },
    ];
    let rule = Rule { id: 1, prefix: b"p:".to_vec(), scope: Scope::Process, ..Rule::default() };
    let policy = PolicySet::new(vec![Rule::default(), rule]).expect("a policy").encode();
    let attached = |protocol, layouts, policy_epoch| {
        let (table_id, table_bytes, instance, clock_ns, mailbox_bytes) = (1, 2, 3, 4, 5);
        let policy = &policy[..];
        Response::Attached(Attached {
            protocol,
            table_id,
            table_bytes,
            instance,
            clock_ns,
            mailbox_bytes,
            policy,
            layouts,
            policy_epoch,
        })
    };
    let found = Response::Found { value, flags: 7, version: 9, ttl };
    let refused = Response::Error { code: ErrorCode::Busy, message: "later" };
    let responses = [
        attached(4, None, None),
        attached(5, Some(Layouts::OWN), None),
        attached(5, Some(Layouts::OWN), Some(8)),
        Response::Many(vec![found.clone(), Response::Absent { ttl }, Response::Unknown, refused]),
        found,
        Response::Stored { version: 1, degraded: true, life: Some(ttl) },
        Response::Changed { version: 2, number: Some(-4), degraded: false, life: None },
        Response::NotChanged { reason: NotChanged::Conflict },
        Response::Loading { token: 5 },
        Response::Json("{\"a\":[1,null]}"),
    ];
    let mut seeds = Vec::new();
    for request in &requests {
        let mut frame = Vec::new();
        request.encode(&mut frame).expect("a small request");
        seeds.push(frame);
    }
    for response in &responses {
        let mut frame = Vec::new();
        response.encode(&mut frame).expect("a small response");
        seeds.push(frame);
    }
    seeds
}
