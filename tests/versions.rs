//! The hazards: a daemon turns away the clients of the previous release, or a client that does not
//! know the layout of its table or mailbox is left without a cache. With the real daemon.

use l1d_client::{Client, Error, Lifetime, Memo, SetOptions, Source};
use l1d_wire::protocol::frame::HEADER_BYTES;
use l1d_wire::protocol::{Attached, ErrorCode, Layouts, PROTOCOL_VERSION, Request, Response, Set};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use std::io::{IoSlice, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use test_support::daemon::Daemon;
use test_support::posted::receive_with_files;
use test_support::servers::{PATIENCE, until};

const CONFIG: &str = "[table]\nvalue_bytes_max = \"64KiB\"\n\n\
                      [[policy]]\nprefix = \"own:\"\nscope = \"process\"\n";

fn start() -> Daemon {
    Daemon::start(env!("CARGO_BIN_EXE_l1d"), CONFIG, "16MiB")
}

fn open(socket: &Path) -> UnixStream {
    let stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// The daemon's answer to an attach in this version, byte by byte as version 4 sends it.
fn attach(stream: &mut UnixStream, protocol: u32, mailbox: bool) -> (Vec<u8>, Vec<OwnedFd>) {
    let mut frame = [6, 0, 0, 0, 1, 0, 0, 0, 0, u8::from(mailbox)];
    frame[5..9].copy_from_slice(&protocol.to_le_bytes());
    stream.write_all(&frame).unwrap();
    let (frame, files) = receive_with_files(stream);
    (frame[HEADER_BYTES..].to_vec(), files)
}

#[test]
fn a_client_of_version_4_is_answered_in_its_version() {
    let daemon = start();
    for mailbox in [false, true] {
        let mut stream = open(&daemon.socket());
        let (payload, files) = attach(&mut stream, 4, mailbox);
        assert_eq!(files.len(), 1 + usize::from(mailbox));
        assert_eq!(payload[..5], [129, 4, 0, 0, 0]);
        // Kind, version, five figures; then nothing but the policy.
        let policy = &payload[1 + 4 + 5 * 8..];
        let policy_bytes = u32::from_le_bytes(*policy.first_chunk().unwrap());
        assert_eq!(policy.len(), 4 + usize::try_from(policy_bytes).unwrap());
        assert_eq!(policy[4], 2, "the format of the policy");
        if mailbox {
            continue;
        }
        // Get "key".
        stream.write_all(&[8, 0, 0, 0, 2, 3, 0, 0, 0, b'k', b'e', b'y']).unwrap();
        let mut unknown = [0; 5];
        stream.read_exact(&mut unknown).unwrap();
        assert_eq!(unknown, [1, 0, 0, 0, 132]);
    }
}

/// Stores a value over the socket or in the mailbox, with a life that it does not get.
fn set_forever(client: &Client) -> Option<Duration> {
    let options = SetOptions { lifetime: Lifetime::Forever, ..SetOptions::default() };
    let many = client.set_many_with(&[("one", "1"), ("two", "2")], &options).unwrap();
    let stored = client.set_with("key", "v", &options).unwrap();
    for other in many {
        assert_eq!(other.unwrap().shortened_to, stored.shortened_to);
    }
    stored.shortened_to
}

#[test]
fn a_client_of_version_4_is_not_told_what_it_does_not_know() {
    let daemon = start();
    let set = |key, reply| Set {
        key,
        value: b"v",
        ttl: Some(Duration::MAX),
        flags: 0,
        write: None,
        reply,
    };
    let one = Request::Set(set(b"k", true));
    let many = Request::SetMany { sets: vec![set(b"k", true), set(b"l", true)] };
    for (request, kind, bytes) in [(&one, 134, 10), (&many, 133, 5 + 2 * (4 + 10))] {
        for (protocol, more) in [(4, 0), (5, 8)] {
            let mut stream = open(&daemon.socket());
            let _ = attach(&mut stream, protocol, false);
            let mut frame = Vec::new();
            request.encode(&mut frame).unwrap();
            stream.write_all(&frame).unwrap();
            let (frame, _) = receive_with_files(&stream);
            let times = if kind == 133 { 2 } else { 1 };
            assert_eq!((frame[4], frame.len()), (kind, 4 + bytes + more * times));
        }
    }
    for mailbox in [true, false] {
        let told = set_forever(
            &Client::builder().socket(daemon.socket()).mailbox(mailbox).connect().unwrap(),
        );
        assert_eq!(told, Some(Duration::from_secs(24 * 3600)));
    }
}

#[test]
fn a_newer_client_is_answered_in_the_daemons_newest_version() {
    let daemon = start();
    for protocol in [PROTOCOL_VERSION, PROTOCOL_VERSION + 1, 99, u32::MAX] {
        let (payload, _files) = attach(&mut open(&daemon.socket()), protocol, false);
        let Ok(Response::Attached(attached)) = Response::decode(&payload) else {
            panic!("not attached in version {protocol}");
        };
        assert_eq!(attached.protocol, PROTOCOL_VERSION);
        assert_eq!(attached.layouts, Some(Layouts::OWN));
    }
}

#[test]
fn a_client_that_is_too_old_is_told_so() {
    let daemon = start();
    for protocol in [0, 3] {
        let (payload, files) = attach(&mut open(&daemon.socket()), protocol, true);
        assert!(files.is_empty());
        let refused = Response::decode(&payload).unwrap();
        let Response::Error { code: ErrorCode::WrongProtocol, message } = refused else {
            panic!("{refused:?}");
        };
        assert!(message.contains("upgrade the client"), "{message}");
    }
}

type Change = fn(&mut Attached<'_>);

/// Between clients and the daemon: changes what the daemon announces.
struct Announcer {
    socket: PathBuf,
    change: Arc<Mutex<Change>>,
    _directory: tempfile::TempDir,
}

impl Announcer {
    fn before(daemon: &Daemon, change: Change) -> Announcer {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let (below, change) = (daemon.socket(), Arc::new(Mutex::new(change)));
        let shared = Arc::clone(&change);
        // It ends with the test's process.
        thread::spawn(move || {
            for client in listener.incoming() {
                let (below, change) = (below.clone(), *shared.lock().unwrap());
                thread::spawn(move || relay(client.unwrap(), &below, change));
            }
        });
        Announcer { socket, change, _directory: directory }
    }

    fn connect(&self) -> Client {
        let minute = Duration::from_secs(60);
        let builder = Client::builder().socket(&self.socket);
        builder.deadline(minute).attach_deadline(minute).connect().unwrap()
    }
}

fn layouts<'a>(attached: &'a mut Attached<'_>) -> &'a mut Layouts {
    attached.layouts.as_mut().unwrap()
}

fn relay(mut client: UnixStream, below: &Path, change: Change) {
    // Without a daemon the client is hung up on.
    let Ok(mut daemon) = UnixStream::connect(below) else { return };
    let mut attach = [0; 10];
    client.read_exact(&mut attach).unwrap();
    daemon.write_all(&attach).unwrap();
    let (frame, files) = receive_with_files(&daemon);
    let Ok(Response::Attached(mut attached)) = Response::decode(&frame[HEADER_BYTES..]) else {
        panic!("not attached");
    };
    change(&mut attached);
    let mut frame = Vec::new();
    Response::Attached(attached).encode(&mut frame).unwrap();
    let descriptors: Vec<RawFd> = files.iter().map(AsRawFd::as_raw_fd).collect();
    let control = [ControlMessage::ScmRights(&descriptors)];
    let flags = MsgFlags::MSG_NOSIGNAL;
    sendmsg::<()>(client.as_raw_fd(), &[IoSlice::new(&frame)], &control, flags, None).unwrap();
    drop(files);

    let mut ends = [(client.try_clone(), daemon.try_clone()), (Ok(daemon), Ok(client))]
        .map(|(from, to)| (from.unwrap(), to.unwrap()));
    let [up, down] = &mut ends;
    thread::scope(|scope| {
        for (from, to) in [up, down] {
            scope.spawn(|| {
                let _ = std::io::copy(from, to);
                let _ = to.shutdown(Shutdown::Both);
                let _ = from.shutdown(Shutdown::Both);
            });
        }
    });
}

fn attaches(daemon: &Client) -> u64 {
    let stats = daemon.admin().stats_json().unwrap();
    let stats: serde_json::Value = serde_json::from_str(&stats).unwrap();
    stats["requests"]["attaches"].as_u64().unwrap_or_else(|| panic!("{stats}"))
}

#[test]
fn a_client_without_a_table_works_through_the_daemon_until_there_is_one_that_it_knows() {
    let mut daemon = start();
    let announcer = Announcer::before(&daemon, |attached| layouts(attached).table.version += 1);
    let (cache, beside) = (announcer.connect(), Client::connect(daemon.socket()).unwrap());
    assert!(!cache.has_table() && beside.has_table());

    cache.set(b"key", b"value").unwrap();
    assert_eq!(beside.peek(b"key").unwrap().meta().source, Source::Table);
    cache.set_with(b"two", b"2", &SetOptions { no_wait: true, ..SetOptions::default() }).unwrap();
    until("the set that nobody waits for", || beside.peek(b"two"));
    assert_eq!(cache.peek(b"key"), None);
    let value = cache.get(b"key").unwrap().unwrap();
    assert_eq!((&*value, value.meta().source), (&b"value"[..], Source::Daemon));
    assert_eq!(cache.get(b"none").unwrap(), None);
    let many = cache.get_many(&[&b"key"[..], b"none", b"two"]).unwrap();
    let many: Vec<_> = many.iter().map(Option::as_deref).collect();
    assert_eq!(many, [Some(&b"value"[..]), None, Some(b"2")]);
    assert!(cache.delete(b"two").unwrap().existed);
    assert_eq!(beside.peek(b"two"), None);
    cache.set(b"own:key", b"mine").unwrap();
    assert_eq!(cache.peek(b"own:key").unwrap().meta().source, Source::Process);
    let memo = Memo::new(&cache, 100).unwrap();
    let length = |value: &[u8]| Ok::<_, Error>(value.len());
    assert_eq!(memo.decoded(b"key", length).unwrap().as_deref(), Some(&5));

    // A process that only peeks beside one that asks: neither attaches again.
    let before = attaches(&beside);
    for _ in 0..300 {
        assert_eq!(cache.peek(b"key"), None);
        assert!(cache.get(b"key").unwrap().is_some());
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(attaches(&beside), before);

    // The next daemon has another table, whose layout the client knows. It only peeks.
    assert!(daemon.terminate().success(), "{}", daemon.log());
    *announcer.change.lock().unwrap() = |_| {};
    std::fs::remove_file(daemon.table()).unwrap();
    daemon.restart();
    Client::connect(daemon.socket()).unwrap().set(b"key", b"next").unwrap();
    let value = until("the table of the next daemon", || cache.peek(b"key"));
    assert_eq!((&*value, value.meta().source), (&b"next"[..], Source::Table));
    assert!(cache.has_table());
}

#[test]
fn a_client_that_does_not_know_its_mailbox_asks_over_the_socket() {
    let daemon = start();
    let announcer =
        Announcer::before(&daemon, |attached| layouts(attached).mailbox.fingerprint += 1);
    let cache = announcer.connect();
    assert!(cache.has_table());
    for n in 0_u32..100 {
        let key = n.to_le_bytes();
        cache.set(key, b"value").unwrap();
        assert_eq!(cache.peek(key).unwrap().meta().source, Source::Table);
        assert!(cache.delete(key).unwrap().existed);
        assert_eq!(cache.get(key).unwrap(), None);
    }
    // The mailbox that it did not know goes with its connection.
    let has_mailboxes = |wanted: bool| {
        let clients = cache.admin().clients_json().unwrap();
        (clients.contains("\"has_mailbox\":true") == wanted).then_some(())
    };
    until("no client with a mailbox", || has_mailboxes(false));
    let _beside = Client::connect(daemon.socket()).unwrap();
    until("a client with a mailbox", || has_mailboxes(true));
}

#[test]
fn a_daemon_without_operations_is_not_sent_one_through_its_mailbox() {
    let daemon = start();
    let announcer = Announcer::before(&daemon, |attached| {
        (attached.protocol, attached.layouts) = (4, None);
    });
    let cache = announcer.connect();
    cache.set(b"key", b"value").unwrap();
    let refused = cache.touch(b"key", Lifetime::Forever).unwrap_err();
    assert!(matches!(refused, Error::Refused { .. }), "{refused}");
    assert!(refused.to_string().contains("upgrade the daemon"), "{refused}");
    let clients = cache.admin().clients_json().unwrap();
    assert!(clients.contains("\"has_mailbox\":true"), "{clients}");
    cache.set(b"key", b"value").unwrap();
    assert!(
        Client::connect(daemon.socket())
            .unwrap()
            .touch(b"key", Lifetime::Forever)
            .unwrap()
            .is_done()
    );
}
