//! Many connections of one user at once, of which none exceeds what a connection may have done.

use crate::attack::{Found, Target};
use l1d_wire::protocol::{PROTOCOL_VERSION, Request, Set};
use l1d_wire::snapshot::KeyOrder;
use shm_layout::mailbox::ring::{Head, Kind};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use test_support::posted::{Posted, payload};
use test_support::servers::PATIENCE;

/// Sockets that ask for figures.
const SOCKETS: usize = 64;
/// Frames that are sent together.
const FRAMES: usize = 64;
/// Attaches at a time.
const ATTACHES: usize = 800;
/// Mailboxes, of all threads.
const MAILBOXES: usize = 200;
const THREADS: usize = 2;

/// Asks over many sockets for the answers that take longest.
pub fn figures(target: &Target, found: &mut Found) {
    let keys: Vec<String> = (0..1000).map(|number| format!("attack:no:{number}")).collect();
    let keys: Vec<&[u8]> = keys.iter().map(String::as_bytes).collect();
    let asked = [
        Request::Stats,
        Request::Clients,
        Request::Keys { prefix: b"", top: u16::MAX, by: KeyOrder::Hits },
        Request::GetMany { keys },
    ];
    ask_ahead(target, found, &asked);
}

/// Sends over many sockets, and has sent back, the largest values.
pub fn values(target: &Target, found: &mut Found) {
    let value = vec![b'c'; 65_000];
    let key = b"attack:large";
    let set = Set { key, value: &value, ttl: None, flags: 0, write: None, reply: true };
    ask_ahead(target, found, &[Request::Set(set), Request::Get { key }]);
}

/// Sends these requests over many sockets again and again, and always the next ones before the last
/// are answered.
fn ask_ahead(target: &Target, found: &mut Found, asked: &[Request<'_>]) {
    let mut frames = Vec::new();
    for request in asked.iter().cycle().take(FRAMES) {
        let mut frame = Vec::new();
        request.encode(&mut frame).expect("a frame");
        frames.extend(frame);
    }
    let mut open: Vec<(UnixStream, usize)> = Vec::new();
    let mut attach = Vec::new();
    let request = Request::Attach { protocol: PROTOCOL_VERSION, mailbox: false };
    request.encode(&mut attach).expect("a frame");
    let mut answers = vec![0; 1 << 20];
    while target.goes_on() {
        while open.len() < SOCKETS {
            let Ok(mut stream) = UnixStream::connect(&target.socket) else { break };
            if stream.write_all(&attach).is_err() || stream.set_nonblocking(true).is_err() {
                break;
            }
            open.push((stream, 0));
        }
        open.retain_mut(|(stream, sent)| {
            let is_open = match stream.read(&mut answers) {
                Ok(0) => false,
                Ok(_) => true,
                Err(error) => error.kind() == ErrorKind::WouldBlock,
            };
            while let Ok(bytes @ 1..) = stream.write(&frames[*sent..]) {
                *sent = (*sent + bytes) % frames.len();
                found.repeats += u64::from(*sent == 0);
            }
            is_open
        });
    }
    found.says(format!("{} sockets at once, each with {FRAMES} requests ahead", open.len()));
}

/// Connects many times, attaches all at once, and leaves all at once.
pub fn attaches(target: &Target, found: &mut Found) {
    let mut attach = Vec::new();
    let request = Request::Attach { protocol: PROTOCOL_VERSION, mailbox: true };
    request.encode(&mut attach).expect("a frame");
    while target.goes_on() {
        let connect = |_| UnixStream::connect(&target.socket).ok();
        let mut open: Vec<UnixStream> = (0..ATTACHES).map_while(connect).collect();
        let Some(mut last) = open.pop() else { continue };
        let mut wait = |stream: &mut UnixStream| {
            let _ = stream.set_read_timeout(Some(PATIENCE));
            found.repeats += u64::from(stream.read(&mut [0; 4096]).is_ok());
        };
        // They are accepted in this order, and then attach together.
        let _ = last.write_all(&attach);
        wait(&mut last);
        open.iter_mut().for_each(|stream| drop(stream.write_all(&attach)));
        open.iter_mut().for_each(&mut wait);
    }
}

/// Keeps the rings of many mailboxes full.
pub fn mailboxes(target: &Target, found: &mut Found) {
    let value = vec![b'c'; 100];
    let set =
        Set { key: b"attack:c", value: &value, ttl: None, flags: 0, write: None, reply: false };
    let request = payload(&Request::Set(set));
    let head = Head { kind: Kind::Whole, lane: None, sequence: 0 };
    let pushed = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut held = Vec::new();
                while target.goes_on() {
                    if held.len() < MAILBOXES / THREADS {
                        held.extend(Posted::try_attached(&target.socket));
                    }
                    for posted in &mut held {
                        let mut count = 0;
                        while posted.producer.push(head, &request).is_ok() {
                            count += 1;
                        }
                        posted.ring();
                        pushed.fetch_add(count, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    found.repeats = pushed.into_inner();
    found.says(format!("{MAILBOXES} mailboxes at once, their rings full of sets"));
}
