//! The hazard: a small request that makes the daemon work or allocate without a bound.

use l1d_client::Client;
use l1d_wire::protocol::{Request, Response, frame};
use serde_json::Value;
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
