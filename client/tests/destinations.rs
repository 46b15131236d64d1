//! The hazards: a read writes past a buffer, reports a buffer as filled that is not, or fails for
//! lack of room as if the key were absent; one key's failure hides the others' values.

mod fake;

use fake::{Act, FakeDaemon, FakeTable, found, framed};
use l1d_client::{Client, Destination, Error, Lookup, NoRoom, Source};
use l1d_wire::protocol::{ErrorCode, Request, Response};
use shm_layout::Entry;
use shm_layout::entry::NEVER;
use std::mem::MaybeUninit;
use std::time::Duration;

/// A buffer of a fixed size, as in C.
struct Buffer {
    bytes: [MaybeUninit<u8>; 8],
    filled: Option<usize>,
}

impl Buffer {
    const fn new() -> Buffer {
        Buffer { bytes: [MaybeUninit::new(0xee); 8], filled: None }
    }

    fn content(&self) -> Option<Vec<u8>> {
        let filled = self.bytes.get(..self.filled?)?;
        // SAFETY: every byte was initialised by `new`.
        Some(filled.iter().map(|byte| unsafe { byte.assume_init() }).collect())
    }
}

impl Destination for Buffer {
    fn room(&mut self, bytes: usize) -> Option<&mut [MaybeUninit<u8>]> {
        self.filled = None;
        // The whole buffer, even if the value needs less.
        (bytes <= 8).then_some(&mut self.bytes)
    }

    unsafe fn filled(&mut self, bytes: usize) {
        self.filled = Some(bytes);
    }
}

/// Provides less room than requested.
struct Short([MaybeUninit<u8>; 2]);

impl Destination for Short {
    fn room(&mut self, _: usize) -> Option<&mut [MaybeUninit<u8>]> {
        Some(&mut self.0)
    }

    unsafe fn filled(&mut self, _: usize) {
        panic!("filled with more than its room");
    }
}

/// Field order matters for dropping: the daemon ends by connecting to its socket in the directory.
struct Setting {
    cache: Client,
    _daemon: FakeDaemon,
    _directory: tempfile::TempDir,
}

fn setting() -> Setting {
    let directory = tempfile::tempdir().unwrap();
    let table = FakeTable::new(directory.path(), 1);
    table.put(b"key", b"value");
    table.put(b"long", b"more than eight bytes");
    table.publish(&Entry {
        key: b"absent",
        absent: true,
        version: 1,
        expiry: NEVER,
        ..Entry::default()
    });
    let daemon = FakeDaemon::start(&directory.path().join("socket"), &table, answer);
    let cache = Client::builder()
        .socket(&daemon.socket)
        .deadline(Duration::from_secs(5))
        .connect()
        .unwrap();
    Setting { _directory: directory, _daemon: daemon, cache }
}

fn answer(_: u64, request: &Request<'_>) -> Act {
    let one = |key: &[u8]| match key {
        b"below" => {
            Response::Found { value: b"tier", flags: 0, version: 0, ttl: Duration::from_secs(1) }
        }
        b"failing" => Response::Error { code: ErrorCode::TierFailed, message: "it is down" },
        _ => Response::Unknown,
    };
    match request {
        Request::Get { key: b"below long" } => Act::Reply(found(b"more than eight bytes")),
        Request::Get { key } => Act::Reply(framed(&one(key))),
        Request::GetMany { keys } if keys.contains(&&b"closing"[..]) => Act::Close,
        Request::GetMany { keys } => {
            Act::Reply(framed(&Response::Many(keys.iter().map(|key| one(key)).collect())))
        }
        _ => Act::Close,
    }
}

#[test]
fn a_value_fills_the_destination_from_the_table_and_from_below() {
    let Setting { cache, .. } = &setting();
    for (key, value, source) in [("key", "value", Source::Table), ("below", "tier", Source::Daemon)]
    {
        let mut buffer = Buffer::new();
        let found = cache.get_to(key, &mut buffer).unwrap().found().unwrap();
        assert_eq!((found.source, buffer.content()), (source, Some(value.into())));
        // A vector is a destination, too; its old content is replaced.
        let mut vector = b"former".to_vec();
        assert!(cache.get_to(key, &mut vector).unwrap().found().is_some());
        assert_eq!(vector, value.as_bytes());
    }
}

#[test]
fn no_value_fills_nothing() {
    let Setting { cache, .. } = &setting();
    let mut buffer = Buffer::new();
    assert_eq!(cache.get_to("absent", &mut buffer), Ok(Lookup::Absent));
    assert_eq!(cache.get_to("nowhere", &mut buffer), Ok(Lookup::Unknown));
    assert!(matches!(cache.get_to("failing", &mut buffer), Err(Error::TierFailed { .. })));
    assert_eq!(buffer.content(), None);
}

#[test]
fn a_destination_without_room_is_told_how_much_it_takes() {
    let Setting { cache, .. } = &setting();
    let mut buffer = Buffer::new();
    for key in ["long", "below long"] {
        let failed = cache.get_to(key, &mut buffer);
        assert!(matches!(failed, Err(Error::NoRoom(NoRoom { bytes: 21, .. }))), "{failed:?}");
        assert!(cache.get_to(key, &mut Short([MaybeUninit::uninit(); 2])).is_err());
    }
    assert!(matches!(cache.peek_to("long", &mut buffer), Err(NoRoom { bytes: 21, .. })));
    assert_eq!(buffer.content(), None);
    // With enough room, it can be read again.
    assert_eq!(&*cache.get("long").unwrap().unwrap(), b"more than eight bytes");
}

#[test]
fn finding_and_asking_are_apart() {
    let Setting { cache, .. } = &setting();
    let mut buffer = Buffer::new();
    assert_eq!(cache.peek_to("below", &mut buffer), Ok(Lookup::Unknown));
    assert_eq!(buffer.content(), None);
    assert_eq!(&*cache.fetch("below").unwrap().found().unwrap(), b"tier");
    assert_eq!(cache.fetch("nowhere"), Ok(Lookup::Unknown));
    assert!(cache.peek_to("key", &mut buffer).unwrap().found().is_some());
    assert_eq!(buffer.content(), Some(b"value".to_vec()));
}

#[test]
fn each_of_many_keys_has_its_own_result() {
    let Setting { cache, .. } = &setting();
    let keys = ["key", "below", "failing", "absent", "", "nowhere"];
    let results = cache.lookup_many(&keys);
    let values: Vec<_> =
        results.iter().map(|result| result.clone().ok().and_then(Lookup::found)).collect();
    assert_eq!(values[0].as_deref(), Some(&b"value"[..]));
    assert_eq!(values[1].as_deref(), Some(&b"tier"[..]));
    assert!(matches!(results[2], Err(Error::TierFailed { .. })), "{:?}", results[2]);
    assert_eq!(results[3], Ok(Lookup::Absent));
    assert!(matches!(results[4], Err(Error::TooLarge { .. })), "{:?}", results[4]);
    assert_eq!(results[5], Ok(Lookup::Unknown));
    assert_eq!(results.len(), keys.len());
    // The call as a whole fails.
    assert!(matches!(cache.get_many(&keys), Err(Error::TooLarge { .. })));
    assert!(matches!(cache.get_many(&["key", "failing"]), Err(Error::TierFailed { .. })));
}

#[test]
fn keys_that_the_daemon_never_answers_fail_and_known_ones_do_not() {
    let Setting { cache, .. } = &setting();
    let results = cache.lookup_many(&["closing", "key", "below"]);
    assert!(matches!(results[0], Err(Error::Unavailable { .. })), "{:?}", results[0]);
    assert!(matches!(results[1], Ok(Lookup::Found(_))), "{:?}", results[1]);
    assert!(matches!(results[2], Err(Error::Unavailable { .. })), "{:?}", results[2]);
}

#[test]
fn only_what_the_table_holds_has_a_token() {
    let Setting { cache, .. } = &setting();
    let token = |key: &str| cache.get(key).unwrap().unwrap().meta().token();
    assert!(token("key").is_some());
    assert_eq!(token("key"), token("key"));
    assert_eq!(token("below"), None);
}

#[test]
fn each_of_several_keys_has_its_own_destination() {
    let Setting { cache, .. } = &setting();
    let keys = ["key", "absent", "below", "long", "key", "key"];
    // One destination too few.
    let mut buffers = [const { Buffer::new() }; 5];
    let to_ask = cache.peek_many_to(&keys, &mut buffers);
    assert_eq!(to_ask, [2, 3, 5], "unknown, without room, without a destination");
    let value = Some(b"value".to_vec());
    assert_eq!(buffers.each_ref().map(Buffer::content), [value.clone(), None, None, None, value]);

    let mut more: Vec<Buffer> = (0..40).map(|_| Buffer::new()).collect();
    assert_eq!(cache.peek_many_to(&["key"; 40], &mut more), [0; 0], "more than one batch");
    assert!(more.iter().all(|buffer| buffer.content().as_deref() == Some(b"value")));
}
