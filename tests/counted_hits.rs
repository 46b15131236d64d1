//! The hazard: hits that happen without the daemon are missing from its figures, or are counted
//! twice. Each way to read is counted against the real number, to within 1 %.

use l1d_client::{AsyncClient, Client, Destination, Memo, Values};
use l1d_wire::snapshot::Snapshot;
use std::convert::Infallible;
use std::mem::MaybeUninit;
use std::process::Command;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};
use test_support::daemon::{Daemon, connect};

/// Marks a process as a reader, and names the socket.
const ROLE: &str = "L1D_READER_SOCKET";
const KEY: &[u8] = b"market:BTC";

/// A way to read.
type Way = Box<dyn FnMut(&Client)>;

/// Has no room the first time.
#[derive(Default)]
struct Tight(bool, Vec<u8>);

impl Destination for Tight {
    fn room(&mut self, bytes: usize) -> Option<&mut [MaybeUninit<u8>]> {
        std::mem::replace(&mut self.0, true).then(|| self.1.room(bytes)).flatten()
    }

    unsafe fn filled(&mut self, bytes: usize) {
        // SAFETY: passed on unchanged.
        unsafe { self.1.filled(bytes) };
    }
}

struct Host {
    daemon: Daemon,
    observer: Client,
}

fn host() -> Host {
    let config = "[table]\nvalue_bytes_max = \"64KiB\"\n[defaults]\nttl = \"1h\"\n";
    let daemon = Daemon::start(env!("CARGO_BIN_EXE_l1d"), config, "16MiB");
    let observer = connect(&daemon);
    observer.set(KEY, [7; 100]).unwrap();
    Host { daemon, observer }
}

impl Host {
    fn counted(&self) -> (u64, u64) {
        let text = self.observer.admin().stats_json().unwrap();
        let snapshot: Snapshot = serde_json::from_str(&text).unwrap();
        (snapshot.hits.hits, snapshot.hits.misses)
    }

    /// What is counted at once differs from the real number by at most one in a hundred.
    #[track_caller]
    fn assert_counts(&self, what: &str, real: u64, act: impl FnOnce(&Client)) {
        let client = connect(&self.daemon);
        let (hits, misses) = self.counted();
        act(&client);
        let now = self.counted();
        let counted = now.0 - hits;
        println!("{what}: {counted} of {real}");
        assert!(counted.abs_diff(real) * 100 <= real, "{what}: {counted} counted, {real} real");
        assert_eq!(now.1, misses, "{what}: misses");
    }
}

#[test]
fn a_hundred_threads_with_ten_hits_each_are_counted_within_a_second() {
    let host = host();
    let client = connect(&host.daemon);
    let (read, ended) = (Barrier::new(101), Barrier::new(101));
    let (before, _) = host.counted();
    thread::scope(|scope| {
        for _ in 0..100 {
            scope.spawn(|| {
                for _ in 0..10 {
                    assert!(client.peek(KEY).is_some());
                }
                read.wait();
                ended.wait();
            });
        }
        read.wait();
        // All threads are still there, and read nothing more.
        thread::sleep(Duration::from_millis(100));
        let counted = host.counted().0 - before;
        ended.wait();
        assert_eq!(counted, 1000);
    });
}

#[test]
fn threads_at_full_speed_are_counted() {
    let host = host();
    let client = connect(&host.daemon);
    let (read, ended) = (Barrier::new(5), Barrier::new(5));
    let (before, _) = host.counted();
    thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let (begun, mut hits, mut value) = (Instant::now(), 0_u64, Vec::new());
                    while begun.elapsed() < Duration::from_millis(800) {
                        for _ in 0..100 {
                            assert!(client.peek_into(KEY, &mut value).is_some());
                        }
                        hits += 100;
                    }
                    read.wait();
                    ended.wait();
                    hits
                })
            })
            .collect();
        read.wait();
        let counted = host.counted().0 - before;
        ended.wait();
        let real: u64 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        println!("{counted} of {real}");
        assert!(counted <= real && (real - counted) * 100 <= real, "{counted} of {real}");
    });
}

#[test]
fn every_way_to_read_counts_each_hit_once() {
    let host = host();
    let times =
        |count: u64, mut act: Way| move |client: &Client| (0..count).for_each(|_| act(client));
    let mut value = Vec::new();
    let mut many = Values::new();
    let ways: Vec<(&str, u64, Way)> = vec![
        ("peek", 1, Box::new(|client| assert!(client.peek(KEY).is_some()))),
        ("get", 1, Box::new(|client| assert!(client.get(KEY).unwrap().is_some()))),
        ("get_into", 1, Box::new(move |c| assert!(c.get_into(KEY, &mut value).unwrap().is_some()))),
        ("get_to", 1, {
            Box::new(|client| {
                let mut tight = Tight::default();
                assert!(client.get_to(KEY, &mut tight).is_err());
                assert!(client.get_to(KEY, &mut tight).unwrap().found().is_some());
            })
        }),
        ("read_with", 1, Box::new(|c| assert!(c.read_with(KEY, |_| ()).unwrap().is_some()))),
        ("get_many", 5, Box::new(move |c| c.get_many_into(&[KEY; 5], &mut many).unwrap())),
    ];
    for (what, each, act) in ways {
        host.assert_counts(what, 79 * each, times(79, act));
    }
    for burst in [1, 15, 79, 1000, 5000, 20_000, 100_000] {
        let act = Box::new(|client: &Client| assert!(client.peek(KEY).is_some()));
        host.assert_counts(&format!("{burst} at once"), burst, times(burst, act));
    }
}

#[test]
fn hits_of_memos_and_of_tasks_are_counted() {
    let host = host();
    let decode = |value: &[u8]| Ok::<_, Infallible>(value.len());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    host.assert_counts("tasks", 500, |client| {
        let client = AsyncClient::from(client.clone());
        runtime.block_on(async {
            for _ in 0..500 {
                assert!(client.get(KEY).await.unwrap().is_some());
            }
        });
    });
    // Last, as what this thread has not told of yet is told with the next client's hits.
    for count in [1, 10, 1000, 100_000] {
        host.assert_counts(&format!("memo, {count}"), count, |client| {
            let memo = Memo::new(client, 10).unwrap();
            for _ in 0..count {
                assert!(memo.decoded(KEY, decode).unwrap().is_some());
            }
        });
    }
}

/// A process that reads and ends. It is a test only because the test binary can run nothing else.
#[test]
fn reading_process() {
    let Ok(socket) = std::env::var(ROLE) else { return };
    let client = Client::connect(socket).unwrap();
    assert!((0..1234).all(|_| client.peek(KEY).is_some()));
}

#[test]
fn hits_of_a_process_that_has_ended_are_counted() {
    let host = host();
    host.assert_counts("process", 1234, |_| {
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "reading_process", "--test-threads=1"])
            .env(ROLE, host.daemon.socket())
            .status();
        assert!(status.unwrap().success());
    });
}

/// The hazard: a value of the daemon counts as a miss and as a hit as well.
#[test]
fn a_miss_is_not_counted_as_a_hit() {
    let host = host();
    let memo = Memo::new(&host.observer, 10).unwrap();
    let before = host.counted();
    for n in 0..10 {
        let key = format!("absent {n}");
        assert_eq!(host.observer.get(&key).unwrap(), None);
        let decode = |value: &[u8]| Ok::<_, Infallible>(value.len());
        assert_eq!(memo.decoded(format!("other {n}"), decode).unwrap(), None);
    }
    assert_eq!(host.counted(), (before.0, before.1 + 20));
}
