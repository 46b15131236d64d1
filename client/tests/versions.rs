//! The hazards: a client or a daemon that was upgraded alone ends the cache of its host; a client
//! reads a table whose bytes mean something else; it asks for what it cannot use at each read.

mod fake;

use fake::{Act, Asked, AttachFault, FakeDaemon, FakeTable, Says, Speaks, found, framed};
use l1d_client::{Client, CounterOptions, Error, Lifetime, Memo, Outcome, Source};
use l1d_wire::protocol::{ErrorCode, Layouts, NotChanged, PROTOCOL_VERSION, Request, Response};
use shm_layout::Layout;
use shm_layout::mailbox::SHAPE;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const OLD: Speaks = Speaks::Only(4);

/// A daemon over a table that has "key", and the client's first connection to it.
struct Setting {
    /// Before the directory of its socket.
    daemon: FakeDaemon,
    table: Arc<FakeTable>,
    directory: tempfile::TempDir,
}

impl Setting {
    fn new(change: impl FnOnce(&mut Says)) -> Setting {
        let directory = tempfile::tempdir().unwrap();
        let table = FakeTable::new(directory.path(), 1 << 40);
        table.put(b"key", b"value");
        let daemon = FakeDaemon::start(&directory.path().join("socket"), &table, answer);
        daemon.says(change);
        Setting { directory, table, daemon }
    }

    fn connect(&self) -> Client {
        connect(&self.daemon.socket).unwrap()
    }

    /// Another table, as another daemon has it.
    fn next_table(&self, id: u64) -> Arc<FakeTable> {
        let table = FakeTable::new(self.directory.path(), id);
        table.put(b"key", b"next");
        table
    }

    fn asked_protocols(&self) -> Vec<u32> {
        self.daemon.asked().iter().map(|asked| asked.protocol).collect()
    }

    /// The protocols of the requests to attach that one read brings about, when all connections
    /// are closed before it.
    fn protocols_of_a_read(&self, cache: &Client) -> Vec<u32> {
        self.daemon.close_connections();
        assert_eq!(&*cache.get(b"below").unwrap().unwrap(), b"from below");
        self.asked_protocols()
    }
}

fn connect(socket: &Path) -> Result<Client, Error> {
    let minute = Duration::from_secs(60);
    Client::builder().socket(socket).deadline(minute).attach_deadline(minute).connect()
}

/// A daemon that has every key, by asking below.
fn answer(_: u64, request: &Request<'_>) -> Act {
    Act::Reply(match request {
        Request::GetMany { keys } => {
            let found = Response::Found {
                value: b"from below",
                flags: 0,
                version: 0,
                ttl: Duration::from_secs(1000),
            };
            framed(&Response::Many(vec![found; keys.len()]))
        }
        Request::Set(_) => framed(&Response::Stored { version: 7, degraded: false, life: None }),
        Request::Operate(_) => framed(&Response::NotChanged { reason: NotChanged::Absent }),
        Request::Delete { .. } => framed(&Response::Deleted { existed: true, degraded: false }),
        _ => found(b"from below"),
    })
}

/// A layout that nobody has.
fn unknown(layout: Layout) -> Layout {
    Layout { version: layout.version + 1, ..layout }
}

fn announce_unknown_table(says: &mut Says) {
    says.layouts = Layouts { table: unknown(Layout::TABLE), ..Layouts::OWN };
}

#[test]
fn a_daemon_that_does_not_negotiate_is_asked_again_in_its_version_and_remembered() {
    let setting = Setting::new(|says| says.speaks = OLD);
    let cache = setting.connect();
    assert_eq!(setting.asked_protocols(), [PROTOCOL_VERSION, 4]);
    assert_eq!(cache.peek(b"key").unwrap().meta().source, Source::Table);
    assert_eq!(setting.protocols_of_a_read(&cache), [4]);
    assert_eq!(setting.protocols_of_a_read(&cache), [4]);

    setting.daemon.says(|says| says.instance += 1);
    assert_eq!(setting.protocols_of_a_read(&cache), [4, PROTOCOL_VERSION, 4], "its like");
    assert_eq!(setting.protocols_of_a_read(&cache), [4]);
    setting.daemon.says(|says| (says.instance, says.speaks) = (3, Speaks::UpTo(5)));
    assert_eq!(setting.protocols_of_a_read(&cache), [4, PROTOCOL_VERSION], "an upgrade");
    assert_eq!(setting.protocols_of_a_read(&cache), [PROTOCOL_VERSION]);
    setting.daemon.says(|says| (says.instance, says.speaks) = (4, OLD));
    assert_eq!(setting.protocols_of_a_read(&cache), [PROTOCOL_VERSION, 4], "a downgrade");
    setting.daemon.says(|says| (says.instance, says.speaks) = (5, Speaks::Only(5)));
    let asked = setting.protocols_of_a_read(&cache);
    assert_eq!(asked, [4, PROTOCOL_VERSION], "a daemon that no longer speaks 4");
    assert_eq!(cache.peek(b"key").unwrap().meta().source, Source::Table);
}

#[test]
fn a_daemon_without_operations_is_not_asked_for_one() {
    for mailbox in [true, false] {
        let setting = Setting::new(|says| says.speaks = OLD);
        let minute = Duration::from_secs(60);
        let builder = Client::builder().socket(&setting.daemon.socket).deadline(minute);
        let cache = builder.mailbox(mailbox).connect().unwrap();
        let refused = cache.increment("key", 1, &CounterOptions::default());
        assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
        assert!(refused.unwrap_err().to_string().contains("upgrade the daemon"));
        assert!(cache.set("key", "v").is_ok(), "the connection goes on");
        let attaches = setting.asked_protocols();
        assert_eq!(attaches.iter().filter(|version| **version > 4).count(), 1, "{attaches:?}");

        setting.daemon.close_connections();
        setting.daemon.says(|says| (says.instance, says.speaks) = (3, Speaks::UpTo(5)));
        assert!(cache.set("key", "v").is_ok());
        assert_eq!(cache.touch("key", Lifetime::Rule), Ok(Outcome::Absent), "after its upgrade");
    }
}

#[test]
fn a_newer_daemon_that_still_speaks_this_version_is_used() {
    let setting = Setting::new(|says| says.speaks = Speaks::UpTo(99));
    let cache = setting.connect();
    assert_eq!(setting.asked_protocols(), [PROTOCOL_VERSION]);
    assert_eq!(&*cache.peek(b"key").unwrap(), b"value");
}

#[test]
fn without_a_common_version_the_error_says_whom_to_upgrade() {
    for version in [3, 99] {
        let setting = Setting::new(|says| says.speaks = Speaks::Only(version));
        let refused = connect(&setting.daemon.socket).expect_err("it attached");
        assert!(matches!(refused, Error::WrongProtocol { .. }), "{refused}");
        assert!(refused.to_string().contains("upgrade"), "{refused}");
        assert_eq!(setting.asked_protocols(), [PROTOCOL_VERSION, 4]);
    }
    // One that answers in a version that nobody asked for.
    let setting = Setting::new(|_| {});
    setting.daemon.set_fault(AttachFault::WrongProtocol);
    let refused = connect(&setting.daemon.socket).expect_err("it attached").to_string();
    assert!(refused.contains("6") && refused.contains("upgrade the client"), "{refused}");
}

#[test]
fn an_unknown_error_code_is_an_error_of_its_call_and_the_connection_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let table = FakeTable::new(directory.path(), 5);
    let last_connection = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&last_connection);
    let socket = directory.path().join("socket");
    let _daemon = FakeDaemon::start(&socket, &table, move |number, request| {
        seen.store(number, Ordering::SeqCst);
        if matches!(request, Request::Get { key: b"good" }) {
            return Act::Reply(found(b"from below"));
        }
        let code = ErrorCode::Internal;
        let mut reply = framed(&Response::Error { code, message: "of a later version" });
        reply[5] = 200;
        Act::Reply(reply)
    });
    let cache = connect(&socket).unwrap();
    for _ in 0..3 {
        let failed = [cache.get(b"bad").unwrap_err(), cache.set(b"bad", b"").unwrap_err()];
        for error in failed {
            assert!(matches!(error, Error::Other { .. }), "{error}");
            assert!(error.to_string().contains("of a later version"), "{error}");
        }
        cache.get(b"good").unwrap().unwrap();
    }
    assert_eq!(last_connection.load(Ordering::SeqCst), 0, "each error cost a connection");
}

/// All that works without a table does.
fn assert_works_without_table(cache: &Client) {
    assert!(!cache.has_table() && cache.pages().is_none());
    assert!(format!("{cache:?}").contains("has_table: false"));
    assert_eq!(cache.peek(b"key"), None);
    assert_eq!(cache.peek_into(b"key", &mut Vec::new()), None);
    assert_eq!(cache.peek_to(b"key", &mut Vec::new()).unwrap().found(), None);

    let value = cache.get(b"key").unwrap().unwrap();
    assert_eq!((&*value, value.meta().source), (&b"from below"[..], Source::Daemon));
    let mut bytes = Vec::new();
    assert!(cache.get_into(b"key", &mut bytes).unwrap().is_some());
    assert!(cache.get_to(b"key", &mut Vec::new()).unwrap().found().is_some());
    assert_eq!(cache.read_with(b"key", |value| value.len()).unwrap(), Some(10));
    let many = cache.get_many(&[b"key", b"two"]).unwrap();
    assert!(many.iter().all(|value| value.as_deref() == Some(&b"from below"[..])));
    assert_eq!(cache.set(b"key", b"new").unwrap().version, 7);
    assert!(cache.delete(b"key").unwrap().existed);

    cache.set(b"own:key", b"mine").unwrap();
    let own = cache.peek(b"own:key").unwrap();
    assert_eq!((&*own, own.meta().source), (&b"mine"[..], Source::Process));

    let memo = Memo::new(cache, 100).unwrap();
    for _ in 0..2 {
        let decoded = memo.decoded(b"key", |value| Ok::<_, Error>(value.len())).unwrap();
        assert_eq!(decoded.as_deref(), Some(&10));
    }
}

#[test]
fn a_table_of_an_unknown_layout_is_worked_without() {
    // Announced, though the header says nothing of it; and found in the header, as a daemon of
    // version 4 announces nothing, and another could be wrong.
    let announced: (fn(&mut Says), bool) = (announce_unknown_table, false);
    let other_build: (fn(&mut Says), bool) = (
        |says| {
            let table = Layout { fingerprint: 1, ..Layout::TABLE };
            says.layouts = Layouts { table, ..Layouts::OWN };
        },
        false,
    );
    let found_in_old: (fn(&mut Says), bool) = (|says| says.speaks = OLD, true);
    let found_in_new: (fn(&mut Says), bool) = (|_| {}, true);
    for (change, in_header) in [announced, other_build, found_in_old, found_in_new] {
        let setting = Setting::new(change);
        if in_header {
            setting.table.set_layout_version(2);
        }
        setting.daemon.set_process_scope(b"own:");
        let cache = setting.connect();
        assert_works_without_table(&cache);
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let path = setting.table.path.to_str().unwrap().to_owned();
        let mapped = maps.lines().filter(|line| line.contains(&path) && line.contains(" r--s "));
        assert_eq!(mapped.count(), 0, "it stays mapped");
    }
}

#[test]
fn reads_without_a_table_do_not_attach_again_and_again() {
    let setting = Setting::new(announce_unknown_table);
    let cache = setting.connect();
    let begun = Instant::now();
    setting.daemon.asked();
    for _ in 0..1000 {
        assert_eq!(cache.peek(b"key"), None);
        assert!(cache.get(b"key").unwrap().is_some());
    }
    // One each second.
    let allowed = begun.elapsed().as_secs() + 1;
    let asked = setting.daemon.asked().len() as u64;
    assert!(asked <= allowed, "{asked} requests to attach in {:?}", begun.elapsed());
}

#[test]
fn an_unknown_layout_does_not_make_an_untrusted_table_trusted() {
    for fault in [
        AttachFault::NoDescriptor,
        AttachFault::WrongBytes,
        AttachFault::WritableDescriptor,
        AttachFault::SharedWriteMode,
    ] {
        let setting = Setting::new(announce_unknown_table);
        setting.daemon.set_fault(fault);
        let error = connect(&setting.daemon.socket).expect_err("it attached");
        assert!(matches!(error, Error::Untrusted { .. }), "{fault:?}: {error}");
    }
}

#[test]
fn a_client_leaves_its_table_for_an_unknown_one_and_comes_back() {
    let setting = Setting::new(|_| {});
    let cache = setting.connect();
    assert_eq!(&*cache.peek(b"key").unwrap(), b"value");

    // R0: a daemon with another layout has replaced the table.
    let other = setting.next_table(2 << 40);
    setting.daemon.set_table(&other);
    setting.daemon.says(announce_unknown_table);
    setting.table.writer().supersede();
    assert_eq!(cache.peek(b"key"), None);
    assert!(!cache.has_table());
    let value = cache.get(b"key").unwrap().unwrap();
    assert_eq!(value.meta().source, Source::Daemon);
    setting.daemon.asked();
    assert_eq!(cache.peek(b"key"), None);
    assert_eq!(setting.daemon.asked(), []);

    // The next daemon has this client's layout again: whoever asks it finds its table at once.
    let back = setting.next_table(3 << 40);
    setting.daemon.set_table(&back);
    setting.daemon.says(|says| says.layouts = Layouts::OWN);
    setting.daemon.close_connections();
    cache.get(b"other").unwrap().unwrap();
    assert!(cache.has_table());
    let value = cache.peek(b"key").unwrap();
    assert_eq!((&*value, value.meta().source), (&b"next"[..], Source::Table));

    // And once more, for a process that only peeks: it looks once a second.
    back.writer().supersede();
    let unknown = setting.next_table(4 << 40);
    setting.daemon.set_table(&unknown);
    setting.daemon.says(announce_unknown_table);
    assert_eq!(cache.peek(b"key"), None);
    assert!(!cache.has_table());
    setting.daemon.set_table(&setting.next_table(5 << 40));
    setting.daemon.says(|says| says.layouts = Layouts::OWN);
    setting.daemon.close_connections();
    let begun = Instant::now();
    while cache.peek(b"key").is_none() {
        assert!(begun.elapsed() < Duration::from_secs(20), "the new table is not found");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn instead_of_a_mailbox_of_unknown_layout_the_socket_is_used() {
    let own = SHAPE.bytes() as u64;
    let announced: (fn(&mut Says), u64) =
        (|says| says.layouts.mailbox = unknown(Layout::MAILBOX), own);
    let of_another_size: (fn(&mut Says), u64) = (|says| says.speaks = OLD, own + 4096);
    for (change, bytes) in [announced, of_another_size] {
        let setting = Setting::new(|says| {
            change(says);
            says.mailbox_bytes = Some(bytes);
        });
        let cache = setting.connect();
        assert_eq!(cache.peek(b"key").unwrap().meta().source, Source::Table);
        for _ in 0..10 {
            let value = cache.get(b"below").unwrap().unwrap();
            assert_eq!(value.meta().source, Source::Daemon);
            cache.set(b"key", b"new").unwrap();
        }
        let wishes: Vec<Asked> = setting.daemon.asked();
        let for_mailbox: Vec<_> = wishes.iter().filter(|asked| asked.mailbox).collect();
        let greetings = if bytes == own { 1 } else { 2 };
        assert_eq!(for_mailbox.len(), greetings, "{wishes:?}");
    }
}
