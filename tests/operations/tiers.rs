//! Where a tier has the record: Redis, Redis below memcached, or memcached alone.

use super::{
    PROGRAM, check_compare_and_set, check_increments, check_lock, check_mixed, connect, from,
    living, plain, text, ttl_ms,
};
use l1d_client::{Client, CounterOptions, Error, Lifetime, OperationOptions, Outcome, SetOptions};
use std::time::Duration;
use test_support::daemon::Daemon;
use test_support::servers::{Proxy, Server, until};

/// Real servers, and two daemons, as of two hosts.
struct Scene {
    memcached: Option<Server>,
    redis: Option<Server>,
    daemons: [Daemon; 2],
}

impl Scene {
    fn new(has_memcached: bool, has_redis: bool, rules: &str) -> Scene {
        let memcached = has_memcached.then(Server::memcached);
        let redis = has_redis.then(Server::redis);
        let l2 =
            memcached.as_ref().map(|server| format!("[l2]\naddress = \"{}\"\n", server.address()));
        let l3 =
            redis.as_ref().map(|server| format!("[l3]\nurl = \"redis://{}\"\n", server.address()));
        let config = format!(
            "[table]\nvalue_bytes_max = \"64KiB\"\n{}{}[defaults]\nttl = \"30s\"\n{rules}",
            l2.unwrap_or_default().replace("\"\n", "\"\ndeadline = \"2s\"\n"),
            l3.unwrap_or_default().replace("\"\n", "\"\ndeadline = \"2s\"\n"),
        );
        let daemons = [(); 2].map(|()| Daemon::start(PROGRAM, &config, "16MiB"));
        Scene { memcached, redis, daemons }
    }

    fn each(rules: &str, test: impl Fn(&Scene)) {
        for (has_memcached, has_redis) in [(false, true), (true, true), (true, false)] {
            test(&Scene::new(has_memcached, has_redis, rules));
        }
    }

    fn clients(&self) -> [Client; 2] {
        [0, 1].map(|n| connect(&self.daemons[n]))
    }

    fn both(&self) -> [&Daemon; 2] {
        [&self.daemons[0], &self.daemons[1]]
    }

    /// What the store of record holds.
    fn record(&self, key: &str) -> Option<String> {
        let value = match (&self.redis, &self.memcached) {
            (Some(redis), _) => {
                let reply = redis.client().resp(&[b"GET", key.as_bytes()]);
                let reply = String::from_utf8_lossy(&reply).into_owned();
                return (reply != "$-1").then_some(reply);
            }
            (_, Some(memcached)) => memcached.client().ascii_get(key)?.1,
            _ => return None,
        };
        Some(String::from_utf8(value).unwrap().trim_end().to_owned())
    }

    /// Remaining life in the store of record, in seconds; -1: without end.
    fn life(&self, key: &str) -> i64 {
        match (&self.redis, &self.memcached) {
            (Some(redis), _) => redis.client().resp_int(&[b"TTL", key.as_bytes()]),
            (_, Some(memcached)) => memcached.client().ascii_ttl(key),
            _ => panic!("no tier"),
        }
    }

    /// Another client, which l1d does not know of, stores a value.
    fn set_below(&self, key: &str, value: &str) {
        match (&self.redis, &self.memcached) {
            (Some(redis), _) => {
                redis.client().resp(&[b"SET", key.as_bytes(), value.as_bytes()]);
            }
            (_, Some(memcached)) => memcached.client().ascii_set(key, 0, 0, value.as_bytes()),
            _ => panic!("no tier"),
        }
    }
}

#[test]
fn two_hosts_over_one_record_lose_no_increment() {
    Scene::each("", |scene| {
        check_increments(&scene.both(), 2400);
        assert_eq!(scene.record("count").as_deref(), Some("2400"));
    });
}

#[test]
fn counting_and_comparing_on_two_hosts_lose_nothing_of_each_other() {
    Scene::each("", |scene| check_mixed(&scene.both(), 200));
}

#[test]
fn of_two_hosts_that_add_one_succeeds_each_round() {
    Scene::each("", |scene| check_lock(&scene.both(), 100));
}

#[test]
fn compare_and_set_of_two_hosts_loses_no_change() {
    Scene::each("", |scene| check_compare_and_set(&scene.both(), 12));
}

#[test]
fn the_record_decides_and_every_copy_follows() {
    Scene::each("", |scene| {
        let [one, two] = scene.clients();
        assert_eq!(one.replace("key", "r", &plain()), Ok(Outcome::Absent));
        assert_eq!(one.append("key", "a"), Ok(Outcome::Absent));
        assert_eq!(one.touch("key", Lifetime::Rule), Ok(Outcome::Absent));
        assert_eq!(one.get_and_touch("key", Lifetime::Rule), Ok(None));
        assert_eq!(one.increment("key", 1, &CounterOptions::default()), Ok(Outcome::Absent));
        assert_eq!(scene.record("key"), None);

        let added = one.add("key", "one", &plain()).unwrap().done().unwrap();
        assert_eq!(one.peek("key").unwrap().meta().version, added.version);
        assert_eq!(two.add("key", "two", &plain()), Ok(Outcome::Exists));
        assert_eq!(text(&two, "key").as_deref(), Some("one"), "an absence is not remembered");
        assert!(two.append("key", "!").unwrap().is_done());
        assert!(two.prepend("key", "?").unwrap().is_done());
        assert_eq!(text(&two, "key").as_deref(), Some("?one!"));
        assert_eq!(scene.record("key").as_deref(), Some("?one!"));
        // The first host's copy is old; once it has found out, it reads the record.
        let old = one.get("key").unwrap().unwrap();
        assert_eq!(&*old, b"one");
        let token = old.meta().token().unwrap();
        assert_eq!(one.compare_and_set("key", token, "x", &plain()), Ok(Outcome::Conflict));
        assert_eq!(text(&one, "key").as_deref(), Some("?one!"));
        assert_eq!(one.delete_if("key", token), Ok(Outcome::Conflict), "no such version any more");
        let token = one.get("key").unwrap().unwrap().meta().token().unwrap();
        let set = one.compare_and_set("key", token, "x", &plain()).unwrap().done().unwrap();
        assert_eq!(scene.record("key").as_deref(), Some("x"));
        assert!(one.delete_if("key", set.token().unwrap()).unwrap().is_done());
        assert_eq!((one.peek("key"), scene.record("key")), (None, None));
        assert!(one.replace("key", "y", &plain()).unwrap() == Outcome::Absent);
    });
}

#[test]
fn what_others_have_changed_is_not_overwritten_by_a_comparison() {
    Scene::each("", |scene| {
        let [one, _] = scene.clients();
        let stored = one.set("key", "v").unwrap();
        scene.set_below("key", "w");
        let set = one.compare_and_set("key", stored.token().unwrap(), "x", &plain());
        assert_eq!(set, Ok(Outcome::Conflict));
        assert_eq!(scene.record("key").as_deref(), Some("w"));
        assert_eq!(text(&one, "key").as_deref(), Some("w"));
    });
}

#[test]
fn lives_are_those_of_the_record() {
    Scene::each("", |scene| {
        let [one, _] = scene.clients();
        let lifetime = Lifetime::For(Duration::from_secs(100));
        let options = CounterOptions { initial: Some(9), lifetime };
        assert!(one.increment("n", 1, &options).unwrap().is_done());
        assert!((90..=100).contains(&scene.life("n")), "{}", scene.life("n"));
        let longer =
            CounterOptions { lifetime: Lifetime::For(Duration::from_secs(500)), ..options };
        let count = |by| one.increment("n", by, &longer).unwrap().done().unwrap().value;
        assert_eq!((count(1), count(-1), count(1)), (10, 9, 10));
        assert!(one.append("n", "0").unwrap().is_done());
        assert_eq!(count(0), 100);
        assert!((90..=100).contains(&scene.life("n")), "{}", scene.life("n"));
        assert!(one.touch("n", Lifetime::Forever).unwrap().is_done());
        assert_eq!(scene.life("n"), -1);
        let value = one.get_and_touch("n", Lifetime::For(Duration::from_secs(7))).unwrap().unwrap();
        assert_eq!(&*value, b"100");
        assert!((5..=7).contains(&scene.life("n")), "{}", scene.life("n"));
        assert!(one.touch("n", Lifetime::For(Duration::from_secs(3))).unwrap().is_done());
        assert!(ttl_ms(&one, "n") <= 3000, "a copy does not outlive the record");
        assert!(one.add("a", "v", &living(Duration::from_secs(50))).unwrap().is_done());
        assert!((45..=50).contains(&scene.life("a")));
        assert!(one.replace("a", "w", &living(Duration::from_secs(80))).unwrap().is_done());
        assert!((75..=80).contains(&scene.life("a")));
    });
}

#[test]
fn numbers_beyond_53_bits_and_at_their_ends() {
    Scene::each("", |scene| {
        let [one, two] = scene.clients();
        let by = |client: &Client, key, by| client.increment(key, by, &from(0));
        one.set("n", "9007199254740993").unwrap();
        assert_eq!(by(&one, "n", 2).unwrap().done().unwrap().value, 9_007_199_254_740_995);
        one.set("n", i64::MAX.to_string()).unwrap();
        for client in [&one, &two] {
            let refused = by(client, "n", 1);
            assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
        }
        assert_eq!(scene.record("n"), Some(i64::MAX.to_string()));
        one.set("n", "1").unwrap();
        let below = by(&one, "n", -2);
        match scene.redis {
            Some(_) => assert_eq!(below.unwrap().done().unwrap().value, -1),
            None => {
                assert!(matches!(below, Err(Error::Refused { .. })), "{below:?}");
                assert_eq!(scene.record("n").as_deref(), Some("1"));
                let refused = one.increment("new", 1, &from(-1));
                assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
            }
        }
    });
}

#[test]
fn what_an_operation_cannot_do_is_refused_and_changes_nothing() {
    Scene::each("[[policy]]\nprefix = \"small:\"\nvalue_bytes_max = \"8B\"\n", |scene| {
        let [one, _] = scene.clients();
        one.set("text", "abc").unwrap();
        let refused = one.increment("text", 1, &from(0));
        assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
        assert_eq!(text(&one, "text").as_deref(), Some("abc"));
        one.set("small:k", "12345678").unwrap();
        let refused = one.append("small:k", "9");
        assert!(matches!(refused, Err(Error::TooLarge { .. })), "{refused:?}");
        assert_eq!(scene.record("small:k").as_deref(), Some("12345678"));
        if let Some(redis) = &scene.redis {
            redis.client().resp(&[b"RPUSH", b"list", b"x"]);
            for refused in [
                one.increment("list", 1, &from(0)).map(|_| ()),
                one.append("list", "y").map(|_| ()),
                one.touch("list", Lifetime::Forever).map(|_| ()),
            ] {
                let word = refused.unwrap_err().to_string();
                assert!(word.contains("WRONGTYPE"), "{word}");
            }
            assert_eq!(one.add("list", "y", &plain()), Ok(Outcome::Exists));
            let stats = one.admin().stats_json().unwrap();
            assert!(!stats.contains("\"open\""), "no breaker: {stats}");
        } else {
            let short = one.touch("text", Lifetime::For(Duration::from_millis(900)));
            assert!(matches!(short, Err(Error::Refused { .. })), "{short:?}");
        }
    });
}

#[test]
fn flags_are_kept_where_the_record_keeps_them_and_frames_are_not_broken() {
    let scene = Scene::new(true, false, "");
    let [one, two] = scene.clients();
    let flagged = SetOptions { flags: 7, ..SetOptions::default() };
    one.set_with("n", "1", &flagged).unwrap();
    assert!(one.increment("n", 1, &from(0)).unwrap().is_done());
    assert!(one.append("n", "0").unwrap().is_done());
    for client in [&one, &two] {
        let value = client.get("n").unwrap().unwrap();
        assert_eq!((&*value, value.meta().flags), (&b"20"[..], 7));
    }

    let scene = Scene::new(true, true, "client_flags = \"frame\"\n");
    let [one, two] = scene.clients();
    let options = OperationOptions { flags: 7, ..plain() };
    let added = one.add("f", "v", &options).unwrap().done().unwrap();
    assert!(scene.record("f").unwrap().contains("flg"), "framed");
    let value = two.get_and_touch("f", Lifetime::Forever).unwrap().unwrap();
    assert_eq!((&*value, value.meta().flags), (&b"v"[..], 7));
    let set = one.compare_and_set("f", added.token().unwrap(), "x", &options);
    assert!(set.unwrap().is_done(), "the frame is part of what is compared");
    let value = two.get_and_touch("f", Lifetime::Forever).unwrap().unwrap();
    assert_eq!((&*value, value.meta().flags), (&b"x"[..], 7));
    a_frame_stays_around_what_is_put_before_and_after_a_value(&one, &two, &scene);

    let scene = Scene::new(true, true, "");
    let refused = scene.clients()[0].add("f", "v", &options);
    assert!(matches!(refused, Err(Error::Refused { .. })), "flags would be lost: {refused:?}");
}

fn a_frame_stays_around_what_is_put_before_and_after_a_value(
    one: &Client,
    two: &Client,
    scene: &Scene,
) {
    let is = |key: &str, value: &[u8], flags| {
        for client in [one, two] {
            let held = client.get_and_touch(key, Lifetime::Forever).unwrap().unwrap();
            assert_eq!((&*held, held.meta().flags), (value, flags), "{key}");
            let held = client.get(key).unwrap().unwrap();
            assert_eq!((&*held, held.meta().flags), (value, flags), "{key}");
        }
    };
    let magic = b"\0l1d\0flg";
    assert!(one.append("f", "after").unwrap().is_done());
    assert!(two.prepend("f", "before").unwrap().is_done());
    is("f", b"beforexafter", 7);
    // Without a frame, and what becomes like one.
    one.set("plain", "flg and more").unwrap();
    assert!(!scene.record("plain").unwrap().contains('\0'));
    assert!(two.append("plain", "!").unwrap().is_done());
    assert!(!scene.record("plain").unwrap().contains('\0'));
    assert!(one.prepend("plain", b"\0l1d\0").unwrap().is_done());
    is("plain", b"\0l1d\0flg and more!", 0);
    let framed = [&magic[..], &[0; 4], b"\0l1d\0flg and more!"].concat();
    assert_eq!(scene.record("plain").unwrap().as_bytes(), framed);
    assert!(one.append("plain", "?").unwrap().is_done());
    is("plain", b"\0l1d\0flg and more!?", 0);
    // Too short for a frame of another's.
    one.set("short", &magic[..7]).unwrap();
    assert!(one.append("short", &magic[7..]).unwrap().is_done());
    is("short", magic, 0);
    // The frame is no part of the value that the policy limits.
    let options = SetOptions { flags: 7, ..SetOptions::default() };
    one.set_with("large", vec![b'x'; (64 << 10) - 1], &options).unwrap();
    assert!(one.append("large", "y").unwrap().is_done());
    let refused = one.append("large", "z");
    assert!(matches!(refused, Err(Error::TooLarge { .. })), "{refused:?}");
}

/// Redis, or memcached where it is alone, behind a proxy that withholds its replies: the operation
/// is done there, and nobody is told.
#[test]
fn an_operation_without_an_answer_has_an_unknown_outcome_and_is_not_done_again() {
    for is_redis in [true, false] {
        let server = if is_redis { Server::redis() } else { Server::memcached() };
        let proxy = Proxy::before(&server);
        let (section, value) = match is_redis {
            true => ("[l3]\nurl", format!("redis://{}", proxy.address())),
            false => ("[l2]\naddress", proxy.address()),
        };
        let config = format!(
            "[table]\nvalue_bytes_max = \"64KiB\"\n{section} = \"{value}\"\ndeadline = \"300ms\"\n\
             [defaults]\non_write_error = \"publish\"\n"
        );
        let daemon = Daemon::start(PROGRAM, &config, "16MiB");
        let client = connect(&daemon);
        assert!(client.add("n", "1", &plain()).unwrap().is_done());
        proxy.hold();
        let unknown = client.increment("n", 1, &from(1));
        // memcached has not even told the value, so it was not asked for the change.
        match is_redis {
            true => assert!(matches!(unknown, Err(Error::UnknownOutcome { .. })), "{unknown:?}"),
            false => assert!(matches!(unknown, Err(Error::TierFailed { .. })), "{unknown:?}"),
        }
        let added = client.add("other", "1", &plain());
        assert!(added.is_err(), "on_write_error does not publish what nobody has decided");
        assert_eq!(client.peek("other"), None);
        proxy.release();
        // Counted once at most: never a number that was given out before.
        let count = until("an answer", || client.increment("n", 1, &from(1)).ok()).done().unwrap();
        assert!((2..=3).contains(&count.value), "{count:?}");
        let next = client.increment("n", 1, &from(1)).unwrap().done().unwrap();
        assert_eq!(next.value, count.value + 1);
    }
}

#[test]
fn redis_killed_under_counting_clients_makes_no_count_that_was_acknowledged_twice() {
    let mut scene = Scene::new(true, true, "");
    let [one, _] = scene.clients();
    assert!(one.increment("n", 1, &from(1)).unwrap().is_done());
    scene.redis.as_mut().unwrap().kill();
    let failed = one.increment("n", 1, &from(1));
    assert!(
        matches!(failed, Err(Error::UnknownOutcome { .. } | Error::TierFailed { .. })),
        "{failed:?}"
    );
    scene.redis.as_mut().unwrap().restart();
    // It comes back empty: the record decides, and no copy in memcached or L1 says otherwise.
    let count = until("an answer", || one.increment("n", 1, &from(1)).ok()).done().unwrap();
    assert_eq!(count.value, 1);
    assert_eq!(text(&one, "n").as_deref(), Some("1"));
}

#[test]
fn without_memcached_operations_are_done_and_say_degraded() {
    let mut scene = Scene::new(true, true, "");
    let [one, two] = scene.clients();
    assert!(one.increment("n", 1, &from(1)).unwrap().is_done());
    assert_eq!(text(&two, "n").as_deref(), Some("1"), "filled into memcached");
    scene.memcached.as_mut().unwrap().kill();
    let count = one.increment("n", 1, &from(1)).unwrap().done().unwrap();
    assert_eq!((count.value, count.degraded), (2, true));
    let clean = one.increment("m", 1, &from(1)).unwrap().done().unwrap();
    assert!(clean.degraded);
}
