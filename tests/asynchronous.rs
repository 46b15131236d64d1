//! The hazard: a task that waits for an answer which has already arrived, a hit that waits, or a
//! runtime's thread that is blocked. With a real daemon and a real but slow tier.

use l1d_client::{AsyncClient, Client, Error, Lookup, SetOptions};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use test_support::daemon::{Daemon, connect};
use test_support::servers::{Proxy, Server};
use tokio::runtime::{Builder, Runtime};

const PROGRAM: &str = env!("CARGO_BIN_EXE_l1d");

fn start(tiers: &str) -> Daemon {
    let config = format!("[table]\nvalue_bytes_max = \"64KiB\"\n{tiers}");
    Daemon::start(PROGRAM, &config, "16MiB")
}

fn runtimes() -> [Runtime; 2] {
    [
        Builder::new_current_thread().enable_all().build().unwrap(),
        Builder::new_multi_thread().worker_threads(3).enable_all().build().unwrap(),
    ]
}

#[test]
fn a_hit_never_awaits() {
    let daemon = start("");
    let client = connect(&daemon);
    client.set(b"key", b"value").unwrap();
    // Outside of any runtime: nothing is registered, and the first poll returns the value.
    let cache = AsyncClient::from(client);
    let mut get = pin!(cache.get(b"key"));
    let Poll::Ready(found) = get.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("a hit was awaited")
    };
    assert_eq!(&*found.unwrap().unwrap(), b"value");
    // A request that needs a runtime reports that. A daemon that is awake might answer at once.
    daemon.stop();
    let mut get = pin!(cache.get(b"other"));
    let polled = get.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(polled, Poll::Ready(Err(Error::System { .. }))), "{polled:?}");
}

/// Far more tasks than requests that can be in flight, on one thread and on several.
#[test]
fn many_tasks_get_each_their_answer() {
    let (memcached, redis) = (Server::memcached(), Server::redis());
    let daemon = start(&format!(
        "[l2]\naddress = \"{}\"\n[l3]\nurl = \"redis://{}\"\n",
        memcached.address(),
        redis.address()
    ));
    for (number, runtime) in runtimes().into_iter().enumerate() {
        let cache = Arc::new(AsyncClient::from(connect(&daemon)));
        runtime.block_on(async {
            let tasks: Vec<_> = (0..200)
                .map(|task| {
                    let cache = cache.clone();
                    tokio::spawn(async move {
                        for round in 0..10 {
                            let key = format!("async:{number}:{task}:{round}").into_bytes();
                            let value = vec![u8::try_from(task).unwrap(); 50 * (task + round)];
                            assert_eq!(cache.lookup(&key).await.unwrap(), Lookup::Absent);
                            cache.set(&key, &value).await.unwrap();
                            assert_eq!(&*cache.get(&key).await.unwrap().unwrap(), &value[..]);
                            if round % 3 == 0 {
                                assert!(cache.delete(&key).await.unwrap().existed);
                                assert!(cache.get(&key).await.unwrap().is_none());
                            }
                        }
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
        });
    }
}

/// More keys than fit into one request, and more bytes than fit into one answer: in the table, in
/// the tier, nowhere.
#[test]
fn many_keys_at_once_have_each_their_value() {
    let redis = Server::redis();
    let daemon = start(&format!("[l3]\nurl = \"redis://{}\"\n", redis.address()));
    let client = connect(&daemon);
    let keys: Vec<_> = (0..2500).map(|n| format!("many:{n}").into_bytes()).collect();
    let value = |n: usize| match n % 5 {
        0 => None,
        1 if n < 750 => Some(vec![n.to_le_bytes()[0]; 60_000]),
        _ => Some(format!("value {n}").into_bytes()),
    };
    for (n, key) in keys.iter().enumerate() {
        match (value(n), n % 2) {
            (Some(value), 0) => drop(client.set(key, &value).unwrap()),
            (Some(value), _) => drop(redis.client().resp(&[b"SET", key, &value])),
            (None, _) => {}
        }
    }
    let cache = AsyncClient::from(client);
    for runtime in runtimes() {
        cache.client().admin().flush(b"").unwrap();
        for n in (0..keys.len()).step_by(3).filter(|n| n % 5 != 0) {
            assert!(cache.client().get(&keys[n]).unwrap().is_some(), "{n} in the table now");
        }
        let got = runtime.block_on(cache.get_many(&keys)).unwrap();
        assert_eq!(got.len(), keys.len());
        for (n, got) in got.iter().enumerate() {
            assert_eq!(got.as_deref(), value(n).as_deref(), "{n}");
        }
    }
    // Keys that are all in the table need no runtime and are returned at once.
    let known = [&keys[2], &keys[3], &keys[2]];
    let mut get = pin!(cache.get_many(&known));
    let Poll::Ready(got) = get.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("hits were awaited")
    };
    assert!(got.unwrap().iter().all(Option::is_some));
    let refused = runtimes()[0].block_on(cache.get_many(&[b"".as_slice()]));
    assert!(matches!(refused, Err(Error::TooLarge { .. })), "{refused:?}");
}

#[test]
fn a_task_that_waits_holds_nobody_up_and_ends_with_its_deadline() {
    let redis = Server::redis();
    let proxy = Proxy::before(&redis);
    let daemon =
        start(&format!("[l3]\nurl = \"redis://{}\"\ndeadline = \"5s\"\n", proxy.address()));
    let client =
        Client::builder().socket(daemon.socket()).deadline(Duration::from_millis(300)).connect();
    let cache = AsyncClient::from(client.unwrap());
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    proxy.hold();
    runtime.block_on(async {
        let mut slow = pin!(cache.get(b"slow"));
        let mut ticks = 0;
        let failed = loop {
            tokio::select! {
                got = &mut slow => break got,
                () = tokio::time::sleep(Duration::from_millis(10)) => ticks += 1,
            }
        };
        assert!(matches!(failed, Err(Error::Deadline { .. })), "{failed:?}");
        assert!(ticks > 2, "the runtime went on meanwhile");
        let options =
            SetOptions { write: Some(l1d_client::WriteMode::L1Only), ..SetOptions::default() };
        cache.set_with(b"beside", b"1", &options).await.unwrap();
    });
}

#[test]
fn a_program_with_a_loop_of_its_own_waits_at_the_descriptor() {
    let daemon = start("");
    let client = connect(&daemon);
    client.set(b"known", b"1").unwrap();
    assert!(client.request(b"known").is_answered());
    let mut first = client.request(b"unknown");
    let mut second = client.request_set(b"large", vec![5; 60_000], &SetOptions::default());
    let (mut looked, mut stored) = (None, None);
    while looked.is_none() || stored.is_none() {
        looked = looked.or_else(|| first.poll());
        stored = stored.or_else(|| second.poll());
        let waits = first.descriptor().or(second.descriptor());
        if let Some(descriptor) = waits.filter(|_| looked.is_none() || stored.is_none()) {
            let mut ends = [PollFd::new(descriptor, PollFlags::POLLIN)];
            assert_eq!(poll(&mut ends, PollTimeout::from(10_000_u16)), Ok(1), "never readable");
        }
    }
    assert_eq!(looked.unwrap().unwrap(), Lookup::Unknown);
    assert!(stored.unwrap().unwrap().version > 0);
    assert_eq!(client.peek(b"large").unwrap().len(), 60_000);
    // Cancelled: nothing of it remains, and its lane can be used again.
    for _ in 0..100 {
        drop(client.request(b"unknown"));
    }
    assert_eq!(client.lookup(b"unknown").unwrap(), Lookup::Unknown);
    assert_eq!(client.get(b"large").unwrap().unwrap().len(), 60_000);
}

#[test]
fn a_waiting_client_notices_that_its_daemon_has_gone() {
    let redis = Server::redis();
    let proxy = Proxy::before(&redis);
    let mut daemon =
        start(&format!("[l3]\nurl = \"redis://{}\"\ndeadline = \"30s\"\n", proxy.address()));
    let cache = AsyncClient::from(connect(&daemon));
    proxy.hold();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let failed = runtime.block_on(async {
        let mut get = pin!(cache.get(b"key"));
        tokio::select! {
            got = &mut get => return got,
            () = tokio::time::sleep(Duration::from_millis(50)) => daemon.kill(),
        }
        get.await
    });
    assert!(matches!(failed, Err(Error::Unavailable { .. })), "{failed:?}");
}

#[test]
fn many_keys_have_a_result_each_and_the_error_of_all_names_the_one_that_failed() {
    let daemon = start("");
    let cache = AsyncClient::from(connect(&daemon));
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        cache.set("known", "1").await.unwrap();
        let each = cache.lookup_many(&["known", "", "unknown"]).await;
        assert!(matches!(&each[0], Ok(Lookup::Found(value)) if **value == b"1"[..]), "{each:?}");
        assert!(matches!(each[1], Err(Error::TooLarge { .. })), "{each:?}");
        assert_eq!(each[2], Ok(Lookup::Unknown));
        let error = cache.get_many(&["known", ""]).await.expect_err("one fails").to_string();
        assert!(error.contains("the key \"\""), "{error}");
        assert_eq!(cache.get_many(&["known", "unknown"]).await.unwrap()[1], None);
    });
}

/// R9: the mailbox is not mapped in a child.
#[test]
fn a_forked_child_leaves_its_parents_requests_alone() {
    let daemon = start("");
    let client = connect(&daemon);
    let mut pending = [client.request(b"one"), client.request(b"two")];
    assert!(pending.iter().all(|pending| !pending.is_answered()), "nothing is under way");
    // SAFETY: the child uses memory that malloc keeps usable after fork, and ends by `_exit`.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            let [mut polled, dropped] = pending;
            drop(dropped);
            let failed = matches!(polled.poll(), Some(Err(Error::System { .. })));
            // SAFETY: ends the child at once, without the parent's exit handlers.
            unsafe { nix::libc::_exit(i32::from(!failed)) }
        }
        ForkResult::Parent { child } => {
            assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0)));
        }
    }
    for pending in &mut pending {
        let answer = loop {
            if let Some(answer) = pending.poll() {
                break answer;
            }
            let descriptor = pending.descriptor().expect("a request under way");
            poll(&mut [PollFd::new(descriptor, PollFlags::POLLIN)], PollTimeout::NONE).unwrap();
        };
        assert_eq!(answer.unwrap(), Lookup::Unknown);
    }
}

/// Far more requests than can be in flight, on the program's own event loop.
#[test]
fn requests_without_a_lane_are_queued_and_sent_as_answers_come() {
    let redis = Server::redis();
    let proxy = Proxy::before(&redis);
    let daemon =
        start(&format!("[l3]\nurl = \"redis://{}\"\ndeadline = \"30s\"\n", proxy.address()));
    let client = connect(&daemon);
    proxy.hold();
    let mut pending: Vec<_> = (0..40).map(|n| client.request(format!("key:{n}"))).collect();
    assert_eq!(pending.iter().filter(|pending| pending.is_queued()).count(), 40 - 16);
    assert!(pending.iter_mut().all(|pending| pending.poll().is_none()));
    assert!(pending.iter().all(|pending| !pending.is_answered()));
    proxy.release();
    let mut answered = 0;
    while answered < 40 {
        let still = pending.iter().find_map(|pending| pending.descriptor());
        let mut ends = [PollFd::new(still.unwrap(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut ends, PollTimeout::from(10_000_u16)), Ok(1), "never readable");
        for pending in &mut pending {
            if let Some(answer) = pending.poll() {
                assert_eq!(answer.unwrap(), Lookup::Absent);
                answered += 1;
            }
        }
    }
    assert!(pending.iter().all(|pending| !pending.is_queued()));
}

/// The error is `Busy` if no lane was free until the deadline.
#[test]
fn a_queued_request_ends_at_its_deadline_as_busy() {
    let redis = Server::redis();
    let proxy = Proxy::before(&redis);
    let daemon =
        start(&format!("[l3]\nurl = \"redis://{}\"\ndeadline = \"30s\"\n", proxy.address()));
    let deadline = Duration::from_millis(200);
    let client = Client::builder().socket(daemon.socket()).deadline(deadline).connect().unwrap();
    proxy.hold();
    let _sent: Vec<_> = (0..16).map(|n| client.request(format!("key:{n}"))).collect();
    let mut queued = client.request("one more");
    assert!(queued.is_queued() && queued.poll().is_none());
    std::thread::sleep(deadline);
    let busy = queued.poll().unwrap().expect_err("never sent");
    assert!(matches!(busy, Error::Busy { .. }) && busy.is_retryable(), "{busy}");
}

/// The hazard: a task that has to wait for a daemon that does not run holds up its thread. Each of
/// these would, on a runtime with one thread, and another task shows that it does not: it runs far
/// more often than the clock could let it if the thread were blocked for the deadline.
#[test]
fn nothing_blocks_the_thread_while_the_daemon_is_stopped() {
    let daemon = start("");
    let large = vec![7; 60 << 10];
    let no_wait = SetOptions { no_wait: true, ..SetOptions::default() };
    let attached = |deadline| {
        let builder = Client::builder().socket(daemon.socket()).deadline(deadline);
        let builder = builder.attach_deadline(Duration::from_secs(10));
        AsyncClient::from(builder.connect().unwrap())
    };
    let unattached = |deadline| {
        let builder = Client::builder().socket(daemon.socket()).deadline(deadline);
        let builder = builder.attach_deadline(Duration::from_secs(10));
        AsyncClient::from(builder.connect_later().unwrap())
    };
    let deadline = Duration::from_secs(2);
    let (cache, no_reply) = (attached(deadline), attached(deadline));
    daemon.stop();
    for runtime in runtimes().into_iter().take(1) {
        runtime.block_on(async {
            let others = async {
                let begun = std::time::Instant::now();
                let mut longest = Duration::ZERO;
                while begun.elapsed() < deadline / 2 {
                    let before = std::time::Instant::now();
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    longest = longest.max(before.elapsed());
                }
                longest
            };
            let many: Vec<Vec<u8>> = (0..500_u32).map(|n| n.to_le_bytes().repeat(50)).collect();
            let (a, b, c, d) = (
                unattached(deadline),
                unattached(deadline),
                unattached(deadline),
                unattached(deadline),
            );
            let sets: Vec<_> = (0..4).map(|_| cache.set(b"large", &large)).collect();
            let sets = async {
                for set in sets {
                    assert!(set.await.is_err(), "the daemon is stopped");
                }
            };
            let (longest, ..) = tokio::join!(
                others,
                sets,
                async { assert!(no_reply.set_with(b"large", &large, &no_wait).await.is_err()) },
                async { assert!(a.get(b"key").await.is_err()) },
                async { assert!(b.set_with(b"key", b"value", &no_wait).await.is_err()) },
                async { assert!(c.delete(b"key").await.is_err()) },
                async { assert!(d.get_many(&many).await.is_err()) },
            );
            assert!(longest < deadline / 4, "the thread was held up for {longest:?}");
        });
    }
    daemon.resume();
    // And all goes on, with the same clients.
    let cache = attached(Duration::from_secs(10));
    for runtime in runtimes() {
        runtime.block_on(async {
            let later = unattached(Duration::from_secs(10));
            cache.set(b"large", &large).await.unwrap();
            assert_eq!(&*later.get(b"large").await.unwrap().unwrap(), &large[..]);
            later.set_with(b"small", b"value", &no_wait).await.unwrap();
            assert_eq!(&*cache.get(b"small").await.unwrap().unwrap(), b"value");
            // In pieces both ways, past the table.
            let missing = cache.client().fetch(b"missing").unwrap();
            assert_eq!(missing, Lookup::Unknown);
        });
    }
}

#[test]
fn of_many_tasks_one_loads_and_a_cancelled_one_hands_the_key_on() {
    let daemon = start("");
    for runtime in runtimes() {
        let cache = Arc::new(AsyncClient::from(connect(&daemon)));
        runtime.block_on(async {
            let _ = cache.delete(b"loaded").await.unwrap();
            let loads = Arc::new(std::sync::atomic::AtomicU32::new(0));
            let is_loading = Arc::new(std::sync::atomic::AtomicBool::new(false));
            let cancelled = {
                let (cache, is_loading) = (cache.clone(), is_loading.clone());
                tokio::spawn(async move {
                    let forever = || {
                        is_loading.store(true, std::sync::atomic::Ordering::SeqCst);
                        std::future::pending::<Result<&str, Error>>()
                    };
                    cache.get_or_load(b"loaded", forever).await
                })
            };
            while !is_loading.load(std::sync::atomic::Ordering::SeqCst) {
                tokio::task::yield_now().await;
            }
            let tasks: Vec<_> = (0..100)
                .map(|_| {
                    let (cache, loads) = (cache.clone(), loads.clone());
                    tokio::spawn(async move {
                        let load = || async {
                            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                            loads.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                            Ok::<_, Error>("value")
                        };
                        cache.get_or_load(b"loaded", load).await
                    })
                })
                .collect();
            cancelled.abort();
            for task in tasks {
                assert_eq!(task.await.unwrap().unwrap(), b"value");
            }
            assert_eq!(loads.load(std::sync::atomic::Ordering::SeqCst), 1);
        });
    }
}

#[test]
fn a_task_that_is_cancelled_at_any_moment_hands_its_key_on() {
    let daemon = start("");
    for runtime in runtimes() {
        let cache = Arc::new(AsyncClient::from(connect(&daemon)));
        runtime.block_on(async {
            for moment in 0..60 {
                let key = format!("cancelled:{moment}");
                let (other, own) = (cache.clone(), key.clone());
                let cancelled = tokio::spawn(async move {
                    other.get_or_load(own, std::future::pending::<Result<&str, Error>>).await
                });
                for _ in 0..moment {
                    tokio::task::yield_now().await;
                }
                cancelled.abort();
                // Ends long before the lease of the one that was cancelled.
                let wait = std::time::Duration::from_secs(5);
                let options = l1d_client::LoadOptions { wait, ..Default::default() };
                let load = async || Ok::<_, Error>("value");
                let value = cache.get_or_load_with(&key, &options, load).await;
                assert_eq!(value.unwrap(), b"value");
                cache.delete(&key).await.unwrap();
            }
        });
    }
}
