//! Hazards: a write whose outcome is reported wrongly; an older value that stays in L2.

use std::time::Duration;

use l1d::tiers::{Tier, TierEvent, Written};

use crate::bench::{Bench, HOUR, LONG, found, within};
use test_support::servers::{PATIENCE, Server, scripted_memcached};

#[test]
fn a_value_that_redis_refuses_is_written_nowhere() {
    let (l2, l3) = (Server::memcached(), Server::redis());
    let bench = Bench::both(&l2, &l3);
    assert!(matches!(bench.set(b"key", b"old"), Written::Applied { .. }));
    assert_eq!(l3.client().resp(&[b"CONFIG", b"SET", b"maxmemory", b"1"]), b"+OK");
    match bench.set(b"key", b"new") {
        Written::NotApplied { tier: Tier::L3, why } => assert!(why.contains("OOM"), "{why}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(l2.client().ascii_get("key").unwrap().1, b"old");
    assert!(bench.tiers.available(Tier::L3), "a server that refuses is alive");
    assert!(matches!(bench.delete(b"key"), Written::Applied { existed: true, .. }));
    assert!(matches!(bench.delete(b"key"), Written::Applied { existed: false, .. }));
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
        assert!(matches!(bench.set(b"large", b"old"), Written::Applied { .. }));
        for n in 0..40 {
            submit(n, format!("small:{n}").as_bytes(), b"v");
            if n == 20 {
                submit(1000, b"large", &large);
            }
        }
        for _ in 0..41 {
            let TierEvent::Written { id, outcome } = bench.done() else { panic!("not a write") };
            if id == 1000 && alone {
                assert!(matches!(outcome, Written::Removed { tier: Tier::L2, .. }), "{outcome:?}");
            } else {
                assert!(matches!(outcome, Written::Applied { .. }), "{id}: {outcome:?}");
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
    assert!(within(Some(Duration::from_secs(ascii.ascii_ttl("key").unsigned_abs())), 90));
    ascii.ascii_set("key", 1, 0, b"newer");
    bench.fill(b"key", b"late", HOUR);
    assert_eq!(ascii.ascii_get("key"), Some((1, b"newer".to_vec())));
    bench.fill(b"short", b"v", Duration::from_millis(999));
    assert_eq!(ascii.ascii_get("short"), None, "memcached cannot keep it for less than a second");
    assert_eq!(bench.tiers.stats().l2.unwrap().errors, 0);
}

#[test]
fn a_refused_value_takes_the_older_one_with_it() {
    let (address, lines) = scripted_memcached(1, "SERVER_ERROR out of memory storing object\r\n");
    let bench = Bench::new(Some((address, PATIENCE)), None);
    bench.tiers.submit(Bench::set_job(1, b"key", b"new")).unwrap();
    let next = || lines.recv_timeout(PATIENCE).unwrap();
    assert!(next().starts_with("ms key 3 "));
    assert_eq!((&next()[..], &next()[..]), ("new", "md key O1"));
    assert!(matches!(bench.written(), Written::Removed { tier: Tier::L2, .. }));
}
