//! The hazards: a process maps memory that another user can change or truncate, trusts a daemon's
//! claims, waits forever for a silent daemon, or leaks a descriptor with each refusal.

mod fake;

use fake::{Act, AttachFault, FakeDaemon, FakeTable};
use l1d_client::{Client, Error};
use std::path::Path;
use std::time::Duration;

fn connect(socket: &Path) -> Result<Client, Error> {
    Client::builder().socket(socket).deadline(Duration::from_millis(300)).connect()
}

/// The error of connecting with this fault. Asserts that no descriptor to the table's directory
/// stays open.
fn refusal(fault: AttachFault) -> Error {
    let directory = tempfile::tempdir().unwrap();
    let table = FakeTable::new(directory.path(), 5);
    let socket = directory.path().join("socket");
    let daemon = FakeDaemon::start(&socket, &table, |_, _| Act::Silence);
    daemon.set_fault(fault);
    let error = connect(&socket).expect_err("it attached");
    drop(daemon);
    let open = open_below(directory.path());
    assert_eq!(open, Vec::<String>::new(), "left open after {fault:?}");
    let mapped = std::fs::read_to_string("/proc/self/maps").unwrap();
    let table = table.path.to_str().unwrap().to_owned();
    // The test's own writer has one writable mapping; the client's would be read-only.
    let readers = mapped.lines().filter(|line| line.contains(&table) && line.contains(" r--s "));
    assert_eq!(readers.count(), 0, "left mapped after {fault:?}");
    error
}

fn open_below(directory: &Path) -> Vec<String> {
    let links = std::fs::read_dir("/proc/self/fd").unwrap();
    links
        .filter_map(|link| std::fs::read_link(link.ok()?.path()).ok())
        .filter(|target| target.starts_with(directory))
        .map(|target| target.display().to_string())
        .collect()
}

#[track_caller]
fn assert_untrusted(fault: AttachFault, why: &str) {
    let error = refusal(fault);
    let Error::Untrusted { reason, .. } = &error else { panic!("{error}") };
    assert!(reason.contains(why), "{reason}");
}

#[test]
fn a_table_that_is_not_what_it_should_be_is_refused() {
    assert_untrusted(AttachFault::NoDescriptor, "no descriptor");
    assert_untrusted(AttachFault::WrongBytes, "bytes");
    assert_untrusted(AttachFault::WrongId, "another table");
    assert_untrusted(AttachFault::WritableDescriptor, "can write");
    assert_untrusted(AttachFault::SharedWriteMode, "lets others write");
    assert_untrusted(AttachFault::OtherFile, "not an l1d table");
}

#[test]
fn a_daemon_that_answers_nonsense_is_named_so() {
    for fault in [AttachFault::Garbage, AttachFault::HugeFrame, AttachFault::Cut] {
        let error = refusal(fault);
        assert!(matches!(error, Error::Internal { .. }), "{fault:?}: {error}");
    }
    let error = refusal(AttachFault::WrongProtocol);
    assert!(matches!(error, Error::WrongProtocol { .. }), "{error}");
}

#[test]
fn a_silent_daemon_costs_its_deadline_and_no_more() {
    let error = refusal(AttachFault::Silence);
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
}

#[test]
fn a_full_backlog_costs_the_deadline_and_no_more() {
    use nix::sys::socket::{
        AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket,
    };
    use std::os::fd::AsRawFd;

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let address = UnixAddr::new(&path).unwrap();
    let open = |flags| socket(AddressFamily::Unix, SockType::Stream, flags, None).unwrap();
    let listener = open(SockFlag::empty());
    bind(listener.as_raw_fd(), &address).unwrap();
    listen(&listener, Backlog::new(0).unwrap()).unwrap();
    let mut waiting = Vec::new();
    loop {
        let one = open(SockFlag::SOCK_NONBLOCK);
        match connect(one.as_raw_fd(), &address) {
            Ok(()) => waiting.push(one),
            Err(nix::errno::Errno::EAGAIN) => break,
            Err(errno) => panic!("{errno}"),
        }
    }
    let error = self::connect(&path).expect_err("it attached");
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
}

#[test]
fn a_missing_daemon_is_reported_at_once_and_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("none");
    let error = connect(&socket).expect_err("it attached");
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    assert!(error.to_string().contains("none"), "{error}");

    let long = directory.path().join("x".repeat(200));
    assert!(matches!(connect(&long), Err(Error::Unavailable { .. })));
}

#[test]
fn descriptors_beyond_the_table_are_closed() {
    let directory = tempfile::tempdir().unwrap();
    let table = FakeTable::new(directory.path(), 5);
    table.put(b"key", b"value");
    let socket = directory.path().join("socket");
    let daemon = FakeDaemon::start(&socket, &table, |_, _| Act::Silence);
    daemon.set_fault(AttachFault::ExtraDescriptor);
    let cache = connect(&socket).unwrap();
    assert_eq!(&*cache.peek(b"key").unwrap(), b"value");
    // The extra descriptor is the daemon's end of this very connection. If a copy of it were still
    // open here, the client would never see the daemon close it, and would wait for the whole
    // deadline.
    drop(daemon);
    let error = cache.get(b"other").expect_err("it answered");
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    assert_eq!(open_below(directory.path()), Vec::<String>::new());
}

#[test]
fn another_users_daemon_is_refused_where_one_user_is_expected() {
    let directory = tempfile::tempdir().unwrap();
    let table = FakeTable::new(directory.path(), 5);
    let socket = directory.path().join("socket");
    let _daemon = FakeDaemon::start(&socket, &table, |_, _| Act::Silence);
    let builder = Client::builder().socket(&socket);
    let own = nix::unistd::geteuid().as_raw();
    builder.clone().owner_uid(own).connect().unwrap();
    if own != 0 {
        let refused = builder.owner_uid(own + 1).connect();
        assert!(matches!(refused, Err(Error::Untrusted { .. })));
    }
}
