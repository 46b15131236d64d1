//! The hazard: a small request that makes the daemon work or allocate without a bound.

use l1d_client::{Client, CounterOptions, Error, LoadOptions, Pending, Reservation, SetOptions};
use l1d_wire::protocol::{Request, Response, frame};
use serde_json::Value;
use std::time::Duration;
use test_support::daemon::Daemon;
use test_support::posted::Posted;

const VALUE_BYTES: usize = 64 << 10;

#[test]
fn no_more_large_values_are_read_than_fit_one_answer() {
    let config = "[table]\nvalue_bytes_max = \"64KiB\"\n";
    let daemon = Daemon::start(env!("CARGO_BIN_EXE_l1d"), config, "16MiB");
    let client = Client::connect(daemon.socket()).unwrap();
    client.set(b"large", [7; VALUE_BYTES]).unwrap();
    client.set(b"small", b"1").unwrap();
    let gets = || -> u64 {
        let stats: Value = serde_json::from_str(&client.admin().stats_json().unwrap()).unwrap();
        stats["requests"]["gets"].as_u64().unwrap()
    };
    let before = gets();
    let mut other = Posted::attached(&daemon.socket());
    // A few hundred bytes that would make the daemon copy out 64 MiB.
    other.ask(1, &Request::GetMany { keys: vec![b"large"; frame::MANY_KEYS] });
    let reply = other.reply(1);
    let Response::Many(answers) = Response::decode(&reply).unwrap() else { panic!("not many") };
    let fitting = frame::MANY_BYTES / VALUE_BYTES;
    assert_eq!(answers.len(), fitting);
    assert!(answers.iter().all(|answer| {
        matches!(answer, Response::Found { value, .. } if value.len() == VALUE_BYTES)
    }));
    assert_eq!(gets() - before, fitting as u64);
    // If all values fit, all are returned.
    other.ask(1, &Request::GetMany { keys: vec![b"small"; frame::MANY_KEYS] });
    let reply = other.reply(1);
    let Response::Many(answers) = Response::decode(&reply).unwrap() else { panic!("not many") };
    assert_eq!(answers.len(), frame::MANY_KEYS);
}

#[test]
fn a_value_that_is_too_large_is_refused_also_by_the_first_call_of_a_process() {
    let config = "[table]\nvalue_bytes_max = \"64KiB\"\n";
    let daemon = Daemon::start(env!("CARGO_BIN_EXE_l1d"), config, "16MiB");
    let unconnected = || {
        let builder = Client::builder().socket(daemon.socket()).deadline(Duration::from_secs(20));
        builder.connect_later().unwrap()
    };
    let value = vec![7; 10 << 20];
    let (counter, large) = (Default::default(), Default::default());
    let no_wait = SetOptions { no_wait: true, ..SetOptions::default() };
    type Call<'a> = &'a dyn Fn(&Client) -> Result<(), Error>;
    let calls: [(&str, Call<'_>); 7] = [
        ("set", &|client| client.set("k", &value).map(drop)),
        ("no_wait", &|client| client.set_with("k", &value, &no_wait).map(drop)),
        ("add", &|client| client.add("k", &value, &large).map(drop)),
        ("append", &|client| client.append("k", &value).map(drop)),
        ("request_set", &|client| {
            answer(client.request_set("k", &value, &SetOptions::default())).map(drop)
        }),
        ("request_replace", &|client| {
            answer(client.request_replace("k", &value, &large)).map(drop)
        }),
        ("get_or_load", &|client| {
            let Reservation::Reserved(token) = client.reserve("l", &LoadOptions::default())? else {
                panic!("nobody has the key")
            };
            client.fill(token, &value, &SetOptions::default()).map(drop)
        }),
    ];
    for (name, call) in calls {
        let client = unconnected();
        assert!(matches!(call(&client), Err(Error::TooLarge { .. })), "{name}");
        let counted = client.increment("n", 1, &CounterOptions { initial: Some(0), ..counter });
        assert!(counted.unwrap().is_done(), "{name}: the daemon goes on with this client");
    }
    let many = [("a", &value[..1]), ("huge", &value), ("b", &value[..2])];
    let stored = unconnected().set_many(&many).unwrap();
    assert!(matches!(stored[..], [Ok(_), Err(Error::TooLarge { .. }), Ok(_)]));
    assert!(!daemon.log().contains("broke the rules"), "{}", daemon.log());
}

fn answer<T>(mut pending: Pending<T>) -> Result<T, Error> {
    loop {
        if let Some(answer) = pending.poll() {
            return answer;
        }
        std::thread::yield_now();
    }
}
