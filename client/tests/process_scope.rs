//! The hazards: a key of process scope is requested from the daemon each time, or outlives a write
//! of its own process; a key of host scope is kept in the process, where writes of other processes
//! do not reach it; a forked child reads its parent's cache.

mod fake;

use fake::{Act, FakeDaemon, FakeTable, found, framed};
use l1d_client::{Client, Lifetime, Lookup, SetOptions, Source};
use l1d_wire::protocol::{ErrorCode, Request, Response};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const KEY: &[u8] = b"local:key";

struct Setting {
    daemon: FakeDaemon,
    cache: Client,
    gets: Arc<AtomicU64>,
    /// Last, because the daemon's socket is in it.
    _directory: tempfile::TempDir,
}

/// A daemon that answers each get with its number, and a client that knows the policy.
fn setting() -> Setting {
    let directory = tempfile::tempdir().unwrap();
    let table = FakeTable::new(directory.path(), 1);
    let socket = directory.path().join("socket");
    let gets = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&gets);
    let daemon = FakeDaemon::start(&socket, &table, move |_, request| match request {
        Request::Get { key: b"local:absent" } => {
            Act::Reply(framed(&Response::Absent { ttl: Duration::from_secs(1000) }))
        }
        Request::Get { .. } => {
            let number = count.fetch_add(1, Ordering::SeqCst);
            Act::Reply(found(number.to_string().as_bytes()))
        }
        Request::GetMany { keys } => {
            let answer = |_: &&[u8]| Response::Found {
                value: b"many",
                flags: 0,
                version: 0,
                ttl: Duration::from_secs(1000),
            };
            Act::Reply(framed(&Response::Many(keys.iter().map(answer).collect())))
        }
        Request::Set(set) if set.value == b"refused" => Act::Reply(framed(&Response::Error {
            code: ErrorCode::TierFailed,
            message: "it is down",
        })),
        Request::Set(_) => {
            Act::Reply(framed(&Response::Stored { version: 0, degraded: false, life: None }))
        }
        Request::Delete { .. } => {
            Act::Reply(framed(&Response::Deleted { existed: true, degraded: false }))
        }
        Request::Flush { .. } => Act::Reply(framed(&Response::Json("{}"))),
        _ => Act::Close,
    });
    daemon.set_process_scope(b"local:");
    let cache = Client::connect(&socket).unwrap();
    Setting { _directory: directory, daemon, cache, gets }
}

#[track_caller]
fn assert_reads(cache: &Client, key: &[u8], expected: &[u8], source: Source) {
    let value = cache.get(key).unwrap().unwrap();
    assert_eq!((&*value, value.meta().source), (expected, source));
}

#[test]
fn the_daemon_is_asked_once() {
    let setting = setting();
    let cache = &setting.cache;
    assert_eq!(cache.peek(KEY), None);
    assert_reads(cache, KEY, b"0", Source::Daemon);
    assert_reads(cache, KEY, b"0", Source::Process);
    let value = cache.peek(KEY).unwrap();
    assert_eq!((&*value, value.meta().flags), (&b"0"[..], 7));
    assert_eq!(cache.lookup(b"local:absent").unwrap(), Lookup::Absent);
    assert_eq!(cache.peek_lookup(b"local:absent"), Lookup::Absent);
    assert_eq!(setting.gets.load(Ordering::SeqCst), 1);

    cache.get_many(&[b"local:1", b"local:2"]).unwrap();
    assert_eq!(&*cache.peek(b"local:2").unwrap(), b"many");
    // Hits in the process cache need no daemon either.
    drop(setting.daemon);
    assert_reads(cache, KEY, b"0", Source::Process);
}

#[test]
fn keys_of_host_scope_are_not_kept() {
    let setting = setting();
    for expected in [b"0", b"1"] {
        assert_reads(&setting.cache, b"host:key", expected, Source::Daemon);
        assert_eq!(setting.cache.peek(b"host:key"), None);
    }
    setting.cache.set(b"host:key", b"set").unwrap();
    assert_eq!(setting.cache.peek(b"host:key"), None);
}

#[test]
fn writes_are_seen_at_once_and_failed_ones_leave_nothing_old() {
    let setting = setting();
    let cache = &setting.cache;
    assert_reads(cache, KEY, b"0", Source::Daemon);
    cache.set(KEY, b"set").unwrap();
    assert_reads(cache, KEY, b"set", Source::Process);
    assert!(cache.delete(KEY).unwrap().existed);
    assert_reads(cache, KEY, b"1", Source::Daemon);
    cache.set(KEY, b"refused").expect_err("stored");
    assert_reads(cache, KEY, b"2", Source::Daemon);
    cache.admin().flush(b"local:").unwrap();
    assert_reads(cache, KEY, b"3", Source::Daemon);
}

#[test]
fn a_life_is_never_longer_than_asked() {
    let setting = setting();
    let options = SetOptions { lifetime: Lifetime::DoNotKeep, ..SetOptions::default() };
    setting.cache.set_with(KEY, b"set", &options).unwrap();
    assert_eq!(setting.cache.peek(KEY), None);
}

#[test]
fn a_new_policy_empties_the_cache() {
    let setting = setting();
    assert_reads(&setting.cache, KEY, b"0", Source::Daemon);
    setting.daemon.set_process_scope(b"elsewhere:");
    // The policy comes with the next connection.
    setting.daemon.close_connections();
    assert_reads(&setting.cache, b"host:key", b"1", Source::Daemon);
    assert_eq!(setting.cache.peek(KEY), None);
    assert_reads(&setting.cache, b"elsewhere:key", b"2", Source::Daemon);
    assert!(setting.cache.peek(b"elsewhere:key").is_some());

    // Values kept under the first policy do not return under a third one that equals it.
    setting.daemon.set_process_scope(b"local:");
    setting.daemon.close_connections();
    assert_reads(&setting.cache, b"host:key", b"3", Source::Daemon);
    assert_eq!(setting.cache.peek(KEY), None);
}

#[test]
fn a_forked_child_begins_with_an_empty_cache() {
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork};

    let setting = setting();
    assert_reads(&setting.cache, KEY, b"0", Source::Daemon);
    // SAFETY: the child uses memory that malloc keeps usable after fork, and ends by `_exit`.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            let empty = setting.cache.peek(KEY).is_none();
            let asks = matches!(setting.cache.get(KEY), Ok(Some(value)) if *value == *b"1");
            let keeps = setting.cache.peek(KEY).is_some();
            // SAFETY: ends the child at once, without the parent's exit handlers.
            unsafe { nix::libc::_exit(i32::from(!(empty && asks && keeps))) }
        }
        ForkResult::Parent { child } => {
            assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0)));
        }
    }
    assert_reads(&setting.cache, KEY, b"0", Source::Process);
}
