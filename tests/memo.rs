//! The hazard: a process returns an object that it decoded earlier, although the table holds
//! another value of the key, or none. And the reverse, which would defeat the purpose: it decodes
//! an unchanged value again.

use l1d_client::{Client, Error, Lifetime, Memo, MemoError, SetOptions};
use nix::sys::signal::Signal;
use std::convert::Infallible;
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use test_support::daemon::{Daemon, connect};
use test_support::servers::until;

const PROGRAM: &str = env!("CARGO_BIN_EXE_l1d");
const SMALL: &str = "[table]\nvalue_bytes_max = \"64KiB\"\n";
const KEY: &[u8] = b"market:book";

/// A daemon, a client that writes, and another one whose objects are strings.
struct Setting {
    writer: Client,
    memo: Memo<String>,
    decodes: AtomicU64,
    daemon: Daemon,
}

fn setting() -> Setting {
    let daemon = Daemon::start(PROGRAM, SMALL, "16MiB");
    let memo = Memo::new(&connect(&daemon), 100).unwrap();
    Setting { writer: connect(&daemon), memo, decodes: AtomicU64::new(0), daemon }
}

impl Setting {
    fn try_decoded(
        &self,
        key: &[u8],
    ) -> Result<Option<Arc<String>>, MemoError<std::string::FromUtf8Error>> {
        self.memo.decoded(key, |value| {
            self.decodes.fetch_add(1, Ordering::Relaxed);
            String::from_utf8(value.to_vec())
        })
    }

    #[track_caller]
    fn decoded(&self, key: &[u8]) -> Option<Arc<String>> {
        self.try_decoded(key).unwrap()
    }

    /// The decoded object of `KEY`, and how often the decoder ran for it.
    #[track_caller]
    fn text(&self) -> (Option<String>, u64) {
        let before = self.decodes.load(Ordering::Relaxed);
        let text = self.decoded(KEY).map(|text| String::clone(&text));
        (text, self.decodes.load(Ordering::Relaxed) - before)
    }
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn an_unchanged_value_is_decoded_once_and_a_write_is_seen_at_once() {
    let setting = setting();
    assert_eq!(setting.text(), (None, 0));
    for n in 0..50 {
        let text = format!("book {n}");
        setting.writer.set(KEY, text.as_bytes()).unwrap();
        // Neighbours that come and go do not affect this key.
        setting.writer.set(format!("other {n}").as_bytes(), b"x").unwrap();
        assert_eq!(setting.text(), (Some(text.clone()), 1));
        assert_eq!(setting.text(), (Some(text), 0));
    }
    let (one, two) = (setting.decoded(KEY).unwrap(), setting.decoded(KEY).unwrap());
    assert!(Arc::ptr_eq(&one, &two));

    // Set by a separate process with the same bytes: a new value all the same.
    let set = Command::new(env!("CARGO_BIN_EXE_l1ctl"))
        .arg("--socket")
        .arg(setting.daemon.socket())
        .args(["set", "market:book", "book of l1ctl"])
        .status();
    assert!(set.unwrap().success());
    assert_eq!(setting.text(), (some("book of l1ctl"), 1));
    assert_eq!(*one, "book 49", "who holds an object keeps it");
}

#[test]
fn a_key_that_is_deleted_flushed_or_expired_has_no_object() {
    let setting = setting();
    setting.writer.set(KEY, b"one").unwrap();
    assert_eq!(setting.text(), (some("one"), 1));
    assert!(setting.writer.delete(KEY).unwrap().existed);
    assert_eq!(setting.text(), (None, 0));

    for prefix in [b"".as_slice(), b"market:"] {
        setting.writer.set(KEY, b"two").unwrap();
        assert_eq!(setting.text(), (some("two"), 1));
        setting.writer.admin().flush(prefix).unwrap();
        until("the flush to pass the key", || setting.decoded(KEY).is_none().then_some(()));
        assert_eq!(setting.text(), (None, 0));
    }

    let ttl = Duration::from_millis(400);
    let options = SetOptions { lifetime: Lifetime::For(ttl), ..SetOptions::default() };
    let begun = Instant::now();
    setting.writer.set_with(KEY, b"three", &options).unwrap();
    until("the entry to expire", || setting.decoded(KEY).is_none().then_some(()));
    assert!(begun.elapsed() >= ttl / 2, "it was never there");
    assert_eq!(setting.text(), (None, 0));
    // While stopped, the daemon can neither remove the entry nor say that there is none.
    let impatient =
        Client::builder().socket(setting.daemon.socket()).deadline(Duration::from_millis(50));
    let memo = Memo::new(&impatient.connect().unwrap(), 10).unwrap();
    let begun = Instant::now();
    setting.writer.set_with(KEY, b"four", &options).unwrap();
    setting.daemon.signal(Signal::SIGSTOP);
    until("the entry to expire", || {
        let answer = memo.decoded(KEY, |value| Ok::<_, Infallible>(value.to_vec()));
        matches!(answer, Err(MemoError::Cache(Error::Deadline { .. }))).then_some(())
    });
    assert!(begun.elapsed() >= ttl / 2, "it was never there");
    setting.daemon.signal(Signal::SIGCONT);
}

#[test]
fn objects_outlive_a_daemon_whose_table_is_kept() {
    let mut setting = setting();
    setting.writer.set(KEY, b"before").unwrap();
    let before = setting.decoded(KEY).unwrap();
    setting.daemon.kill();
    assert!(Arc::ptr_eq(&before, &setting.decoded(KEY).unwrap()), "without a daemon");
    let unknown = setting.try_decoded(b"unknown");
    assert!(matches!(unknown, Err(MemoError::Cache(Error::Unavailable { .. }))), "{unknown:?}");
    setting.daemon.restart();
    assert!(Arc::ptr_eq(&before, &setting.decoded(KEY).unwrap()), "of the table that was kept");
    connect(&setting.daemon).set(KEY, b"after").unwrap();
    assert_eq!(setting.text(), (some("after"), 1));
    assert_eq!(setting.text(), (some("after"), 0));
}

/// The key has the same place in both tables.
#[test]
fn a_new_table_is_not_taken_for_the_old_one() {
    let mut setting = setting();
    let old = setting.writer.set(KEY, b"of the old table").unwrap();
    assert_eq!(setting.text(), (some("of the old table"), 1));
    setting.daemon.terminate();
    // With another size, the daemon would move to a new table. Now nothing can read this one.
    let file = std::fs::File::options().write(true).open(setting.daemon.table()).unwrap();
    for word in shm_layout::header::IDENTITY_COPIES {
        file.write_all_at(&[0; 128], 8 * word as u64).unwrap();
    }
    setting.daemon.restart();
    // The reader does not read in between: it knows the old version of the key.
    let new = connect(&setting.daemon).set(KEY, b"of the new table").unwrap();
    assert!(new.version > old.version, "versions go on over new tables");
    assert_eq!(setting.text(), (some("of the new table"), 1));
    assert_eq!(setting.text(), (some("of the new table"), 0));
}

#[test]
fn an_undecodable_value_is_an_error_each_time_and_hides_nothing() {
    let setting = setting();
    setting.writer.set(KEY, b"good").unwrap();
    assert_eq!(setting.text(), (some("good"), 1));
    setting.writer.set(KEY, b"\xff bad").unwrap();
    for decodes in [2, 3] {
        let error = setting.try_decoded(KEY).unwrap_err();
        assert!(matches!(&error, MemoError::Decode(_)), "{error:?}");
        assert!(error.to_string().contains("invalid utf-8"), "{error}");
        assert_eq!(setting.decodes.load(Ordering::Relaxed), decodes);
    }
    setting.writer.set(KEY, b"good again").unwrap();
    assert_eq!(setting.text(), (some("good again"), 1));

    setting.writer.set(KEY, b"panics").unwrap();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        setting.memo.decoded(KEY, |_| -> Result<_, Infallible> { panic!("the decoder's own") })
    }));
    assert!(panicked.is_err());
    assert_eq!(setting.text(), (some("panics"), 1), "nothing was kept and nothing is locked");

    let too_long = setting.try_decoded(&[b'k'; 65_001]);
    assert!(matches!(too_long, Err(MemoError::Cache(Error::TooLarge { .. }))), "{too_long:?}");
    assert!(setting.writer.set(b"empty", b"").is_ok());
    assert_eq!(*setting.decoded(b"empty").unwrap(), "");
}

#[test]
fn a_memo_keeps_no_more_objects_than_it_may() {
    let setting = setting();
    let client = connect(&setting.daemon);
    // To within the cache's own rounding, on any number of cores.
    for (capacity, at_most) in [(0, 0), (1, 1), (100, 130)] {
        let memo = Memo::new(&client, capacity).unwrap();
        let objects: Vec<_> = (0..1000_u32)
            .map(|number| {
                let key = number.to_le_bytes();
                setting.writer.set(key, key).unwrap();
                let object = memo.decoded(key, |value| Ok::<_, Infallible>(value.to_vec()));
                let object = object.unwrap().unwrap();
                assert_eq!(*object, key);
                Arc::downgrade(&object)
            })
            .collect();
        let kept = objects.iter().filter(|object| object.upgrade().is_some()).count();
        assert!(kept <= at_most && (kept > 0) == (capacity > 0), "{kept} of {capacity}");
    }
}

#[test]
fn no_reader_gets_an_object_older_than_what_was_acknowledged() {
    const KEYS: usize = 3;
    const WRITES: u64 = 3000;
    let setting = setting();
    let keys: [Vec<u8>; KEYS] = std::array::from_fn(|key| format!("counter:{key}").into_bytes());
    // Fewer than there are keys, so that objects are evicted too.
    let memo = Memo::<u64>::new(&connect(&setting.daemon), 2).unwrap();
    let acknowledged: [AtomicU64; KEYS] = Default::default();
    let write = |key: usize, number: u64| {
        // Long, and the same number throughout: a torn value would not decode.
        let value = number.to_le_bytes().repeat(100);
        setting.writer.set(&keys[key], &value).unwrap();
        acknowledged[key].store(number, Ordering::Release);
    };
    let decode = |value: &[u8]| match value.first_chunk() {
        Some(first) if value == first.repeat(100) => Ok(u64::from_le_bytes(*first)),
        _ => Err(format!("a torn value of {} bytes", value.len())),
    };
    (0..KEYS).for_each(|key| write(key, 1));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for reader in 0..3 {
            let (memo, keys, acknowledged, done) = (&memo, &keys, &acknowledged, &done);
            scope.spawn(move || {
                let mut last = [0; KEYS];
                for key in (0..KEYS).cycle().skip(reader) {
                    let least = acknowledged[key].load(Ordering::Acquire);
                    let number = *memo.decoded(&keys[key], decode).unwrap().expect("never deleted");
                    assert!(number >= least, "{number} after {least} was acknowledged");
                    assert!(number >= last[key], "{number} after {} was seen", last[key]);
                    last[key] = number;
                    if done.load(Ordering::Acquire) {
                        break;
                    }
                }
            });
        }
        // Even if a write fails, the readers must end.
        let _done = SetWhenDropped(&done);
        for number in 2..WRITES {
            write(usize::try_from(number).unwrap() % KEYS, number);
        }
    });
}

struct SetWhenDropped<'a>(&'a AtomicBool);

impl Drop for SetWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}
