//! The hazards that need a fake daemon: two tables that differ only in their identity; values
//! outside the table, which cannot be recognised as unchanged later; a forked child that waits for
//! a lock whose holder does not exist in it.

mod fake;

use fake::{Act, FakeDaemon, FakeTable, found, framed};
use l1d_client::{Client, Memo};
use l1d_wire::protocol::{Request, Response};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use shm_layout::Entry;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

struct Setting {
    table: Arc<FakeTable>,
    daemon: FakeDaemon,
    cache: Client,
    memo: Memo<Vec<u8>>,
    decodes: AtomicU64,
    /// Last, because the daemon's socket is in it.
    directory: tempfile::TempDir,
}

/// `answer` is the daemon's reaction to a get of a key that is not in the table.
fn setting(answer: impl Fn(&FakeTable, &[u8]) -> Act + Send + Sync + 'static) -> Setting {
    let directory = tempfile::tempdir().unwrap();
    let table = FakeTable::new(directory.path(), 1);
    let socket = directory.path().join("socket");
    let filled = Arc::clone(&table);
    let daemon = FakeDaemon::start(&socket, &table, move |_, request| match request {
        Request::Get { key } => answer(&filled, key),
        Request::Set(_) => {
            Act::Reply(framed(&Response::Stored { version: 0, degraded: false, life: None }))
        }
        _ => Act::Close,
    });
    daemon.set_process_scope(b"local:");
    let patience = Duration::from_secs(10);
    let builder = Client::builder().socket(&socket).deadline(patience).attach_deadline(patience);
    let cache = builder.connect().unwrap();
    let memo = Memo::new(&cache, 100).unwrap();
    Setting { directory, table, daemon, cache, memo, decodes: AtomicU64::new(0) }
}

impl Setting {
    /// The decoded object of `key`, and how often the decoder ran for it.
    fn decoded(&self, key: &[u8]) -> (Option<Vec<u8>>, u64) {
        let before = self.decodes.load(Ordering::Relaxed);
        let object = self.memo.decoded(key, |value| {
            self.decodes.fetch_add(1, Ordering::Relaxed);
            Ok::<_, Infallible>(value.to_vec())
        });
        let object = object.unwrap().map(|object| object.to_vec());
        (object, self.decodes.load(Ordering::Relaxed) - before)
    }
}

fn some(value: &[u8]) -> Option<Vec<u8>> {
    Some(value.to_vec())
}

#[test]
fn tables_that_agree_in_hash_and_version_are_told_apart() {
    let setting = setting(|_, _| Act::Close);
    setting.table.put(b"key", b"one");
    assert_eq!(setting.decoded(b"key"), (some(b"one"), 1));
    let second = FakeTable::new(setting.directory.path(), 2);
    second.put(b"key", b"two");
    setting.daemon.set_table(&second);
    setting.table.writer().supersede();
    // Another read attaches to the new table first, so that the memo sees only its versions.
    assert_eq!(setting.cache.peek(b"key").as_deref(), Some(&b"two"[..]));
    assert_eq!(setting.decoded(b"key"), (some(b"two"), 1));
    assert_eq!(setting.decoded(b"key"), (some(b"two"), 0));
}

#[test]
fn a_version_distinguishes_two_values_of_a_key_and_two_keys() {
    let setting = setting(|_, _| Act::Close);
    let publish = |key, value, version| {
        let expiry = shm_layout::entry::NEVER;
        setting.table.publish(&Entry { key, value, version, expiry, ..Entry::default() });
    };
    publish(b"key", b"one", 1);
    publish(b"other", b"other", 2);
    assert_eq!(setting.decoded(b"key"), (some(b"one"), 1));
    assert_eq!(setting.decoded(b"other"), (some(b"other"), 1));
    publish(b"key", b"two", 3);
    assert_eq!(setting.decoded(b"key"), (some(b"two"), 1));
    assert_eq!(setting.decoded(b"other"), (some(b"other"), 0));
    // Moved by the owner: the same version in another place.
    publish(b"key", b"two", 3);
    assert_eq!(setting.decoded(b"key"), (some(b"two"), 0));
    assert_eq!(setting.decoded(b"key"), (some(b"two"), 0));
    // A floor hides them, and the daemon that would then be asked has gone.
    setting.table.writer().raise_policy_floor(0, 4);
    let hidden = setting.memo.decoded(b"key", |value| Ok::<_, Infallible>(value.to_vec()));
    assert!(hidden.is_err(), "{hidden:?}");
}

#[test]
fn a_value_outside_the_table_is_decoded_each_time() {
    let answers = AtomicU64::new(0);
    let setting = setting(move |_, _| {
        Act::Reply(found(answers.fetch_add(1, Ordering::Relaxed).to_string().as_bytes()))
    });
    assert_eq!(setting.decoded(b"host:key"), (some(b"0"), 1));
    assert_eq!(setting.decoded(b"host:key"), (some(b"1"), 1));
    // With process scope, the bytes are kept, and this process sees its own write.
    assert_eq!(setting.decoded(b"local:key"), (some(b"2"), 1));
    assert_eq!(setting.decoded(b"local:key"), (some(b"2"), 1));
    setting.cache.set(b"local:key", b"set").unwrap();
    assert_eq!(setting.decoded(b"local:key"), (some(b"set"), 1));
}

#[test]
fn a_fetched_value_that_the_table_keeps_is_decoded_once() {
    let setting = setting(|table, key| {
        table.put(key, b"fetched");
        Act::Reply(found(b"fetched"))
    });
    assert_eq!(setting.decoded(b"key"), (some(b"fetched"), 1));
    assert_eq!(setting.decoded(b"key"), (some(b"fetched"), 0));
}

#[test]
fn a_child_begins_with_an_empty_memo_and_waits_for_no_lock_of_its_parent() {
    const KEYS: usize = 8;
    let setting = setting(|_, _| Act::Close);
    let keys: Vec<_> = (0..KEYS).map(|key| format!("key {key}").into_bytes()).collect();
    for (key, version) in keys.iter().zip(1..) {
        let expiry = shm_layout::entry::NEVER;
        setting.table.publish(&Entry { key, value: key, version, expiry, ..Entry::default() });
    }
    // Smaller than the number of keys, so that its locks are taken for writing at any time.
    let small = Memo::<Vec<u8>>::new(&setting.cache, 2).unwrap();
    let ask = |memo: &Memo<Vec<u8>>, key: &[u8], mark: u8| {
        memo.decoded(key, |value| Ok::<_, Infallible>([value, &[mark]].concat()))
    };
    let full = Memo::<Vec<u8>>::new(&setting.cache, 100).unwrap();
    for key in &keys {
        ask(&full, key, b'p').unwrap();
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    for key in &keys {
                        assert!(ask(&small, key, b'p').unwrap().unwrap().starts_with(key));
                    }
                }
            });
        }
        let child = || {
            for _ in 0..100 {
                for key in &keys {
                    for memo in [&small, &full] {
                        let object = ask(memo, key, b'c');
                        let expected = [key, &b"c"[..]].concat();
                        if !matches!(object, Ok(Some(object)) if *object == expected) {
                            return 1;
                        }
                    }
                }
            }
            0
        };
        for _ in 0..8 {
            // SAFETY: the child uses memory that malloc keeps usable after fork, and ends by
            // `_exit`.
            match unsafe { fork() }.unwrap() {
                ForkResult::Parent { child } => {
                    let ended = waitpid(child, None);
                    if ended != Ok(WaitStatus::Exited(child, 0)) {
                        stop.store(true, Ordering::Relaxed);
                    }
                    assert_eq!(ended, Ok(WaitStatus::Exited(child, 0)));
                }
                ForkResult::Child => {
                    // SAFETY: touches no memory. SIGALRM ends a child that waits for a lock.
                    unsafe { nix::libc::alarm(30) };
                    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child));
                    // SAFETY: ends the child at once, without the parent's exit handlers.
                    unsafe { nix::libc::_exit(outcome.unwrap_or(101)) }
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    for key in &keys {
        assert_eq!(*ask(&full, key, b'x').unwrap().unwrap(), [key, &b"p"[..]].concat());
    }
}
