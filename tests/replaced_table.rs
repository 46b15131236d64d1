//! The hazard (S9): a process that only hits goes on reading a table that another daemon has
//! replaced, because the mark that sends readers away could not be set in it.

use l1d_client::{Memo, Values};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use std::convert::Infallible;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use test_support::daemon::{Daemon, connect};

const PROGRAM: &str = env!("CARGO_BIN_EXE_l1d");
const SMALL: &str = "[table]\nvalue_bytes_max = \"64KiB\"\n";
const KEY: &[u8] = b"market:book";
/// A second, and what a loaded machine adds.
const SOON: Duration = Duration::from_secs(5);

/// Reads `KEY` by one of the ways that hit.
type Read = Box<dyn FnMut() -> Option<Vec<u8>> + Send>;

/// All ways to read that a hit answers, each with a client of its own.
fn ways(daemon: &Daemon) -> Vec<(&'static str, Read)> {
    let (peeks, views, many, memo) =
        (connect(daemon), connect(daemon), connect(daemon), connect(daemon));
    let (slow, to) = (connect(daemon), connect(daemon));
    let objects = Memo::<Vec<u8>>::new(&memo, 10).unwrap();
    let mut values = Values::new();
    vec![
        ("peek", Box::new(move || peeks.peek(KEY).map(|value| value.to_vec()))),
        (
            "read_with",
            Box::new(move || {
                views.read_with(KEY, |value| value.array::<3>(0).unwrap().to_vec()).unwrap()
            }),
        ),
        (
            "get_many_into",
            Box::new(move || {
                many.get_many_into(&[KEY], &mut values).unwrap();
                values.get(0).map(<[u8]>::to_vec)
            }),
        ),
        (
            "decoded",
            Box::new(move || {
                let decode = |value: &[u8]| Ok::<_, Infallible>(value.to_vec());
                objects.decoded(KEY, decode).unwrap().map(|object| object.to_vec())
            }),
        ),
        (
            "peek_to",
            Box::new(move || {
                let mut value = Vec::new();
                to.peek_to(KEY, &mut value).unwrap().found().map(|_| value)
            }),
        ),
        (
            "a slow reader",
            Box::new(move || {
                thread::sleep(Duration::from_millis(300));
                slow.peek(KEY).map(|value| value.to_vec())
            }),
        ),
    ]
}

/// Readers that only hit, until they see `new`; and how long that took since `written`.
fn readers(daemon: &Daemon, written: &Arc<AtomicBool>) -> Vec<JoinHandle<()>> {
    let ways = ways(daemon).into_iter().map(|(name, mut read)| {
        assert_eq!(read().as_deref(), Some(&b"old"[..]), "{name}");
        let written = Arc::clone(written);
        thread::spawn(move || {
            let mut since = None;
            loop {
                let is_written = written.load(Ordering::Acquire);
                match read().as_deref() {
                    Some(b"new") => return,
                    Some(b"old") => {}
                    // The next daemon's table, before the value is written.
                    None => assert!(!is_written || since.is_none(), "{name}: no value"),
                    other => panic!("{name}: {other:?}"),
                }
                if is_written {
                    let since: &mut Instant = since.get_or_insert_with(Instant::now);
                    assert!(since.elapsed() < SOON, "{name}: still in the old table");
                }
                thread::sleep(Duration::from_micros(100));
            }
        })
    });
    ways.collect()
}

/// Readers that only hit see the value written after `replace` has stopped the daemon, done
/// something to its table, and started it again.
fn assert_seen_after(replace: impl FnOnce(&mut Daemon)) {
    let mut daemon = Daemon::start(PROGRAM, SMALL, "16MiB");
    connect(&daemon).set(KEY, b"old").unwrap();
    let written = Arc::new(AtomicBool::new(false));
    let readers = readers(&daemon, &written);
    replace(&mut daemon);
    connect(&daemon).set(KEY, b"new").unwrap();
    written.store(true, Ordering::Release);
    for reader in readers {
        reader.join().unwrap();
    }
}

#[test]
fn a_table_that_was_removed_while_no_daemon_ran_is_left() {
    assert_seen_after(|daemon| {
        daemon.terminate();
        fs::remove_file(daemon.table()).unwrap();
        daemon.restart();
    });
}

#[test]
fn a_table_that_was_removed_under_its_daemon_is_left_after_a_kill() {
    assert_seen_after(|daemon| {
        fs::remove_file(daemon.table()).unwrap();
        daemon.kill();
        // Longer than readers trust their table: they have looked, and found nobody.
        thread::sleep(Duration::from_millis(1200));
        daemon.restart();
    });
}

#[test]
fn a_table_whose_directory_was_made_again_is_left() {
    assert_seen_after(|daemon| {
        daemon.terminate();
        fs::remove_dir_all(daemon.table().parent().unwrap()).unwrap();
        daemon.restart();
    });
}

#[test]
fn a_table_that_was_renamed_and_replaced_by_a_copy_is_left() {
    assert_seen_after(|daemon| {
        daemon.terminate();
        let (table, aside) = (daemon.table(), daemon.table().with_extension("aside"));
        fs::rename(&table, &aside).unwrap();
        fs::copy(&aside, &table).unwrap();
        fs::remove_file(&aside).unwrap();
        daemon.restart();
    });
}

#[test]
fn a_forked_child_that_only_hits_leaves_the_table_too() {
    let mut daemon = Daemon::start(PROGRAM, SMALL, "16MiB");
    let client = connect(&daemon);
    client.set(KEY, b"old").unwrap();
    // SAFETY: the child reads until it is done, and ends itself.
    let child = match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            let begun = Instant::now();
            let mut value = Vec::new();
            while client.peek_into(KEY, &mut value).is_none() || value != b"new" {
                if begun.elapsed() > 4 * SOON {
                    // SAFETY: ends this process, without its parent's destructors.
                    unsafe { nix::libc::_exit(1) };
                }
            }
            // SAFETY: as above.
            unsafe { nix::libc::_exit(0) };
        }
        ForkResult::Parent { child } => child,
    };
    daemon.terminate();
    fs::remove_file(daemon.table()).unwrap();
    daemon.restart();
    connect(&daemon).set(KEY, b"new").unwrap();
    let written = Instant::now();
    assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0));
    assert!(written.elapsed() < SOON, "{:?}", written.elapsed());
}

/// A mark is seen by the next read, whatever the daemon found wrong with the table that it marks;
/// the file is held open, so that its mark can be looked at.
#[test]
fn a_table_that_cannot_be_used_any_more_is_marked_all_the_same() {
    use shm_layout::header::{STATE, STATE_SERVING};
    type Damage = (&'static str, fn(&File));
    let damages: [Damage; 4] = [
        ("a damaged header", |file| file.write_all_at(&[0xff; 512], 0).unwrap()),
        ("another size", |file| file.set_len(20 << 20).unwrap()),
        ("less than a header", |file| file.set_len((STATE as u64 + 1) * 8).unwrap()),
        ("a damaged ceiling of versions", |file| {
            let at = shm_layout::header::VERSION_CEILING as u64 * 8;
            file.write_all_at(&[0xff; 8], at).unwrap();
        }),
    ];
    for (name, damage) in damages {
        let mut daemon = Daemon::start(PROGRAM, SMALL, "16MiB");
        daemon.kill();
        let file = File::options().read(true).write(true).open(daemon.table()).unwrap();
        let state = || {
            let mut word = [0; 8];
            file.read_exact_at(&mut word, STATE as u64 * 8).unwrap();
            u64::from_le_bytes(word)
        };
        damage(&file);
        assert_eq!(state(), STATE_SERVING, "{name}");
        daemon.restart();
        assert_ne!(state(), STATE_SERVING, "{name}");
    }
}
