//! Hazards: a dead or silent tier that stalls the other one, or never comes back; a late reply that
//! is taken for another request's.

use l1d::tiers::{Fetched, Tier, TierEvent, Written};
use l1d_wire::snapshot::Breaker;

use crate::bench::{Bench, LONG, SHORT, found, is_absent};
use test_support::servers::{PATIENCE, Proxy, Server, scripted_memcached, until};

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
        assert_eq!(found(bench.fetch(b"key")).0, Tier::L3, "L3 answers meanwhile");
        (!bench.tiers.available(Tier::L2)).then_some(())
    });
    assert!(bench.tiers.epoch(Tier::L2) > epoch);
    assert!(bench.tiers.has(Tier::L2) && bench.tiers.available(Tier::L3));
    // The store of record decides.
    assert!(matches!(bench.set(b"key", b"new"), Written::Applied { degraded: true, .. }));
    assert_eq!(l3.client().resp(&[b"GET", b"key"]), b"new");
    assert!(matches!(bench.delete(b"key"), Written::Applied { degraded: true, .. }));

    l2.restart();
    bench.until_settled();
    let applied = bench.set(b"key", b"new");
    assert!(matches!(applied, Written::Applied { degraded: false, .. }), "{applied:?}");
    assert_eq!(found(bench.fetch(b"key")).0, Tier::L2);
    assert_eq!(bench.tiers.stats().l2.unwrap().breaker, Breaker::Closed);
}

#[test]
fn a_lost_l3_fails_at_once_and_comes_back() {
    let (l2, mut l3) = (Server::memcached(), Server::redis());
    let bench = Bench::both(&l2, &l3);
    assert!(is_absent(&bench.fetch(b"key"), true));
    let epoch = bench.tiers.epoch(Tier::L3);
    l3.kill();
    until("the lost connection to be noticed without a request", || {
        (bench.tiers.epoch(Tier::L3) > epoch).then_some(())
    });
    assert!(matches!(bench.fetch(b"key"), Fetched::Failed { tier: Tier::L3, .. }));
    assert!(matches!(bench.set(b"key", b"new"), Written::NotApplied { tier: Tier::L3, .. }));
    bench.until_open(Tier::L3);
    assert!(matches!(bench.fetch(b"key"), Fetched::Failed { tier: Tier::L3, .. }));
    let before = bench.tiers.stats().l3.unwrap();
    assert!(matches!(bench.delete(b"key"), Written::NotApplied { tier: Tier::L3, .. }));
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
    assert_eq!(bench.tiers.stats().l3.unwrap().breaker, Breaker::Closed);
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
    // L3 neither answers nor times out during this test.
    let bench = Bench::new(Some((l2.address(), LONG)), Some((proxy.address(), PATIENCE * 3)));
    assert!(is_absent(&bench.fetch(b"miss"), true));
    proxy.hold();
    for n in 0..2000 {
        bench.submit_fetch(n, format!("miss:{n}").as_bytes());
    }
    for _ in 0..100 {
        bench.submit_fetch(5000, b"hit");
        let TierEvent::Fetched { flight: 5000, outcome } = bench.done() else {
            panic!("L3 is held back")
        };
        assert_eq!(found(outcome).0, Tier::L2);
    }
    proxy.release();
    for _ in 0..2000 {
        assert!(matches!(
            bench.done(),
            TierEvent::Fetched { outcome: Fetched::Absent { authoritative: true, .. }, .. }
        ));
    }
}

#[test]
fn replies_held_back_past_the_deadline_end_in_doubt_and_never_reach_another_request() {
    let (l2, l3) = (Server::memcached(), Server::redis());
    let (before_l2, before_l3) = (Proxy::before(&l2), Proxy::before(&l3));
    let bench = Bench::new(Some((before_l2.address(), SHORT)), Some((before_l3.address(), SHORT)));
    let warm = |tier| {
        until("an answer in time", || {
            bench.fetch(b"warm");
            matches!(bench.set(b"warm", b"v"), Written::Applied { .. }).then_some(())
        });
        assert!(bench.tiers.available(tier));
    };

    warm(Tier::L3);
    before_l3.hold();
    assert!(matches!(bench.set(b"key", b"one"), Written::Unknown { tier: Tier::L3, .. }));
    assert_eq!(l2.client().ascii_get("key"), None, "L2 comes after L3");
    assert!(matches!(bench.fetch(b"key"), Fetched::Failed { tier: Tier::L3, .. }));
    bench.until_open(Tier::L3);
    before_l3.release();
    bench.until_available(Tier::L3);
    assert!(bench.tiers.stats().l3.unwrap().timeouts >= 1);

    warm(Tier::L2);
    before_l2.hold();
    let epoch = bench.tiers.epoch(Tier::L2);
    assert!(matches!(bench.set(b"key", b"two"), Written::Applied { degraded: true, .. }));
    assert_eq!(l3.client().resp(&[b"GET", b"key"]), b"two");
    bench.until_open(Tier::L2);
    assert!(bench.tiers.epoch(Tier::L2) > epoch);
    before_l2.release();
    bench.until_available(Tier::L2);
    warm(Tier::L2);
    // Late replies belong to other requests: each key still gets its own value.
    for n in 0..50 {
        let (key, value) = (format!("own:{n}"), format!("value {n}"));
        until("the write", || {
            matches!(bench.set(key.as_bytes(), value.as_bytes()), Written::Applied { .. })
                .then_some(())
        });
        let fetched = until("the read", || {
            Some(bench.fetch(key.as_bytes())).filter(|f| matches!(f, Fetched::Found { .. }))
        });
        assert_eq!(found(fetched).1, value.into_bytes());
    }
}

#[test]
fn an_answer_to_another_request_is_refused() {
    let (address, _lines) = scripted_memcached(1, "VA 1 t-1 f0 O1\r\nb\r\n");
    let bench = Bench::new(Some((address, PATIENCE)), None);
    let fetched = bench.fetch(b"a");
    assert!(matches!(fetched, Fetched::Failed { tier: Tier::L2, .. }), "{fetched:?}");
}
