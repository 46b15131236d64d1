//! Hazard: what a caller was told does not hold in every tier, or not after a fault. Through the
//! built binary, with real memcached and redis-server below.

use l1d_client::{
    Client, CounterOptions, Error, Lifetime, LoadOptions, OperationOptions, Outcome, Reservation,
    SetOptions, WriteMode,
};
use std::time::Duration;
use test_support::daemon::{Daemon, connect};
use test_support::servers::{LateRequests, Proxy, Server, until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_l1d");

struct Scene {
    memcached: Server,
    redis: Server,
    proxy: std::sync::Arc<Proxy>,
    daemon: Daemon,
    client: Client,
}

impl Scene {
    /// memcached behind a proxy, Redis, and a daemon with these lines below `[defaults]`.
    fn with(defaults: &str) -> Scene {
        let (memcached, redis) = (Server::memcached(), Server::redis());
        let proxy = Proxy::before(&memcached);
        let config = format!(
            "[table]\nvalue_bytes_max = \"64KiB\"\n[l2]\naddress = \"{}\"\ndeadline = \"2s\"\n\
             [l3]\nurl = \"redis://{}\"\ndeadline = \"2s\"\n[defaults]\n{defaults}\n",
            proxy.address(),
            redis.address()
        );
        let daemon = Daemon::start(PROGRAM, &config, "16MiB");
        let client = connect(&daemon);
        Scene { memcached, redis, proxy, daemon, client }
    }

    fn set_for(&self, key: &str, lifetime: Lifetime) {
        let options = SetOptions { lifetime, ..SetOptions::default() };
        assert!(!self.client.set_with(key, "v", &options).unwrap().degraded);
    }

    /// Remaining life in Redis in ms: -1 without end, -2 no such key.
    fn redis_ms(&self, key: &str) -> i64 {
        self.redis.client().resp_int(&[b"PTTL", key.as_bytes()])
    }

    /// Remaining life in memcached in seconds; `None`: it has no such key.
    fn memcached_seconds(&self, key: &str) -> Option<i64> {
        let mut memcached = self.memcached.client();
        memcached.ascii_get(key)?;
        Some(memcached.ascii_ttl(key))
    }
}

fn text(client: &Client, key: &str) -> Option<String> {
    let value = client.get(key).unwrap()?;
    Some(String::from_utf8_lossy(&value).into_owned())
}

/// What remains of the life of the copy in L1.
fn ttl_ms(client: &Client, key: &str) -> u64 {
    let explained = client.admin().explain_json(key).unwrap();
    let explained: serde_json::Value = serde_json::from_str(&explained).unwrap();
    explained["in_table"]["ttl_ms"].as_u64().unwrap()
}

/// The word of the table's header that tells a later daemon.
fn is_unsettled(daemon: &Daemon) -> bool {
    let file = std::fs::read(daemon.table()).unwrap();
    file[1048..1056] != [0; 8]
}

#[test]
fn a_life_given_with_a_call_holds_in_every_tier() {
    let scene = Scene::with("ttl = \"30s\"\nl2_ttl = \"5m\"\nl3_ttl = \"1h\"");
    scene.set_for("rule", Lifetime::Rule);
    assert!((3_500_000..=3_600_000).contains(&scene.redis_ms("rule")));
    assert!((280..=300).contains(&scene.memcached_seconds("rule").unwrap()));

    scene.set_for("short", Lifetime::For(Duration::from_secs(5)));
    assert!((1..=5000).contains(&scene.redis_ms("short")));
    assert!((0..=5).contains(&scene.memcached_seconds("short").unwrap()));

    scene.set_for("long", Lifetime::For(Duration::from_secs(40 * 24 * 3600)));
    assert!(scene.redis_ms("long") > 39 * 24 * 3_600_000);
    assert!((280..=300).contains(&scene.memcached_seconds("long").unwrap()), "a copy");

    scene.set_for("forever", Lifetime::Forever);
    assert_eq!(scene.redis_ms("forever"), -1);
    assert!((280..=300).contains(&scene.memcached_seconds("forever").unwrap()), "a copy");
}

#[test]
fn a_value_that_lives_for_less_than_a_second_comes_back_from_nowhere() {
    let scene = Scene::with("");
    scene.set_for("key", Lifetime::Rule);
    scene.set_for("key", Lifetime::For(Duration::from_millis(400)));
    assert_eq!(text(&scene.client, "key").as_deref(), Some("v"));
    assert_eq!(scene.memcached_seconds("key"), None, "memcached counts whole seconds");
    until("its end", || text(&scene.client, "key").is_none().then_some(()));
    assert_eq!(scene.redis_ms("key"), -2);
}

#[test]
fn a_life_of_zero_deletes() {
    let scene = Scene::with("");
    for lifetime in [Lifetime::DoNotKeep, Lifetime::For(Duration::ZERO)] {
        scene.set_for("key", Lifetime::Rule);
        scene.set_for("key", lifetime);
        assert_eq!(scene.client.peek("key"), None);
        assert_eq!((scene.redis_ms("key"), scene.memcached_seconds("key")), (-2, None));
    }
}

#[test]
fn a_record_that_lives_shorter_than_its_copies_caps_them() {
    let scene = Scene::with("ttl = \"1m\"\nl2_ttl = \"5m\"\nl3_ttl = \"20s\"");
    scene.set_for("key", Lifetime::Rule);
    assert!((0..=20).contains(&scene.memcached_seconds("key").unwrap()));
    assert!(ttl_ms(&scene.client, "key") <= 20_000);
}

#[test]
fn where_l1_is_the_record_a_call_may_ask_for_more_than_the_rule() {
    let config = "[table]\nttl_max = \"1h\"\nvalue_bytes_max = \"64KiB\"\n[defaults]\nttl = \"2s\"";
    let daemon = Daemon::start(PROGRAM, config, "16MiB");
    let client = connect(&daemon);
    for (lifetime, seconds) in [
        (Lifetime::Rule, 2),
        (Lifetime::For(Duration::from_secs(600)), 600),
        (Lifetime::Forever, 3600),
    ] {
        let options = SetOptions { lifetime, ..SetOptions::default() };
        client.set_with("key", "v", &options).unwrap();
        let (ttl, most) = (ttl_ms(&client, "key"), seconds * 1000);
        assert!((most / 2..=most).contains(&ttl), "{lifetime:?}: {ttl}");
    }
}

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn a_call_is_told_of_a_life_that_it_did_not_get() {
    let config = "[table]\nttl_max = \"1h\"\nvalue_bytes_max = \"64KiB\"\n[defaults]\nttl = \"2s\"";
    let daemon = Daemon::start(PROGRAM, config, "16MiB");
    let client = connect(&daemon);
    for (lifetime, told) in [
        (Lifetime::Rule, None),
        (Lifetime::For(HOUR), None),
        (Lifetime::For(HOUR * 2), Some(HOUR)),
        (Lifetime::Forever, Some(HOUR)),
    ] {
        let (set, options) = (
            SetOptions { lifetime, ..SetOptions::default() },
            OperationOptions { lifetime, ..OperationOptions::default() },
        );
        let stored = client.set_with("key", "v", &set).unwrap();
        assert_eq!(stored.shortened_to, told, "{lifetime:?}");
        for stored in client.set_many_with(&[("key", "v"), ("other", "v")], &set).unwrap() {
            assert_eq!(stored.unwrap().shortened_to, told, "{lifetime:?}");
        }
        let shortened = |done: Outcome| done.done().unwrap().shortened_to;
        assert_eq!(shortened(client.replace("key", "w", &options).unwrap()), told);
        assert_eq!(shortened(client.touch("key", lifetime).unwrap()), told);
        let token = client.get("key").unwrap().unwrap().meta().token().unwrap();
        assert_eq!(shortened(client.compare_and_set("key", token, "x", &options).unwrap()), told);
        assert_eq!(shortened(client.append("key", "y").unwrap()), None, "it keeps its life");
        let _ = client.delete("key").unwrap();
        assert_eq!(shortened(client.add("key", "v", &options).unwrap()), told);
        let _ = client.delete("n").unwrap();
        let counter = CounterOptions { initial: Some(1), lifetime };
        for told in [told, None] {
            let count = client.increment("n", 1, &counter).unwrap().done().unwrap();
            assert_eq!(count.shortened_to, told, "one that counts on keeps its life");
        }
        let _ = client.delete("key").unwrap();
        match client.reserve("key", &LoadOptions::default()).unwrap() {
            Reservation::Reserved(token) => {
                assert_eq!(client.fill(token, "v", &set).unwrap().shortened_to, told);
            }
            found => panic!("{found:?}"),
        }
    }
}

#[test]
fn with_tiers_the_record_has_the_life_asked_for_and_what_has_no_record_is_told() {
    let mut scene = Scene::with("ttl = \"20s\"\non_write_error = \"publish\"");
    let options = SetOptions { lifetime: Lifetime::For(HOUR), ..SetOptions::default() };
    let stored = scene.client.set_with("key", "v", &options).unwrap();
    assert_eq!((stored.degraded, stored.shortened_to), (false, None));
    let own = SetOptions { write: Some(WriteMode::L1Only), lifetime: Lifetime::Forever, ..options };
    let day = Some(HOUR * 24);
    assert_eq!(scene.client.set_with("own", "v", &own).unwrap().shortened_to, day);
    scene.proxy.cut();
    let stored = scene.client.set_with("key", "v", &options).unwrap();
    assert_eq!((stored.degraded, stored.shortened_to), (true, None), "Redis has it");
    scene.redis.kill();
    let stored = scene.client.set_with("key", "v", &options).unwrap();
    let copys = Some(Duration::from_secs(20));
    assert_eq!((stored.degraded, stored.shortened_to), (true, copys), "L1 alone has it");
}

#[test]
fn a_rule_without_l2_shows_what_others_write_to_redis_once_the_copy_in_l1_has_ended() {
    let scene = Scene::with("ttl = \"100ms\"\nl2 = false");
    scene.set_for("key", Lifetime::Rule);
    assert_eq!(scene.memcached_seconds("key"), None);
    scene.memcached.client().ascii_set("key", 0, 60, b"of somebody else");
    scene.redis.client().resp(&[b"SET", b"key", b"by another"]);
    until("the copy in L1 to end", || {
        (text(&scene.client, "key").as_deref() == Some("by another")).then_some(())
    });
    assert!(scene.client.delete("key").unwrap().existed);
    assert!(scene.memcached_seconds("key").is_some(), "not touched");
    scene.redis.client().resp(&[b"SET", b"read", b"v"]);
    assert_eq!(text(&scene.client, "read").as_deref(), Some("v"));
    // Long enough for a fill that nobody waits for.
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(scene.memcached_seconds("read"), None);
}

#[test]
fn without_memcached_writes_succeed_and_say_degraded() {
    for publish in ["refuse", "publish"] {
        let mut scene = Scene::with(&format!("on_write_error = \"{publish}\""));
        assert!(!scene.client.set("key", "old").unwrap().degraded);
        scene.proxy.cut();
        for n in 0..8 {
            let value = format!("new {n}");
            assert!(scene.client.set("key", &value).unwrap().degraded, "{publish}");
            let redis = scene.redis.client().resp(&[b"GET", b"key"]);
            assert_eq!(redis, value.as_bytes(), "{publish}: the store of record has it");
        }
        assert!(scene.client.delete("key").unwrap().degraded);
        assert_eq!(scene.redis_ms("key"), -2);
        scene.redis.kill();
        let refused = scene.client.set("key", "newest");
        match publish {
            "refuse" => assert!(
                matches!(refused, Err(Error::TierFailed { .. } | Error::UnknownOutcome { .. })),
                "{refused:?}"
            ),
            _ => assert!(refused.unwrap().degraded),
        }
    }
}

#[test]
fn a_daemon_that_was_killed_with_debts_open_does_not_read_memcached() {
    let mut scene = Scene::with("ttl = \"100ms\"\nnegative_ttl = \"0s\"");
    assert!(!scene.client.set("key", "old").unwrap().degraded);
    assert!(!scene.client.set("other", "kept").unwrap().degraded);
    scene.proxy.cut();
    assert!(scene.client.set("key", "new").unwrap().degraded);
    assert!(is_unsettled(&scene.daemon));
    scene.daemon.kill();
    scene.proxy.mend();
    scene.daemon.restart();
    let client = connect(&scene.daemon);
    assert_eq!(scene.memcached.client().ascii_get("key").unwrap().1, b"old");
    until("the copies in L1 to end", || client.peek("key").is_none().then_some(()));
    assert_eq!(text(&client, "key").as_deref(), Some("new"));
    assert_eq!(text(&client, "other").as_deref(), Some("kept"), "from Redis as well");
    // A settled daemon leaves nothing to the next one.
    scene.memcached.client().ascii_set("seen", 0, 60, b"by memcached alone");
    assert_eq!(text(&client, "seen"), None, "it is left out");
}

#[test]
fn a_daemon_that_was_killed_with_nothing_open_reads_memcached_at_once() {
    let mut scene = Scene::with("");
    assert!(!scene.client.set("key", "v").unwrap().degraded);
    until("nothing to be unsettled", || (!is_unsettled(&scene.daemon)).then_some(()));
    scene.daemon.kill();
    scene.daemon.restart();
    scene.memcached.client().ascii_set("seen", 0, 60, b"by memcached alone");
    assert_eq!(text(&connect(&scene.daemon), "seen").as_deref(), Some("by memcached alone"));
}

#[test]
fn a_write_of_a_daemon_that_was_killed_does_not_come_after_one_of_its_successor() {
    let redis = Server::redis();
    let proxy = Proxy::before(&redis);
    let config = format!(
        "[table]\nvalue_bytes_max = \"64KiB\"\n[l3]\nurl = \"redis://{}\"\ndeadline = \"10s\"\n",
        proxy.address()
    );
    let mut daemon = Daemon::start(PROGRAM, &config, "16MiB");
    let client = connect(&daemon);
    client.set("key", "old").unwrap();
    let late = proxy.hold_requests();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| client.set("key", "first"));
        late.wait_until_held();
        daemon.kill();
        let first = first.join().unwrap();
        assert!(matches!(first, Err(Error::UnknownOutcome { .. })), "{first:?}");
    });
    daemon.restart();
    connect(&daemon).set("key", "second").unwrap();
    late.deliver();
    let mut redis = redis.client();
    for _ in 0..50 {
        assert_eq!(redis.resp(&[b"GET", b"key"]), b"second");
        std::thread::sleep(Duration::from_millis(4));
    }
}

/// Below the daemon: one store of record, behind a proxy.
fn above(record: &Server, tier: &str) -> (std::sync::Arc<Proxy>, Daemon) {
    let proxy = Proxy::before(record);
    let place = match tier {
        "l2" => format!("address = \"{}\"", proxy.address()),
        _ => format!("url = \"redis://{}\"", proxy.address()),
    };
    let config = format!(
        "[table]\nvalue_bytes_max = \"64KiB\"\n[{tier}]\n{place}\ndeadline = \"10s\"\n\
         [defaults]\nttl = \"1h\"\n"
    );
    let daemon = Daemon::start(PROGRAM, &config, "16MiB");
    (proxy, daemon)
}

/// Kills the daemon in the middle of what `change` asks for.
fn kill_during(
    daemon: &mut Daemon,
    proxy: &Proxy,
    change: impl FnOnce(&Client) -> Result<(), Error> + Send,
) -> LateRequests {
    let client = connect(daemon);
    let late = proxy.hold_requests();
    std::thread::scope(|scope| {
        let changed = scope.spawn(|| change(&client));
        late.wait_until_held();
        daemon.kill();
        let changed = changed.join().unwrap();
        assert!(matches!(changed, Err(Error::UnknownOutcome { .. })), "{changed:?}");
    });
    daemon.restart();
    late
}

fn set(client: &Client, key: &str, value: &str) -> Result<(), Error> {
    client.set(key, value).map(|_| ())
}

/// The hazard: Redis has a change that nobody was told of, and L1 goes on showing the value before
/// it for as long as the rule's life.
#[test]
fn l1_keeps_nothing_of_a_key_whose_change_was_cut_off_by_a_kill() {
    type Change = fn(&Client) -> Result<(), Error>;
    let changes: [(&str, Change); 4] = [
        ("set", |client| set(client, "key", "new")),
        ("delete", |client| client.delete("key").map(|_| ())),
        ("append", |client| client.append("key", "er").map(|_| ())),
        ("set_many", |client| {
            client
                .set_many(&[("key", "new"), ("second", "new")])?
                .into_iter()
                .try_for_each(|set| set.map(|_| ()))
        }),
    ];
    for (name, change) in changes {
        let redis = Server::redis();
        let (proxy, mut daemon) = above(&redis, "l3");
        let client = connect(&daemon);
        for key in ["key", "second", "other"] {
            set(&client, key, "old").unwrap();
        }
        let late = kill_during(&mut daemon, &proxy, change);
        let client = connect(&daemon);
        assert_eq!(client.peek("key"), None, "{name}");
        assert_eq!(client.peek("second").is_none(), name == "set_many", "{name}");
        assert!(client.peek("other").is_some(), "{name}: not in change");
        // The new daemon has ended the session of the one before.
        assert_eq!(text(&client, "key").as_deref(), Some("old"), "{name}");
        late.deliver();
        for _ in 0..10 {
            assert_eq!(redis.client().resp(&[b"GET", b"key"]), b"old", "{name}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// The same of a change that was carried out before the kill.
#[test]
fn what_redis_had_taken_before_a_kill_is_what_readers_see() {
    let redis = Server::redis();
    let (proxy, mut daemon) = above(&redis, "l3");
    set(&connect(&daemon), "key", "old").unwrap();
    let client = connect(&daemon);
    proxy.hold();
    std::thread::scope(|scope| {
        let changed = scope.spawn(|| set(&client, "key", "new"));
        proxy.wait_until_held();
        daemon.kill();
        assert!(matches!(changed.join().unwrap(), Err(Error::UnknownOutcome { .. })));
    });
    proxy.forget_connections();
    proxy.release();
    daemon.restart();
    assert_eq!(text(&connect(&daemon), "key").as_deref(), Some("new"));
}

/// memcached cannot be told to end a session, so nobody knows when a change of the former daemon
/// has been carried out.
#[test]
fn with_memcached_alone_a_key_whose_change_was_cut_off_by_a_kill_is_in_doubt() {
    let memcached = Server::memcached();
    let (proxy, mut daemon) = above(&memcached, "l2");
    for key in ["key", "other"] {
        set(&connect(&daemon), key, "old").unwrap();
    }
    let late = kill_during(&mut daemon, &proxy, |client| set(client, "key", "late"));
    for _ in 0..2 {
        let client = connect(&daemon);
        assert_eq!(text(&client, "key").as_deref(), Some("old"));
        assert_eq!(client.peek("key"), None, "what is read in doubt is not kept");
        set(&client, "other", "new").unwrap();
        let second = set(&client, "key", "second");
        assert!(matches!(second, Err(Error::UnknownOutcome { .. })), "{second:?}");
        assert_eq!(text(&client, "key").as_deref(), Some("second"));
        // The next daemon knows it, too.
        daemon.kill();
        daemon.restart();
        memcached.client().ascii_set("key", 0, 60, b"old");
    }
    late.deliver();
    until("the late write", || {
        let (_, value) = memcached.client().ascii_get("key")?;
        (value == b"late").then_some(())
    });
    assert_eq!(text(&connect(&daemon), "key").as_deref(), Some("late"));
}

#[test]
fn a_redis_that_ends_no_sessions_leaves_the_key_in_doubt_and_no_other() {
    let redis = Server::redis_with(&["--rename-command", "CLIENT", ""]);
    let (proxy, mut daemon) = above(&redis, "l3");
    for key in ["key", "other"] {
        set(&connect(&daemon), key, "old").unwrap();
    }
    let late = kill_during(&mut daemon, &proxy, |client| set(client, "key", "late"));
    let client = connect(&daemon);
    set(&client, "other", "new").unwrap();
    let second = set(&client, "key", "second");
    assert!(matches!(second, Err(Error::UnknownOutcome { .. })), "{second:?}");
    late.deliver();
    until("the late write", || (redis.client().resp(&[b"GET", b"key"]) == b"late").then_some(()));
    assert_eq!(text(&client, "key").as_deref(), Some("late"));
}

#[test]
fn a_value_that_the_table_cannot_hold_is_refused_before_anything_changes() {
    let scene = Scene::with("");
    scene.set_for("key", Lifetime::Rule);
    let large = vec![b'x'; 70_000];
    assert!(matches!(scene.client.set("key", &large), Err(Error::TooLarge { .. })));
    assert_eq!(text(&scene.client, "key").as_deref(), Some("v"));
    assert_eq!(scene.redis.client().resp(&[b"GET", b"key"]), b"v");
}

#[test]
fn a_value_too_large_for_memcached_alone_takes_the_older_one_with_it_and_says_so() {
    let memcached = Server::memcached();
    let config = format!(
        "[table]\nvalue_bytes_max = \"2MiB\"\n[l2]\naddress = \"{}\"\ndeadline = \"5s\"\n\
         [defaults]\nvalue_bytes_max = \"2MiB\"\n",
        memcached.address()
    );
    let daemon = Daemon::start(PROGRAM, &config, "256MiB");
    let client = connect(&daemon);
    client.set("key", "old").unwrap();
    let error = client.set("key", vec![b'x'; 3 << 19]).unwrap_err().to_string();
    assert!(error.contains("gone") && !error.contains("nothing has changed"), "{error}");
    assert_eq!((client.peek("key"), client.get("key").unwrap()), (None, None));
    assert_eq!(memcached.client().ascii_get("key"), None);
}
