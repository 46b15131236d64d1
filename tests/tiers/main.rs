//! The tiers' thread against real memcached and redis-server processes.
//!
//! Hazards: a value that outlives what its tier says remains; an error taken for an absence; a
//! write whose outcome is reported wrongly; a dead or silent tier that stalls the other one; bytes
//! that other clients of the same servers would not recognise.

mod servers;

use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{Receiver, unbounded};
use l1d::tiers::{
    Done, Fetched, JOBS_MAX, Job, L2Config, L3Config, Tier, Tiers, TiersConfig, TiersError,
    Written, memcached_key,
};
use servers::{PATIENCE, Proxy, Server, until};

/// Long enough for a busy machine, where a server is meant to answer.
const LONG: Duration = Duration::from_secs(10);
/// Short, where it is meant not to.
const SHORT: Duration = Duration::from_millis(60);
const HOUR: Duration = Duration::from_secs(3600);

struct Bench {
    tiers: Tiers,
    dones: Receiver<Done>,
}

impl Bench {
    fn new(l2: Option<(String, Duration)>, l3: Option<(String, Duration)>) -> Bench {
        let (sender, dones) = unbounded();
        let config = TiersConfig {
            l2: l2.map(|(address, deadline)| L2Config { address, deadline }),
            l3: l3.map(|(address, deadline)| L3Config {
                url: format!("redis://{address}"),
                deadline,
            }),
        };
        // The receiver may be gone while the thread stops.
        let tiers = Tiers::start(config, move |done| drop(sender.send(done))).unwrap();
        Bench { tiers, dones }
    }

    fn both(l2: &Server, l3: &Server) -> Bench {
        Bench::new(Some((l2.address(), LONG)), Some((l3.address(), LONG)))
    }

    fn done(&self) -> Done {
        self.dones.recv_timeout(PATIENCE).expect("every job ends")
    }

    fn submit_fetch(&self, flight: u64, key: &[u8]) {
        self.tiers
            .submit(Job::Fetch {
                flight,
                key: key.into(),
            })
            .unwrap();
    }

    fn fetch(&self, key: &[u8]) -> Fetched {
        self.submit_fetch(1, key);
        match self.done() {
            Done::Fetched { flight: 1, outcome } => outcome,
            other => panic!("{other:?}"),
        }
    }

    fn written(&self) -> Written {
        match self.done() {
            Done::Written { outcome, .. } => outcome,
            other => panic!("{other:?}"),
        }
    }

    fn set_job(id: u64, key: &[u8], value: &[u8]) -> Job {
        Job::Set {
            id,
            key: key.into(),
            value: value.into(),
            flags: 0xdead_beef,
            l2_ttl: HOUR,
            l3_ttl: Some(HOUR * 2),
        }
    }

    fn set(&self, key: &[u8], value: &[u8]) -> Written {
        self.tiers.submit(Bench::set_job(2, key, value)).unwrap();
        self.written()
    }

    fn delete(&self, key: &[u8]) -> Written {
        self.tiers
            .submit(Job::Delete {
                id: 3,
                key: key.into(),
            })
            .unwrap();
        self.written()
    }

    fn fill(&self, key: &[u8], value: &[u8], l2_ttl: Duration) {
        self.tiers
            .submit(Job::Fill {
                id: 4,
                key: key.into(),
                value: value.into(),
                flags: 9,
                l2_ttl,
            })
            .unwrap();
        match self.done() {
            Done::Filled { id: 4 } => {}
            other => panic!("{other:?}"),
        }
    }

    /// Asks for keys until the breaker of `tier` is open; panics if it never opens.
    fn until_open(&self, tier: Tier) {
        until("the breaker to open", || {
            self.fetch(b"whatever");
            (!self.tiers.available(tier)).then_some(())
        });
    }

    fn until_available(&self, tier: Tier) {
        until("the breaker to let requests through", || {
            self.tiers.available(tier).then_some(())
        });
    }
}

/// Tier, value, flags and remaining life of what was found.
fn found(fetched: Fetched) -> (Tier, Vec<u8>, u32, Option<Duration>) {
    match fetched {
        Fetched::Found {
            tier,
            value,
            flags,
            remaining,
            ..
        } => (tier, value.to_vec(), flags, remaining),
        other => panic!("{other:?}"),
    }
}

fn is_absent(fetched: &Fetched, expected: bool) -> bool {
    matches!(fetched, Fetched::Absent { authoritative, .. } if *authoritative == expected)
}

fn within(remaining: Option<Duration>, seconds: u64) -> bool {
    let most = Duration::from_secs(seconds);
    remaining.is_some_and(|left| left <= most && left > most.saturating_sub(PATIENCE))
}

#[test]
fn l2_is_asked_first_then_l3_and_both_say_how_long_a_value_lives() {
    let (l2, l3) = (Server::memcached(), Server::redis());
    let (mut ascii, mut resp) = (l2.client(), l3.client());
    let bench = Bench::both(&l2, &l3);
    ascii.ascii_set("both", 7, 500, b"from L2");
    resp.resp(&[b"SET", b"both", b"from L3"]);
    resp.resp(&[b"SET", b"below", b"from L3", b"PX", b"300000"]);
    resp.resp(&[b"SET", b"for ever", b"from L3"]);
    ascii.ascii_set("for-ever", u32::MAX, 0, b"");

    let (tier, value, flags, remaining) = found(bench.fetch(b"both"));
    assert_eq!((tier, &value[..], flags), (Tier::L2, &b"from L2"[..], 7));
    assert!(within(remaining, 500), "{remaining:?}");

    let (tier, value, flags, remaining) = found(bench.fetch(b"below"));
    assert_eq!((tier, &value[..], flags), (Tier::L3, &b"from L3"[..], 0));
    assert!(within(remaining, 300), "{remaining:?}");

    assert_eq!(found(bench.fetch(b"for ever")).3, None);
    assert_eq!(
        found(bench.fetch(b"for-ever")),
        (Tier::L2, vec![], u32::MAX, None)
    );
}

#[test]
fn what_is_set_can_be_read_by_other_clients_with_its_flags_and_ttl() {
    let (l2, l3) = (Server::memcached(), Server::redis());
    let (mut ascii, mut resp) = (l2.client(), l3.client());
    let bench = Bench::both(&l2, &l3);
    for value in [&b""[..], b"value\r\nEND\r\n\0", &[0xff; 300_000]] {
        assert!(matches!(bench.set(b"key", value), Written::Applied { .. }));
        assert_eq!(ascii.ascii_get("key"), Some((0xdead_beef, value.to_vec())));
        assert_eq!(resp.resp(&[b"GET", b"key"]), value);
        assert!(within(
            Some(Duration::from_secs(ascii.ascii_ttl("key").unsigned_abs())),
            3600
        ));
        let left = resp.resp_int(&[b"PTTL", b"key"]);
        assert!(
            within(Some(Duration::from_millis(left.unsigned_abs())), 7200),
            "{left}"
        );
        assert_eq!(found(bench.fetch(b"key")).1, value);
        ascii.ascii("delete key");
        assert_eq!(
            found(bench.fetch(b"key")).0,
            Tier::L3,
            "an empty value is a value in Redis, too"
        );
    }
    let for_ever = Job::Set {
        id: 1,
        key: b"key"[..].into(),
        value: b"v"[..].into(),
        flags: 0,
        l2_ttl: HOUR * 24 * 365,
        l3_ttl: None,
    };
    bench.tiers.submit(for_ever).unwrap();
    assert!(matches!(bench.written(), Written::Applied { .. }));
    assert_eq!(resp.resp_int(&[b"PTTL", b"key"]), -1);
    assert!(within(
        Some(Duration::from_secs(ascii.ascii_ttl("key").unsigned_abs())),
        3600 * 24 * 365
    ));
}

#[test]
fn keys_of_any_bytes_and_length_reach_both_tiers() {
    let (l2, l3) = (Server::memcached(), Server::redis());
    let mut resp = l3.client();
    let only_l2 = Bench::new(Some((l2.address(), LONG)), None);
    let bench = Bench::both(&l2, &l3);
    let all_bytes: Vec<u8> = (0..=255).collect();
    let keys = [
        b"k".to_vec(),
        b"a b\r\nc".to_vec(),
        vec![0; 186],
        vec![b' '; 187],
        vec![b'x'; 250],
        vec![b'x'; 251],
        all_bytes,
        vec![7; 65_000],
    ];
    for (index, key) in keys.iter().enumerate() {
        let value = format!("value {index}").into_bytes();
        assert!(
            matches!(bench.set(key, &value), Written::Applied { .. }),
            "key {index}"
        );
        assert_eq!(found(only_l2.fetch(key)).1, value, "key {index}");
        assert_eq!(resp.resp(&[b"GET", key]), value, "key {index}");
        // A client that knows the documented name finds it under its real bytes.
        assert_eq!(
            l2.client().binary_get(&memcached_key(key)),
            Some(value),
            "key {index}"
        );
        assert!(
            matches!(bench.delete(key), Written::Applied { existed: true }),
            "key {index}"
        );
        assert!(is_absent(&bench.fetch(key), true), "key {index}");
    }
}

#[test]
fn a_thousand_keys_travel_in_few_exchanges() {
    let (l2, l3) = (Server::memcached(), Server::redis());
    let (mut ascii, mut resp) = (l2.client(), l3.client());
    let bench = Bench::both(&l2, &l3);
    for n in 0..1000 {
        let (key, value) = (format!("key:{n}"), format!("value {n}"));
        match n % 3 {
            0 => ascii.ascii_set(&key, 0, 0, value.as_bytes()),
            1 => drop(resp.resp(&[b"SET", key.as_bytes(), value.as_bytes()])),
            _ => {}
        }
    }
    for n in 0..1000 {
        bench.submit_fetch(n, format!("key:{n}").as_bytes());
    }
    for _ in 0..1000 {
        let Done::Fetched { flight, outcome } = bench.done() else {
            panic!("not a fetch")
        };
        match flight % 3 {
            2 => assert!(is_absent(&outcome, true), "{flight}: {outcome:?}"),
            tier => {
                let (from, value, ..) = found(outcome);
                assert_eq!(from, if tier == 0 { Tier::L2 } else { Tier::L3 });
                assert_eq!(value, format!("value {flight}").into_bytes());
            }
        }
    }
    let stats = bench.tiers.stats();
    let (l2, l3) = (stats.l2.unwrap(), stats.l3.unwrap());
    assert_eq!(
        (l2.requests, l2.hits, l2.misses, l2.errors),
        (1000, 334, 666, 0)
    );
    assert_eq!(
        (l3.requests, l3.hits, l3.misses, l3.errors),
        (666, 333, 333, 0)
    );
    assert!(
        l2.batches < 100 && l3.batches < 100,
        "{} and {} exchanges",
        l2.batches,
        l3.batches
    );
    assert_eq!(stats.jobs_waiting, 0);

    // Writes of one burst share exchanges, too, and each has its own outcome.
    for n in 0..1000 {
        bench
            .tiers
            .submit(Bench::set_job(n, format!("key:{n}").as_bytes(), b"new"))
            .unwrap();
    }
    for _ in 0..1000 {
        assert!(matches!(bench.written(), Written::Applied { .. }));
    }
    assert!(bench.tiers.stats().l3.unwrap().batches < 200);
    assert_eq!(resp.resp(&[b"GET", b"key:999"]), b"new");
}

#[test]
fn only_a_nil_of_redis_is_an_authoritative_absence() {
    let (l2, l3) = (Server::memcached(), Server::redis());
    let bench = Bench::both(&l2, &l3);
    assert!(is_absent(&bench.fetch(b"nothing"), true));
    l3.client().resp(&[b"LPUSH", b"list", b"x"]);
    assert!(is_absent(&bench.fetch(b"list"), false));
    assert!(is_absent(
        &Bench::new(Some((l2.address(), LONG)), None).fetch(b"nothing"),
        false
    ));
    assert!(is_absent(&Bench::new(None, None).fetch(b"nothing"), false));
    // Marked invalid by another client: not a value to serve.
    let mut ascii = l2.client();
    ascii.ascii_set("marked", 0, 0, b"old");
    assert_eq!(ascii.ascii("md marked I T30"), "HD");
    assert!(is_absent(&bench.fetch(b"marked"), true));
    // A placeholder that another client is filling: no value either.
    assert!(ascii.ascii("mg lease N30 s").starts_with("HD"));
    assert!(is_absent(&bench.fetch(b"lease"), true));
}

#[test]
fn a_lost_l2_is_left_out_and_comes_back() {
    let (mut l2, l3) = (Server::memcached(), Server::redis());
    l3.client().resp(&[b"SET", b"key", b"from L3"]);
    l2.client().ascii_set("key", 0, 0, b"from L2");
    let bench = Bench::both(&l2, &l3);
    assert_eq!(found(bench.fetch(b"key")).0, Tier::L2);
    let epoch = bench.tiers.epoch(Tier::L2);
    l2.kill();
    until("the breaker to open", || {
        assert_eq!(
            found(bench.fetch(b"key")).0,
            Tier::L3,
            "L3 answers meanwhile"
        );
        (!bench.tiers.available(Tier::L2)).then_some(())
    });
    assert!(bench.tiers.epoch(Tier::L2) > epoch);
    assert!(bench.tiers.has(Tier::L2) && bench.tiers.available(Tier::L3));
    // Nothing is begun while a tier that the write needs is lost.
    assert!(matches!(
        bench.set(b"key", b"new"),
        Written::NotApplied { tier: Tier::L2, .. }
    ));
    assert!(matches!(
        bench.delete(b"key"),
        Written::NotApplied { tier: Tier::L2, .. }
    ));
    assert_eq!(l3.client().resp(&[b"GET", b"key"]), b"from L3");

    l2.restart();
    bench.until_available(Tier::L2);
    assert!(matches!(bench.set(b"key", b"new"), Written::Applied { .. }));
    assert_eq!(found(bench.fetch(b"key")).0, Tier::L2);
    assert_eq!(bench.tiers.stats().l2.unwrap().breaker, "closed");
}

#[test]
fn a_lost_l3_fails_at_once_and_comes_back() {
    let (l2, mut l3) = (Server::memcached(), Server::redis());
    let bench = Bench::both(&l2, &l3);
    assert!(is_absent(&bench.fetch(b"key"), true));
    let epoch = bench.tiers.epoch(Tier::L3);
    l3.kill();
    until(
        "the lost connection to be noticed without a request",
        || (bench.tiers.epoch(Tier::L3) > epoch).then_some(()),
    );
    assert!(matches!(
        bench.fetch(b"key"),
        Fetched::Failed { tier: Tier::L3, .. }
    ));
    assert!(matches!(
        bench.set(b"key", b"new"),
        Written::NotApplied { tier: Tier::L3, .. }
    ));
    bench.until_open(Tier::L3);
    assert!(matches!(
        bench.fetch(b"key"),
        Fetched::Failed { tier: Tier::L3, .. }
    ));
    let before = bench.tiers.stats().l3.unwrap();
    assert!(matches!(
        bench.delete(b"key"),
        Written::NotApplied { tier: Tier::L3, .. }
    ));
    assert_eq!(
        bench.tiers.stats().l3.unwrap().batches,
        before.batches,
        "an open breaker sends nothing"
    );
    assert_eq!(l2.client().ascii_get("key"), None);
    l2.client().ascii_set("hit", 0, 0, b"v");
    assert_eq!(found(bench.fetch(b"hit")).0, Tier::L2);

    l3.restart();
    bench.until_available(Tier::L3);
    assert!(matches!(bench.set(b"key", b"new"), Written::Applied { .. }));
    assert_eq!(l3.client().resp(&[b"GET", b"key"]), b"new");
    assert_eq!(bench.tiers.stats().l3.unwrap().breaker, "closed");
}

#[test]
fn a_restart_while_nothing_is_asked_costs_no_request() {
    let (mut l2, mut l3) = (Server::memcached(), Server::redis());
    let bench = Bench::both(&l2, &l3);
    assert!(matches!(bench.set(b"key", b"old"), Written::Applied { .. }));
    let epoch = bench.tiers.epoch(Tier::L3);
    l2.kill();
    l3.kill();
    l2.restart();
    l3.restart();
    until("the lost connection to be noticed", || {
        (bench.tiers.epoch(Tier::L3) > epoch).then_some(())
    });
    assert!(matches!(bench.set(b"key", b"new"), Written::Applied { .. }));
    assert_eq!(bench.tiers.epoch(Tier::L2), 1);
}

#[test]
fn a_silent_l3_does_not_hold_up_l2() {
    let (l2, l3) = (Server::memcached(), Server::redis());
    let proxy = Proxy::before(&l3);
    l2.client().ascii_set("hit", 0, 0, b"v");
    // L3 never answers within this test, nor gives up.
    let bench = Bench::new(
        Some((l2.address(), LONG)),
        Some((proxy.address(), PATIENCE * 3)),
    );
    assert!(is_absent(&bench.fetch(b"miss"), true));
    proxy.hold();
    for n in 0..2000 {
        bench.submit_fetch(n, format!("miss:{n}").as_bytes());
    }
    for _ in 0..100 {
        bench.submit_fetch(5000, b"hit");
        let Done::Fetched {
            flight: 5000,
            outcome,
        } = bench.done()
        else {
            panic!("L3 is held back")
        };
        assert_eq!(found(outcome).0, Tier::L2);
    }
    proxy.release();
    for _ in 0..2000 {
        assert!(matches!(
            bench.done(),
            Done::Fetched {
                outcome: Fetched::Absent {
                    authoritative: true,
                    ..
                },
                ..
            }
        ));
    }
}

#[test]
fn replies_held_back_past_the_deadline_end_in_doubt_and_never_reach_another_request() {
    let (l2, l3) = (Server::memcached(), Server::redis());
    let (before_l2, before_l3) = (Proxy::before(&l2), Proxy::before(&l3));
    let bench = Bench::new(
        Some((before_l2.address(), SHORT)),
        Some((before_l3.address(), SHORT)),
    );
    let warm = |tier| {
        until("an answer in time", || {
            bench.fetch(b"warm");
            matches!(bench.set(b"warm", b"v"), Written::Applied { .. }).then_some(())
        });
        assert!(bench.tiers.available(tier));
    };

    warm(Tier::L3);
    before_l3.hold();
    assert!(matches!(
        bench.set(b"key", b"one"),
        Written::Unknown { tier: Tier::L3, .. }
    ));
    assert_eq!(l2.client().ascii_get("key"), None, "L2 comes after L3");
    assert!(matches!(
        bench.fetch(b"key"),
        Fetched::Failed { tier: Tier::L3, .. }
    ));
    bench.until_open(Tier::L3);
    before_l3.release();
    bench.until_available(Tier::L3);
    assert!(bench.tiers.stats().l3.unwrap().timeouts >= 1);

    warm(Tier::L2);
    before_l2.hold();
    let epoch = bench.tiers.epoch(Tier::L2);
    assert!(matches!(
        bench.set(b"key", b"two"),
        Written::Unknown { tier: Tier::L2, .. }
    ));
    assert!(bench.tiers.epoch(Tier::L2) > epoch);
    assert_eq!(l3.client().resp(&[b"GET", b"key"]), b"two");
    bench.until_open(Tier::L2);
    before_l2.release();
    bench.until_available(Tier::L2);
    warm(Tier::L2);
    // Late replies are somebody else's: each key still gets its own value.
    for n in 0..50 {
        let (key, value) = (format!("own:{n}"), format!("value {n}"));
        until("the write", || {
            matches!(
                bench.set(key.as_bytes(), value.as_bytes()),
                Written::Applied { .. }
            )
            .then_some(())
        });
        let fetched = until("the read", || {
            Some(bench.fetch(key.as_bytes())).filter(|f| matches!(f, Fetched::Found { .. }))
        });
        assert_eq!(found(fetched).1, value.into_bytes());
    }
}

#[test]
fn a_value_that_redis_refuses_is_written_nowhere() {
    let (l2, l3) = (Server::memcached(), Server::redis());
    let bench = Bench::both(&l2, &l3);
    assert!(matches!(bench.set(b"key", b"old"), Written::Applied { .. }));
    assert_eq!(
        l3.client().resp(&[b"CONFIG", b"SET", b"maxmemory", b"1"]),
        b"+OK"
    );
    match bench.set(b"key", b"new") {
        Written::NotApplied {
            tier: Tier::L3,
            why,
        } => assert!(why.contains("OOM"), "{why}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(l2.client().ascii_get("key").unwrap().1, b"old");
    assert!(
        bench.tiers.available(Tier::L3),
        "a server that refuses is alive"
    );
    assert!(matches!(
        bench.delete(b"key"),
        Written::Applied { existed: true }
    ));
    assert!(matches!(
        bench.delete(b"key"),
        Written::Applied { existed: false }
    ));
}

#[test]
fn a_value_too_large_for_memcached_leaves_no_older_one_and_harms_no_other_key() {
    let (l2, l3) = (Server::memcached(), Server::redis());
    let large = vec![b'x'; 3 << 20];
    for alone in [false, true] {
        let bench = if alone {
            Bench::new(Some((l2.address(), LONG)), None)
        } else {
            Bench::both(&l2, &l3)
        };
        let submit = |id, key: &[u8], value: &[u8]| {
            bench.tiers.submit(Bench::set_job(id, key, value)).unwrap()
        };
        assert!(matches!(
            bench.set(b"large", b"old"),
            Written::Applied { .. }
        ));
        for n in 0..40 {
            submit(n, format!("small:{n}").as_bytes(), b"v");
            if n == 20 {
                submit(1000, b"large", &large);
            }
        }
        for _ in 0..41 {
            let Done::Written { id, outcome } = bench.done() else {
                panic!("not a write")
            };
            if id == 1000 && alone {
                assert!(
                    matches!(outcome, Written::NotApplied { tier: Tier::L2, .. }),
                    "{outcome:?}"
                );
            } else {
                assert!(
                    matches!(outcome, Written::Applied { .. }),
                    "{id}: {outcome:?}"
                );
            }
        }
        assert_eq!(l2.client().ascii_get("large"), None);
        assert_eq!(l2.client().ascii_get("small:39").unwrap().1, b"v");
        if !alone {
            let (tier, value, ..) = found(bench.fetch(b"large"));
            assert!(tier == Tier::L3 && value == large);
        }
    }
}

#[test]
fn a_fill_never_overwrites_and_never_outlives_what_it_was_given() {
    let (l2, l3) = (Server::memcached(), Server::redis());
    let bench = Bench::both(&l2, &l3);
    let mut ascii = l2.client();
    bench.fill(b"key", b"filled", Duration::from_millis(90_900));
    assert_eq!(ascii.ascii_get("key"), Some((9, b"filled".to_vec())));
    assert!(within(
        Some(Duration::from_secs(ascii.ascii_ttl("key").unsigned_abs())),
        90
    ));
    ascii.ascii_set("key", 1, 0, b"newer");
    bench.fill(b"key", b"late", HOUR);
    assert_eq!(ascii.ascii_get("key"), Some((1, b"newer".to_vec())));
    bench.fill(b"short", b"v", Duration::from_millis(999));
    assert_eq!(
        ascii.ascii_get("short"),
        None,
        "memcached cannot keep it for less than a second"
    );
    assert_eq!(bench.tiers.stats().l2.unwrap().errors, 0);
}

#[test]
fn the_queue_is_bounded_and_every_accepted_job_ends() {
    let l3 = Server::redis();
    let proxy = Proxy::before(&l3);
    let bench = Bench::new(None, Some((proxy.address(), PATIENCE)));
    assert!(is_absent(&bench.fetch(b"miss"), true));
    proxy.hold();
    for n in 0..JOBS_MAX {
        bench.submit_fetch(u64::try_from(n).unwrap(), b"key");
    }
    let refused = bench.tiers.submit(Job::Delete {
        id: 77,
        key: Arc::from(&b"key"[..]),
    });
    assert!(matches!(refused, Err(Job::Delete { id: 77, .. })));
    proxy.release();
    let Bench { tiers, dones } = bench;
    drop(tiers);
    assert_eq!(
        dones.iter().count(),
        JOBS_MAX,
        "what was accepted has ended before the thread did"
    );
}

#[test]
fn stopping_does_not_wait_for_a_silent_tier_beyond_its_deadlines() {
    let l3 = Server::redis();
    let proxy = Proxy::before(&l3);
    let bench = Bench::new(None, Some((proxy.address(), SHORT)));
    proxy.hold();
    for n in 0..500 {
        bench.submit_fetch(n, b"key");
    }
    let Bench { tiers, dones } = bench;
    drop(tiers);
    assert!(dones.iter().all(|done| matches!(
        done,
        Done::Fetched {
            outcome: Fetched::Failed { .. },
            ..
        }
    )));
}

#[test]
fn servers_that_are_down_are_no_reason_not_to_start_but_a_bad_address_is() {
    let start = |l2: &str, l3: &str, deadline| {
        let l2 = Some(L2Config {
            address: l2.into(),
            deadline,
        });
        let l3 = Some(L3Config {
            url: l3.into(),
            deadline,
        });
        Tiers::start(TiersConfig { l2, l3 }, |_| {})
    };
    assert!(start("127.0.0.1:1", "redis://127.0.0.1:1", LONG).is_ok());
    assert!(matches!(
        start("localhost", "redis://127.0.0.1:1", LONG),
        Err(TiersError::Address(_))
    ));
    assert!(matches!(
        start("localhost:1", "127.0.0.1:1", LONG),
        Err(TiersError::Url(_))
    ));
    assert!(matches!(
        start("localhost:1", "rediss://127.0.0.1:1", LONG),
        Err(TiersError::Url(_))
    ));
    assert!(matches!(
        start("localhost:1", "redis://127.0.0.1:1", Duration::ZERO),
        Err(TiersError::Deadline(Tier::L2))
    ));
}
