//! Where L1 has the record.

use super::{
    PROGRAM, check_compare_and_set, check_increments, check_lock, connect, from, living, plain,
    text, ttl_ms,
};
use l1d_client::{
    Client, CounterOptions, Error, Lifetime, LoadOptions, Outcome, Reservation, SetOptions, Token,
};
use std::time::Duration;
use test_support::daemon::Daemon;
use test_support::servers::until;

const CONFIG: &str = "[table]\nvalue_bytes_max = \"64KiB\"\n[defaults]\nttl = \"60s\"\n\
    [[policy]]\nprefix = \"small:\"\nvalue_bytes_max = \"8B\"\n\
    [[policy]]\nprefix = \"own:\"\nscope = \"process\"\n";

fn daemon() -> (Daemon, Client) {
    let daemon = Daemon::start(PROGRAM, CONFIG, "16MiB");
    let client = connect(&daemon);
    (daemon, client)
}

#[test]
fn no_increment_is_lost_or_given_out_twice() {
    let (daemon, _) = daemon();
    // 10,000,000 takes minutes.
    let total = std::env::var("L1D_TEST_INCREMENTS").map_or(40_000, |n| n.parse().unwrap());
    check_increments(&[&daemon], total);
}

#[test]
fn of_many_that_add_one_succeeds_each_round() {
    let (daemon, _) = daemon();
    check_lock(&[&daemon], 500);
}

#[test]
fn compare_and_set_loses_no_change() {
    let (daemon, _) = daemon();
    check_compare_and_set(&[&daemon], 200);
}

#[test]
fn each_operation_does_what_it_says_and_nothing_otherwise() {
    let (_daemon, client) = daemon();
    assert_eq!(client.replace("key", "r", &plain()), Ok(Outcome::Absent));
    assert_eq!(client.append("key", "a"), Ok(Outcome::Absent));
    assert_eq!(client.touch("key", Lifetime::Rule), Ok(Outcome::Absent));
    assert_eq!(client.get_and_touch("key", Lifetime::Rule), Ok(None));
    assert_eq!(client.increment("key", 1, &CounterOptions::default()), Ok(Outcome::Absent));
    assert_eq!(client.get("key"), Ok(None));

    let added = client.add("key", "one", &plain()).unwrap().done().unwrap();
    assert_eq!(client.add("key", "two", &plain()), Ok(Outcome::Exists));
    assert_eq!(text(&client, "key").as_deref(), Some("one"));
    assert!(client.append("key", "!").unwrap().is_done());
    assert!(client.prepend("key", "?").unwrap().is_done());
    assert_eq!(text(&client, "key").as_deref(), Some("?one!"));
    let token = added.token().unwrap();
    assert_eq!(client.compare_and_set("key", token, "x", &plain()), Ok(Outcome::Conflict));
    assert_eq!(client.delete_if("key", token), Ok(Outcome::Conflict));
    let token = client.get("key").unwrap().unwrap().meta().token().unwrap();
    let set = client.compare_and_set("key", token, "x", &plain()).unwrap().done().unwrap();
    assert_eq!(text(&client, "key").as_deref(), Some("x"));
    assert!(client.delete_if("key", set.token().unwrap()).unwrap().is_done());
    assert_eq!(client.peek("key"), None);
    assert_eq!(client.delete_if("key", set.token().unwrap()), Ok(Outcome::Conflict));
}

#[test]
fn counters_keep_their_flags_and_their_life() {
    let (_daemon, client) = daemon();
    let lifetime = Lifetime::For(Duration::from_secs(10));
    let options = CounterOptions { initial: Some(-3), lifetime };
    let count = |by| client.increment("n", by, &options).unwrap().done().unwrap().value;
    assert_eq!(count(1), -3, "initial");
    assert_eq!(count(5), 2);
    assert_eq!(client.decrement("n", 4, &options).unwrap().done().unwrap().value, -2);
    assert!(ttl_ms(&client, "n") <= 10_000);
    let longer = CounterOptions { lifetime: Lifetime::For(Duration::from_secs(50)), ..options };
    assert!(client.increment("n", 1, &longer).unwrap().is_done());
    assert!(ttl_ms(&client, "n") <= 10_000, "a counter keeps its life");
    let options = SetOptions { lifetime, flags: 7, ..SetOptions::default() };
    client.set_with("f", "1", &options).unwrap();
    assert!(client.increment("f", 1, &longer).unwrap().is_done());
    assert!(client.append("f", "0").unwrap().is_done());
    let value = client.get("f").unwrap().unwrap();
    assert_eq!((&*value, value.meta().flags), (&b"20"[..], 7));
    assert!(ttl_ms(&client, "f") <= 10_000);
}

#[test]
fn a_touch_changes_the_life_and_nothing_else() {
    let (_daemon, client) = daemon();
    let flags = SetOptions { flags: 7, ..SetOptions::default() };
    let stored = client.set_with("key", "v", &flags).unwrap();
    let long = Lifetime::For(Duration::from_secs(600));
    assert!(client.touch("key", long).unwrap().is_done());
    assert!(ttl_ms(&client, "key") > 500_000);
    let short = Lifetime::For(Duration::from_millis(300));
    let value = client.get_and_touch("key", short).unwrap().unwrap();
    assert_eq!((&*value, value.meta().flags), (&b"v"[..], 7));
    assert_eq!(value.meta().version, stored.version);
    assert_eq!(client.peek("key").unwrap().meta().version, stored.version);
    until("its end", || client.peek("key").is_none().then_some(()));
    assert_eq!(client.touch("key", long), Ok(Outcome::Absent), "what has expired is absent");
    assert!(client.add("key", "w", &living(Duration::from_secs(1))).unwrap().is_done());
}

#[test]
fn what_an_operation_cannot_do_is_refused_and_changes_nothing() {
    let (_daemon, client) = daemon();
    for (key, value) in [("text", "abc"), ("top", "9223372036854775807"), ("small:k", "12345678")] {
        client.set(key, value).unwrap();
        let by = if key == "small:k" { 900_000_000 } else { i64::MAX };
        let refused = client.increment(key, by, &from(0));
        match key {
            "small:k" => assert!(matches!(refused, Err(Error::TooLarge { .. })), "{refused:?}"),
            _ => assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}"),
        }
        assert_eq!(text(&client, key).as_deref(), Some(value));
    }
    let too_large = client.append("small:k", "9");
    assert!(matches!(too_large, Err(Error::TooLarge { .. })), "{too_large:?}");
    assert_eq!(text(&client, "small:k").as_deref(), Some("12345678"));
    for lifetime in [Lifetime::DoNotKeep, Lifetime::For(Duration::ZERO)] {
        let refused = client.touch("text", lifetime);
        assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
    }
    assert!(matches!(client.decrement("top", i64::MIN, &from(0)), Err(Error::TooLarge { .. })));
    assert!(matches!(client.add("", "v", &plain()), Err(Error::TooLarge { .. })));
    let none = client.increment("own:k", 1, &from(1));
    assert!(matches!(none, Err(Error::Refused { .. })), "no record: {none:?}");
    assert_eq!(Token::of_version(0), None);
}

/// The hazard: a loader's value, computed before, replaces what an operation has stored.
#[test]
fn an_operation_ends_the_reservation_of_its_key() {
    let (_daemon, client) = daemon();
    let Reservation::Reserved(token) = client.reserve("key", &LoadOptions::default()).unwrap()
    else {
        panic!("nobody has the key");
    };
    assert!(client.add("key", "added", &plain()).unwrap().is_done());
    let filled = client.fill(token, "loaded", &SetOptions::default());
    assert!(filled.is_err(), "{filled:?}");
    assert_eq!(text(&client, "key").as_deref(), Some("added"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_async_client_has_the_same_operations() {
    let daemon = Daemon::start(PROGRAM, CONFIG, "16MiB");
    let client = l1d_client::AsyncClient::from(connect(&daemon));
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.increment("n", 1, &from(1)).await.unwrap() })
        })
        .collect();
    for task in tasks {
        assert!(task.await.unwrap().is_done());
    }
    let count = client.decrement("n", 8, &from(0)).await.unwrap().done().unwrap();
    assert_eq!(count.value, 42);
    let token = count.token().unwrap();
    assert!(client.compare_and_set("n", token, "x", &plain()).await.unwrap().is_done());
    assert_eq!(client.delete_if("n", token).await, Ok(Outcome::Conflict));
    assert!(client.add("a", "b", &plain()).await.unwrap().is_done());
    assert!(client.replace("a", "c", &plain()).await.unwrap().is_done());
    assert!(client.append("a", "d").await.unwrap().is_done());
    assert!(client.prepend("a", "b").await.unwrap().is_done());
    assert!(client.touch("a", Lifetime::Rule).await.unwrap().is_done());
    let value = client.get_and_touch("a", Lifetime::Rule).await.unwrap().unwrap();
    assert_eq!(&*value, b"bcd");
}
