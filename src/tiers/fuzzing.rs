//! Targets: whatever a memcached or a Redis server says, in pieces of any size.
//!
//! An input is some requests, the sizes of the pieces, and the server's bytes.

use super::connection::{Asked, Protocol};
use super::memcached::Memcached;
use super::redis::Redis;
use super::request::{Again, Ask, Request};
use super::{Operate, Operation};
use ::redis::IntoConnectionInfo;
use fuzz_driver::Input;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

/// Low, so that inputs reach it.
const VALUE_BYTES_MAX: u8 = 64;
/// Pieces before the rest comes at once.
const PIECES_MAX: usize = 16;

/// Responses of memcached.
pub fn memcached(data: &[u8]) {
    let new = |holds_copies| Memcached::new(holds_copies, VALUE_BYTES_MAX.into());
    drive(|choices| new(choices.byte().is_multiple_of(2)), data);
}

/// Replies of Redis.
pub fn redis(data: &[u8]) {
    let server = "redis://localhost".into_connection_info();
    drive(|_| Redis::new(server.clone().expect("a URL"), VALUE_BYTES_MAX.into()), data);
}

fn drive<P: Protocol>(new: impl Fn(&mut Input<'_>) -> P, data: &[u8])
where
    P::Message: Debug + PartialEq,
{
    let mut input = Input::new(data);
    let mut protocol = new(&mut input);
    let asked: Vec<Asked> = (0..=input.byte() % 6).map(|_| ask(&mut input)).collect();
    let sizes: Vec<usize> = (0..=input.below(PIECES_MAX)).map(|_| input.byte().into()).collect();
    let stream = input.rest();
    // Whether the bytes after the last message are nonsense may show with one that is still to come;
    // the deadline bounds that.
    let messages = decode(&protocol, &sizes, stream);
    let whole = decode(&protocol, &[], stream);
    assert_eq!(messages, whole, "in pieces of {sizes:?}");
    answer_all(&mut protocol, asked, messages);
    greet(&protocol, whole);
}

/// The messages in `stream`, which comes in pieces of these sizes, up to what is none.
fn decode<P: Protocol>(protocol: &P, sizes: &[usize], stream: &[u8]) -> Vec<P::Message> {
    let (mut decoder, mut messages, mut rest) = (P::Decoder::default(), Vec::new(), stream);
    let mut sizes = sizes.iter().copied();
    while !rest.is_empty() {
        let size = sizes.next().unwrap_or(usize::MAX).min(rest.len());
        let (mut piece, after) = rest.split_at(size);
        rest = after;
        loop {
            match protocol.decode(&mut decoder, &mut piece) {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(_) => return messages,
            }
        }
        assert!(piece.is_empty(), "bytes are left although more are wanted");
    }
    messages
}

/// Sends the requests and takes the messages as their answers.
fn answer_all<P: Protocol>(protocol: &mut P, asked: Vec<Asked>, messages: Vec<P::Message>) {
    let mut messages = messages.into_iter();
    let mut waiting = asked.as_slice();
    while !waiting.is_empty() {
        let mut out = Vec::new();
        let Ok((covered, mut shape)) = protocol.encode(waiting, 16, &mut out) else {
            assert!(out.is_empty(), "a request that cannot be sent was sent in part");
            waiting = &waiting[1..];
            continue;
        };
        assert!((1..=waiting.len()).contains(&covered) && !out.is_empty());
        let mut answers = Vec::new();
        loop {
            let Some(message) = messages.next() else { return };
            match protocol.answer(&waiting[..covered], &mut shape, message, &mut answers) {
                Ok(false) => {}
                Ok(true) => break,
                Err(_) => return,
            }
        }
        assert_eq!(answers.len(), covered, "an answer for each request");
        waiting = &waiting[covered..];
    }
}

/// Takes the messages as answers to all that is said outside of requests.
fn greet<P: Protocol>(protocol: &P, messages: Vec<P::Message>) {
    let mut session = P::Session::default();
    for (number, message) in messages.into_iter().enumerate() {
        let _ = match number % 4 {
            0 => protocol.greeted(&mut session, message).is_ok(),
            1 => protocol.introduced(message).is_ok(),
            2 => protocol.check_probe(message).is_ok(),
            _ => protocol.has_ended(&message),
        };
    }
    protocol.end_session(&session, &P::Session::default(), &mut Vec::new());
}

fn ask(input: &mut Input<'_>) -> Asked {
    let (kind, again) = (input.byte(), input.byte());
    let key = match input.byte() % 3 {
        0 => Arc::from(&b"key"[..]),
        1 => Arc::from(&b"not plain\n"[..]),
        _ => Arc::from([b'k'; 300]),
    };
    let (value, flags): (Arc<[u8]>, _) = (Arc::from(&b"value"[..]), 7);
    let ttl = Duration::from_secs(9);
    let ask = match kind % 16 {
        0 => Ask::Set { value, flags, ttl: Some(ttl) },
        1 => Ask::Add { value, flags, ttl },
        2 => Ask::Delete,
        3 => Ask::GetUnique,
        4 => Ask::Condition { unique: Some(5), operate: operate(again) },
        5 => Ask::Condition { unique: None, operate: operate(again) },
        6 | 7 => Ask::Operate(operate(again)),
        _ => Ask::Get,
    };
    let mut asked = Asked::new(Some(1), Request { key, ask });
    asked.again = match again % 8 {
        1 => Some(Again::WithLife),
        2 => Some(Again::Alone),
        3 => Some(Again::Size),
        _ => None,
    };
    asked
}

fn operate(choice: u8) -> Arc<Operate> {
    let (value, flags): (Arc<[u8]>, _) = (Arc::from(&b"value"[..]), 7);
    let expected = Arc::from(&b"old"[..]);
    let operation = match choice % 10 {
        0 => Operation::Add { value, flags },
        1 => Operation::Replace { value, flags },
        2 => Operation::CompareAndSet { expected, value, flags },
        3 => Operation::DeleteIf { expected },
        4 => Operation::Append { bytes: value },
        5 => Operation::Prepend { bytes: value },
        6 => Operation::Count { by: -3, initial: Some(1) },
        7 => Operation::Count { by: i64::MAX, initial: None },
        8 => Operation::Touch,
        _ => Operation::GetAndTouch,
    };
    let is_framed = choice >= 128;
    let value_bytes_max = VALUE_BYTES_MAX.into();
    Arc::new(Operate { operation, ttl: Some(Duration::from_secs(9)), value_bytes_max, is_framed })
}

/// What a server sends: requests of these kinds, the pieces' sizes, the stream.
#[cfg(test)]
pub mod seeds {
    use std::iter::once;

    /// Responses as memcached 1.6 writes them.
    pub fn memcached() -> Vec<Vec<u8>> {
        let one = |kind, again, stream: &[u8]| input(&[0], &[(kind, again)], stream);
        let gets = |count: usize, stream: &[u8]| input(&[0], &vec![(8, 0); count], stream);
        vec![
            gets(1, b"VA 5 t-1 f7 O0\r\nvalue\r\n"),
            gets(1, b"EN\r\n"),
            gets(4, b"VA 1 t9 f7 O2\r\nx\r\nVA 0 t-1 f0 O0\r\n\r\nMN\r\n"),
            gets(4, b"VA 1 t9 f7 O1\r\nx\r\nSERVER_ERROR out of memory\r\nMN\r\n"),
            gets(1, &[b"VA 70 t9 f0 O0\r\n".as_slice(), &[b'v'; 70], b"\r\n"].concat()),
            gets(1, b"VA 0 t5 f0 O0 W Z\r\n\r\nVA 1 t5 f0 O1 X\r\nv\r\n"),
            one(0, 0, b"HD O0\r\n"),
            one(0, 0, b"NS O0\r\n"),
            one(0, 0, b"SERVER_ERROR object too large for cache\r\n"),
            one(1, 0, b"NS O0\r\n"),
            one(2, 0, b"NF O0\r\n"),
            one(3, 0, b"VA 2 t9 f7 c12345 O0\r\n42\r\n"),
            one(4, 2, b"EX O0\r\n"),
            one(4, 6, b"VA 2 O0\r\n39\r\n"),
            one(5, 6, b"HD O0\r\n"),
            one(6, 9, b"VA 5 f7 O0\r\nvalue\r\n"),
            one(6, 8, b"CLIENT_ERROR bad command line format\r\nERROR\r\n"),
        ]
    }

    /// Replies as Redis writes them, in both protocols.
    pub fn redis() -> Vec<Vec<u8>> {
        let one = |kind, again, stream: &[u8]| input(&[], &[(kind, again)], stream);
        let found = "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n$5\r\nvalue\r\n:9000\r\n";
        let two =
            "+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*3\r\n*2\r\n$1\r\nv\r\n$-1\r\n:-1\r\n:-2\r\n";
        let long = [b"$70\r\n".as_slice(), &[b'v'; 70], b"\r\n"].concat();
        let info =
            b"$61\r\n# Server\r\nredis_version:7.0.15\r\nrun_id:0123456789abcdef0123\r\n\r\n";
        vec![
            one(8, 0, found.as_bytes()),
            input(&[], &[(8, 0), (8, 0)], two.as_bytes()),
            one(8, 0, b"+OK\r\n+QUEUED\r\n+QUEUED\r\n-EXECABORT Transaction discarded\r\n"),
            one(8, 3, b":70\r\n"),
            one(8, 2, &long),
            one(0, 0, b"+OK\r\n"),
            one(0, 0, b"-OOM command not allowed when used memory > 'maxmemory'.\r\n"),
            one(0, 0, b"-READONLY You can't write against a read only replica.\r\n"),
            one(2, 0, b":1\r\n"),
            one(6, 6, b"*2\r\n:42\r\n:9000\r\n"),
            one(6, 2, b"-NOSCRIPT No matching script. Please use EVAL.\r\n"),
            one(6, 9, b"*3\r\n$5\r\nvalue\r\n:9000\r\n_\r\n"),
            one(8, 0, b">2\r\n+invalidate\r\n*1\r\n$1\r\nk\r\n%1\r\n+proto\r\n:3\r\n"),
            one(8, 0, b"=7\r\ntxt:abc\r\n#t\r\n,1.5\r\n(123456789012345678901\r\n~1\r\n+a\r\n"),
            one(8, 0, info),
            one(8, 0, b"|1\r\n+ttl\r\n:3\r\n*-1\r\n$?\r\n;4\r\nabcd\r\n;0\r\n"),
        ]
    }

    fn input(first: &[u8], asked: &[(u8, u8)], stream: &[u8]) -> Vec<u8> {
        let count = u8::try_from(asked.len() - 1).expect("a few requests");
        let asked = asked.iter().flat_map(|(kind, again)| [*kind, *again, 0]);
        // Three pieces, and the rest.
        let sizes = [2, 0, 3, 1, 7];
        let parts = first.iter().copied().chain(once(count)).chain(asked).chain(sizes);
        parts.chain(stream.iter().copied()).collect()
    }
}
