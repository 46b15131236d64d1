//! Peers that are slow, silent or loud: doorbells, replies, frames, status requests.

use crate::attack::{Found, Target};
use l1d_wire::protocol::{PROTOCOL_VERSION, Request, Set};
use shm_layout::mailbox::SHAPE;
use shm_layout::mailbox::ring::{Head, Kind};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use test_support::posted::{Posted, payload};

/// Connections of a slow peer.
const CONNECTIONS: usize = 100;
const DRIP: Duration = Duration::from_millis(20);

/// Rings as often as it can, reads nothing, and has the daemon ring back.
pub fn doorbells(target: &Target, found: &mut Found) {
    let request = payload(&Request::Get { key: b"attack" });
    let head = Head { kind: Kind::Whole, lane: Some(0), sequence: 1 };
    while target.goes_on() {
        let Some(mut posted) = Posted::try_attached(&target.socket) else { continue };
        posted.stream.set_nonblocking(true).expect("a socket");
        let bell = posted.stream.try_clone().expect("a descriptor");
        let is_stuck = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while target.goes_on() && !is_stuck.load(Ordering::Relaxed) {
                    // Fails when the socket is full.
                    let _ = (&bell).write(&[1; 64]);
                }
            });
            // With its bells unread and its socket full, it cannot ring for a full ring any more.
            while target.goes_on() && posted.producer.push(head, &request).is_ok() {
                posted.mailbox.open_lane(0, 1);
                found.repeats += 1;
            }
            is_stuck.store(true, Ordering::Relaxed);
        });
    }
}

/// Large replies of which nothing but the first piece is taken, and requests of which nothing but
/// the first piece is sent, on every lane.
pub fn replies(target: &Target, found: &mut Found) {
    let value = vec![b'r'; 60_000];
    let set =
        Set { key: b"attack:large", value: &value, ttl: None, flags: 0, write: None, reply: true };
    let mut held = Vec::new();
    while target.goes_on() {
        if held.len() == CONNECTIONS {
            thread::sleep(DRIP);
            continue;
        }
        let Some(mut posted) = Posted::try_attached(&target.socket) else { continue };
        posted.ask(0, &Request::Set(set.clone()));
        posted.reply(0);
        let large = payload(&Request::Set(set.clone()));
        for lane in 0..u8::try_from(SHAPE.lanes).unwrap_or(1) {
            if lane.is_multiple_of(2) {
                posted.ask(lane, &Request::Get { key: b"attack:large" });
            } else {
                let head = Head { kind: Kind::First, lane: Some(lane), sequence: 1 };
                posted.mailbox.open_lane(lane.into(), 1);
                // Fails when the ring is full.
                let _ = posted.producer.push(head, large.get(..8000).unwrap_or_default());
                posted.ring();
            }
            found.repeats += 1;
        }
        held.push(posted);
    }
    found.says(format!("{} connections, each with a stalled piece on every lane", held.len()));
}

/// Frames that announce a megabyte and come byte by byte.
pub fn frames(target: &Target, found: &mut Found) {
    let mut attach = Vec::new();
    let request = Request::Attach { protocol: PROTOCOL_VERSION, mailbox: false };
    request.encode(&mut attach).expect("a frame");
    let mut open: Vec<UnixStream> = Vec::new();
    while target.goes_on() {
        open.retain_mut(|stream| stream.write_all(&[0]).is_ok());
        while open.len() < CONNECTIONS {
            let Ok(mut stream) = UnixStream::connect(&target.socket) else { break };
            // Half of them do not even attach.
            if open.len().is_multiple_of(2) && stream.write_all(&attach).is_err() {
                break;
            }
            if stream.write_all(&(1_000_000_u32).to_le_bytes()).is_err() {
                break;
            }
            open.push(stream);
            found.repeats += 1;
        }
        thread::sleep(DRIP);
    }
    found.says(format!("{CONNECTIONS} connections held at a byte each {DRIP:?}"));
}

/// The same to the status server, and more connections than it serves.
pub fn status(target: &Target, found: &mut Found) {
    let mut open: Vec<UnixStream> = Vec::new();
    while target.goes_on() {
        open.retain_mut(|stream| stream.write_all(b"G").is_ok());
        while open.len() < CONNECTIONS {
            let Ok(mut stream) = UnixStream::connect(&target.status) else { break };
            if stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: l1d\r\nX: ").is_err() {
                break;
            }
            open.push(stream);
            found.repeats += 1;
        }
        thread::sleep(DRIP);
    }
    drop(open);
    // Its places come back, at the latest with its deadline.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(20) {
        if is_healthy(target) {
            return found.says("afterwards the status server answers again");
        }
        thread::sleep(DRIP);
    }
    found.expects(false, "the status server does not answer any more");
}

/// The status server answers.
pub fn is_healthy(target: &Target) -> bool {
    let Ok(mut stream) = UnixStream::connect(&target.status) else { return false };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
    let asked = stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: l1d\r\n\r\n");
    let mut reply = String::new();
    asked.is_ok() && stream.read_to_string(&mut reply).is_ok() && reply.contains("200 OK")
}
