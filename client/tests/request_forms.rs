//! Hazards: a request that does not block asks for something else than the call of that name, or
//! its answer is taken for another; a program that has no thread to block cannot wait for another
//! process's loader.

mod fake;

use fake::{Act, FakeDaemon, FakeTable, framed};
use l1d_client::{
    Client, CounterOptions, Error, Lifetime, LoadOptions, Lookup, OperationOptions, Outcome,
    Pending, Reservation, ReserveStep, SetOptions,
};
use l1d_wire::protocol::{ErrorCode, NotChanged, Operation, Request, Response};
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A daemon that keeps the requests that it gets.
struct Setting {
    directory: tempfile::TempDir,
    table: Arc<FakeTable>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Setting {
    fn new() -> Setting {
        let directory = tempfile::tempdir().unwrap();
        let table = FakeTable::new(directory.path(), 1);
        Setting { directory, table, asked: Arc::default() }
    }

    fn daemon(&self, act: impl Fn(&Request<'_>) -> Act + Send + Sync + 'static) -> FakeDaemon {
        let asked = Arc::clone(&self.asked);
        FakeDaemon::start(&self.directory.path().join("socket"), &self.table, move |_, request| {
            asked.lock().unwrap().push(format!("{request:?}"));
            act(request)
        })
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

fn connect(daemon: &FakeDaemon) -> Client {
    let builder = Client::builder().socket(&daemon.socket).deadline(Duration::from_secs(20));
    builder.connect().unwrap()
}

fn answer<T>(mut pending: Pending<T>) -> Result<T, Error> {
    loop {
        if let Some(answer) = pending.poll() {
            return answer;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn operate(request: &Request<'_>) -> Act {
    let Request::Operate(operate) = request else {
        return Act::Close;
    };
    let changed = Response::Changed {
        version: 5,
        number: Some(42),
        degraded: true,
        life: Some(Duration::from_secs(4)),
    };
    Act::Reply(framed(&match operate.operation {
        Operation::Replace { .. } => Response::NotChanged { reason: NotChanged::Absent },
        Operation::DeleteIf { .. } => Response::NotChanged { reason: NotChanged::Conflict },
        Operation::Prepend { .. } => {
            Response::Error { code: ErrorCode::Refused, message: "no prepend" }
        }
        Operation::GetAndTouch => {
            Response::Found { value: b"v", flags: 7, version: 5, ttl: Duration::from_secs(1) }
        }
        _ => changed,
    }))
}

#[test]
fn each_request_asks_for_what_the_call_of_its_name_does_and_gives_its_answer() {
    let setting = Setting::new();
    let daemon = setting.daemon(operate);
    let cache = &connect(&daemon);
    let check = |blocking: &dyn Debug, request: &dyn Debug| {
        assert_eq!(format!("{blocking:?}"), format!("{request:?}"));
        let asked = setting.asked();
        assert!(asked.len() == 2 && asked[0] == asked[1], "{asked:#?}");
    };
    let life = Lifetime::For(Duration::from_secs(9));
    let stored = &OperationOptions { lifetime: life, flags: 3 };
    let counted = &CounterOptions { initial: Some(8), lifetime: life };
    let Ok(Outcome::Done(added)) = cache.add("k", "v", stored) else { panic!("not added") };
    let token = added.token().unwrap();
    setting.asked();
    macro_rules! both {
        ($($name:ident = $request:ident($($argument:expr),*);)*) => {$(
            check(&cache.$name($($argument),*), &answer(cache.$request($($argument),*)));
        )*};
    }
    both! {
        add = request_add("k", "v", stored);
        replace = request_replace("k", "v", stored);
        compare_and_set = request_compare_and_set("k", token, "v", stored);
        delete_if = request_delete_if("k", token);
        append = request_append("k", "after");
        prepend = request_prepend("k", "before");
        increment = request_increment("k", 3, counted);
        decrement = request_decrement("k", 3, counted);
        touch = request_touch("k", life);
        get_and_touch = request_get_and_touch("k", life);
    }
    assert!(matches!(answer(cache.request_prepend("k", "v")), Err(Error::Refused { .. })));
    setting.asked();
    let least = answer(cache.request_decrement("k", i64::MIN, counted));
    assert!(matches!(least, Err(Error::TooLarge { .. })), "{least:?}");
    assert!(matches!(answer(cache.request_touch("", life)), Err(Error::TooLarge { .. })));
    assert_eq!(setting.asked(), Vec::<String>::new());
}

#[test]
fn many_keys_come_in_order_with_a_result_for_each() {
    let setting = Setting::new();
    setting.table.put(b"000002", b"in the table");
    let daemon = setting.daemon(|request| {
        let Request::GetMany { keys } = request else {
            return Act::Close;
        };
        let failed = Response::Error { code: ErrorCode::TierFailed, message: "away" };
        let answer = |key: &&[u8]| match key.last() {
            Some(b'7') => Response::Unknown,
            Some(b'8') => failed.clone(),
            _ => Response::Absent { ttl: Duration::ZERO },
        };
        Act::Reply(framed(&Response::Many(keys.iter().take(300).map(answer).collect())))
    });
    let cache = connect(&daemon);
    let mut keys: Vec<String> = (0..1500).map(|number| format!("{number:06}")).collect();
    keys[5].clear();
    let mut results = Vec::new();
    while results.len() < keys.len() {
        let some = answer(cache.request_many(&keys[results.len()..])).unwrap();
        assert!(!some.is_empty());
        results.extend(some);
    }
    assert_eq!(results.len(), keys.len());
    assert_eq!(setting.asked().len(), 5);
    for (index, (key, result)) in keys.iter().zip(&results).enumerate() {
        match (index, key.as_bytes().last()) {
            (2, _) => {
                assert_eq!(result.clone().unwrap().found().as_deref(), Some(&b"in the table"[..]))
            }
            (5, _) => assert!(matches!(result, Err(Error::TooLarge { .. })), "{result:?}"),
            (_, Some(b'7')) => assert_eq!(*result, Ok(Lookup::Unknown), "{key}"),
            (_, Some(b'8')) => assert!(matches!(result, Err(Error::TierFailed { .. })), "{key}"),
            _ => assert_eq!(*result, Ok(Lookup::Absent), "{key}"),
        }
    }
    let known = cache.request_many(&["000002"]);
    assert!(known.is_answered() && answer(known).unwrap().len() == 1);
    assert_eq!(answer(cache.request_many::<&str>(&[])).unwrap(), []);
}

/// The next step, which must be one that says to ask again.
fn again(step: Result<ReserveStep, Error>) -> l1d_client::LoadWait {
    match step {
        Ok(ReserveStep::AskAgain(wait)) => wait,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_reservation_says_when_to_ask_again_and_is_filled_or_abandoned() {
    let setting = Setting::new();
    let daemon = setting.daemon(|request| {
        Act::Reply(framed(&match request {
            Request::Get { key: b"known" } => {
                Response::Found { value: b"v", flags: 0, version: 1, ttl: Duration::ZERO }
            }
            Request::Get { .. } => Response::Absent { ttl: Duration::ZERO },
            Request::Reserve { waits_for: 0, .. } => Response::Loading { token: 7 },
            Request::Reserve { waits_for: 7, .. } => Response::Reserved { token: 8 },
            Request::Fill { token: 8, .. } => {
                Response::Stored { version: 2, degraded: false, life: None }
            }
            Request::Abandon { token: 8, error: "why", .. } => Response::Done,
            _ => return Act::Close,
        }))
    });
    let cache = connect(&daemon);
    let options = LoadOptions::default();
    match answer(cache.request_reserve("known", &options)) {
        Ok(ReserveStep::Done(Reservation::Found(value))) => assert_eq!(&*value, b"v"),
        other => panic!("{other:?}"),
    }
    let reserved = || {
        let wait = again(answer(cache.request_reserve("cold", &options)));
        assert_eq!(wait.pause(), Duration::ZERO, "nobody loads it yet");
        let wait = again(answer(wait.ask_again()));
        assert!(wait.pause() > Duration::ZERO && wait.look().is_none());
        match answer(wait.ask_again()) {
            Ok(ReserveStep::Done(Reservation::Reserved(token))) => token,
            other => panic!("{other:?}"),
        }
    };
    let token = reserved();
    assert_eq!(token.key(), b"cold");
    let stored = answer(cache.request_fill(token, "value", &SetOptions::default())).unwrap();
    assert_eq!(stored.version, 2);
    answer(cache.request_abandon(reserved(), Some("why"))).unwrap();

    let impatient = LoadOptions { wait: Duration::ZERO, ..options };
    let wait = again(answer(cache.request_reserve("cold", &impatient)));
    let busy = answer(wait.ask_again()).expect_err("the wait has ended");
    assert!(matches!(busy, Error::Busy { .. }), "{busy}");

    let wait = again(answer(cache.request_reserve("late", &options)));
    setting.table.put(b"late", b"by another process");
    assert_eq!(wait.look().as_deref(), Some(&b"by another process"[..]));
}
