//! The hazard: a program in which a signal must end a call (Ctrl-C) waits on, for a daemon, another
//! process or a thread; or it is told that nothing has happened where a write may have.

use l1d_client::{Client, ClientBuilder, Error, LoadOptions, Reservation, SetOptions};
use nix::libc::{SIGUSR1, pthread_kill, pthread_self};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Once, mpsc};
use std::time::{Duration, Instant};
use test_support::daemon::{Daemon, connect};
use test_support::servers::{Proxy, Server};

const PROGRAM: &str = env!("CARGO_BIN_EXE_l1d");
/// Far more than a test waits.
const LONG: Duration = Duration::from_secs(30);
/// Until a thread surely waits.
const SOON: Duration = Duration::from_millis(100);

thread_local! {
    /// This thread has had a signal.
    static SIGNALLED: Cell<bool> = const { Cell::new(false) };
}

extern "C" fn note_signal(_: nix::libc::c_int) {
    SIGNALLED.set(true);
}

/// Signals interrupt waits, and are noted for the thread that had them.
fn handle_signals() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let action =
            SigAction::new(SigHandler::Handler(note_signal), SaFlags::empty(), SigSet::empty());
        // SAFETY: the handler stores one word of its thread, which needs no initialization.
        unsafe { sigaction(Signal::SIGUSR1, &action) }.unwrap();
    });
}

fn builder(daemon: &Daemon) -> ClientBuilder {
    handle_signals();
    Client::builder().socket(daemon.socket()).deadline(LONG)
}

fn ended_by_signals(builder: ClientBuilder) -> ClientBuilder {
    builder.on_interrupt(|| SIGNALLED.replace(false))
}

/// A daemon before a Redis that does not answer until it is released.
fn held() -> (Server, Arc<Proxy>, Daemon) {
    let redis = Server::redis();
    let proxy = Proxy::before(&redis);
    let config = format!("[l3]\nurl = \"redis://{}\"\ndeadline = \"30s\"\n", proxy.address());
    let daemon = Daemon::start(PROGRAM, &config, "16MiB");
    proxy.hold();
    (redis, proxy, daemon)
}

/// Sends signals to the thread of `call`, which waits: the first after a while, then one each time
/// that `again` has slept. The result, and how long after the first signal it came.
fn signalled<T: Send>(
    again: impl FnOnce(&dyn Fn()),
    call: impl FnOnce() -> T + Send,
) -> (T, Duration) {
    let (tell, told) = mpsc::channel();
    std::thread::scope(|scope| {
        let calling = scope.spawn(move || {
            // SAFETY: asks for this thread's own id.
            tell.send(unsafe { pthread_self() }).unwrap();
            (call(), Instant::now())
        });
        let thread = told.recv().unwrap();
        std::thread::sleep(SOON);
        assert!(!calling.is_finished(), "it does not wait");
        // SAFETY: the thread was not joined, so its id is valid.
        let signal = || assert_eq!(unsafe { pthread_kill(thread, SIGUSR1) }, 0);
        let begun = Instant::now();
        signal();
        again(&signal);
        let (result, ended) = calling.join().unwrap();
        (result, ended - begun)
    })
}

fn interrupted<T: Send + std::fmt::Debug>(call: impl FnOnce() -> Result<T, Error> + Send) -> Error {
    let (result, time) = signalled(|_| {}, call);
    assert!(time < Duration::from_secs(2), "after {time:?}");
    result.expect_err("it was interrupted")
}

#[test]
fn a_signal_ends_a_read_and_makes_the_outcome_of_a_write_unknown() {
    let (_redis, _proxy, daemon) = held();
    for mailbox in [true, false] {
        let cache = ended_by_signals(builder(&daemon).mailbox(mailbox)).connect().unwrap();
        for (n, key) in ["a", "b", "c"].into_iter().enumerate() {
            let error = interrupted(|| cache.get(key));
            assert_eq!(error, Error::Interrupted, "{n}");
            assert!(!error.is_retryable());
        }
        assert_eq!(interrupted(|| cache.get_many(&["a", "d"])), Error::Interrupted);
        let unknown = |error| match error {
            Error::UnknownOutcome { reason, .. } => assert!(reason.contains("signal"), "{reason}"),
            other => panic!("{other}"),
        };
        unknown(interrupted(|| cache.set("e", "1")));
        unknown(interrupted(|| cache.delete("f")));
        unknown(interrupted(|| cache.increment("g", 1, &Default::default())));
        // The client goes on.
        let l1_only =
            SetOptions { write: Some(l1d_client::WriteMode::L1Only), ..SetOptions::default() };
        cache.set_with("h", "1", &l1_only).unwrap();
        assert_eq!(cache.get("h").unwrap().as_deref(), Some(&b"1"[..]));
    }
}

/// Slices of waiting alone would take 50 ms each time.
#[test]
fn the_signal_itself_ends_the_wait() {
    let (_redis, _proxy, daemon) = held();
    for mailbox in [true, false] {
        let cache = ended_by_signals(builder(&daemon).mailbox(mailbox)).connect().unwrap();
        let times = (0..4).map(|_| signalled(|_| {}, || cache.get("key")).1);
        let total: Duration = times.sum();
        assert!(total < Duration::from_millis(100), "{total:?}");
    }
}

#[test]
fn without_a_wish_to_end_calls_go_on_after_signals() {
    let (_redis, proxy, daemon) = held();
    let asked: &'static AtomicU32 = Box::leak(Box::default());
    let asking = builder(&daemon).on_interrupt(|| {
        asked.fetch_add(1, Ordering::Relaxed);
        false
    });
    for builder in [builder(&daemon), builder(&daemon).mailbox(false), asking] {
        let cache = builder.connect().unwrap();
        let several = |signal: &dyn Fn()| {
            for _ in 0..3 {
                std::thread::sleep(Duration::from_millis(5));
                signal();
            }
            proxy.release();
        };
        assert_eq!(signalled(several, || cache.get("key")).0, Ok(None));
        assert_eq!(cache.peek("key"), None);
        let _ = cache.delete("key").unwrap();
        proxy.hold();
    }
    assert!(asked.load(Ordering::Relaxed) >= 4);
}

#[test]
fn a_signal_ends_a_call_that_was_not_sent_yet_and_nothing_was_changed() {
    let daemon = Daemon::start(PROGRAM, "[table]\nvalue_bytes_max = \"1MiB\"\n", "80MiB");
    let attached = ended_by_signals(builder(&daemon)).connect().unwrap();
    let unattached = ended_by_signals(builder(&daemon)).connect_later().unwrap();
    let over_socket = ended_by_signals(builder(&daemon).mailbox(false)).connect_later().unwrap();
    daemon.stop();
    // More than the mailbox has room for.
    let large = vec![7; 900 << 10];
    assert_eq!(interrupted(|| attached.set("key", &large)), Error::Interrupted);
    for client in [&unattached, &over_socket] {
        assert_eq!(interrupted(|| client.set("key", "new")), Error::Interrupted);
        assert_eq!(interrupted(|| client.get("key")), Error::Interrupted);
    }
    assert_eq!(interrupted(|| ended_by_signals(builder(&daemon)).connect()), Error::Interrupted);
    daemon.resume();
    assert_eq!(connect(&daemon).get("key").unwrap(), None);
    for client in [&attached, &unattached, &over_socket] {
        client.set("key", "new").unwrap();
    }
}

/// Those wait for other threads of this process, without a system call that a signal would end.
#[test]
fn a_signal_ends_a_wait_for_a_lane_a_connection_or_an_attachment() {
    let (_redis, proxy, daemon) = held();
    let with_mailbox = ended_by_signals(builder(&daemon)).connect().unwrap();
    let one_connection =
        ended_by_signals(builder(&daemon).mailbox(false).connections_max(1)).connect().unwrap();
    for (client, threads) in [(&with_mailbox, 16), (&one_connection, 1)] {
        std::thread::scope(|scope| {
            for n in 0..threads {
                scope.spawn(move || client.get(format!("{threads}:{n}")).unwrap());
            }
            std::thread::sleep(SOON);
            assert_eq!(interrupted(|| client.set("one more", "1")), Error::Interrupted);
            proxy.release();
        });
        proxy.hold();
    }
    let unattached = ended_by_signals(builder(&daemon)).connect_later().unwrap();
    daemon.stop();
    std::thread::scope(|scope| {
        scope.spawn(|| unattached.set("other", "1"));
        std::thread::sleep(SOON);
        assert_eq!(interrupted(|| unattached.set("key", "1")), Error::Interrupted);
        daemon.resume();
        proxy.release();
    });
}

#[test]
fn a_signal_ends_the_wait_for_another_process_that_loads_the_key() {
    let daemon = Daemon::start(PROGRAM, "", "16MiB");
    let loader = connect(&daemon);
    let waiter = ended_by_signals(builder(&daemon)).connect().unwrap();
    let Reservation::Reserved(token) = loader.reserve("key", &LoadOptions::default()).unwrap()
    else {
        panic!("nobody has the key");
    };
    assert_eq!(interrupted(|| waiter.reserve("key", &LoadOptions::default())), Error::Interrupted);
    let loaded = interrupted(|| {
        waiter.get_or_load("key", || Err::<&str, _>("called")).map_err(|error| match error {
            l1d_client::LoadError::Cache(error) => error,
            other => panic!("{other}"),
        })
    });
    assert_eq!(loaded, Error::Interrupted);
    loader.fill(token, "value", &SetOptions::default()).unwrap();
    assert_eq!(waiter.get("key").unwrap().as_deref(), Some(&b"value"[..]));
}

/// The hazard: the program's function is called while a lock is held, and uses the client.
#[test]
fn the_program_may_use_the_client_when_it_is_asked() {
    let (_redis, _proxy, daemon) = held();
    let slot: &'static std::sync::OnceLock<Client> = Box::leak(Box::default());
    let builder = builder(&daemon).on_interrupt(|| {
        let client = slot.get().unwrap();
        let l1_only =
            SetOptions { write: Some(l1d_client::WriteMode::L1Only), ..SetOptions::default() };
        client.set_with("in between", "1", &l1_only).unwrap();
        SIGNALLED.replace(false)
    });
    slot.set(builder.connect().unwrap()).unwrap();
    let client = slot.get().unwrap();
    assert_eq!(interrupted(|| client.get("key")), Error::Interrupted);
    assert_eq!(client.peek("in between").as_deref(), Some(&b"1"[..]));
}
