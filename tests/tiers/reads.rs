//! Hazards: a value that outlives the TTL of its tier; an error taken for an absence; bytes that
//! other clients of the same servers would not recognise.

use std::time::Duration;

use l1d::tiers::{Fetched, Job, L2Change, Tier, TierEvent, Written, memcached_key};

use crate::bench::{Bench, HOUR, LONG, SHORT, found, is_absent, within};
use test_support::servers::{Proxy, Server, until};

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
    assert_eq!(found(bench.fetch(b"for-ever")), (Tier::L2, vec![], u32::MAX, None));
}

/// The hazard: a reply that nobody waits for any more ends another fetch, or a value of L2 loses
/// its flags because L3 was faster.
#[test]
fn while_l2_has_nothing_both_tiers_are_asked_at_once_and_l2_still_comes_first() {
    let (l2, l3) = (Server::memcached(), Server::redis());
    let (before_l2, before_l3) = (Proxy::before(&l2), Proxy::before(&l3));
    let bench = Bench::new(Some((before_l2.address(), LONG)), Some((before_l3.address(), LONG)));
    let asked = |tier| {
        let stats = bench.tiers.stats();
        if tier == Tier::L2 { stats.l2.unwrap().requests } else { stats.l3.unwrap().requests }
    };
    let miss_often = || (0..100).for_each(|_| assert!(is_absent(&bench.fetch(b"none"), true)));
    let (mut ascii, mut resp) = (l2.client(), l3.client());
    ascii.ascii_set("both", 7, 500, b"from L2");
    resp.resp(&[b"SET", b"both", b"from L3"]);
    resp.resp(&[b"SET", b"below", b"from L3"]);

    miss_often();
    // L3 answers first, and has to wait for L2.
    before_l2.hold();
    for (flight, key) in [(10, &b"below"[..]), (11, b"both"), (12, b"none")] {
        let before = asked(Tier::L3);
        bench.submit_fetch(flight, key);
        until("a request to L3", || (asked(Tier::L3) > before).then_some(()));
        assert!(bench.dones.recv_timeout(SHORT).is_err(), "L2 has not answered");
    }
    before_l2.release();
    let mut outcomes: Vec<_> = (0..3).map(|_| fetched(bench.done())).collect();
    outcomes.sort_by_key(|(flight, _)| *flight);
    let mut outcomes = outcomes.into_iter().map(|(_, outcome)| outcome);
    assert_eq!(found(outcomes.next().unwrap()).0, Tier::L3);
    let (tier, value, flags, _) = found(outcomes.next().unwrap());
    assert_eq!((tier, &value[..], flags), (Tier::L2, &b"from L2"[..], 7));
    assert!(is_absent(&outcomes.next().unwrap(), true));

    // L2 answers first. What L3 says later concerns nobody, least of all those who ask meanwhile.
    miss_often();
    before_l3.hold();
    assert_eq!(found(bench.fetch(b"both")).0, Tier::L2);
    // After a value of L2, it is asked alone.
    let before = asked(Tier::L3);
    assert_eq!(found(bench.fetch(b"both")).0, Tier::L2);
    assert_eq!(asked(Tier::L3), before);
    for n in 0..50 {
        bench.submit_fetch(100 + n, if n % 2 == 0 { b"below" } else { b"none" });
    }
    before_l3.release();
    for _ in 0..50 {
        let (flight, outcome) = fetched(bench.done());
        if flight % 2 == 0 {
            assert_eq!(found(outcome).0, Tier::L3, "{flight}");
        } else {
            assert!(is_absent(&outcome, true), "{flight}");
        }
    }
}

fn fetched(event: TierEvent) -> (u64, Fetched) {
    match event {
        TierEvent::Fetched { flight, outcome } => (flight, outcome),
        other => panic!("{other:?}"),
    }
}

#[test]
fn other_clients_can_read_a_set_value_with_its_flags_and_ttl() {
    let (l2, l3) = (Server::memcached(), Server::redis());
    let (mut ascii, mut resp) = (l2.client(), l3.client());
    let bench = Bench::both(&l2, &l3);
    for value in [&b""[..], b"value\r\nEND\r\n\0", &[0xff; 300_000]] {
        assert!(matches!(bench.set(b"key", value), Written::Applied { .. }));
        assert_eq!(ascii.ascii_get("key"), Some((0xdead_beef, value.to_vec())));
        assert_eq!(resp.resp(&[b"GET", b"key"]), value);
        assert!(within(Some(Duration::from_secs(ascii.ascii_ttl("key").unsigned_abs())), 3600));
        let left = resp.resp_int(&[b"PTTL", b"key"]);
        assert!(within(Some(Duration::from_millis(left.unsigned_abs())), 7200), "{left}");
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
        l3_value: b"v"[..].into(),
        flags: 0,
        l2: L2Change::Store(Some(HOUR * 24 * 365)),
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
        assert!(matches!(bench.set(key, &value), Written::Applied { .. }), "key {index}");
        assert_eq!(found(only_l2.fetch(key)).1, value, "key {index}");
        assert_eq!(resp.resp(&[b"GET", key]), value, "key {index}");
        // A client that knows the documented name finds it under its real bytes.
        assert_eq!(l2.client().binary_get(&memcached_key(key)), Some(value), "key {index}");
        assert!(matches!(bench.delete(key), Written::Applied { existed: true, .. }), "key {index}");
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
    let job = |n| Bench::fetch_job(n, format!("key:{n}").as_bytes());
    bench.tiers.submit_all((0..1000).map(job).collect());
    for _ in 0..1000 {
        let TierEvent::Fetched { flight, outcome } = bench.done() else { panic!("not a fetch") };
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
    assert_eq!((l2.requests, l2.hits, l2.misses, l2.errors), (1000, 334, 666, 0));
    assert_eq!((l3.requests, l3.hits, l3.misses, l3.errors), (666, 333, 333, 0));
    assert!(l2.batches < 100 && l3.batches < 100, "{} and {} exchanges", l2.batches, l3.batches);
    assert_eq!(stats.jobs_waiting, 0);

    // Writes of one burst share exchanges, too, and each has its own outcome.
    let job = |n| Bench::set_job(n, format!("key:{n}").as_bytes(), b"new");
    bench.tiers.submit_all((0..1000).map(job).collect());
    for _ in 0..1000 {
        assert!(matches!(bench.written(), Written::Applied { .. }));
    }
    assert!(bench.tiers.stats().l3.unwrap().batches < 200);
    assert_eq!(resp.resp(&[b"GET", b"key:999"]), b"new");
}

#[test]
fn an_absence_is_what_the_tier_that_decides_says_and_never_an_error() {
    let (l2, l3) = (Server::memcached(), Server::redis());
    let bench = Bench::both(&l2, &l3);
    assert!(is_absent(&bench.fetch(b"nothing"), true));
    l3.client().resp(&[b"LPUSH", b"list", b"x"]);
    assert!(matches!(bench.fetch(b"list"), Fetched::Refused { tier: Tier::L3, .. }));
    assert!(is_absent(&Bench::new(None, None).fetch(b"nothing"), false));
    // Marked as invalid by another client: not a value to serve.
    let mut ascii = l2.client();
    ascii.ascii_set("marked", 0, 0, b"old");
    assert_eq!(ascii.ascii("md marked I T30"), "HD");
    assert!(is_absent(&bench.fetch(b"marked"), true));
    // A placeholder that another client is filling is no value either.
    assert!(ascii.ascii("mg lease N30 s").starts_with("HD"));
    assert!(is_absent(&bench.fetch(b"lease"), true));

    // memcached alone decides what exists. What is marked or a placeholder exists.
    let mut alone = Server::memcached();
    let bench = Bench::new(Some((alone.address(), LONG)), None);
    let mut ascii = alone.client();
    assert!(is_absent(&bench.fetch(b"nothing"), true));
    assert!(ascii.ascii("mg lease N30 s").starts_with("HD"));
    assert!(is_absent(&bench.fetch(b"lease"), false));
    alone.kill();
    assert!(matches!(bench.fetch(b"nothing"), Fetched::Failed { tier: Tier::L2, .. }));
}

/// The hazard: what L2 does not have is remembered as absent while L3, which has it, is silent.
#[test]
fn while_l3_fails_a_miss_of_l2_is_no_absence() {
    let (l2, mut l3) = (Server::memcached(), Server::redis());
    let bench = Bench::both(&l2, &l3);
    // One tier after the other at first, then both at once.
    assert!(is_absent(&bench.fetch(b"key"), true));
    for round in 0..2 {
        l3.kill();
        for _ in 0..3 {
            let fetched = bench.fetch(b"key");
            assert!(matches!(fetched, Fetched::Failed { tier: Tier::L3, .. }), "{fetched:?}");
        }
        l3.restart();
        bench.until_available(Tier::L3);
        if round == 0 {
            until("both to be asked at once", || {
                let stats = bench.tiers.stats();
                bench.fetch(b"key");
                (stats.l2?.requests > 100).then_some(())
            });
        }
    }
}
