//! The hazard (R9): parent and child share a connection and read each other's answers, or the child
//! waits for a lock that another thread of the parent held at the fork.

mod fake;

use fake::{Act, FakeDaemon, FakeTable, found};
use l1d_client::Client;
use l1d_wire::protocol::Request;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const CHILDREN: usize = 8;

fn setting() -> (tempfile::TempDir, FakeDaemon, Client) {
    let directory = tempfile::tempdir().unwrap();
    let table = FakeTable::new(directory.path(), 1);
    table.put(b"in the table", b"value");
    let socket = directory.path().join("socket");
    let daemon = FakeDaemon::start(&socket, &table, |_, request| match request {
        Request::Get { key } => Act::Reply(found(key)),
        _ => Act::Close,
    });
    let cache = Client::builder()
        .socket(&socket)
        .deadline(Duration::from_secs(10))
        .attach_deadline(Duration::from_secs(10))
        .connections_max(2)
        .connect()
        .unwrap();
    (directory, daemon, cache)
}

/// The failure in a child, as its exit code; 0 if there is none.
fn ask(cache: &Client, who: &str, rounds: usize) -> i32 {
    for round in 0..rounds {
        let key = format!("{who} {round}");
        match cache.get(key.as_bytes()) {
            Ok(Some(value)) if *value == *key.as_bytes() => {}
            Ok(_) => return 2,
            Err(_) => return 3,
        }
        if cache.peek(b"in the table").is_none() {
            return 4;
        }
    }
    0
}

/// Runs `work` in a forked child and leaves it without unwinding into the test's threads.
fn child(work: impl FnOnce() -> i32) -> nix::unistd::Pid {
    // SAFETY: the child runs `work`, which uses memory that malloc keeps usable after fork, and
    // ends by `_exit`.
    match unsafe { fork() }.unwrap() {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            // SAFETY: ends the child at once, without the parent's exit handlers.
            unsafe { nix::libc::_exit(outcome.unwrap_or(101)) }
        }
    }
}

/// Runs each in a separate thread. Not by the standard library, whose threads begin by taking a
/// lock that another thread may have held at the fork.
fn in_threads(works: &[Box<dyn Fn() -> i32 + Sync + '_>]) -> i32 {
    use nix::libc::{c_void, pthread_create, pthread_join};
    extern "C" fn run(work: *mut c_void) -> *mut c_void {
        // SAFETY: one of the works of `in_threads`, which joins this thread before it returns.
        let work = unsafe { &*work.cast::<Box<dyn Fn() -> i32 + Sync>>() };
        std::ptr::without_provenance_mut(usize::try_from(work()).unwrap_or(5))
    }
    let begun: Vec<_> = works
        .iter()
        .map(|work| {
            let (mut thread, work) = (0, std::ptr::from_ref(work).cast_mut().cast::<c_void>());
            // SAFETY: `run` uses its argument as the type that is passed here.
            let failed = unsafe { pthread_create(&raw mut thread, std::ptr::null(), run, work) };
            (failed == 0).then_some(thread)
        })
        .collect();
    let ended = begun.into_iter().map(|thread| {
        let (Some(thread), mut outcome) = (thread, std::ptr::null_mut()) else { return 6 };
        // SAFETY: a thread started above, joined once.
        let failed = unsafe { pthread_join(thread, &raw mut outcome) };
        if failed == 0 { i32::try_from(outcome.addr()).unwrap_or(5) } else { 6 }
    });
    ended.max().unwrap_or(6)
}

#[test]
fn children_and_threads_of_the_parent_get_their_own_answers() {
    let (_directory, _daemon, cache) = setting();
    let stop = Arc::new(AtomicBool::new(false));
    // At any time these hold the pool's lock, its connections and the cache's stripes.
    let threads: Vec<_> = (0..3)
        .map(|thread| {
            let (cache, stop) = (cache.clone(), Arc::clone(&stop));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(ask(&cache, &format!("parent {thread}"), 10), 0);
                }
            })
        })
        .collect();
    let children: Vec<_> = (0..CHILDREN)
        .map(|number| {
            child(|| {
                // Several threads race to create the child's own state with their first request.
                let asking: Vec<_> = (0..3)
                    .map(|thread| {
                        let (cache, who) = (&cache, format!("child {number} {thread}"));
                        Box::new(move || ask(cache, &who, 50)) as Box<dyn Fn() -> i32 + Sync>
                    })
                    .collect();
                in_threads(&asking)
            })
        })
        .collect();
    for child in children {
        assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0)));
    }
    stop.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn a_child_and_a_grandchild_drop_the_client_without_harm_to_the_parent() {
    let (_directory, _daemon, cache) = setting();
    assert_eq!(ask(&cache, "parent", 3), 0);
    // The only handle: each process drops its own copy of the whole client.
    let mut handle = Some(cache);
    let one = child(|| {
        let cache = handle.take().unwrap();
        let mut inherited = Some(cache);
        let grandchild = child(|| {
            let cache = inherited.take().unwrap();
            let asked = ask(&cache, "grandchild", 3);
            drop(cache);
            asked
        });
        let cache = inherited.take().unwrap();
        let asked = ask(&cache, "child", 3);
        drop(cache);
        match waitpid(grandchild, None) {
            Ok(WaitStatus::Exited(_, 0)) => asked,
            _ => 7,
        }
    });
    assert_eq!(waitpid(one, None), Ok(WaitStatus::Exited(one, 0)));
    // A child that drops it without having used it must not drop the parent's state.
    let idle = child(|| {
        drop(handle.take());
        0
    });
    assert_eq!(waitpid(idle, None), Ok(WaitStatus::Exited(idle, 0)));
    let cache = handle.take().unwrap();
    assert_eq!(ask(&cache, "parent again", 3), 0);
}
