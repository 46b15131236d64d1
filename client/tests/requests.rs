//! The hazards: a write is done twice, or reported as not done although it was; a late answer is
//! taken for the next request's; a dead connection is reported although a new one would have
//! worked.

mod fake;

use fake::{Act, FakeDaemon, FakeTable, found, framed};
use l1d_client::{Client, Error, SetOptions, Value, Values};
use l1d_wire::protocol::{ErrorCode, Request, Response};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::time::Duration;

struct Setting {
    directory: tempfile::TempDir,
    table: Arc<FakeTable>,
}

impl Setting {
    fn new() -> Setting {
        let directory = tempfile::tempdir().unwrap();
        let table = FakeTable::new(directory.path(), 1);
        Setting { directory, table }
    }

    fn daemon(
        &self,
        behaviour: impl Fn(u64, &Request<'_>) -> Act + Send + Sync + 'static,
    ) -> FakeDaemon {
        FakeDaemon::start(&self.directory.path().join("socket"), &self.table, behaviour)
    }
}

fn client(daemon: &FakeDaemon, deadline_ms: u64) -> Client {
    Client::builder()
        .socket(&daemon.socket)
        .deadline(Duration::from_millis(deadline_ms))
        .connect()
        .unwrap()
}

/// Returns the key itself, so that every answer identifies its request.
fn echo(request: &Request<'_>) -> Act {
    match request {
        Request::Get { key } => Act::Reply(found(key)),
        _ => Act::Close,
    }
}

#[test]
fn a_read_goes_over_to_a_new_connection_when_the_old_one_is_closed() {
    let setting = Setting::new();
    let daemon = setting.daemon(|number, request| match number {
        0 => Act::Close,
        _ => echo(request),
    });
    let cache = client(&daemon, 5000);
    assert_eq!(&*cache.get(b"key").unwrap().unwrap(), b"key");
}

#[test]
fn a_read_that_every_connection_fails_ends() {
    let setting = Setting::new();
    let daemon = setting.daemon(|_, _| Act::Close);
    let error = client(&daemon, 5000).get(b"key").expect_err("answered");
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
}

#[test]
fn a_write_that_may_have_happened_is_not_sent_again() {
    for cut in [vec![], vec![1], framed(&Response::Unknown)[..4].to_vec()] {
        let setting = Setting::new();
        let writes = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&writes);
        let daemon = setting.daemon(move |_, _| {
            seen.fetch_add(1, Ordering::SeqCst);
            Act::Cut(cut.clone())
        });
        let cache = client(&daemon, 5000);
        let error = cache.set(b"key", b"value").expect_err("stored");
        assert!(matches!(error, Error::UnknownOutcome { .. }), "{error}");
        let error = cache.delete(b"key").expect_err("deleted");
        assert!(matches!(error, Error::UnknownOutcome { .. }), "{error}");
        drop(daemon);
        assert_eq!(writes.load(Ordering::SeqCst), 2);
    }
}

#[test]
fn a_write_after_the_daemon_came_back_has_a_known_outcome() {
    let setting = Setting::new();
    let daemon = setting.daemon(|_, _| Act::Silence);
    let cache = client(&daemon, 5000);
    drop(daemon);
    let _daemon = setting.daemon(|_, _| {
        Act::Reply(framed(&Response::Stored { version: 9, degraded: true, life: None }))
    });
    let stored = cache.set(b"key", b"value").unwrap();
    assert_eq!((stored.version, stored.degraded), (9, true));
}

#[test]
fn a_late_answer_is_not_the_next_questions() {
    let setting = Setting::new();
    let (late, release) = mpsc::channel::<()>();
    let release = std::sync::Mutex::new(release);
    let daemon = setting.daemon(move |_, request| match request {
        Request::Get { key: b"slow" } => {
            // Until the test releases it or has ended.
            let _ = release.lock().unwrap().recv();
            echo(request)
        }
        _ => echo(request),
    });
    let cache = Client::builder()
        .socket(&daemon.socket)
        .deadline(Duration::from_millis(300))
        .connections_max(1)
        .connect()
        .unwrap();
    let error = cache.get(b"slow").expect_err("answered");
    assert!(matches!(error, Error::Deadline { .. }), "{error}");
    drop(late);
    for _ in 0..20 {
        assert_eq!(&*cache.get(b"quick").unwrap().unwrap(), b"quick");
    }
}

#[test]
fn a_connection_that_lost_step_is_not_used_again() {
    let stored = framed(&Response::Stored { version: 1, degraded: false, life: None });
    let two_at_once = [found(b"wrong"), found(b"wrong")].concat();
    let no_message = vec![1, 0, 0, 0, 200];
    for wrong in [stored, two_at_once, no_message] {
        let setting = Setting::new();
        let daemon = setting.daemon(move |number, request| match number {
            0 => Act::Reply(wrong.clone()),
            _ => echo(request),
        });
        let cache = client(&daemon, 5000);
        let error = cache.get(b"key").expect_err("answered");
        assert!(matches!(error, Error::Internal { .. }), "{error}");
        assert_eq!(&*cache.get(b"key").unwrap().unwrap(), b"key");
    }
}

#[test]
fn unsolicited_bytes_on_an_idle_connection_answer_no_request() {
    let setting = Setting::new();
    let (release, held) = mpsc::channel();
    let (done, wait) = mpsc::channel();
    let late = std::sync::Mutex::new(Some((held, done)));
    let daemon = setting.daemon(move |_, request| match late.lock().unwrap().take() {
        Some((held, done)) => Act::Late(found(b"first"), found(b"wrong"), held, done),
        None => echo(request),
    });
    let cache = client(&daemon, 5000);
    assert_eq!(&*cache.get(b"first").unwrap().unwrap(), b"first");
    drop(release);
    wait.recv().expect_err("only dropped");
    assert_eq!(&*cache.get(b"key").unwrap().unwrap(), b"key");
}

#[test]
fn a_write_without_an_answer_is_doubtful_after_its_deadline() {
    let setting = Setting::new();
    let daemon = setting.daemon(|_, _| Act::Silence);
    let error = client(&daemon, 200).set(b"key", b"v").expect_err("stored");
    assert!(matches!(error, Error::UnknownOutcome { .. }), "{error}");
}

#[test]
fn an_unacknowledged_write_arrives() {
    let setting = Setting::new();
    let (arrived, wait) = mpsc::channel();
    let daemon = setting.daemon(move |_, request| {
        if let Request::Set(set) = request {
            let seen = (set.key.to_vec(), set.value.to_vec(), set.reply, set.flags);
            arrived.send(seen).unwrap();
        }
        Act::Silence
    });
    let cache = client(&daemon, 5000);
    let options = SetOptions { no_wait: true, flags: 3, ..SetOptions::default() };
    for value in [b"one", b"two"] {
        cache.set_with(b"key", value, &options).unwrap();
    }
    assert_eq!(wait.recv().unwrap(), (b"key".to_vec(), b"one".to_vec(), false, 3));
    assert_eq!(wait.recv().unwrap().1, b"two");
}

#[test]
fn many_keys_come_in_order_though_the_daemon_answers_in_parts() {
    let setting = Setting::new();
    setting.table.put(b"000002", b"000002");
    let daemon = setting.daemon(|_, request| {
        let Request::GetMany { keys } = request else {
            return Act::Close;
        };
        assert!(!keys.contains(&b"000002".as_slice()), "the table has it");
        fn answer<'a>(key: &&'a [u8]) -> Response<'a> {
            match key.last() {
                Some(b'7') => Response::Unknown,
                Some(b'8') => Response::Absent { ttl: Duration::ZERO },
                _ => Response::Found { value: key, flags: 7, version: 1, ttl: Duration::ZERO },
            }
        }
        let answers: Vec<_> = keys.iter().take(300).map(answer).collect();
        Act::Reply(framed(&Response::Many(answers)))
    });
    let cache = client(&daemon, 20_000);
    let keys: Vec<String> = (0..3000).map(|number| format!("{number:06}")).collect();
    let values = cache.get_many(&keys).unwrap();
    let mut together = Values::new();
    cache.get_many_into(&["000002", "000003"], &mut together).unwrap();
    assert_eq!(together.get(1), Some(b"000003".as_slice()));
    cache.get_many_into(&keys, &mut together).unwrap();
    assert_eq!((values.len(), together.len()), (keys.len(), keys.len()));
    for (index, (key, value)) in keys.iter().zip(&values).enumerate() {
        let is_none = matches!(key.as_bytes(), [.., b'7' | b'8']);
        let expected = (!is_none).then_some(key.as_bytes());
        assert_eq!(value.as_deref(), expected, "{key}");
        assert_eq!(together.get(index), expected, "{key}");
        assert_eq!(together.meta(index), value.as_ref().map(Value::meta), "{key}");
    }
    assert!(together.iter().eq(values.iter().map(Option::as_deref)));
    assert_eq!(together.get(keys.len()), None);
}

#[test]
fn the_error_of_many_keys_names_the_one_that_failed() {
    let setting = Setting::new();
    let daemon = setting.daemon(|_, request| {
        let Request::GetMany { keys } = request else { return Act::Close };
        let answer = |key: &&[u8]| match key.first() {
            Some(b'b' | 0xff) => Response::Error { code: ErrorCode::Refused, message: "a list" },
            _ => Response::Absent { ttl: Duration::ZERO },
        };
        Act::Reply(framed(&Response::Many(keys.iter().map(answer).collect())))
    });
    let cache = client(&daemon, 5000);
    let mut values = Values::new();
    let long = [&[0xff, b'"'][..], &[b'k'; 500]].concat();
    for (key, named) in
        [(&b"bad"[..], "the key \"bad\": a list (lookup_many"), (&long, "kkk\"...:")]
    {
        let keys = [&b"a"[..], key, b"c"];
        let errors = [
            cache.get_many(&keys).expect_err("one fails").to_string(),
            cache.get_many_into(&keys, &mut values).expect_err("one fails").to_string(),
        ];
        for error in errors {
            assert!(error.contains(named) && error.len() < 300, "{error}");
        }
        let each = cache.lookup_many(&keys);
        assert!(each[0].is_ok() && each[2].is_ok());
        let own = each[1].clone().expect_err("it fails").to_string();
        assert!(own.contains("a list") && !own.contains("lookup_many"), "{own}");
    }
    let empty = cache.get_many(&["a", ""]).expect_err("no key").to_string();
    assert!(empty.contains("the key \"\""), "{empty}");
}

#[test]
fn the_daemons_errors_keep_their_meaning_and_words() {
    let setting = Setting::new();
    let daemon = setting.daemon(|_, request| {
        let code = match request {
            Request::Get { key: b"busy" } => ErrorCode::Busy,
            Request::Get { .. } => ErrorCode::TierFailed,
            _ => ErrorCode::Refused,
        };
        let message = "in these words";
        Act::Reply(framed(&Response::Error { code, message }))
    });
    let cache = client(&daemon, 5000);
    let errors = [
        cache.get(b"busy").expect_err("answered"),
        cache.get(b"key").expect_err("answered"),
        cache.set(b"key", b"value").expect_err("stored").clone(),
    ];
    assert!(matches!(errors[0], Error::Busy { .. }));
    assert!(matches!(errors[1], Error::TierFailed { .. }));
    assert!(matches!(errors[2], Error::Refused { .. }));
    for error in errors {
        assert!(error.to_string().contains("in these words"), "{error}");
    }
}

#[test]
fn impossible_sizes_are_refused_before_anything_is_sent() {
    let setting = Setting::new();
    let daemon = setting.daemon(|_, _| panic!("something was sent"));
    let cache = client(&daemon, 5000);
    let long = vec![7; 65_001];
    for key in [b"".as_slice(), &long] {
        assert!(matches!(cache.get(key), Err(Error::TooLarge { .. })));
        assert!(matches!(cache.set(key, b""), Err(Error::TooLarge { .. })));
        assert!(matches!(cache.delete(key), Err(Error::TooLarge { .. })));
        assert!(matches!(cache.get_many(&[key]), Err(Error::TooLarge { .. })));
        assert_eq!(cache.peek(key), None);
    }
}

#[test]
fn threads_share_a_few_connections_and_get_their_own_answers() {
    const THREADS: usize = 12;
    let setting = Setting::new();
    let connections = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&connections);
    let daemon = setting.daemon(move |number, request| {
        seen.fetch_max(number, Ordering::SeqCst);
        echo(request)
    });
    let cache = client(&daemon, 20_000);
    let start = Arc::new(Barrier::new(THREADS));
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let (cache, start) = (cache.clone(), Arc::clone(&start));
            std::thread::spawn(move || {
                start.wait();
                for round in 0..100 {
                    let key = format!("{thread} {round}");
                    let value = cache.get(key.as_bytes()).unwrap().unwrap();
                    assert_eq!(&*value, key.as_bytes());
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert!(connections.load(Ordering::SeqCst) < 4, "more than four connections");
}

#[test]
fn a_large_value_comes_whole() {
    let setting = Setting::new();
    let value: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let sent = found(&value);
    let daemon = setting.daemon(move |_, request| match request {
        Request::Get { key: b"large" } => Act::Reply(sent.clone()),
        _ => echo(request),
    });
    let cache = client(&daemon, 20_000);
    for _ in 0..3 {
        assert_eq!(&*cache.get(b"large").unwrap().unwrap(), value.as_slice());
        assert_eq!(&*cache.get(b"small").unwrap().unwrap(), b"small");
    }
}
